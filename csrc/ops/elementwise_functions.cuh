// The functions of element-wise clusters on CUDA. They are compiled into the interpreter
// (elementwise.cu), and the same text goes into the source of a cluster that is compiled at run
// time (elementwise_source.cu), so nothing lists them twice.
#pragma once
#include "cuda/kernel.cuh"

namespace hb::cuda {
namespace {

// The code, and the same as text. No preprocessor lines may be in it.
#define HB_CODE_AND_TEXT(name, ...) \
  __VA_ARGS__                       \
  [[maybe_unused]] constexpr char name[] = #__VA_ARGS__;

// clang-format off
HB_CODE_AND_TEXT(kHelperText,
template <class T>
struct Unsigned {
  typedef uint64_t type;
};
template <>
struct Unsigned<int32_t> {
  typedef uint32_t type;
};

template <class T>
__device__ T pick_max(T a, T b) {  // NaN wins
  return a > b || a != a ? a : b;
}
template <class T>
__device__ T pick_min(T a, T b) {
  return a < b || a != a ? a : b;
}
template <class T>
__device__ T sign_of(T a) {
  return a > T(0) ? T(1) : a < T(0) ? T(-1) : a;
}
template <class T>
__device__ T remainder_of(T a, T b) {  // with the sign of the divisor
  const T r = fmod(a, b);
  if (r == T(0)) return copysign(T(0), b);
  return (r < T(0)) != (b < T(0)) ? r + b : r;
}
template <class T>
__device__ T quotient_of(T a, T b) {  // rounded down
  if (b == T(0)) return a / b;
  const T r = fmod(a, b);
  T q = (a - r) / b;
  if (r != T(0) && (r < T(0)) != (b < T(0))) q -= T(1);
  if (q == T(0)) return copysign(T(0), a / b);
  const T down = floor(q);
  return q - down > T(0.5) ? down + T(1) : down;
}
template <class T>
__device__ T log_of_sum(T a, T b) {  // log(e^a + e^b)
  if (a == b) return a + T(0.69314718055994530942);
  return pick_max(a, b) + log1p(exp(-fabs(a - b)));
}
template <class T>
__device__ T gelu_of(T a) {  // a Phi(a)
  if (a < T(-40)) return T(-0.0);  // not -inf * 0
  return T(0.5) * a * erfc(-a * T(0.70710678118654752440));
}
template <class T>
__device__ T gelu_slope_of(T a) {
  const T density = T(0.39894228040143267794) * exp(T(-0.5) * a * a);
  const T below = T(0.5) * erfc(-a * T(0.70710678118654752440));
  return density == T(0) ? below : below + a * density;
}
template <class T>
__device__ T gelu_tanh_exponent(T a) {
  return T(1.5957691216057308) * (a + T(0.044715) * (a * a * a));
}
template <class T>
__device__ T gelu_tanh_of(T a) {
  return a < T(-40) ? T(-0.0) : a / (T(1) + exp(-gelu_tanh_exponent(a)));
}
template <class T>
__device__ T gelu_tanh_slope_of(T a) {
  if (fabs(a) > T(30)) return a > T(0) ? T(1) : T(0);
  const T s = T(1) / (T(1) + exp(-gelu_tanh_exponent(a)));
  const T steep = T(1.5957691216057308) * (T(1) + T(3 * 0.044715) * (a * a));
  return s + a * s * (T(1) - s) * steep;
}
template <class T>
__device__ T step_of(T a, T b) {
  return a != a ? a : a == T(0) ? b : a > T(0) ? T(1) : T(0);
}

template <class T>
__device__ T int_mod(T a, T b) {  // with the sign of the dividend; by zero: 0, as NumPy
  return b == T(0) || (T(-1) < T(0) && b == T(-1)) ? T(0) : T(a % b);
}
template <class T>
__device__ T int_floor_mod(T a, T b) {
  const T r = int_mod(a, b);
  return r != T(0) && (r < T(0)) != (b < T(0)) ? T(r + b) : r;
}
template <class T>
__device__ T int_floor_div(T a, T b) {
  if (b == T(0)) return T(0);
  if (T(-1) < T(0) && b == T(-1)) return T(typename Unsigned<T>::type(0) - a);
  const T q = a / b;
  return q * b != a && (a < T(0)) != (b < T(0)) ? T(q - 1) : q;
}
template <class T>
__device__ T int_power(T base, T exponent) {
  typedef typename Unsigned<T>::type U;
  if (T(-1) < T(0) && exponent < T(0)) {
    if (base == T(1)) return T(1);
    return base == T(-1) ? (exponent & 1 ? T(-1) : T(1)) : T(0);
  }
  U y = 1, b = U(base);
  for (U e = U(exponent); e != 0; e >>= 1, b *= b)
    if (e & 1) y *= b;
  return T(y);
}
template <class T>
__device__ typename Unsigned<T>::type size_of(T a) {
  typedef typename Unsigned<T>::type U;
  return a < T(0) ? U(0) - U(a) : U(a);
}
template <class T>
__device__ T int_gcd(T a, T b) {
  auto x = size_of(a), y = size_of(b);
  while (y != 0) {
    const auto r = x % y;
    x = y;
    y = r;
  }
  return T(x);
}
template <class T>
__device__ T int_lcm(T a, T b) {
  const auto g = size_of(int_gcd(a, b));
  return g == 0 ? T(0) : T(size_of(a) / g * size_of(b));
}
template <class T>
__device__ T shift_up(T a, T b) {
  typedef typename Unsigned<T>::type U;
  return U(b) < sizeof(T) * 8 ? T(U(a) << U(b)) : T(0);
}
template <class T>
__device__ T shift_down(T a, T b) {
  typedef typename Unsigned<T>::type U;
  return U(b) < sizeof(T) * 8 ? T(a >> U(b)) : (a < T(0) ? T(-1) : T(0));
}

template <class To>
struct Cast {
  template <class From>
  static __device__ To of(From x) {
    return To(x);
  }
};
template <>
struct Cast<uint8_t> {
  template <class From>
  static __device__ uint8_t of(From x) {
    return x != From(0);
  }
};
template <>
struct Cast<int32_t> {  // by way of 64 bits: what does not fit wraps, as on the processor
  template <class From>
  static __device__ int32_t of(From x) {
    return int32_t(int64_t(x));
  }
};
template <>
struct Cast<uint64_t> {  // a negative float wraps
  template <class From>
  static __device__ uint64_t of(From x) {
    return x < From(0) ? uint64_t(int64_t(x)) : uint64_t(x);
  }
};
)
// clang-format on

// Function, number of operands, value for operands a and b of type T (U: unsigned, it wraps).
#define HB_COMPARISONS(F)                      \
  F(equal, 2, a == b)                          \
  F(not_equal, 2, a != b)                      \
  F(less, 2, a < b)                            \
  F(less_equal, 2, a <= b)                     \
  F(greater, 2, a > b)                         \
  F(greater_equal, 2, a >= b)                  \
  F(logical_and, 2, (a != T(0)) & (b != T(0))) \
  F(logical_or, 2, (a != T(0)) | (b != T(0)))  \
  F(logical_xor, 2, (a != T(0)) ^ (b != T(0))) \
  F(logical_not, 1, a == T(0))
#define HB_FLOAT_TESTS(F)               \
  F(isnan, 1, a != a)                   \
  F(isinf, 1, fabs(a) == T(HUGE_VAL))   \
  F(isfinite, 1, fabs(a) < T(HUGE_VAL)) \
  F(signbit, 1, copysign(T(1), a) < T(0))
#define HB_FLOAT_FUNCTIONS(F)                  \
  F(add, 2, a + b)                             \
  F(subtract, 2, a - b)                        \
  F(multiply, 2, a* b)                         \
  F(divide, 2, a / b)                          \
  F(maximum, 2, pick_max(a, b))                \
  F(minimum, 2, pick_min(a, b))                \
  F(heaviside, 2, step_of(a, b))               \
  F(negative, 1, -a)                           \
  F(abs, 1, fabs(a))                           \
  F(sign, 1, sign_of(a))                       \
  F(square, 1, a* a)                           \
  F(sqrt, 1, sqrt(a))                          \
  F(rsqrt, 1, T(1) / sqrt(a))                  \
  F(reciprocal, 1, T(1) / a)                   \
  F(floor, 1, floor(a))                        \
  F(ceil, 1, ceil(a))                          \
  F(trunc, 1, trunc(a))                        \
  F(round, 1, rint(a))                         \
  F(exp, 1, exp(a))                            \
  F(expm1, 1, expm1(a))                        \
  F(log, 1, log(a))                            \
  F(log2, 1, log2(a))                          \
  F(log1p, 1, log1p(a))                        \
  F(tanh, 1, tanh(a))                          \
  F(sigmoid, 1, T(1) / (T(1) + exp(-a)))       \
  F(logaddexp, 2, log_of_sum(a, b))            \
  F(gelu, 1, gelu_of(a))                       \
  F(gelu_slope, 1, gelu_slope_of(a))           \
  F(gelu_tanh, 1, gelu_tanh_of(a))             \
  F(gelu_tanh_slope, 1, gelu_tanh_slope_of(a)) \
  F(sin, 1, sin(a))                            \
  F(cos, 1, cos(a))                            \
  F(erf, 1, erf(a))                            \
  F(tan, 1, tan(a))                            \
  F(arcsin, 1, asin(a))                        \
  F(arccos, 1, acos(a))                        \
  F(arctan, 1, atan(a))                        \
  F(sinh, 1, sinh(a))                          \
  F(cosh, 1, cosh(a))                          \
  F(arcsinh, 1, asinh(a))                      \
  F(arccosh, 1, acosh(a))                      \
  F(arctanh, 1, atanh(a))                      \
  F(erfc, 1, erfc(a))                          \
  F(exp2, 1, exp2(a))                          \
  F(log10, 1, log10(a))                        \
  F(cbrt, 1, cbrt(a))                          \
  F(lgamma, 1, lgamma(a))                      \
  F(power, 2, pow(a, b))                       \
  F(arctan2, 2, atan2(a, b))                   \
  F(hypot, 2, hypot(a, b))                     \
  F(nextafter, 2, nextafter(a, b))             \
  F(fmod, 2, fmod(a, b))                       \
  F(mod, 2, remainder_of(a, b))                \
  F(floor_divide, 2, quotient_of(a, b))        \
  F(copy, 1, a)                                \
  F(broadcast_to, 1, a)
#define HB_INT_TESTS(F) F(signbit, 1, a < T(0))
#define HB_INT_FUNCTIONS(F)                          \
  F(add, 2, U(a) + U(b))                             \
  F(subtract, 2, U(a) - U(b))                        \
  F(multiply, 2, U(a) * U(b))                        \
  F(negative, 1, U(0) - U(a))                        \
  F(square, 1, U(a) * U(a))                          \
  F(maximum, 2, a > b ? a : b)                       \
  F(minimum, 2, a < b ? a : b)                       \
  F(bitwise_and, 2, a& b)                            \
  F(bitwise_or, 2, a | b)                            \
  F(bitwise_xor, 2, a ^ b)                           \
  F(bitwise_not, 1, ~a)                              \
  F(abs, 1, size_of(a))                              \
  F(sign, 1, a > T(0) ? 1 : a < T(0) ? T(-1) : T(0)) \
  F(floor_divide, 2, int_floor_div(a, b))            \
  F(mod, 2, int_floor_mod(a, b))                     \
  F(fmod, 2, int_mod(a, b))                          \
  F(power, 2, int_power(a, b))                       \
  F(gcd, 2, int_gcd(a, b))                           \
  F(lcm, 2, int_lcm(a, b))                           \
  F(left_shift, 2, shift_up(a, b))                   \
  F(right_shift, 2, shift_down(a, b))                \
  F(copy, 1, a)                                      \
  F(broadcast_to, 1, a)
// Booleans: a sum is "or", a product "and".
#define HB_BOOL_FUNCTIONS(F) \
  F(add, 2, a | b)           \
  F(maximum, 2, a | b)       \
  F(bitwise_or, 2, a | b)    \
  F(multiply, 2, a& b)       \
  F(minimum, 2, a& b)        \
  F(bitwise_and, 2, a& b)    \
  F(bitwise_xor, 2, a ^ b)   \
  F(bitwise_not, 1, a ^ 1)   \
  F(abs, 1, a)               \
  F(sign, 1, a)              \
  F(square, 1, a)            \
  F(copy, 1, a)              \
  F(broadcast_to, 1, a)

}  // namespace
}  // namespace hb::cuda
