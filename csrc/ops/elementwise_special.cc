// Floating-point functions of the tile engine that go element by element: those of C's library,
// NumPy's division with remainder, and the special functions that C has not.
#include "ops/elementwise.h"

namespace hb::HB_ISA {
namespace {

constexpr double kPi = 3.14159265358979323846;

// C's functions for float and double under one name.
#define HB_LIBM1(name)                                                                  \
  [[maybe_unused]] HB_INLINE float c_##name(float x) { return __builtin_##name##f(x); } \
  [[maybe_unused]] HB_INLINE double c_##name(double x) { return __builtin_##name(x); }
#define HB_LIBM2(name)                                                             \
  HB_INLINE float c_##name(float x, float y) { return __builtin_##name##f(x, y); } \
  HB_INLINE double c_##name(double x, double y) { return __builtin_##name(x, y); }
// clang-format off
HB_LIBM1(sin) HB_LIBM1(cos) HB_LIBM1(tan) HB_LIBM1(asin) HB_LIBM1(acos) HB_LIBM1(atan)
HB_LIBM1(sinh) HB_LIBM1(cosh) HB_LIBM1(asinh) HB_LIBM1(acosh) HB_LIBM1(atanh)
HB_LIBM1(erf) HB_LIBM1(erfc) HB_LIBM1(exp2) HB_LIBM1(log10) HB_LIBM1(cbrt) HB_LIBM1(floor)
HB_LIBM2(pow) HB_LIBM2(atan2) HB_LIBM2(hypot) HB_LIBM2(nextafter) HB_LIBM2(fmod)
HB_LIBM2(copysign)
// The sign of the gamma function goes into a local: lgamma's global one would be a data race.
HB_INLINE float c_lgamma(float x) {
  int sign;
  return __builtin_lgammaf_r(x, &sign);
}
HB_INLINE double c_lgamma(double x) {
  int sign;
  return __builtin_lgamma_r(x, &sign);
}
// clang-format on

// Remainder with the sign of the divisor, and the quotient that fits to it.
template <class T>
T floor_mod(T a, T b) {
  const T r = c_fmod(a, b);
  if (r == 0) return c_copysign(T(0), b);
  return (r < 0) != (b < 0) ? r + b : r;
}
template <class T>
T floor_div(T a, T b) {
  if (b == 0) return a / b;
  const T r = c_fmod(a, b);
  T q = (a - r) / b;
  if (r != 0 && (r < 0) != (b < 0)) q -= 1;
  if (q == 0) return c_copysign(T(0), a / b);
  const T down = c_floor(q);
  return q - down > T(0.5) ? down + 1 : down;
}

// Inverse error function: a start from erf(x) = sqrt(1 - e^(-x^2 (4/pi + a x^2) / (1 + a x^2))),
// which is good to 2e-3 (Winitzki), and Halley steps, each of which triples the digits. In the tail
// the complement 1 - x is used, which is exact there.
double erfinv(double x) {
  const double a = __builtin_fabs(x);
  if (!(a < 1)) return a == 1 ? __builtin_copysign(__builtin_inf(), x) : __builtin_nan("");
  const double log_term = __builtin_log1p(-a * a), c = 2 / (kPi * 0.147) + 0.5 * log_term;
  double y = __builtin_sqrt(__builtin_sqrt(c * c - log_term / 0.147) - c);
  if (a < 1e-3) y = a * 0.886226925452758;
  for (int step = 0; step < 3; ++step) {
    const double error = a < 0.5 ? __builtin_erf(y) - a : (1 - a) - __builtin_erfc(y);
    const double u = error * 0.886226925452758 * __builtin_exp(y * y);  // Newton's step
    y -= u / (1 + y * u);
  }
  return __builtin_copysign(y, x);
}

// Derivative of log gamma: reflected to x > 0, raised to x >= 10, then the asymptotic series.
double digamma(double x) {
  if (x <= 0) {
    if (x == 0) return -__builtin_copysign(__builtin_inf(), x);
    const double fraction = x - __builtin_rint(x);
    if (fraction == 0) return __builtin_nan("");
    return digamma(1 - x) - kPi / __builtin_tan(kPi * fraction);
  }
  double y = 0;
  for (; x < 10; x += 1) y -= 1 / x;
  if (x == __builtin_inf()) return x;
  const double z = 1 / (x * x);
  const double series =
      z * (1 / 12. -
           z * (1 / 120. - z * (1 / 252. - z * (1 / 240. - z * (1 / 132. - z * (691 / 32760.))))));
  return y + __builtin_log(x) - 0.5 / x - series;
}

// Modified Bessel function of the first kind, order 0 or 1: the power series, whose terms are all
// of one sign, and for large x the asymptotic one.
double bessel_i(double x, int order) {
  const double a = __builtin_fabs(x);
  double y;
  if (a < 32) {
    const double quarter = a * a / 4;
    double term = order == 0 ? 1 : a / 2;
    y = term;
    for (int k = 1; k < 200 && term > y * 1e-18; ++k) {
      term *= quarter / (double(k) * (k + order));
      y += term;
    }
  } else {
    const double mu = 4.0 * order * order;
    double term = 1;
    y = 1;
    for (int k = 1; k < 30; ++k) {
      const double odd = 2 * k - 1;
      term *= -(mu - odd * odd) / (k * 8 * a);
      y += term;
    }
    // e^a in two factors: the result is finite somewhat beyond where e^a is
    const double half = __builtin_exp(a / 2);
    y = half * (y / __builtin_sqrt(2 * kPi * a)) * half;
  }
  if (x != x) return x;
  return order == 1 ? __builtin_copysign(y, x) : y;
}

// x Phi(x) and its derivative. (float has vector code for these.)
double gelu(double x) {
  if (x < -40) return -0.0;  // not -inf * 0
  return 0.5 * x * __builtin_erfc(-x * 0.70710678118654752);
}
double gelu_slope(double x) {
  const double density = 0.39894228040143268 * __builtin_exp(-0.5 * x * x);
  return 0.5 * __builtin_erfc(-x * 0.70710678118654752) + (density == 0 ? 0 : x * density);
}

template <class T>
void add_scalar_functions(ElementwiseTable& t) {
#define HB_UNARY(name, function) scalar_unary<T>(t, name, 20, [](T x) { return T(function(x)); })
#define HB_BINARY(name, function) \
  scalar_binary<T>(t, name, 20, [](T a, T b) { return T(function(a, b)); })
  HB_UNARY("tan", c_tan);
  HB_UNARY("arcsin", c_asin);
  HB_UNARY("arccos", c_acos);
  HB_UNARY("arctan", c_atan);
  HB_UNARY("sinh", c_sinh);
  HB_UNARY("cosh", c_cosh);
  HB_UNARY("arcsinh", c_asinh);
  HB_UNARY("arccosh", c_acosh);
  HB_UNARY("arctanh", c_atanh);
  HB_UNARY("erfc", c_erfc);
  HB_UNARY("exp2", c_exp2);
  HB_UNARY("log10", c_log10);
  HB_UNARY("cbrt", c_cbrt);
  HB_UNARY("lgamma", c_lgamma);
  HB_UNARY("erfinv", erfinv);
  HB_UNARY("digamma", digamma);
  scalar_unary<T>(t, "i0", 60, [](T x) { return T(bessel_i(x, 0)); });
  scalar_unary<T>(t, "i1", 60, [](T x) { return T(bessel_i(x, 1)); });
  HB_BINARY("power", c_pow);
  HB_BINARY("arctan2", c_atan2);
  HB_BINARY("hypot", c_hypot);
  HB_BINARY("nextafter", c_nextafter);
  HB_BINARY("fmod", c_fmod);
  HB_BINARY("mod", floor_mod<T>);
  HB_BINARY("floor_divide", floor_div<T>);
}

}  // namespace

void add_special_functions(ElementwiseTable& table) {
  each<float, double>([&]<class T>() { add_scalar_functions<T>(table); });
  typedef double T;  // float has vector code for these
  ElementwiseTable& t = table;
  HB_UNARY("sin", c_sin);
  HB_UNARY("cos", c_cos);
  HB_UNARY("erf", c_erf);
  HB_UNARY("gelu", gelu);
  HB_UNARY("gelu_slope", gelu_slope);
}

}  // namespace hb::HB_ISA
