// conv: y[n, p, o] = activation(sum_{tap, c} x[n, p * stride - lo + tap * dilation, c] *
//                               w[tap, c, o] + bias[o]), per group of channels.
//
// A product of patches [n * positions, taps * c] with w [taps * c, o] on the packed core, the
// patches read in place (conv.h). A 1x1 filter with stride 1 is a plain product; depthwise filters
// have their own kernel. Threads share out positions. Layouts: conv.h.
//
// Measured on one Zen 5 core (AVX-512, fp32, share of the multiply-add peak), 3x3 filters:
// 56x56, 64 to 64 channels 74 %; 14x14, 256 to 256 89 %; 32x32, 3 to 32 41 %; 7x7 with stride 2,
// 224x224, 3 to 64 65 %. Groups run one after another, so many small groups use few lanes (2 %).
#include "ops/conv.h"

#include "ops/conv_depthwise.h"

HB_KERNELS_BEGIN

// T computes, S is stored.
template <class T, class S>
class ConvPacked final : public ConvKernel {
 public:
  ConvPacked(const ConvShape& shape, Prepare& p) : s_(shape) {
    // A filter row over neighbouring pixels is one run of memory.
    merged_ = s_.groups == 1 && s_.dilation[2] == 1 ? s_.kernel[2] : 1;
    zeros_.allocate(merged_ * s_.cg + kLanes<T>);
    Tap* tap = taps_.allocate(s_.taps());
    for (int64_t i = 0; i < s_.taps(); ++i, ++tap) {
      tap->at[2] = i % s_.kernel[2] * s_.dilation[2];
      tap->at[1] = i / s_.kernel[2] % s_.kernel[1] * s_.dilation[1];
      tap->at[0] = i / s_.kernel[2] / s_.kernel[1] * s_.dilation[0];
      tap->filter = i;
    }
    const S* w = static_cast<const S*>(p.constants[1]);
    padded_ = s_.c <= kFewChannels && s_.groups == 1 && s_.taps() > 1 && s_.out_size() > 0;
    num_gemms_ = w ? s_.groups : 1;
    gemm_ = new Gemm<T>[size_t(num_gemms_)];
    for (int64_t g = 0; g < num_gemms_; ++g) {
      gemm_[g].plan(s_.n * s_.out_size(), s_.og, s_.taps() * s_.cg, 1, sizeof(S) != sizeof(T),
                    sizeof(S) == sizeof(T), run_length<T, S>(padded_ ? merged_ * s_.cg : s_.cg));
      if (w) gemm_[g].pack_constant_b(filter(w, g));
      p.scratch_bytes = size_t(max64(int64_t(p.scratch_bytes), int64_t(gemm_[g].scratch_bytes())));
    }
    has_bias_ = p.num_inputs > 2;
    padded_offset_ = round_up(int64_t(p.scratch_bytes), 64);
    if (padded_) {
      image_.plan(s_);
      p.scratch_bytes = size_t(padded_offset_ + image_.elements() * int64_t(sizeof(S)));
    }
  }
  ~ConvPacked() override { delete[] gemm_; }

  void run(const Call& call) const override {
    const S* x = static_cast<const S*>(call.inputs[0]);
    const S* w = static_cast<const S*>(call.inputs[1]);
    const S* bias = has_bias_ ? static_cast<const S*>(call.inputs[2]) : nullptr;
    S* y = static_cast<S*>(call.outputs[0]);
    for (int64_t g = 0; g < s_.groups; ++g) {
      const Gemm<T>& gemm = gemm_[num_gemms_ > 1 ? g : 0];
      const auto with = [&](auto a) {
        gemm.run(
            [&](int64_t) {
              return product(a, filter(w, g), y + g * s_.og, PlainRows{s_.o},
                             bias ? bias + g * s_.og : nullptr, s_.relu);
            },
            false, call.scratch);
      };
      if (s_.pointwise()) {
        with(PackMatrix<T, S>{x + g * s_.cg, s_.c, true});
      } else {
        Patches<S> patches = patches_of(x, g);
        if (padded_) {
          S* image = reinterpret_cast<S*>(static_cast<char*>(call.scratch) + padded_offset_);
          image_.copy(x, image);
          patches.data = image;
          patches.inside = true;
          patches.elements = image_.elements();
          for (int a = 0; a < 3; ++a) {
            patches.in[a] = image_.extent()[a];
            patches.grid.base[a] = 0;
          }
        }
        with(PackPatches<T, S>{&patches});
      }
    }
  }

 private:
  PackMatrix<T, S> filter(const S* w, int64_t g) const { return {w + g * s_.og, s_.o, false}; }
  Patches<S> patches_of(const S* x, int64_t g) const {
    Patches<S> q;
    q.data = x + g * s_.cg;
    q.n = s_.n, q.c = s_.c, q.cg = s_.cg;
    for (int a = 0; a < 3; ++a) {
      q.in[a] = s_.in[a];
      q.grid.extent[a] = s_.out[a];
      q.grid.stride[a] = s_.stride[a];
      q.grid.base[a] = -s_.lo[a];
    }
    q.taps = taps_.get(), q.merged = merged_, q.zeros = zeros_.get();
    q.elements = s_.n * s_.in_size() * s_.c - g * s_.cg;
    q.inside = false;
    return q;
  }

  static constexpr int64_t kFewChannels = 4;

  ConvShape s_;
  int64_t merged_, num_gemms_, padded_offset_;
  bool has_bias_, padded_;
  PaddedImage<S> image_;
  Zeros<S> zeros_;
  Zeros<Tap> taps_;
  Gemm<T>* gemm_;
};

template <class T, class S>
class ConvDepthwise final : public ConvKernel {
 public:
  ConvDepthwise(const ConvShape& s, Prepare& p) : s_(s), has_bias_(p.num_inputs > 2) {
    gather_.plan(s, false);
    if (s.og > 1) p.scratch_bytes = size_t(s.n * s.in_size() * s.o) * sizeof(S);
  }
  void run(const Call& call) const override {
    const S* x = static_cast<const S*>(call.inputs[0]);
    if (s_.og > 1) {
      repeat_channels(x, static_cast<S*>(call.scratch), s_.n * s_.in_size(), s_.c, s_.og);
      x = static_cast<const S*>(call.scratch);
    }
    gather_.run(x, static_cast<const S*>(call.inputs[1]),
                has_bias_ ? static_cast<const S*>(call.inputs[2]) : nullptr,
                static_cast<S*>(call.outputs[0]));
  }

 private:
  ConvShape s_;
  bool has_bias_;
  DepthwiseGather<T, S> gather_;
};

class Conv {
 public:
  explicit Conv(Prepare& p) {
    const ConvShape s(p.inputs[0], p.inputs[1], p.outputs[0], *p.attrs);
    kernel_ = make_conv_kernel<ConvPacked, ConvDepthwise>(p.inputs[0].dtype, s, p);
  }
  Conv(const Conv&) = delete;
  Conv& operator=(const Conv&) = delete;
  ~Conv() { delete kernel_; }
  void run(const Call& call) const { kernel_->run(call); }

 private:
  ConvKernel* kernel_;
};
HB_CPU_KERNEL(conv, Conv, kAllFloat)

HB_KERNELS_END
