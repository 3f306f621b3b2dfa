// conv: y[n, p, o] = activation(sum_{tap, c} x[n, p * stride - lo + tap * dilation, c] *
//                               w[tap, c, o] + bias[o]), per group of channels.
//
// A product of patches [n * positions, taps * c] with w [taps * c, o] on the packed core, the
// patches read in place (conv.h); images with few channels, and results with few, have tiles of
// their own (conv_strip.h, conv_narrow.h), 3x3 filters of float32 are transformed first
// (conv_winograd.h). A 1x1 filter with stride 1 is a plain product; depthwise filters have their
// own kernel. Threads share out positions. Layouts: conv.h.
//
// Measured on one Zen 5 core (AVX-512, fp32, share of the multiply-add peak), 3x3 filters:
// 32x32, 64 to 64 channels 83 %; 8x8, 256 to 256 88 %; 64x64, 3 to 32 45 %; 7x7 with stride 2,
// 224x224, 3 to 64 76 %. Groups with
// few filters lie side by side in lanes (conv_depthwise.h): 56x56, 32 groups of 4 channels 24 %.
#include "ops/conv.h"

#include "ops/conv_depthwise.h"
#include "ops/conv_narrow.h"
#include "ops/conv_strip.h"
#include "ops/conv_winograd.h"

HB_KERNELS_BEGIN

// T computes, S is stored.
template <class T, class S>
class ConvPacked final : public ConvKernel {
 public:
  ConvPacked(const ConvShape& shape, Prepare& p)
      : s_(shape), x_(channels_of<T>(shape)), epilogue_(p, 2) {
    patches_.plan(x_, true);
    const S* w = static_cast<const S*>(p.constants[1]);
    num_gemms_ = w ? s_.groups : 1;
    gemm_ = new GemmOf<T, S>[size_t(num_gemms_)];
    for (int64_t g = 0; g < num_gemms_; ++g) {
      gemm_[g].plan(s_.n * s_.out_size(), s_.og, s_.taps() * x_.cg, 1,
                    {.converts = sizeof(S) != sizeof(Sum<T>),
                     .b_rows = sizeof(S) == sizeof(T) && kPerElement<T> == 1,
                     .a_run = run_length<T, X>(patches_.run())});
      if (w) gemm_[g].pack_constant_b(p, filter(w, g));
      p.scratch_bytes = size_t(max64(int64_t(p.scratch_bytes), int64_t(gemm_[g].scratch_bytes())));
    }
    image_offset_ = round_up(int64_t(p.scratch_bytes), 64);
    p.scratch_bytes = size_t(image_offset_ + patches_.scratch_bytes());
  }
  ~ConvPacked() override { delete[] gemm_; }

  void run(const Call& call) const override {
    const S* x = static_cast<const S*>(call.inputs[0]);
    const S* w = static_cast<const S*>(call.inputs[1]);
    const Epilogue<S> epilogue = epilogue_.of<S>(call);
    S* y = static_cast<S*>(call.outputs[0]);
    for (int64_t g = 0; g < s_.groups; ++g) {
      const GemmOf<T, S>& gemm = gemm_[num_gemms_ > 1 ? g : 0];
      const auto with = [&](auto a) {
        gemm.run(
            [&](int64_t) {
              return product(a, filter(w, g), y + g * s_.og, PlainRows{s_.o},
                             epilogue.columns(g * s_.og));
            },
            false, call.scratch);
      };
      if (s_.pointwise()) {
        with(pack_matrix<T>(x + g * s_.cg, s_.c, true, s_.cg));
      } else {
        const Patches<X> patches = patches_.of(reinterpret_cast<const X*>(x), g,
                                               static_cast<char*>(call.scratch) + image_offset_);
        with(PackPatches<T, X>{&patches});
      }
    }
  }

 private:
  using X = Stored<T, S>;
  auto filter(const S* w, int64_t g) const {
    return pack_matrix<T>(w + g * s_.og, s_.o, false, s_.taps() * s_.cg);
  }

  ConvShape s_, x_;
  ImagePatches<X> patches_;
  EpilogueInputs epilogue_;
  int64_t num_gemms_, image_offset_;
  GemmOf<T, S>* gemm_;
};

template <class T, class S>
class ConvDepthwise final : public ConvKernel {
 public:
  ConvDepthwise(const ConvShape& s, Prepare& p) : n_(s.n), epilogue_(p, 2) {
    spread_.plan(s.groups, s.cg, s.og);
    samples_ = spread_.samples(n_, s.in_size()), pixels_ = s.in_size(), c_ = s.c;
    gather_.plan(s, false, s.o, s.cg);
    p.scratch_bytes = spread_.bytes(samples_ * pixels_);
  }
  void run(const Call& call) const override {
    for (int64_t n = 0; n < n_; n += samples_) {
      const int64_t count = min64(samples_, n_ - n);
      const S* x = static_cast<const S*>(call.inputs[0]) + n * pixels_ * c_;
      if (spread_.copies()) {
        spread_.run(x, static_cast<S*>(call.scratch), count * pixels_);
        x = static_cast<const S*>(call.scratch);
      }
      gather_.run(count, x, static_cast<const S*>(call.inputs[1]),
                  epilogue_.of<S>(call).elements(n * gather_.result_size()),
                  static_cast<S*>(call.outputs[0]) + n * gather_.result_size());
    }
  }

 private:
  int64_t n_, samples_, pixels_, c_;
  EpilogueInputs epilogue_;
  Spread<S> spread_;
  DepthwiseGather<T, S> gather_;
};

class Conv {
 public:
  explicit Conv(Prepare& p) {
    const ConvShape s(p.inputs[0], p.inputs[1], p.outputs[0], *p.attrs);
    const DType dtype = p.inputs[0].dtype;
    if (ConvStrip::serves(dtype, s))
      kernel_ = new ConvStrip(s, p);
    else if (ConvNarrow::serves(dtype, s, s.c, s.o))
      kernel_ = new ConvNarrow(s, p, false);
    else
      kernel_ = make_winograd(dtype, s, p, false);
    if (!kernel_)
      kernel_ = make_conv_kernel<ConvPacked, ConvDepthwise>(dtype, s, p, s.cg, s.cg, s.og);
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
