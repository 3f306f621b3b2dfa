#include <cmath>
#include <cstring>
#include <limits>

#include "check.h"
#include "core/half.h"

using namespace hb;

namespace {

// The value of a float16 by its definition.
double f16_value(uint16_t h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const double sign = h >> 15 ? -1 : 1;
  if (exponent == 31) return mantissa ? std::nan("") : sign * HUGE_VAL;
  return sign * (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
}

// The nearest of the values of `decode` over non-negative finite bit patterns [0, infinity), ties
// to the even pattern; infinity counts as the value that would follow the largest.
template <class Decode>
uint16_t nearest(double magnitude, uint16_t infinity, const Decode& decode) {
  int low = 0, high = infinity;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (decode(uint16_t(middle)) <= magnitude ? low : high) = middle;
  }
  const double below = decode(uint16_t(low));
  const double above =
      high == infinity ? 2 * below - decode(uint16_t(low - 1)) : decode(uint16_t(high));
  const double down = magnitude - below, up = above - magnitude;
  return uint16_t(down < up || (down == up && low % 2 == 0) ? low : high);
}
uint16_t nearest_f16(double x) {
  return uint16_t((std::signbit(x) ? 0x8000 : 0) | nearest(std::fabs(x), 0x7c00, f16_value));
}
double bf16_value(uint16_t h) { return double(float_from_bits(uint32_t(h) << 16)); }
uint16_t nearest_bf16(double x) {
  return uint16_t((std::signbit(x) ? 0x8000 : 0) | nearest(std::fabs(x), 0x7f80, bf16_value));
}

}  // namespace

TEST(half_every_pattern_to_float_and_back) {
  for (int i = 0; i < 65536; ++i) {
    const auto h = uint16_t(i);
    const float x = f16_to_f32(h), y = bf16_to_f32(h);
    const double value = f16_value(h);
    if (std::isnan(value)) {
      CHECK(std::isnan(x));
      CHECK(std::signbit(x) == (h >> 15));
      CHECK(f32_to_f16(x) == (h | 0x200));  // quiet, payload kept
    } else {
      CHECK(double(x) == value && std::signbit(x) == (h >> 15));
      CHECK(f32_to_f16(x) == h);
      CHECK(f64_to_f16(value) == h);
    }
    if (std::isnan(y)) {
      CHECK((h & 0x7fff) > 0x7f80);
      CHECK(f32_to_bf16(y) == (h | 0x40));
    } else {
      CHECK(bits_of_float(y) == uint32_t(h) << 16);
      CHECK(f32_to_bf16(y) == h);
    }
  }
}

// Around every float16 and bfloat16, and around every midpoint between two, floats and doubles
// round to the nearest, ties to even.
TEST(half_rounding) {
  const auto near = [](double x, auto&& f) {
    const auto y = float(x);
    f(y);
    f(std::nextafterf(y, HUGE_VALF));
    f(std::nextafterf(y, -HUGE_VALF));
  };
  for (int i = 0; i < 0x7c00; ++i) {
    const double a = f16_value(uint16_t(i));
    const double b = i + 1 < 0x7c00 ? f16_value(uint16_t(i + 1)) : 65536;
    for (double x : {a, (a + b) / 2, b}) {
      near(x, [](float y) {
        CHECK(f32_to_f16(y) == nearest_f16(double(y)));
        CHECK(f32_to_f16(-y) == nearest_f16(double(-y)));
      });
      for (double y : {x, std::nextafter(x, HUGE_VAL), std::nextafter(x, -HUGE_VAL)}) {
        CHECK(f64_to_f16(y) == nearest_f16(y));
        CHECK(f64_to_f16(-y) == nearest_f16(-y));
      }
    }
  }
  for (int i = 0; i < 0x7f80; ++i) {
    const double a = bf16_value(uint16_t(i));
    const double b = i + 1 < 0x7f80 ? bf16_value(uint16_t(i + 1)) : 0x1p128;
    const double middle = (a + b) / 2;
    near(middle, [](float y) {
      CHECK(f32_to_bf16(y) == nearest_bf16(double(y)));
      CHECK(f32_to_bf16(-y) == nearest_bf16(double(-y)));
    });
    for (double y : {std::nextafter(middle, HUGE_VAL), std::nextafter(middle, 0.0)}) {
      CHECK(f64_to_bf16(y) == nearest_bf16(y));
      CHECK(f64_to_bf16(-y) == nearest_bf16(-y));
    }
  }
}

TEST(half_special_values) {
  CHECK(f32_to_f16(65504.f) == 0x7bff && f32_to_f16(65519.96f) == 0x7bff);
  CHECK(f32_to_f16(65520.f) == 0x7c00 && f32_to_f16(-1e30f) == 0xfc00);
  CHECK(f32_to_f16(-0.f) == 0x8000 && f32_to_f16(1e-30f) == 0 && f32_to_f16(0x1p-149f) == 0);
  CHECK(f32_to_f16(HUGE_VALF) == 0x7c00 && f32_to_bf16(-HUGE_VALF) == 0xff80);
  CHECK(f32_to_bf16(std::numeric_limits<float>::max()) == 0x7f80);
  // A NaN whose payload lies in the bits that are cut off stays a NaN.
  CHECK(f32_to_f16(float_from_bits(0x7f800001)) == 0x7e00);
  CHECK(f32_to_bf16(float_from_bits(0xff800001)) == 0xffc0);
  CHECK(f64_to_f16(std::nan("")) == 0x7e00 && f64_to_f16(-1e300) == 0xfc00);
  CHECK(f64_to_f16(1e-300) == 0 && f64_to_bf16(1e300) == 0x7f80);
  // Through a nearest float both would tie and round down; directly they are above the tie.
  CHECK(f64_to_f16(1 + 0x1p-11 + 0x1p-40) == 0x3c01);
  CHECK(f64_to_bf16(1 + 0x1p-8 + 0x1p-40) == 0x3f81);
}

#if defined(__x86_64__)
#include <immintrin.h>

namespace {
__attribute__((target("f16c"))) void hardware(const uint16_t* h, float* x, uint16_t* back) {
  const __m128i in = _mm_loadu_si128(reinterpret_cast<const __m128i*>(h));
  const __m256 wide = _mm256_cvtph_ps(in);
  _mm256_storeu_ps(x, wide);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(back), _mm256_cvtps_ph(wide, 0));
}
}  // namespace

TEST(half_equals_hardware) {
  if (!__builtin_cpu_supports("avx") || !__builtin_cpu_supports("f16c")) return;
  for (int i = 0; i < 65536; i += 8) {
    uint16_t h[8], back[8];
    float x[8];
    for (int j = 0; j < 8; ++j) h[j] = uint16_t(i + j);
    hardware(h, x, back);
    for (int j = 0; j < 8; ++j) {
      CHECK(bits_of_float(f16_to_f32(h[j])) == bits_of_float(x[j]));
      CHECK(f32_to_f16(x[j]) == back[j]);
    }
  }
}
#endif
