// Convolutions whose groups have few channels: groups lie side by side in the lanes of vectors.
//
// Depthwise: every filter reads one channel, so there is no matrix product, and vectors run over
// channels. With more channels per group the image is spread: for every lane the `depth` elements
// that it reads of a pixel, xs[p, j, lane] = x[p, group(lane), j]. A pixel is then `depth`
// neighbours along w, each filter tap too, and the convolution is depthwise again. The image is
// spread a few samples at a time, so it stays in cache.
//
// Bounds: memory if depthwise; else two loads per multiplication of vectors, half of the peak.
#pragma once
#include <optional>
#include <type_traits>

#include "ops/conv_depthwise_bands.h"

namespace hb::HB_ISA {
namespace {

// y[p, j, g * repeat + i] = x[p, g * depth + j]
template <class S>
class Spread {
 public:
  void plan(int64_t groups, int64_t depth, int64_t repeat) {
    groups_ = groups, depth_ = depth, repeat_ = repeat;
    for (int i = 0; i < kLanes<Bits>; ++i) first_[i] = Bits(i / repeat * depth);
  }
  bool copies() const { return depth_ > 1 || repeat_ > 1; }
  int64_t lanes() const { return groups_ * repeat_; }
  // Samples of so many pixels that are spread at a time: about half of L2.
  int64_t samples(int64_t n, int64_t pixels) const {
    if (!copies()) return n;
    const int64_t bytes = pixels * depth_ * lanes() * int64_t(sizeof(S));
    return max64(1, min64(n, int64_t(l2_bytes()) / 2 / max64(1, bytes)));
  }
  size_t bytes(int64_t pixels) const {
    return copies() ? size_t(round_up(pixels * depth_ * lanes() * int64_t(sizeof(S)), 64)) : 0;
  }
  void run(const S* x, S* y, int64_t pixels) const {
    const int64_t block = max64(1, 16384 / (depth_ * lanes()));
    parallel_for(ceil_div(pixels, block), [&](int64_t t, int) {
      for (int64_t p = t * block; p < min64(pixels, (t + 1) * block); ++p)
        pixel(x + p * groups_ * depth_, y + p * depth_ * lanes());
    });
  }

 private:
  using Bits = std::conditional_t<sizeof(S) == 2, uint16_t,
                                  std::conditional_t<sizeof(S) == 4, uint32_t, uint64_t>>;
  void pixel(const S* x, S* y) const {
    int64_t g = 0;
#ifndef __clang__  // which has no shuffle by a vector
    // A vector of lanes reads from one vector of x.
    constexpr int L = kLanes<Bits>;
    const int64_t together = L / repeat_;
    if (L % repeat_ == 0 && depth_ <= repeat_) {
      Vec<Bits> first;
      memcpy(&first, first_, sizeof first);
      for (; (g + together) <= groups_ && g * depth_ + L <= groups_ * depth_; g += together) {
        Vec<Bits> v;
        memcpy(&v, x + g * depth_, sizeof v);
        for (int64_t j = 0; j < depth_; ++j) {
          const Vec<Bits> lanes = __builtin_shuffle(v, first + Bits(j));
          memcpy(y + j * this->lanes() + g * repeat_, &lanes, sizeof lanes);
        }
      }
    }
#endif
    for (; g < groups_; ++g)
      for (int64_t j = 0; j < depth_; ++j)
        for (int64_t i = 0; i < repeat_; ++i) y[j * lanes() + g * repeat_ + i] = x[g * depth_ + j];
  }

  int64_t groups_ = 1, depth_ = 1, repeat_ = 1;
  Bits first_[kLanes<Bits>] = {};
};

// y[n, p, ch] = epilogue(sum_tap x[n, at(p, tap), ch] * w[tap, ch]), where at() is a table per axis
// of source coordinates, -1 outside. It serves the forward pass and the gradient to the input, four
// positions and two vectors of channels at a time.
template <class T, class S>
class DepthwiseGather {
 public:
  // `depth` neighbours along w for every pixel and tap. The gradient goes through the taps along w
  // from the last to the first, so that their places ascend; with depth > 1 the filter is expected
  // in that order.
  void plan(const ConvShape& s, bool gradient, int64_t channels, int64_t depth) {
    c_ = channels;
    depth_ = depth, reverse_ = gradient && depth == 1;
    skip_ = gradient && s.stride[2] > 1;
    zeros_.allocate(c_);
    gradient_ = gradient;
    if (depth == 1 && BandShape::serves(s, gradient)) bands_.emplace(s, gradient);
    for (int a = 0; a < 3; ++a) {
      const int64_t each = a == 2 ? depth : 1, k_max = s.kernel[a] - 1;
      kernel_[a] = s.kernel[a] * each;
      src_[a] = (gradient ? s.out[a] : s.in[a]) * each;
      dst_[a] = gradient ? s.in[a] : s.out[a];
      int64_t* at = at_[a].allocate(dst_[a] * kernel_[a]);
      for (int64_t p = 0; p < dst_[a]; ++p)
        for (int64_t t = 0; t < s.kernel[a]; ++t) {
          const int64_t k = gradient && a == 2 ? k_max - t : t;
          const int64_t stride = gradient ? s.stride[a] : 1;
          const int64_t x = gradient ? p + s.lo[a] - k * s.dilation[a]
                                     : p * s.stride[a] - s.lo[a] + k * s.dilation[a];
          const bool inside = x >= 0 && x % stride == 0 && x / stride * each < src_[a];
          for (int64_t j = 0; j < each; ++j) *at++ = inside ? x / stride * each + j : -1;
        }
    }
    // The positions of a residue modulo the stride meet the same taps.
    step_ = gradient ? s.stride[2] : 1;
    Group* group = groups_.allocate(step_ * ceil_div(dst_[2], step_ * kPositions));
    for (int64_t residue = 0; residue < min64(step_, dst_[2]); ++residue) {
      const int64_t num = ceil_div(dst_[2] - residue, step_);
      for (int64_t from = 0; from < num; from += kPositions)
        *group++ = group_at(residue + max64(0, min64(from, num - kPositions)) * step_,
                            min64(kPositions, num));
    }
    num_groups_ = group - groups_.get();
  }
  int64_t source_size() const { return src_[0] * src_[1] * src_[2] * c_; }
  int64_t result_size() const { return dst_[0] * dst_[1] * dst_[2] * c_; }

  // A task is a row of y, in the order of memory. Where x is spread, and so in cache, it is a band
  // of rows that two vectors of channels at a time go through: what neighbouring rows and taps
  // share is then read from L1.
  void run(int64_t samples, const S* x, const S* w, const Epilogue<S>& epilogue, S* y) const {
    if (bands_) depthwise_bands<T>(*bands_, gradient_, samples, x, w, epilogue, y);
    const int64_t done = bands_ ? c_ / L * L : 0;
    if (done == c_) return;
    const int64_t row_bytes = max64(1, src_[2] * c_ * int64_t(sizeof(S)));
    const int64_t fit = depth_ > 1 ? int64_t(l2_bytes()) / 4 / row_bytes : 1;
    const int64_t rows = max64(1, min64(dst_[1], fit)), bands = ceil_div(dst_[1], rows);
    const int64_t channels = depth_ > 1 ? 2 * L : c_;
    parallel_for(samples * dst_[0] * bands, [&](int64_t task, int) {
      const int64_t d = task / bands % dst_[0], n = task / bands / dst_[0];
      const int64_t h0 = task % bands * rows, h1 = min64(dst_[1], h0 + rows);
      const S* image = x + n * src_[0] * src_[1] * src_[2] * c_;
      for (int64_t first = done; first < c_; first += channels)
        for (int64_t h = h0; h < h1; ++h)
          for (int64_t i = 0; i < num_groups_; ++i) {
            const Group& group = groups_.get()[i];
            const int64_t* at[kPositions];
            positions(group, at);
            const bool inside = group.inside;
            const int64_t to = (((n * dst_[0] + d) * dst_[1] + h) * dst_[2] + group.p) * c_;
            const Place place{image, w, y + to, epilogue.elements(to), at, &group, d, h};
            const int64_t end = min64(c_, first + channels);
            int64_t c0 = first;
            for (; c0 + 2 * L <= end; c0 += 2 * L)
              inside ? vectors<2, true>(place, c0) : vectors<2, false>(place, c0);
            for (; c0 + L <= end; c0 += L)
              inside ? vectors<1, true>(place, c0) : vectors<1, false>(place, c0);
            for (; c0 < end; ++c0) scalar(place, c0);
          }
    });
  }

 private:
  static constexpr int L = kLanes<T>;
  static constexpr int kPositions = 4;

  // Positions p, p + step_, …, of which there are `count`; the last ones of a row overlap those
  // before. `inside`: the taps `first`, first + tap_step, … of all lie in the image, equally far
  // apart, and are all that meet it.
  struct Group {
    int64_t p;
    int64_t count, first, tap_step, taps;
    bool inside;
  };
  // A row shorter than a group repeats its end.
  HB_INLINE void positions(const Group& g, const int64_t** at) const {
    for (int64_t i = 0; i < kPositions; ++i)
      at[i] = at_[2].get() + (g.p + min64(i, g.count - 1) * step_) * kernel_[2];
  }
  Group group_at(int64_t p, int64_t count) const {
    Group g{p, count, 0, 1, 0, count == kPositions};
    const int64_t* at[kPositions];
    positions(g, at);
    int64_t last = -1;
    for (int64_t k = 0; k < kernel_[2]; ++k) {
      if (at[0][k] < 0) continue;
      if (g.taps == 0) g.first = k;
      if (g.taps == 1) g.tap_step = k - last;
      last = k, ++g.taps;
    }
    const int64_t step = g.taps > 1 ? at[0][g.first + g.tap_step] - at[0][g.first] : 0;
    const int64_t position = g.taps > 0 ? at[1][g.first] - at[0][g.first] : 0;
    int64_t meet = 0;
    for (int64_t i = 0; i < kPositions; ++i) {
      for (int64_t k = 0; k < kernel_[2]; ++k) meet += at[i][k] >= 0;
      for (int64_t t = 0; t < g.taps; ++t) {
        const int64_t k = g.first + t * g.tap_step;
        g.inside = g.inside && k < kernel_[2] && at[i][k] >= 0 &&
                   at[i][k] == at[0][g.first] + i * position + t * step;
      }
    }
    g.inside = g.inside && g.taps > 0 && meet == kPositions * g.taps;
    return g;
  }

  const S* first_tap(const S* taps) const { return reverse_ ? taps + (kernel_[2] - 1) * c_ : taps; }
  // f(source row, filter row) for the filter rows that meet the image.
  template <class F>
  HB_INLINE void for_filter_rows(const S* image, const S* w, int64_t d, int64_t h,
                                 const F& f) const {
    for (int64_t kd = 0; kd < kernel_[0]; ++kd) {
      const int64_t sd = at_[0].get()[d * kernel_[0] + kd];
      if (sd < 0) continue;
      for (int64_t kh = 0; kh < kernel_[1]; ++kh) {
        const int64_t sh = at_[1].get()[h * kernel_[1] + kh];
        if (sh < 0) continue;
        f(image + (sd * src_[1] + sh) * src_[2] * c_, w + (kd * kernel_[1] + kh) * kernel_[2] * c_);
      }
    }
  }
  struct Place {
    const S *image, *w;
    S* out;                    // at the first position
    Epilogue<S> epilogue;      // likewise
    const int64_t* const* at;  // [positions][filter width]
    const Group* group;
    int64_t d, h;
  };
  // kInside: see Group. Else a tap outside reads zeros; between strides, where there are many,
  // it is left out.
  template <int V, bool kInside>
  HB_INLINE void vectors(const Place& q, int64_t c0) const {
    Vec<T> acc[kPositions][V] = {};
    const Group& g = *q.group;
    const int64_t k0 = g.first, k1 = k0 + g.tap_step, taps_in_row = kInside ? g.taps : kernel_[2];
    const int64_t first = q.at[0][k0] * c_ + c0, position = (q.at[1][k0] - q.at[0][k0]) * c_;
    const int64_t step = kInside && g.taps > 1 ? (q.at[0][k1] - q.at[0][k0]) * c_ : 0;
    for_filter_rows(q.image, q.w, q.d, q.h,
                    [&](const S* src, const S* taps) __attribute__((always_inline)) {
                      const S* x = src + first;
                      const int64_t tap = reverse_ ? -c_ : c_;
                      const int64_t tap_step = kInside ? tap * g.tap_step : tap;
                      const S* tap_k = first_tap(taps) + c0 + (kInside ? k0 * tap : 0);
                      for (int64_t k = 0; k < taps_in_row; ++k, x += step, tap_k += tap_step) {
                        Vec<T> wk[V];
#pragma GCC unroll 2
                        for (int v = 0; v < V; ++v) wk[v] = load_as<T>(tap_k + v * L);
#pragma GCC unroll 4
                        for (int i = 0; i < kPositions; ++i) {
                          const int64_t at = q.at[i][k];
                          if (!kInside && skip_ && at < 0) continue;
                          const S* xi = kInside  ? x + i * position
                                        : at < 0 ? zeros_.get() + c0
                                                 : src + at * c_ + c0;
#pragma GCC unroll 2
                          for (int v = 0; v < V; ++v) acc[i][v] += load_as<T>(xi + v * L) * wk[v];
                        }
                      }
                    });
#pragma GCC unroll 4
    for (int i = 0; i < kPositions; ++i) {
      if (i >= g.count) break;
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        const int64_t j = c0 + v * L, at = i * step_ * c_ + j;
        store_as(q.out + at, q.epilogue.template vector<T>(acc[i][v], j, at));
      }
    }
  }
  HB_INLINE void scalar(const Place& q, int64_t c) const {
    for (int i = 0; i < q.group->count; ++i) {
      T v = 0;
      for_filter_rows(q.image, q.w, q.d, q.h,
                      [&](const S* src, const S* taps) __attribute__((always_inline)) {
                        for (int64_t k = 0; k < kernel_[2]; ++k)
                          if (q.at[i][k] >= 0)
                            v += T(widen(src[q.at[i][k] * c_ + c])) *
                                 T(widen(first_tap(taps)[(reverse_ ? -k : k) * c_ + c]));
                      });
      const int64_t at = i * step_ * c_ + c;
      narrow(q.epilogue.template scalar<T>(v, c, at), q.out[at]);
    }
  }

  int64_t c_ = 0, src_[3] = {}, dst_[3] = {}, kernel_[3] = {};
  int64_t depth_ = 1;
  bool reverse_ = false, skip_ = false;
  bool gradient_ = false;
  std::optional<BandShape> bands_;  // for all whole vectors of channels
  Zeros<int64_t> at_[3];
  Zeros<Group> groups_;
  int64_t num_groups_ = 0, step_ = 1;
  Zeros<S> zeros_;
};

// dw[tap, ch] = sum_p x[n, p * stride - lo + tap * dilation, ch] * dy[n, p, ch], a few samples at a
// time. Rows of dy are cut into parts by their number only; each part sums into scratch of its own,
// and the parts are added in order.
template <class T, class S>
class DepthwiseFilter {
 public:
  // `depth`: as in DepthwiseGather. `samples`: the most of a run.
  void plan(const ConvShape& s, int64_t depth, int64_t samples) {
    for (int a = 0; a < 3; ++a) {
      in_[a] = s.in[a], out_[a] = s.out[a], kernel_[a] = s.kernel[a];
      stride_[a] = s.stride[a], dilation_[a] = s.dilation[a], lo_[a] = s.lo[a];
    }
    c_ = s.o, depth_ = depth;
    size_ = s.taps() * depth * c_;
    const int64_t rows = samples * out_[0] * out_[1];
    const int64_t vectors = c_ / L, shares = ceil_div(vectors, kVectors);
    vectors_ = shares ? ceil_div(vectors, shares) : 1;
    part_rows_ = max64(1, ceil_div(rows, kParts));
    parts_ = ceil_div(rows, part_rows_);
  }
  int64_t scratch_elements() const { return parts_ * size_; }

  void start(T* sums) const {
    parallel_for(parts_, [&](int64_t part, int) {
      memset(sums + part * size_, 0, size_t(size_) * sizeof(T));
    });
  }
  void add(int64_t samples, const S* x, const S* dy, T* sums) const {
    const int64_t rows = samples * out_[0] * out_[1];
    parallel_for(ceil_div(rows, part_rows_), [&](int64_t part, int) {
      for (int64_t r = part * part_rows_; r < min64(rows, (part + 1) * part_rows_); ++r)
        add_row(x, dy + r * out_[2] * c_, sums + part * size_, r);
    });
  }
  void finish(T* sums, S* dw) const {
    constexpr int64_t kBlock = 1024;
    parallel_for(ceil_div(size_, kBlock), [&](int64_t task, int) {
      const int64_t begin = task * kBlock, end = min64(size_, begin + kBlock);
      for (int64_t part = 1; part < parts_; ++part)
        for (int64_t i = begin; i < end; ++i) sums[i] += sums[part * size_ + i];
      for (int64_t i = begin; i < end; ++i) narrow(parts_ ? sums[i] : T(0), dw[i]);
    });
  }

 private:
  static constexpr int L = kLanes<T>;
  static constexpr int64_t kParts = 32;
  static constexpr int kTaps = 3, kVectors = HB_VEC_BYTES == 64 ? 4 : 2;  // sums in registers
  static constexpr int kMaxAhead = 2;

  // A tap at a row of dy: x of position 0, and the positions [begin, end) at which it is inside.
  struct Place {
    const S* x;
    int64_t begin, end;
    T* sum;
  };

  void add_row(const S* x, const S* dy, T* sum, int64_t row) const {
    const int64_t h = row % out_[1], d = row / out_[1] % out_[0];
    const int64_t n = row / out_[1] / out_[0];
    for (int64_t c0 = 0; c0 < c_;) {
      const int64_t vectors = min64(vectors_, (c_ - c0) / L);
      for (int64_t kd = 0; kd < kernel_[0]; ++kd)
        for (int64_t kh = 0; kh < kernel_[1]; ++kh) {
          const int64_t sd = d * stride_[0] - lo_[0] + kd * dilation_[0];
          const int64_t sh = h * stride_[1] - lo_[1] + kh * dilation_[1];
          if (sd < 0 || sd >= in_[0] || sh < 0 || sh >= in_[1]) continue;
          const int64_t taps = kernel_[2] * depth_;
          const S* src = x + ((n * in_[0] + sd) * in_[1] + sh) * in_[2] * depth_ * c_ + c0;
          T* to = sum + (kd * kernel_[1] + kh) * taps * c_ + c0;
          for (int64_t t = 0; t < taps; t += kTaps) {
            const int num = int(min64(kTaps, taps - t));
            Place places[kTaps] = {};
            for (int i = 0; i < num; ++i) places[i] = place(src, to, t + i);
            Ahead ahead;
            if (t == 0) ahead = next_of(kh, dy + c0, src);
            if (vectors == 0)
              add_elements(places, num, dy + c0);
            else
              add_taps(int(vectors), places, num, dy + c0, ahead);
          }
        }
      c0 += vectors ? vectors * L : 1;
    }
  }
  // Pixels that the next row of dy meets first, a place for each position: itself, and of x the
  // rows below those of this one. Every row of the filter fetches its share.
  struct Ahead {
    int num = 0;
    const S* at[kMaxAhead];
    int64_t step[kMaxAhead];
  };
  Ahead next_of(int64_t kh, const S* dy, const S* src) const {
    Ahead ahead;
    const int64_t pixel = depth_ * c_, row = in_[2] * pixel;
    for (int64_t i = kh; i <= stride_[1] * stride_[2] && ahead.num < kMaxAhead; i += kernel_[1]) {
      const int64_t r = (i - 1) / stride_[2], w = (i - 1) % stride_[2];
      const int64_t below = (kernel_[1] - 1 - kh) * dilation_[1] + 1 + r;
      ahead.at[ahead.num] = i == 0 ? dy + out_[2] * c_ : src + below * row + w * pixel;
      ahead.step[ahead.num++] = i == 0 ? c_ : stride_[2] * pixel;
    }
    return ahead;
  }
  Place place(const S* src, T* sum, int64_t t) const {
    const int64_t w0 = t / depth_ * dilation_[2] - lo_[2], stride = stride_[2];
    Place q;
    q.begin = min64(out_[2], w0 < 0 ? ceil_div(-w0, stride) : 0);
    q.end = max64(q.begin, min64(out_[2], w0 < in_[2] ? ceil_div(in_[2] - w0, stride) : 0));
    q.x = src + (w0 * depth_ + t % depth_) * c_;
    q.sum = sum + t * c_;
    return q;
  }
  void add_elements(const Place* places, int num, const S* dy) const {
    for (int i = 0; i < num; ++i) {
      T v = 0;
      for (int64_t p = places[i].begin; p < places[i].end; ++p)
        v += T(widen(places[i].x[p * stride_[2] * depth_ * c_])) * T(widen(dy[p * c_]));
      *places[i].sum += v;
    }
  }
  template <int V = kVectors>
  HB_INLINE void add_taps(int vectors, const Place* places, int num, const S* dy,
                          const Ahead& ahead) const {
    if constexpr (V > 1)
      if (vectors < V) return add_taps<V - 1>(vectors, places, num, dy, ahead);
    if (num == 3) return add_vectors<3, V>(places, dy, ahead);
    if (num == 2) return add_vectors<2, V>(places, dy, ahead);
    add_vectors<1, V>(places, dy, ahead);
  }
  template <int N, int V>
  void add_vectors(const Place* places, const S* dy, const Ahead& ahead) const {
    Vec<T> acc[N][V] = {};
    const int64_t step = stride_[2] * depth_ * c_;
    // All taps are inside from `first` to `last`.
    int64_t begin = places[0].begin, first = begin, last = places[0].end, end = last;
    for (int i = 1; i < N; ++i) {
      begin = min64(begin, places[i].begin), first = max64(first, places[i].begin);
      last = min64(last, places[i].end), end = max64(end, places[i].end);
    }
    first = min64(first, end), last = max64(first, last);
    const auto at = [&](int64_t p, bool all) __attribute__((always_inline)) {
      for (int e = 0; e < ahead.num; ++e)
#pragma GCC unroll 4
        for (int j = 0; j < V; ++j) __builtin_prefetch(ahead.at[e] + p * ahead.step[e] + j * L);
      Vec<T> v[V];
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) v[j] = load_as<T>(dy + p * c_ + j * L);
#pragma GCC unroll 3
      for (int i = 0; i < N; ++i) {
        if (!all && (p < places[i].begin || p >= places[i].end)) continue;
#pragma GCC unroll 4
        for (int j = 0; j < V; ++j) acc[i][j] += load_as<T>(places[i].x + p * step + j * L) * v[j];
      }
    };
    for (int64_t p = begin; p < first; ++p) at(p, false);
    for (int64_t p = first; p < last; ++p) at(p, true);
    for (int64_t p = last; p < end; ++p) at(p, false);
#pragma GCC unroll 3
    for (int i = 0; i < N; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j)
        store(places[i].sum + j * L, load(places[i].sum + j * L) + acc[i][j]);
  }

  int64_t in_[3] = {}, out_[3] = {}, kernel_[3] = {}, stride_[3] = {}, dilation_[3] = {};
  int64_t lo_[3] = {}, c_ = 0, depth_ = 1, size_ = 0, part_rows_ = 1, parts_ = 1;
  int64_t vectors_ = 1;  // of channels at a time
};

}  // namespace
}  // namespace hb::HB_ISA
