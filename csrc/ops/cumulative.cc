// Running sums and products along `axis`. Attributes: exclusive (without the element itself),
// reverse (from the end).
//
// x: [outer, length, inner]. One task has one outer index and up to kColumns columns; where the
// axis is the last one (inner = 1), kRows rows side by side, to hide the latency of the sums.
// Running values are double for floats, so that rounding errors of long sums stay below those of
// the results.
#include "core/kernel.h"
#include "simd/half.h"

HB_KERNELS_BEGIN

template <class T>
struct RunningOf {
  typedef T type;
};
template <>
struct RunningOf<f16> {
  typedef double type;
};
template <>
struct RunningOf<bf16> {
  typedef double type;
};
template <>
struct RunningOf<float> {
  typedef double type;
};

template <class T, bool kProduct>
class Cumulative {
  typedef typename RunningOf<T>::type A;

 public:
  explicit Cumulative(Prepare& p) {
    const TensorSpec& in = p.inputs[0];
    const int64_t axis = attr_int(*p.attrs, "axis");
    for (int d = 0; d < in.rank; ++d)
      (d < axis ? outer_ : d == axis ? length_ : inner_) *= in.shape[d];
    exclusive_ = attr_int(*p.attrs, "exclusive") != 0;
    reverse_ = attr_int(*p.attrs, "reverse") != 0;
  }

  void run(const Call& call) const {
    const T* x = (const T*)call.inputs[0];
    T* y = (T*)call.outputs[0];
    if (outer_ * length_ * inner_ == 0) return;
    if (inner_ == 1) {
      const int64_t group = (kTask + length_ * kRows - 1) / (length_ * kRows) * kRows;
      parallel_for((outer_ + group - 1) / group, [&](int64_t task, int) {
        const int64_t end = (task + 1) * group < outer_ ? (task + 1) * group : outer_;
        int64_t o = task * group;
        for (; o + kRows <= end; o += kRows) rows<kRows>(x + o * length_, y + o * length_);
        for (; o < end; ++o) rows<1>(x + o * length_, y + o * length_);
      });
      return;
    }
    const int64_t blocks = (inner_ + kColumns - 1) / kColumns;
    const int64_t each = length_ * (inner_ < kColumns ? inner_ : kColumns);
    const int64_t group = (kTask + each - 1) / each, units = outer_ * blocks;
    parallel_for((units + group - 1) / group, [&](int64_t task, int) {
      for (int64_t u = task * group; u < (task + 1) * group && u < units; ++u) {
        const int64_t begin = u % blocks * kColumns;
        const int64_t n = inner_ - begin < kColumns ? inner_ - begin : kColumns;
        const int64_t at = u / blocks * length_ * inner_ + begin;
        columns(x + at, y + at, n);
      }
    });
  }

 private:
  static constexpr int64_t kColumns = 64, kTask = 1 << 14;
  static constexpr int kRows = 4;

  static HB_INLINE void put(A value, T& y) {
    if constexpr (sizeof(T) == 2 && sizeof(A) == 8)
      narrow(float(value), y);
    else
      y = T(value);
  }
  template <int n>
  void rows(const T* x, T* y) const {
    A running[n];
    for (int r = 0; r < n; ++r) running[r] = A(kProduct ? 1 : 0);
    for (int64_t i = 0; i < length_; ++i) {
      const int64_t at = reverse_ ? length_ - 1 - i : i;
      for (int r = 0; r < n; ++r) {
        const A v = A(widen(x[r * length_ + at])), before = running[r];
        running[r] = kProduct ? A(before * v) : A(before + v);
        put(exclusive_ ? before : running[r], y[r * length_ + at]);
      }
    }
  }
  void columns(const T* x, T* y, int64_t n) const {
    A running[kColumns];
    for (int64_t c = 0; c < n; ++c) running[c] = A(kProduct ? 1 : 0);
    for (int64_t i = 0; i < length_; ++i) {
      const int64_t at = (reverse_ ? length_ - 1 - i : i) * inner_;
      for (int64_t c = 0; c < n; ++c) {
        const A v = A(widen(x[at + c])), before = running[c];
        running[c] = kProduct ? A(before * v) : A(before + v);
        put(exclusive_ ? before : running[c], y[at + c]);
      }
    }
  }

  int64_t outer_ = 1, length_ = 1, inner_ = 1;
  bool exclusive_, reverse_;
};

#define HB_CUMULATIVE(T, name, dtypes)                        \
  typedef Cumulative<T, false> CumulativeSum_##name;          \
  typedef Cumulative<T, true> CumulativeProd_##name;          \
  HB_CPU_KERNEL(cumulative_sum, CumulativeSum_##name, dtypes) \
  HB_CPU_KERNEL(cumulative_prod, CumulativeProd_##name, dtypes)

HB_CUMULATIVE(float, f32, kF32)
HB_CUMULATIVE(double, f64, kF64)
HB_CUMULATIVE(f16, f16, kF16)
HB_CUMULATIVE(bf16, bf16, kBF16)
HB_CUMULATIVE(uint8_t, x8, kI8 | kU8)
HB_CUMULATIVE(uint16_t, x16, kI16 | kU16)
HB_CUMULATIVE(uint32_t, x32, kI32 | kU32)
HB_CUMULATIVE(uint64_t, x64, kI64 | kU64)

HB_KERNELS_END
