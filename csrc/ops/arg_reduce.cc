// Index of the first largest (smallest) element along `axis`, as int32; a NaN counts as the
// extreme, as in NumPy.
//
// x: [outer, length, inner]. Contiguous rows (inner = 1): the extreme value by vectors, then the
// first place where it stands; rows that fill no vector kRows side by side. Otherwise `inner`
// columns at a time keep value and index.
#include <type_traits>

#include "core/kernel.h"
#include "simd/half.h"
#include "simd/lanes.h"
#include "simd/math.h"

HB_KERNELS_BEGIN

template <class T>
struct WideOf {
  typedef T type;
};
template <>
struct WideOf<f16> {
  typedef float type;
};
template <>
struct WideOf<bf16> {
  typedef float type;
};

template <class T, bool kLargest>
class ArgReduce {
  typedef typename WideOf<T>::type A;

 public:
  explicit ArgReduce(Prepare& p) {
    const TensorSpec& in = p.inputs[0];
    const int64_t axis = attr_int(*p.attrs, "axis");
    for (int d = 0; d < in.rank; ++d)
      (d < axis ? outer_ : d == axis ? length_ : inner_) *= in.shape[d];
    if (length_ == 0 && outer_ * inner_ > 0) fail("arg reduction over no elements");
  }

  void run(const Call& call) const {
    const T* x = (const T*)call.inputs[0];
    int32_t* y = (int32_t*)call.outputs[0];
    const int64_t blocks = (inner_ + kColumns - 1) / kColumns;
    const int64_t each = length_ * (inner_ < kColumns ? inner_ : kColumns);
    const int64_t group = inner_ == 1 ? (kTask + each - 1) / each : 1;
    if (inner_ == 1) {
      parallel_for((outer_ + group - 1) / group, [&](int64_t task, int) {
        const int64_t end = (task + 1) * group < outer_ ? (task + 1) * group : outer_;
        int64_t o = task * group;
        if (length_ < L)
          for (; o + kRows <= end; o += kRows) short_rows(x + o * length_, y + o);
        for (; o < end; ++o) y[o] = row(x + o * length_);
      });
    } else {
      parallel_for(outer_ * blocks, [&](int64_t task, int) {
        const int64_t o = task / blocks, begin = task % blocks * kColumns;
        const int64_t n = inner_ - begin < kColumns ? inner_ - begin : kColumns;
        columns(x + o * length_ * inner_ + begin, n, y + o * inner_ + begin);
      });
    }
  }

 private:
  static constexpr int L = kLanes<A>;
  static constexpr int64_t kColumns = 256, kTask = 1 << 15;
  static constexpr int kRows = 16;

  // Whether a is to be taken instead of b, which came before.
  static HB_INLINE bool better(A a, A b) {
    return bool((kLargest ? a > b : a < b) | ((a != a) & (b == b)));
  }

  template <class V>  // of lanes
  static HB_INLINE V best_of(V a, V b) {
    if constexpr (kLargest) return larger(a, b);
    return smaller(a, b);
  }
  // The first of the whole vectors' elements that is `best`; else how many they are.
  int64_t first_lane(const T* x, A best) const {
    typedef std::conditional_t<sizeof(A) == 8, int64_t, int32_t> Index;
    const Index end = Index(length_ / L * L);
    Vec<Index> at, first = splat(end);
    for (int j = 0; j < L; ++j) at[j] = j;
    for (int64_t i = 0; i < end; i += L, at += L) {
      const Vec<Index> place = load_as<A>(x + i) == best ? at : splat(end);
      first = place < first ? place : first;
    }
    return fold_lanes<L, Index>(
        first, [](auto a, auto b) __attribute__((always_inline)) { return a < b ? a : b; });
  }

  int32_t row(const T* x) const {
    A best = A(widen(x[0]));
    int64_t i = 0;
    if (length_ >= L) {
      Vec<A> v = load_as<A>(x), w = v;  // two, since each waits for the one before
      for (i = L; i + 2 * L <= length_; i += 2 * L) {
        v = best_of(load_as<A>(x + i), v);
        w = best_of(load_as<A>(x + i + L), w);
      }
      for (; i + L <= length_; i += L) v = best_of(load_as<A>(x + i), v);
      v = best_of(w, v);
      best = fold_lanes<L, A>(
          v, [](auto a, auto b) __attribute__((always_inline)) { return best_of(a, b); });
    }
    for (; i < length_; ++i)
      if (better(A(widen(x[i])), best)) best = A(widen(x[i]));
    i = 0;
    if (best != best) {
      while (A(widen(x[i])) == A(widen(x[i]))) ++i;
    } else {
      if constexpr (sizeof(A) >= 4) i = first_lane(x, best);
      while (A(widen(x[i])) != best) ++i;
    }
    return int32_t(i);
  }

  // kRows rows side by side.
  void short_rows(const T* x, int32_t* y) const {
    A best[kRows];
    int32_t at[kRows];
    for (int r = 0; r < kRows; ++r) {
      best[r] = A(widen(x[r * length_]));
      at[r] = 0;
    }
    for (int64_t i = 1; i < length_; ++i) {
      for (int r = 0; r < kRows; ++r) {
        const A v = A(widen(x[r * length_ + i]));
        const bool take = better(v, best[r]);
        best[r] = take ? v : best[r];
        at[r] = take ? int32_t(i) : at[r];
      }
    }
    for (int r = 0; r < kRows; ++r) y[r] = at[r];
  }

  void columns(const T* x, int64_t n, int32_t* y) const {
    A best[kColumns];
    for (int64_t c = 0; c < n; ++c) {
      best[c] = A(widen(x[c]));
      y[c] = 0;
    }
    for (int64_t i = 1; i < length_; ++i) {
      const T* row = x + i * inner_;
      for (int64_t c = 0; c < n; ++c) {
        const A v = A(widen(row[c]));
        const bool take = better(v, best[c]);
        best[c] = take ? v : best[c];
        y[c] = take ? int32_t(i) : y[c];
      }
    }
  }

  int64_t outer_ = 1, length_ = 1, inner_ = 1;
};

#define HB_ARG_REDUCE(T, name, dtype)                \
  typedef ArgReduce<T, true> ArgMax_##name;          \
  typedef ArgReduce<T, false> ArgMin_##name;         \
  HB_CPU_KERNEL(reduce_argmax, ArgMax_##name, dtype) \
  HB_CPU_KERNEL(reduce_argmin, ArgMin_##name, dtype)

HB_ARG_REDUCE(float, f32, kF32)
HB_ARG_REDUCE(double, f64, kF64)
HB_ARG_REDUCE(f16, f16, kF16)
HB_ARG_REDUCE(bf16, bf16, kBF16)
HB_ARG_REDUCE(int8_t, i8, kI8)
HB_ARG_REDUCE(int16_t, i16, kI16)
HB_ARG_REDUCE(int32_t, i32, kI32)
HB_ARG_REDUCE(int64_t, i64, kI64)
HB_ARG_REDUCE(uint8_t, u8, kU8 | kBool)
HB_ARG_REDUCE(uint16_t, u16, kU16)
HB_ARG_REDUCE(uint32_t, u32, kU32)
HB_ARG_REDUCE(uint64_t, u64, kU64)

HB_KERNELS_END
