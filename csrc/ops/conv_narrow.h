// conv and conv_grad_input of float32 whose results have few channels: the last layer of a decoder,
// the gradient to a picture. In a product most lanes of its few columns would be empty. Here lanes
// are channels that are summed over, which lie side by side in the image, as they do in the filter.
//
//   for lines of the result (a task), for its columns of one residue modulo the stride, for tiles:
//     for the taps that meet it, for L channels:  R positions by C channels of multiply-adds
//     the lanes of those R * C <= L sums are added together, all at once
//
// Taps beyond the border are left out if they are for a whole tile, else they read zeros. The order
// of a sum depends on sizes alone: the same bits for any number of threads.
//
// The floor is the rate of multiply-adds, for (R + C) / (R * C) loads each. Measured on one Zen 5
// core (AVX-512, share of the peak), 3 channels from 64: 3x3 70 % if the image is in L2, else 34 %;
// 7x7 with stride 2 59 %.
#pragma once
#include "ops/conv.h"
#include "ops/matmul_narrow.h"

namespace hb::HB_ISA {
namespace {

template <class T>
struct NarrowTile {
  const T *image, *zeros;
  const T* w;  // [taps][channels / L][C][L]
  const Tap* taps;
  const int64_t* neighbours;  // of a tap: how many from it on lie side by side along w
  int64_t num_taps;
  int64_t in[3], at[3];  // extents of the image; place of the first position
  int64_t step;          // places along w from one position to the next
  int64_t k;             // channels of a pixel, which are summed
  int count;             // positions
  T* sums;               // [R][C]
};

template <class T, int C>
__attribute__((noinline)) void narrow_tile(const NarrowTile<T>& t) {
  constexpr int L = kLanes<T>, R = L / C, kGroups = (R + 2) / 3;
  Vec<T> acc[L];
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) acc[i] = Vec<T>{};
  const int64_t whole = t.k / L * L, step = t.step * t.k;
  // The last vector of channels ends with them: lanes that were summed before are left out.
  Mask<T> lane, mask;
  for (int i = 0; i < L; ++i) lane[i] = i;
  mask = lane >= Mask<T>{} + int(whole + L - t.k);
  const T* w = t.w;
  for (int64_t f = 0, num; f < t.num_taps; f += num, w += num * round_up(t.k, L) * C) {
    const Tap& tap = t.taps[f];
    const int64_t d = t.at[0] + tap.at[0], h = t.at[1] + tap.at[1], x0 = t.at[2] + tap.at[2];
    const int64_t last = x0 + (t.count - 1) * t.step;
    num = 1;
    if (uint64_t(d) >= uint64_t(t.in[0]) || uint64_t(h) >= uint64_t(t.in[1]) || last < 0 ||
        x0 >= t.in[2])
      continue;
    const T* from = t.image + ((d * t.in[1] + h) * t.in[2] + x0) * t.k;
    const auto channels = [&](int64_t end, const auto& x) __attribute__((always_inline)) {
      int64_t q = 0;
      for (; q < end; q += L)
        add_products<T, C, false>(acc, w + q * C, [&](int r) { return x(r) + q; }, mask);
      if (whole < t.k)
        add_products<T, C, true>(acc, w + q * C, [&](int r) { return x(r) + (t.k - L); }, mask);
    };
    if (x0 >= 0 && last < t.in[2] && t.count == R) {
      // Neighbours are one piece of memory.
      if (whole == t.k && last + t.neighbours[f] <= t.in[2]) num = t.neighbours[f];
      const T* x[kGroups];  // an address reaches three positions
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; ++g) x[g] = from + 3 * g * step;
      channels(num * t.k / L * L,
               [&](int r) __attribute__((always_inline)) { return x[r / 3] + r % 3 * step; });
    } else {
      const T* x[R];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const bool inside = r < t.count && uint64_t(x0 + r * t.step) < uint64_t(t.in[2]);
        x[r] = inside ? from + r * step : t.zeros;
      }
      channels(whole, [&](int r) __attribute__((always_inline)) { return x[r]; });
    }
  }
  sum_lanes_of<T>(acc);
  store(t.sums, acc[0]);
}

class ConvNarrow final : public ConvKernel {
 public:
  // From `depth` channels to `wide` ones.
  static bool serves(DType dtype, const ConvShape& s, int64_t depth, int64_t wide) {
    return dtype == DType::F32 && s.groups == 1 && wide <= kMostColumns && depth >= L;
  }
  ConvNarrow(const ConvShape& s, Prepare& p, bool gradient)
      : s_(s), epilogue_(p, 2), gradient_(gradient) {
    k_ = gradient ? s.o : s.c, c_ = gradient ? s.c : s.o;
    for (int a = 0; a < 3; ++a) {
      in_[a] = gradient ? s.out[a] : s.in[a], out_[a] = gradient ? s.in[a] : s.out[a];
      phases_[a] = gradient ? s.stride[a] : 1, step_[a] = gradient ? 1 : s.stride[a];
    }
    const int64_t phases = phases_[0] * phases_[1] * phases_[2];
    first_tap_.allocate(phases + 1);
    // Every tap belongs to one phase; the last place is for a tap being tried.
    taps_.allocate(s.taps() + 1);
    neighbours_.allocate(s.taps());
    for (int64_t i = 0; i < phases; ++i) {
      const int64_t at[3] = {i / phases_[2] / phases_[1], i / phases_[2] % phases_[1],
                             i % phases_[2]};
      int64_t& num = first_tap_.get()[i + 1] = first_tap_.get()[i];
      for (int64_t j = 0; j < s.taps(); ++j) {
        const int64_t f = gradient ? s.taps() - 1 - j : j;  // their places ascend
        const int64_t k[3] = {f / s.kernel[2] / s.kernel[1], f / s.kernel[2] % s.kernel[1],
                              f % s.kernel[2]};
        Tap& tap = taps_.get()[num];
        bool meets = true;
        for (int a = 0; a < 3; ++a) {
          const int64_t x =
              gradient ? at[a] + s.lo[a] - k[a] * s.dilation[a] : k[a] * s.dilation[a] - s.lo[a];
          meets = meets && x % phases_[a] == 0;
          tap.at[a] = x / phases_[a];
        }
        tap.filter = f;
        num += meets;
      }
      for (int64_t j = num - 1; j >= first_tap_.get()[i]; --j) {
        const int64_t *at = taps_.get()[j].at, *next = taps_.get()[j + 1].at;
        const bool beside =
            j + 1 < num && next[0] == at[0] && next[1] == at[1] && next[2] == at[2] + 1;
        neighbours_.get()[j] = beside ? neighbours_.get()[j + 1] + 1 : 1;
      }
    }
    zeros_.allocate(round_up(k_, L));
    kernel_ = find(c_);
    p.scratch_bytes = size_t(s.taps() * c_ * round_up(k_, L)) * sizeof(float);
  }

  void run(const Call& call) const override {
    const float* x = static_cast<const float*>(call.inputs[0]);
    float* w = static_cast<float*>(call.scratch);
    pack(static_cast<const float*>(call.inputs[1]), w);
    const Output out(static_cast<float*>(call.outputs[0]), epilogue_.of<float>(call), c_);
    const int64_t lines = s_.n * out_[0] * out_[1];
    const int64_t work = out_[2] * s_.taps() * k_ * c_ / (phases_[0] * phases_[1] * phases_[2]);
    const int64_t per_task = max64(1, kTask / max64(1, work));
    parallel_for(ceil_div(lines, per_task), [&](int64_t task, int) {
      for (int64_t i = task * per_task; i < min64(lines, (task + 1) * per_task); ++i)
        for (int64_t phase = 0; phase < phases_[2]; ++phase) line(x, w, out, i, phase);
    });
  }

 private:
  static constexpr int L = kLanes<float>;
  static constexpr int64_t kMostColumns = 4;
  static constexpr int64_t kTask = 1 << 18;  // multiply-adds

  // [tap][channels / L][C][L]; the last vector of channels ends with them, after zeros.
  void pack(const float* w, float* to) const {
    const int64_t whole = k_ / L * L;
    for (int64_t t = 0; t < s_.taps(); ++t)
      for (int64_t q = 0; q < k_; q += L) {
        const int64_t first = q < whole ? q : k_ - L;
        for (int64_t c = 0; c < c_; ++c)
          for (int64_t i = 0; i < L; ++i, ++to) {
            const int64_t k = first + i;
            const int64_t at = gradient_ ? c * k_ + k : k * c_ + c;
            *to = k < q ? 0 : w[taps_.get()[t].filter * k_ * c_ + at];
          }
      }
  }

  // The result, and an epilogue that repeats every C lanes.
  struct Output {
    float* y;
    Epilogue<float> epilogue;
    float scale[L], bias[L];
    Output(float* y, const Epilogue<float>& e, int64_t columns) : y(y), epilogue(e) {
      for (int i = 0; i < L; ++i) {
        scale[i] = e.scale ? e.scale[i % columns] : 1;
        bias[i] = e.bias ? e.bias[i % columns] : 0;
      }
      if (e.scale) epilogue.scale = scale;
      if (e.bias) epilogue.bias = bias;
    }
    Output(const Output&) = delete;
    // `num` positions of C columns each from `sums` on, the first at element `at`, the others each
    // `step` elements further. From `end` on there is nothing that will be written later.
    HB_INLINE void put(const float* sums, int64_t num, int64_t columns, int64_t at, int64_t step,
                       int64_t end) const {
      if (step == columns && at + L <= end)
        return store(y + at, epilogue.vector<float>(load(sums), 0, at));
      if (!epilogue.residual && !epilogue.mask) {
        float results[L];
        store(results, epilogue.vector<float>(load(sums), 0, 0));
        for (int64_t q = 0; q < num; ++q, at += step)
          for (int64_t c = 0; c < columns; ++c) y[at + c] = results[q * columns + c];
        return;
      }
      for (int64_t q = 0; q < num; ++q, at += step)
        for (int64_t c = 0; c < columns; ++c)
          y[at + c] = epilogue.scalar<float>(sums[q * columns + c], c, at + c);
    }
  };

  // The columns of one phase of line i of the result.
  void line(const float* x, const float* w, const Output& out, int64_t i, int64_t phase) const {
    const int64_t h = i % out_[1], d = i / out_[1] % out_[0], n = i / out_[1] / out_[0];
    const int64_t p = (d % phases_[0] * phases_[1] + h % phases_[1]) * phases_[2] + phase;
    const int64_t first = first_tap_.get()[p], columns = ceil_div(out_[2] - phase, phases_[2]);
    float sums[2 * L] = {};
    NarrowTile<float> t{};
    t.image = x + n * in_[0] * in_[1] * in_[2] * k_, t.zeros = zeros_.get();
    t.w = w + first * c_ * round_up(k_, L);
    t.taps = taps_.get() + first, t.num_taps = first_tap_.get()[p + 1] - first;
    t.neighbours = neighbours_.get() + first;
    for (int a = 0; a < 3; ++a) t.in[a] = in_[a];
    t.at[0] = d / phases_[0] * step_[0], t.at[1] = h / phases_[1] * step_[1];
    t.step = step_[2], t.k = k_, t.sums = sums;
    const int64_t rows = L / c_;
    for (int64_t from = 0; from < columns; from += rows) {
      // The last tile begins with positions that are done.
      const int64_t begin = max64(0, min64(from, columns - rows));
      t.at[2] = begin * step_[2], t.count = int(min64(rows, columns));
      kernel_(t);
      out.put(sums + (from - begin) * c_, begin + t.count - from, c_,
              (i * out_[2] + phase + from * phases_[2]) * c_, phases_[2] * c_,
              (i + 1) * out_[2] * c_);
    }
  }

  typedef void (*Kernel)(const NarrowTile<float>&);
  static Kernel find(int64_t columns) {
    return columns == 1   ? &narrow_tile<float, 1>
           : columns == 2 ? &narrow_tile<float, 2>
           : columns == 3 ? &narrow_tile<float, 3>
                          : &narrow_tile<float, 4>;
  }

  ConvShape s_;
  EpilogueInputs epilogue_;
  bool gradient_;
  int64_t k_, c_, in_[3], out_[3];
  int64_t phases_[3], step_[3];  // residues modulo the stride; from position to position
  Zeros<int64_t> first_tap_;     // of a phase
  Zeros<Tap> taps_;
  Zeros<int64_t> neighbours_;
  Zeros<float> zeros_;
  Kernel kernel_;
};

}  // namespace
}  // namespace hb::HB_ISA
