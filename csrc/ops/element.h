// Element types of kernels that are written once for all dtypes: how each is stored and in which
// type it is computed (float16 and bfloat16 in float).
#pragma once
#include <stdint.h>
#include <string.h>

#include "core/kernel.h"
#include "simd/half.h"

namespace hb::HB_ISA {
namespace {

template <class T>
struct ComputeOf {
  typedef T type;
};
template <>
struct ComputeOf<f16> {
  typedef float type;
};
template <>
struct ComputeOf<bf16> {
  typedef float type;
};
template <class T>
using Compute = typename ComputeOf<T>::type;

template <class T>
HB_INLINE Compute<T> widened(T x) {
  return widen(x);
}
template <class T>
HB_INLINE T narrowed(Compute<T> x) {
  T y;
  narrow(x, y);
  return y;
}

// Calls f with a value of the type that stores `dtype`.
template <class F>
static inline void with_float_type(DType dtype, const F& f) {
  switch (dtype) {
    case DType::F16:
      return f(f16{});
    case DType::BF16:
      return f(bf16{});
    case DType::F32:
      return f(float{});
    case DType::F64:
      return f(double{});
    default:
      fail("no kernel for dtype %s", dtype_name(dtype));
  }
}
template <class F>
static inline void with_type(DType dtype, const F& f) {
  switch (dtype) {
    case DType::Bool:
    case DType::U8:
      return f(uint8_t{});
    case DType::I8:
      return f(int8_t{});
    case DType::I16:
      return f(int16_t{});
    case DType::I32:
      return f(int32_t{});
    case DType::I64:
      return f(int64_t{});
    case DType::U16:
      return f(uint16_t{});
    case DType::U32:
      return f(uint32_t{});
    case DType::U64:
      return f(uint64_t{});
    default:
      return with_float_type(dtype, f);
  }
}

template <class T>
struct Limits;  // lowest and highest value, for running maxima and minima
#define HB_LIMITS(T, lo, hi)                       \
  template <>                                      \
  struct Limits<T> {                               \
    static HB_INLINE T lowest() { return T(lo); }  \
    static HB_INLINE T highest() { return T(hi); } \
  };
HB_LIMITS(float, -__builtin_inff(), __builtin_inff())
HB_LIMITS(double, -__builtin_inf(), __builtin_inf())
HB_LIMITS(int8_t, INT8_MIN, INT8_MAX)
HB_LIMITS(int16_t, INT16_MIN, INT16_MAX)
HB_LIMITS(int32_t, INT32_MIN, INT32_MAX)
HB_LIMITS(int64_t, INT64_MIN, INT64_MAX)
HB_LIMITS(uint8_t, 0, UINT8_MAX)
HB_LIMITS(uint16_t, 0, UINT16_MAX)
HB_LIMITS(uint32_t, 0, UINT32_MAX)
HB_LIMITS(uint64_t, 0, UINT64_MAX)
#undef HB_LIMITS

template <class T>
HB_INLINE T min_of(T a, T b) {
  return b < a ? b : a;
}
template <class T>
HB_INLINE T max_of(T a, T b) {
  return a < b ? b : a;
}

// A tensor as [outer, n, inner] around one axis.
struct AxisView {
  int64_t outer = 1, n = 1, inner = 1;
  AxisView() = default;
  AxisView(const TensorSpec& s, int64_t axis) {
    for (int i = 0; i < s.rank; ++i) {
      int64_t& part = i < axis ? outer : i == axis ? n : inner;
      part *= s.shape[i];
    }
  }
};

}  // namespace
}  // namespace hb::HB_ISA
