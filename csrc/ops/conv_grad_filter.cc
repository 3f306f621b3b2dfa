// conv_grad_filter: dw[tap, c, o] = sum_{n, p} x[n, p * stride - lo + tap * dilation, c] *
//                                   dy[n, p, o], per group of channels.
//
// Where the dtype is computed as stored, tiles of dw read x where it lies (conv_filter_direct.h).
// Else a product of patches transposed [taps * c, n * positions] with dy [n * positions, o]: the
// output is small and the sum long, so the core cuts the sum into parts, by size only, and adds the
// parts in order: the same bits for any number of threads. Layouts: conv.h.
//
// Measured as in conv.cc (border included in the operations, though it is left out): 90 % and
// 103 %; 32 to 32 channels 82 %; 3 to 64 channels 73 %; 7x7 with stride 2 86 %; 1x1, 56x56, 64 to
// 64 channels 79 %.
#include "ops/conv.h"
#include "ops/conv_depthwise.h"
#include "ops/conv_filter_direct.h"
#include "ops/conv_winograd_filter.h"

HB_KERNELS_BEGIN

template <class T, class S>
class ConvGradFilterPacked final : public ConvKernel {
 public:
  ConvGradFilterPacked(const ConvShape& shape, Prepare& p) : s_(shape) {
    // Without taps to tell apart, all positions lie in one row.
    if (s_.pointwise()) {
      const int64_t pixels = s_.n * s_.out_size();
      s_.n = 1;
      for (int a = 0; a < 3; ++a) s_.in[a] = s_.out[a] = a < 2 ? 1 : pixels;
    }
    direct_ = kDirect && FilterGradient<Sum<T>>::serves(s_);
    patches_.plan(s_, false);
    int64_t bytes = 0;
    if constexpr (kDirect)
      if (direct_) {
        gradient_.plan(s_, patches_.plain());
        bytes = int64_t(gradient_.scratch_bytes());
      }
    if (!direct_) {
      gemm_.plan(s_.taps() * s_.cg, s_.og, ceil_div(positions(), kPerElement<T>), 1,
                 {.converts = sizeof(S) != sizeof(Sum<T>), .b_rows = kDirect});
      bytes = int64_t(gemm_.scratch_bytes());
    }
    image_offset_ = round_up(bytes, 64);
    p.scratch_bytes = size_t(image_offset_ + patches_.scratch_bytes());
  }
  void run(const Call& call) const override {
    const S* x = static_cast<const S*>(call.inputs[0]);
    const S* dy = static_cast<const S*>(call.inputs[1]);
    S* dw = static_cast<S*>(call.outputs[0]);
    for (int64_t g = 0; g < s_.groups; ++g) {
      const auto with = [&](auto a) {
        gemm_.run(
            [&](int64_t) {
              return product(a, pack_matrix<T>(dy + g * s_.og, s_.o, false, positions()),
                             dw + g * s_.og, PlainRows{s_.o});
            },
            false, call.scratch);
      };
      if (s_.pointwise() && !direct_) {
        with(pack_matrix<T>(x + g * s_.cg, s_.c, false, positions()));
        continue;
      }
      void* image = static_cast<char*>(call.scratch) + image_offset_;
      const Patches<S> q = patches_.of(x, g, image);
      if constexpr (kDirect)
        if (direct_) {
          gradient_.run(q, dy + g * s_.og, dw + g * s_.og, s_.o, call.scratch);
          continue;
        }
      const PackPatchesAcross<Sum<T>, S> across{&q};
      if constexpr (kPerElement<T> == 2)
        with(PackPairsOf<PackPatchesAcross<Sum<T>, S>>{across, positions()});
      else
        with(across);
    }
  }

 private:
  // Memory holds what is computed with.
  static constexpr bool kDirect = sizeof(T) == sizeof(S) && kPerElement<T> == 1;
  int64_t positions() const { return s_.n * s_.out_size(); }

  ConvShape s_;
  ImagePatches<S> patches_;
  bool direct_;
  int64_t image_offset_;
  FilterGradient<Sum<T>> gradient_;
  GemmOf<T, S> gemm_;
};

#if HB_VEC_BYTES == 64
// Two images at a time, in pairs of bfloat16: an image beside the one half a batch later, so that
// the same positions and taps meet as for one image.
template <class S>
class ConvGradFilterPairs final : public ConvKernel {
 public:
  static bool serves(const ConvShape& s) {
    const ConvShape half = halves(s);
    return use_pairs<S>() && !has_tiles() && !s.depthwise() && half.n > 0 &&
           FilterGradient<Pair, S>::serves(half);
  }
  ConvGradFilterPairs(const ConvShape& shape, Prepare& p) : s_(halves(shape)) {
    patches_.plan(s_, false);
    gradient_.plan(s_, patches_.plain());
    x_pairs_ = s_.n * s_.in_size() * s_.c, dy_pairs_ = s_.n * s_.out_size() * s_.o;
    x_offset_ = round_up(int64_t(gradient_.scratch_bytes()), 64);
    dy_offset_ = x_offset_ + round_up(x_pairs_ * int64_t(sizeof(Pair)), 64);
    image_offset_ = dy_offset_ + round_up(dy_pairs_ * int64_t(sizeof(Pair)), 64);
    p.scratch_bytes = size_t(image_offset_ + patches_.scratch_bytes());
  }
  void run(const Call& call) const override {
    char* scratch = static_cast<char*>(call.scratch);
    Pair *x = reinterpret_cast<Pair*>(scratch + x_offset_),
         *dy = reinterpret_cast<Pair*>(scratch + dy_offset_);
    pair(static_cast<const S*>(call.inputs[0]), x, x_pairs_);
    pair(static_cast<const S*>(call.inputs[1]), dy, dy_pairs_);
    S* dw = static_cast<S*>(call.outputs[0]);
    for (int64_t g = 0; g < s_.groups; ++g) {
      const Patches<Pair> q = patches_.of(x, g, scratch + image_offset_);
      gradient_.run(q, dy + g * s_.og, dw + g * s_.og, s_.o, scratch);
    }
  }

 private:
  // The shape of one half; n is 0 if there are no halves.
  static ConvShape halves(ConvShape s) {
    if (s.pointwise()) {  // without taps to tell apart, all positions lie in one row
      const int64_t pixels = s.n * s.out_size();
      s.n = pixels % 2 == 0;
      for (int a = 0; a < 3; ++a) s.in[a] = s.out[a] = a < 2 ? 1 : pixels / 2;
    } else {
      s.n = s.n % 2 == 0 ? s.n / 2 : 0;
    }
    return s;
  }
  // y[i] = x[i] beside x[i + n].
  static void pair(const S* x, Pair* y, int64_t n) {
    constexpr int64_t kPiece = 1 << 14;
    parallel_for(ceil_div(n, kPiece), [&](int64_t task, int) {
      const int64_t end = min64(n, (task + 1) * kPiece);
      for (int64_t i = task * kPiece; i < end; i += 16) {
        const int count = int(min64(16, end - i));
        const Vec<Pair> v =
            load_upper(x + i, count) >> 16 | (load_upper(x + i + n, count) & 0xffff0000);
        if (count == 16)
          store(y + i, v);
        else
          memcpy(y + i, &v, size_t(count) * sizeof(Pair));
      }
    });
  }

  ConvShape s_;
  ImagePatches<Pair> patches_;
  FilterGradient<Pair, S> gradient_;
  int64_t x_pairs_, dy_pairs_, x_offset_, dy_offset_, image_offset_;
};
#endif

template <class T, class S>
class ConvGradFilterDepthwise final : public ConvKernel {
 public:
  ConvGradFilterDepthwise(const ConvShape& s, Prepare& p) : s_(s) {
    spread_.plan(s.groups, s.cg, s.og);
    samples_ = spread_.samples(s.n, s.in_size());
    filter_.plan(s, s.cg, samples_);
    sums_bytes_ = round_up(filter_.scratch_elements() * int64_t(sizeof(T)), 64);
    p.scratch_bytes = size_t(sums_bytes_) + spread_.bytes(samples_ * s.in_size());
  }
  void run(const Call& call) const override {
    T* sums = static_cast<T*>(call.scratch);
    filter_.start(sums);
    for (int64_t n = 0; n < s_.n; n += samples_) {
      const int64_t count = min64(samples_, s_.n - n);
      const S* x = static_cast<const S*>(call.inputs[0]) + n * s_.in_size() * s_.c;
      if (spread_.copies()) {
        S* spread = reinterpret_cast<S*>(static_cast<char*>(call.scratch) + sums_bytes_);
        spread_.run(x, spread, count * s_.in_size());
        x = spread;
      }
      filter_.add(count, x, static_cast<const S*>(call.inputs[1]) + n * s_.out_size() * s_.o, sums);
    }
    filter_.finish(sums, static_cast<S*>(call.outputs[0]));
  }

 private:
  ConvShape s_;
  Spread<S> spread_;
  DepthwiseFilter<T, S> filter_;
  int64_t samples_, sums_bytes_;
};

class ConvGradFilter {
 public:
  explicit ConvGradFilter(Prepare& p) {
    const ConvShape s(p.inputs[0], p.outputs[0], p.inputs[1], *p.attrs);
#if HB_VEC_BYTES == 64
    const DType dtype = p.inputs[0].dtype;
    if (dtype == DType::BF16 && ConvGradFilterPairs<bf16>::serves(s)) {
      kernel_ = new ConvGradFilterPairs<bf16>(s, p);
      return;
    }
    if (dtype == DType::F32 && ConvGradFilterPairs<float>::serves(s)) {
      kernel_ = new ConvGradFilterPairs<float>(s, p);
      return;
    }
#endif
    kernel_ = make_filter_winograd(p.inputs[0].dtype, s, p);
    if (!kernel_)
      kernel_ = make_conv_kernel<ConvGradFilterPacked, ConvGradFilterDepthwise>(
          p.inputs[0].dtype, s, p, 0, s.cg, s.og);
  }
  ConvGradFilter(const ConvGradFilter&) = delete;
  ConvGradFilter& operator=(const ConvGradFilter&) = delete;
  ~ConvGradFilter() { delete kernel_; }
  void run(const Call& call) const { kernel_->run(call); }

 private:
  ConvKernel* kernel_;
};
HB_CPU_KERNEL(conv_grad_filter, ConvGradFilter, kAllFloat)

HB_KERNELS_END
