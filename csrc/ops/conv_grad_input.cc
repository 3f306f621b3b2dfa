// conv_grad_input: dx[n, i, c] = sum_{tap, o : p * stride - lo + tap * dilation = i}
//                                dy[n, p, o] * w[tap, c, o]; also the transposed convolution.
// Inputs from the third on: the epilogue (epilogue.h).
//
// Positions i of one residue modulo the stride meet the same taps, and p steps by one where i steps
// by the stride. So dx splits into stride[0] * stride[1] * stride[2] products of dy patches
// [n * positions, taps of the residue * o] with the filter transposed: no multiplication by the
// zeros between strides. Rows of a product go to their places in dx. Layouts: conv.h.
//
// Images of few channels have sums of their own (conv_narrow.h).
//
// Measured as in conv.cc: 83 % and 89 %; 16x16, 128 to 256 channels with stride 2 81 %.
#include "ops/conv.h"
#include "ops/conv_depthwise.h"
#include "ops/conv_narrow.h"
#include "ops/conv_winograd.h"
#include "simd/stream.h"

HB_KERNELS_BEGIN

template <class T, class S>
class ConvGradInputPacked final : public ConvKernel {
 public:
  ConvGradInputPacked(const ConvShape& shape, Prepare& p) : s_(shape), epilogue_(p, 2) {
    merged_ = s_.groups == 1 && s_.dilation[2] == 1 && s_.stride[2] == 1 ? s_.kernel[2] : 1;
    zeros_.allocate(merged_ * s_.og / kPer + kLanes<T>);
    num_residues_ = s_.stride[0] * s_.stride[1] * s_.stride[2];
    residues_ = new Residue[size_t(num_residues_)];
    // Every tap belongs to one residue; the last place is for a tap being tried.
    Tap* tap = taps_.allocate(s_.taps() + 1);
    const S* w = static_cast<const S*>(p.constants[1]);
    for (int64_t i = 0; i < num_residues_; ++i) {
      Residue& r = residues_[i];
      const int64_t at[3] = {i / s_.stride[2] / s_.stride[1], i / s_.stride[2] % s_.stride[1],
                             i % s_.stride[2]};
      int64_t positions = s_.n;
      for (int a = 0; a < 3; ++a) {
        const int64_t extent = max64(0, ceil_div(s_.in[a] - at[a], s_.stride[a]));
        r.read = set(r.read, a, extent, 1, 0);
        r.write = set(r.write, a, extent, s_.stride[a], at[a]);
        positions *= extent;
      }
      r.taps = tap;
      // From the last tap to the first: their places in dy then ascend.
      for (int64_t f = s_.taps() - 1; f >= 0; --f) {
        const int64_t k[3] = {f / s_.kernel[2] / s_.kernel[1], f / s_.kernel[2] % s_.kernel[1],
                              f % s_.kernel[2]};
        bool meets = true;
        for (int a = 0; a < 3; ++a) {
          const int64_t x = at[a] + s_.lo[a] - k[a] * s_.dilation[a];
          meets = meets && x % s_.stride[a] == 0;
          tap->at[a] = x / s_.stride[a];
        }
        tap->filter = f;
        if (meets) ++tap, ++r.num_taps;
      }
      r.gemm.plan(
          positions, s_.cg, r.num_taps * s_.og / kPer, 1,
          {.converts = sizeof(S) != sizeof(Sum<T>), .a_run = run_length<T, X>(s_.og / kPer)});
      if (w && s_.groups == 1) r.gemm.pack_constant_b(p, filter(w, r, 0));
      p.scratch_bytes = size_t(max64(int64_t(p.scratch_bytes), int64_t(r.gemm.scratch_bytes())));
    }
  }
  ~ConvGradInputPacked() override { delete[] residues_; }

  void run(const Call& call) const override {
    const S* dy = static_cast<const S*>(call.inputs[0]);
    const S* w = static_cast<const S*>(call.inputs[1]);
    S* dx = static_cast<S*>(call.outputs[0]);
    const Epilogue<S> epilogue = epilogue_.of<S>(call);
    for (int64_t i = 0; i < num_residues_; ++i) {
      const Residue& r = residues_[i];
      if (r.num_taps == 0 && !epilogue.scale && !epilogue.bias && !epilogue.residual) {
        fill_zeros(r, dx);
        continue;
      }
      for (int64_t g = 0; g < s_.groups; ++g) {
        Patches<X> q;
        q.data = reinterpret_cast<const X*>(dy + g * s_.og);
        for (int a = 0; a < 3; ++a) q.in[a] = s_.out[a];
        q.n = s_.n, q.c = s_.o / kPer, q.cg = s_.og / kPer, q.grid = r.read;
        q.taps = r.taps, q.merged = merged_, q.zeros = zeros_.get();
        q.elements = (s_.n * s_.out_size() * s_.o - g * s_.og) / kPer;
        q.inside = false;
        r.gemm.run(
            [&](int64_t) {
              return product(PackPatches<T, X>{&q}, filter(w, r, g), dx + g * s_.cg,
                             GridRows{&r.write, s_.in, s_.c}, epilogue.columns(g * s_.cg));
            },
            false, call.scratch);
      }
    }
  }

 private:
  using X = Stored<T, S>;
  static constexpr int64_t kPer = kPerElement<T>;
  struct Residue {
    Grid read, write;  // positions in dy and dx
    const Tap* taps = nullptr;
    int64_t num_taps = 0;
    GemmOf<T, S> gemm;
  };
  // The pixels of a residue that no tap meets, as with 1x1 filters.
  void fill_zeros(const Residue& r, S* dx) const {
    const int64_t positions = s_.n * r.write.extent[0] * r.write.extent[1] * r.write.extent[2];
    const size_t bytes = size_t(s_.c) * sizeof(S);
    const bool past = s_.n * s_.in_size() * int64_t(bytes) > kStreamBytes &&
                      bytes % HB_VEC_BYTES == 0 && uintptr_t(dx) % HB_VEC_BYTES == 0;
    const int64_t block = max64(1, 65536 / max64(1, int64_t(bytes)));
    parallel_for(ceil_div(positions, block), [&](int64_t task, int) {
      const int64_t end = min64(positions, (task + 1) * block);
      for (int64_t i = task * block; i < end; ++i) {
        int64_t at;
        GridRows{&r.write, s_.in, s_.c}.rows(i, 1, &at);
        if (!past) {
          memset(static_cast<void*>(dx + at), 0, bytes);
          continue;
        }
        for (size_t b = 0; b < bytes; b += HB_VEC_BYTES)
          stream(reinterpret_cast<char*>(dx + at) + b, Vec<char>{});
      }
      if (past) stream_fence();
    });
  }
  static Grid set(Grid g, int a, int64_t extent, int64_t stride, int64_t base) {
    g.extent[a] = extent, g.stride[a] = stride, g.base[a] = base;
    return g;
  }
  PackFilterTransposed<T, X> filter(const S* w, const Residue& r, int64_t g) const {
    return {reinterpret_cast<const X*>(w + g * s_.og), r.taps, s_.cg, s_.o / kPer, s_.og / kPer};
  }

  ConvShape s_;
  EpilogueInputs epilogue_;
  int64_t merged_, num_residues_;
  Residue* residues_;
  Zeros<X> zeros_;
  Zeros<Tap> taps_;
};

template <class T, class S>
class ConvGradInputDepthwise final : public ConvKernel {
 public:
  ConvGradInputDepthwise(const ConvShape& s, Prepare& p) : s_(s), epilogue_(p, 2) {
    spread_.plan(s.groups, s.og, s.cg);
    samples_ = spread_.samples(s.n, s.out_size());
    gather_.plan(s, true, s.c, s.og);
    spread_bytes_ = spread_.bytes(samples_ * s.out_size());
    p.scratch_bytes = spread_bytes_;
    if (s.og > 1) p.scratch_bytes += size_t(s.taps() * s.og * s.c) * sizeof(S);
  }
  void run(const Call& call) const override {
    const S* w = static_cast<const S*>(call.inputs[1]);
    S* spread = static_cast<S*>(call.scratch);
    if (s_.og > 1) {
      S* turned = reinterpret_cast<S*>(static_cast<char*>(call.scratch) + spread_bytes_);
      turn(w, turned);
      w = turned;
    }
    for (int64_t n = 0; n < s_.n; n += samples_) {
      const int64_t count = min64(samples_, s_.n - n);
      const S* dy = static_cast<const S*>(call.inputs[0]) + n * s_.out_size() * s_.o;
      if (spread_.copies()) {
        spread_.run(dy, spread, count * s_.out_size());
        dy = spread;
      }
      gather_.run(count, dy, w, epilogue_.of<S>(call).elements(n * gather_.result_size()),
                  static_cast<S*>(call.outputs[0]) + n * gather_.result_size());
    }
  }

 private:
  // to[d, h, last - k, j, (g, i)] = w[d, h, k, i, (g, j)]
  void turn(const S* w, S* to) const {
    parallel_for(s_.taps(), [&](int64_t tap, int) {
      const int64_t k = tap % s_.kernel[2];
      const S* from = w + (tap + s_.kernel[2] - 1 - 2 * k) * s_.cg * s_.o;
      for (int64_t j = 0; j < s_.og; ++j)
        for (int64_t g = 0; g < s_.groups; ++g)
          for (int64_t i = 0; i < s_.cg; ++i)
            to[((tap * s_.og + j) * s_.groups + g) * s_.cg + i] = from[i * s_.o + g * s_.og + j];
    });
  }

  ConvShape s_;
  EpilogueInputs epilogue_;
  Spread<S> spread_;
  DepthwiseGather<T, S> gather_;
  int64_t samples_;
  size_t spread_bytes_;
};

class ConvGradInput {
 public:
  explicit ConvGradInput(Prepare& p) {
    const ConvShape s(p.outputs[0], p.inputs[1], p.inputs[0], *p.attrs);
    const DType dtype = p.inputs[0].dtype;
    kernel_ = ConvNarrow::serves(dtype, s, s.o, s.c) ? new ConvNarrow(s, p, true)
                                                     : make_winograd(dtype, s, p, true);
    if (!kernel_)
      kernel_ = make_conv_kernel<ConvGradInputPacked, ConvGradInputDepthwise>(dtype, s, p, s.og,
                                                                              s.og, s.cg);
  }
  ConvGradInput(const ConvGradInput&) = delete;
  ConvGradInput& operator=(const ConvGradInput&) = delete;
  ~ConvGradInput() { delete kernel_; }
  void run(const Call& call) const { kernel_->run(call); }

 private:
  ConvKernel* kernel_;
};
HB_CPU_KERNEL(conv_grad_input, ConvGradInput, kAllFloat)

HB_KERNELS_END
