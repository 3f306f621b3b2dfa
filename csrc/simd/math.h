// Elementary functions over vectors, for float and double. Each is a range reduction and a short
// polynomial (Taylor coefficients, or for float fits by weighted least squares); errors are stated
// in units of the last place over the whole range, measured in tests/ops. NaN, infinities,
// subnormal numbers and signed zeros behave as in C's mathematical library.
#pragma once
#include "simd/vec.h"
#if defined(__SSE4_1__)
#include <immintrin.h>
#endif

namespace hb::HB_ISA {
namespace {

template <class T>
struct FloatTraits;
template <>
struct FloatTraits<float> {
  typedef int32_t Int;
  static constexpr int kMantissa = 23, kBias = 127;
  static constexpr float kMin = 0x1p-126f, kEpsilon = 0x1p-23f, kRound = 0x1.8p23f;
  static constexpr float kLn2Hi = 0x1.62e4p-1f, kLn2Lo = 1.4286068203094173e-06f;
  static constexpr int32_t kSqrtHalf = 0x3f3504f3;
};
template <>
struct FloatTraits<double> {
  typedef int64_t Int;
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr double kMin = 0x1p-1022, kEpsilon = 0x1p-52, kRound = 0x1.8p52;
  static constexpr double kLn2Hi = 0x1.62e42feep-1, kLn2Lo = 1.9082149292705877e-10;
  static constexpr int64_t kSqrtHalf = 0x3fe6a09e667f3bcd;
};
template <class T>
using IntOf = typename FloatTraits<T>::Int;

// c[0] + c[1] x + ... + c[N-1] x^(N-1)
template <class T, int N>
HB_INLINE Vec<T> polynomial(Vec<T> x, const T (&c)[N]) {
  Vec<T> y = splat<T>(c[N - 1]);
  for (int i = N - 2; i >= 0; --i) y = y * x + c[i];
  return y;
}
template <class T>
HB_INLINE Vec<T> vabs(Vec<T> x) {
  typedef Vec<IntOf<T>> I;
  return (Vec<T>)((I)x & ~(I)splat<T>(T(-0.0)));
}
template <class T>
HB_INLINE Vec<T> vcopysign(Vec<T> x, Vec<T> sign) {
  typedef Vec<IntOf<T>> I;
  const I mask = (I)splat<T>(T(-0.0));
  return (Vec<T>)(((I)x & ~mask) | ((I)sign & mask));
}
// NaN if either is, as NumPy's maximum and minimum.
template <class T>
HB_INLINE Vec<T> vmax(Vec<T> a, Vec<T> b) {
  return ((a > b) | (a != a)) ? a : b;
}
template <class T>
HB_INLINE Vec<T> vmin(Vec<T> a, Vec<T> b) {
  return ((a < b) | (a != a)) ? a : b;
}
// x within bounds, NaN as it is. (With masks, gcc would compare and blend.)
template <class T>
HB_INLINE Vec<T> vat_least(Vec<T> x, T low) {
#if HB_VEC_BYTES == 64
  const Vec<T> l = splat<T>(low);  // the second operand wins if one is NaN
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_maskz_max_ps(__mmask16(-1), (__m512)l, (__m512)x);
  else
    return (Vec<T>)_mm512_maskz_max_pd(__mmask8(-1), (__m512d)l, (__m512d)x);
#else
  return x < low ? splat<T>(low) : x;
#endif
}
template <class T>
HB_INLINE Vec<T> vat_most(Vec<T> x, T high) {
#if HB_VEC_BYTES == 64
  const Vec<T> h = splat<T>(high);
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_maskz_min_ps(__mmask16(-1), (__m512)h, (__m512)x);
  else
    return (Vec<T>)_mm512_maskz_min_pd(__mmask8(-1), (__m512d)h, (__m512d)x);
#else
  return x > high ? splat<T>(high) : x;
#endif
}
// 2^n, for exponents of normal numbers
template <class T>
HB_INLINE Vec<T> vpow2(Vec<IntOf<T>> n) {
  return (Vec<T>)((n + FloatTraits<T>::kBias) << FloatTraits<T>::kMantissa);
}

#define HB_PER_LANE(T, builtin)                             \
  Vec<T> y;                                                 \
  for (int i = 0; i < kLanes<T>; ++i) y[i] = builtin(x[i]); \
  return y;
// (All-ones masks: gcc 12 warns about the plain AVX-512 intrinsics.)
#if HB_VEC_BYTES == 64
#define HB_ROUNDING(name, mode, T, builtin)                                  \
  HB_INLINE Vec<T> name(Vec<T> x) {                                          \
    if constexpr (sizeof(T) == 4)                                            \
      return (Vec<T>)_mm512_maskz_roundscale_ps(__mmask16(-1), (__m512)x,    \
                                                (mode) | _MM_FROUND_NO_EXC); \
    else                                                                     \
      return (Vec<T>)_mm512_maskz_roundscale_pd(__mmask8(-1), (__m512d)x,    \
                                                (mode) | _MM_FROUND_NO_EXC); \
  }
#elif HB_VEC_BYTES == 32
#define HB_ROUNDING(name, mode, T, builtin)                                   \
  HB_INLINE Vec<T> name(Vec<T> x) {                                           \
    if constexpr (sizeof(T) == 4)                                             \
      return (Vec<T>)_mm256_round_ps((__m256)x, (mode) | _MM_FROUND_NO_EXC);  \
    else                                                                      \
      return (Vec<T>)_mm256_round_pd((__m256d)x, (mode) | _MM_FROUND_NO_EXC); \
  }
#elif defined(__SSE4_1__)
#define HB_ROUNDING(name, mode, T, builtin)                                \
  HB_INLINE Vec<T> name(Vec<T> x) {                                        \
    if constexpr (sizeof(T) == 4)                                          \
      return (Vec<T>)_mm_round_ps((__m128)x, (mode) | _MM_FROUND_NO_EXC);  \
    else                                                                   \
      return (Vec<T>)_mm_round_pd((__m128d)x, (mode) | _MM_FROUND_NO_EXC); \
  }
#else
#define HB_ROUNDING(name, mode, T, builtin) \
  HB_INLINE Vec<T> name(Vec<T> x) { HB_PER_LANE(T, builtin) }
#endif
HB_ROUNDING(vfloor, _MM_FROUND_TO_NEG_INF, float, __builtin_floorf)
HB_ROUNDING(vfloor, _MM_FROUND_TO_NEG_INF, double, __builtin_floor)
HB_ROUNDING(vceil, _MM_FROUND_TO_POS_INF, float, __builtin_ceilf)
HB_ROUNDING(vceil, _MM_FROUND_TO_POS_INF, double, __builtin_ceil)
HB_ROUNDING(vtrunc, _MM_FROUND_TO_ZERO, float, __builtin_truncf)
HB_ROUNDING(vtrunc, _MM_FROUND_TO_ZERO, double, __builtin_trunc)
HB_ROUNDING(vround, _MM_FROUND_TO_NEAREST_INT, float, __builtin_rintf)
HB_ROUNDING(vround, _MM_FROUND_TO_NEAREST_INT, double, __builtin_rint)
#undef HB_ROUNDING

HB_INLINE Vec<float> vsqrt(Vec<float> x) {
#if HB_VEC_BYTES == 64
  return (Vec<float>)_mm512_maskz_sqrt_ps(__mmask16(-1), (__m512)x);
#elif HB_VEC_BYTES == 32
  return (Vec<float>)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE4_1__)
  return (Vec<float>)_mm_sqrt_ps((__m128)x);
#else
  HB_PER_LANE(float, __builtin_sqrtf)
#endif
}
HB_INLINE Vec<double> vsqrt(Vec<double> x) {
#if HB_VEC_BYTES == 64
  return (Vec<double>)_mm512_maskz_sqrt_pd(__mmask8(-1), (__m512d)x);
#elif HB_VEC_BYTES == 32
  return (Vec<double>)_mm256_sqrt_pd((__m256d)x);
#elif defined(__SSE4_1__)
  return (Vec<double>)_mm_sqrt_pd((__m128d)x);
#else
  HB_PER_LANE(double, __builtin_sqrt)
#endif
}
#undef HB_PER_LANE

// (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2
HB_INLINE Vec<float> exp_tail(Vec<float> r) {
  constexpr float c[] = {1 / 2.f, 1 / 6.f, 1 / 24.f, 1 / 120.f, 1 / 720.f, 1 / 5040.f};
  return polynomial<float>(r, c);
}
HB_INLINE Vec<double> exp_tail(Vec<double> r) {
  constexpr double c[] = {1 / 2.,       1 / 6.,        1 / 24.,        1 / 120.,
                          1 / 720.,     1 / 5040.,     1 / 40320.,     1 / 362880.,
                          1 / 3628800., 1 / 39916800., 1 / 479001600., 1 / 6227020800.};
  return polynomial<double>(r, c);
}
// x = n ln 2 + r
template <class T>
struct ExpReduced {
  Vec<T> r, whole;  // n as T
  Vec<IntOf<T>> n;
};
template <class T>
HB_INLINE ExpReduced<T> exp_reduce(Vec<T> x) {
  typedef FloatTraits<T> F;
  typedef Vec<IntOf<T>> I;
  const Vec<T> shifted = x * T(1.4426950408889634) + F::kRound;
  const Vec<T> n = shifted - F::kRound;
  return {(x - n * F::kLn2Hi) - n * F::kLn2Lo, n, (I)shifted - (I)splat<T>(F::kRound)};
}
// p 2^n, where that may be subnormal or infinite
template <class T>
HB_INLINE Vec<T> exp_scale(Vec<T> p, const ExpReduced<T>& e) {
#if HB_VEC_BYTES == 64
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_maskz_scalef_ps(__mmask16(-1), (__m512)p, (__m512)e.whole);
  else
    return (Vec<T>)_mm512_maskz_scalef_pd(__mmask8(-1), (__m512d)p, (__m512d)e.whole);
#else
  const Vec<IntOf<T>> half = e.n >> 1;
  return p * vpow2<T>(half) * vpow2<T>(e.n - half);
#endif
}

// Beyond these, e^x is 0 or infinite.
template <class T>
constexpr T kExpLow = sizeof(T) == 4 ? T(-104) : T(-746);
template <class T>
constexpr T kExpHigh = sizeof(T) == 4 ? T(89) : T(710);
// 1.5 ulp, for x within the bounds
template <class T>
HB_INLINE Vec<T> exp_within(Vec<T> x) {
  const ExpReduced<T> e = exp_reduce<T>(x);
  return exp_scale<T>(T(1) + (e.r + e.r * e.r * exp_tail(e.r)), e);
}
// 1.5 ulp
template <class T>
HB_INLINE Vec<T> vexp(Vec<T> x) {
  return exp_within<T>(vat_most<T>(vat_least<T>(x, kExpLow<T>), kExpHigh<T>));
}
// Below this, e^x - 1 is -1.
template <class T>
constexpr T kExpm1Low = sizeof(T) == 4 ? T(-20) : T(-40);
// 2 ulp, for x within the bounds; the sign of zero is lost
template <class T>
HB_INLINE Vec<T> expm1_within(Vec<T> x) {
  const ExpReduced<T> e = exp_reduce<T>(x);
  const Vec<T> p = e.r + e.r * e.r * exp_tail(e.r);
#if HB_VEC_BYTES == 64
  const Vec<T> s = exp_scale<T>(splat<T>(T(0.5)), e);
#else
  const Vec<T> s = vpow2<T>(e.n - 1);
#endif
  return T(2) * (s * p + (s - T(0.5)));
}
// 2 ulp
template <class T>
HB_INLINE Vec<T> vexpm1(Vec<T> x) {
  const Vec<T> y = expm1_within<T>(vat_most<T>(vat_least<T>(x, kExpm1Low<T>), kExpHigh<T>));
  return vabs<T>(x) < FloatTraits<T>::kEpsilon / 4 ? x : y;  // keeps -0 and subnormal numbers
}

// log(1 + f) without its leading f - f^2/2 part: for m = 1 + f in [sqrt(1/2), sqrt(2))
HB_INLINE Vec<float> log_tail(Vec<float> f, Vec<float> z) {
  constexpr float c[] = {0.333333126f,   -0.250000096f,  0.2000211873f,
                         -0.1666799567f, 0.1421955091f,  -0.1240559142f,
                         0.118881746f,   -0.1167564131f, 0.06746601326f};
  return f * z * polynomial<float>(f, c);
}
HB_INLINE Vec<double> log_tail(Vec<double> f, Vec<double> z) {
  constexpr double c[] = {2 / 3.,  2 / 5.,  2 / 7.,  2 / 9.,  2 / 11.,
                          2 / 13., 2 / 15., 2 / 17., 2 / 19., 2 / 21.};
  const Vec<double> s = f / (f + 2.0), s2 = s * s;
  return s * (0.5 * z + s2 * polynomial<double>(s2, c));
}
// x = 2^e m; returns log(m) in two parts: f - z / 2 + tail
template <class T>
struct LogReduced {
  Vec<T> f, z, tail, e;
};
template <class T>
HB_INLINE LogReduced<T> log_reduce(Vec<T> x) {
  typedef FloatTraits<T> F;
  typedef Vec<IntOf<T>> I;
  constexpr T up = sizeof(T) == 4 ? T(0x1p24) : T(0x1p54);
  const I subnormal = x < F::kMin;
  x = subnormal ? x * up : x;
  const I offset = ((I)x - F::kSqrtHalf) >> F::kMantissa;
  const Vec<T> f = (Vec<T>)((I)x - (offset << F::kMantissa)) - T(1);
  const I e = subnormal ? offset - (sizeof(T) == 4 ? 24 : 54) : offset;
  return {f, f * f, log_tail(f, f * f), __builtin_convertvector(e, Vec<T>)};
}
template <class T>
HB_INLINE Vec<T> log_special(Vec<T> x, Vec<T> y) {
  const Vec<T> inf = splat<T>(T(__builtin_inf())), nan = splat<T>(T(__builtin_nan("")));
  y = x > T(0) ? y : (x == T(0) ? -inf : nan);
  return x == inf ? inf : y;
}
// 1.5 ulp
template <class T>
HB_INLINE Vec<T> vlog(Vec<T> x) {
  typedef FloatTraits<T> F;
  const LogReduced<T> l = log_reduce<T>(x);
  const Vec<T> y = ((l.tail + l.e * F::kLn2Lo) - T(0.5) * l.z) + l.f + l.e * F::kLn2Hi;
  return log_special<T>(x, y);
}
// 2 ulp; exact for powers of two
template <class T>
HB_INLINE Vec<T> vlog2(Vec<T> x) {
  const LogReduced<T> l = log_reduce<T>(x);
  const Vec<T> y = (l.f + (l.tail - T(0.5) * l.z)) * T(1.4426950408889634) + l.e;
  return log_special<T>(x, y);
}
// 2 ulp: log(u) for u = 1 + x rounded, and the rounding error over u.
template <class T>
HB_INLINE Vec<T> vlog1p(Vec<T> x) {
  const Vec<T> u = T(1) + x;
  const Vec<T> lost = vabs<T>(x) < T(1) ? x - (u - T(1)) : T(1) - (u - x);
  const Vec<T> y = vlog<T>(u) + ((u < T(0x1p24)) & (u > T(0)) ? lost / u : Vec<T>{});
  return vabs<T>(x) < FloatTraits<T>::kEpsilon / 4 ? x : y;
}

// |t / (t + 2)| with t = e^(-2|x|) - 1, and the sign of x: 3 ulp
template <class T>
HB_INLINE Vec<T> vtanh(Vec<T> x) {
  const Vec<T> t = expm1_within<T>(vat_least<T>(T(-2) * vabs<T>(x), kExpm1Low<T>));
  return vcopysign<T>(t / (t + T(2)), x);
}
// 3 ulp; e^-|x| never overflows, and small results keep their digits
template <class T>
HB_INLINE Vec<T> vsigmoid(Vec<T> x) {
  const Vec<T> e = exp_within<T>(vat_least<T>(-vabs<T>(x), kExpLow<T>));
  const Vec<T> r = T(1) / (T(1) + e);
  return x < T(0) ? e * r : r;
}

// Odd polynomial below 1; above, 1 - e^q(x), q fitted to log erfc: 2.5 ulp
HB_INLINE Vec<float> verf(Vec<float> x) {
  constexpr float small[] = {1.128379166f,    -0.3761262582f,    0.1128358515f,   -0.02685381187f,
                             0.005188327559f, -0.0008010192514f, 7.853857682e-05f};
  constexpr float large[] = {0.000188038166f,  -1.129578416f,    -0.6332199082f,
                             -0.1084185629f,   0.02520824861f,   -0.004204559178f,
                             0.0004413358896f, -2.168681291e-05f};
  const Vec<float> a = vabs<float>(x);
  const Vec<float> b = a > 4.f ? splat<float>(4.f) : a;
  const Vec<float> tail = 1.f - vexp<float>(polynomial<float>(b, large));
  return a < 1.f ? x * polynomial<float>(x * x, small) : vcopysign<float>(tail, x);
}

// Of the normal distribution, for |x|, which stops at 14.5, where all is 0: e^(-x^2/2) and the
// ratio Phi(-|x|) / e^(-x^2/2) = u P(u), u = 1 / (1 + 0.35 |x|), P fitted to 3e-8. The square is
// split, so that the exponential keeps its digits.
struct NormalTail {
  Vec<float> bell, ratio;
};
HB_INLINE NormalTail normal_tail(Vec<float> x) {
  typedef Vec<int32_t> I;
  constexpr float c[] = {0.1396213025f,  0.1398635209f,   0.1198212132f,
                         0.1055528075f,  -0.02321311459f, 0.1593208611f,
                         -0.2558400631f, 0.1440314502f,   -0.02915799804f};
  const Vec<float> t = vat_most<float>(vabs<float>(x), 14.5f);
  const Vec<float> high = (Vec<float>)((I)t & ~0xfff);  // its square is exact
  ExpReduced<float> e = exp_reduce<float>(-0.5f * (high * high));
  e.r -= 0.5f * ((t - high) * (t + high));
  const Vec<float> u = 1.f / (1.f + 0.35f * t);
  return {exp_scale<float>(1.f + (e.r + e.r * e.r * exp_tail(e.r)), e),
          u * polynomial<float>(u, c)};
}
// x Phi(x): 6 ulp
HB_INLINE Vec<float> vgelu(Vec<float> x) {
  const NormalTail n = normal_tail(x);
  const Vec<float> a = vat_most<float>(vat_least<float>(x, -14.5f), 14.5f);
  const Vec<float> tail = (a * n.ratio) * n.bell;
  return x < 0.f ? tail : x - tail;
}
// Phi(x) + x phi(x): 6 ulp of the larger term
HB_INLINE Vec<float> vgelu_slope(Vec<float> x) {
  const NormalTail n = normal_tail(x);
  const Vec<float> a = vat_most<float>(vat_least<float>(x, -14.5f), 14.5f);
  const Vec<float> below = n.ratio * n.bell;
  return (a * 0.3989422804f) * n.bell + (x < 0.f ? below : 1.f - below);
}

// x sigmoid(v), v = 2 sqrt(2 / pi) (x + 0.044715 x^3), and its derivative, for which x stops where
// the sigmoid is 0 or 1: 4 + 2 |v| ulp for negative x, where v is rounded; 5 ulp for others
template <class T>
HB_INLINE Vec<T> gelu_tanh_exponent(Vec<T> x) {
  return T(1.5957691216057308) * (x + T(0.044715) * (x * (x * x)));
}
template <class T>
HB_INLINE Vec<T> vgelu_tanh(Vec<T> x) {
  const Vec<T> a = vat_least<T>(x, T(-30));  // -0 far out, not -inf * 0
  return a * vsigmoid<T>(gelu_tanh_exponent<T>(a));
}
template <class T>
HB_INLINE Vec<T> vgelu_tanh_slope(Vec<T> x) {
  const Vec<T> a = vat_most<T>(vat_least<T>(x, T(-30)), T(30));
  const Vec<T> v = gelu_tanh_exponent<T>(a);
  const Vec<T> e = exp_within<T>(vat_least<T>(-vabs<T>(v), kExpLow<T>)), r = T(1) / (T(1) + e);
  const Vec<T> steep = T(1.5957691216057308) * (T(1) + T(3 * 0.044715) * (a * a));
  return a * ((e * r) * r) * steep + (v < T(0) ? e * r : r);
}

// Sine (quadrant 0) or cosine (quadrant 1) for |x| <= 8192: 2.5 ulp. Reduced by pi/2 in four parts,
// the first three short enough for exact products.
HB_INLINE Vec<float> vsin_reduced(Vec<float> x, int quadrant) {
  typedef Vec<int32_t> I;
  constexpr float kRound = FloatTraits<float>::kRound;
  const Vec<float> shifted = x * 0.636619772367581f + kRound;
  const Vec<float> n = shifted - kRound;
  const I q = (I)shifted + quadrant;  // the low bits are those of n
  Vec<float> r = x - n * 0x1.92p0f;
  r = r - n * 0x1.fb4p-12f;
  r = r - n * 0x1.444p-24f;
  r = r - n * 0x1.68c234p-39f;
  constexpr float sine[] = {-1 / 6.f, 1 / 120.f, -1 / 5040.f, 1 / 362880.f};
  constexpr float cosine[] = {-1 / 2.f, 1 / 24.f, -1 / 720.f, 1 / 40320.f, -1 / 3628800.f};
  const Vec<float> z = r * r;
  const Vec<float> s = r + r * z * polynomial<float>(z, sine);
  const Vec<float> c = 1.f + z * polynomial<float>(z, cosine);
  const Vec<float> y = (q & 1) == 0 ? s : c;
  return (Vec<float>)((I)y ^ ((q & 2) << 30));
}
template <int quadrant>
HB_INLINE Vec<float> vsin_or_cos(Vec<float> x) {
  Vec<float> y = vsin_reduced(x, quadrant);
  const Vec<int32_t> far = ~(vabs<float>(x) <= 8192.f);
  int any = 0;
  for (int i = 0; i < kLanes<float>; ++i) any |= far[i];
  if (__builtin_expect(any, 0)) {
    for (int i = 0; i < kLanes<float>; ++i)
      if (far[i]) y[i] = quadrant == 0 ? __builtin_sinf(x[i]) : __builtin_cosf(x[i]);
  }
  if (quadrant == 0) y = x == 0.f ? x : y;  // -0
  return y;
}
HB_INLINE Vec<float> vsin(Vec<float> x) { return vsin_or_cos<0>(x); }
HB_INLINE Vec<float> vcos(Vec<float> x) { return vsin_or_cos<1>(x); }

}  // namespace
}  // namespace hb::HB_ISA
