// float16 and bfloat16 as bit patterns, to and from float: round to nearest even, subnormal
// numbers, infinities and NaN (made quiet, payload and sign kept) as the processor's own conversion
// has them. Without branches or library calls, so loops over them become vector code.
#pragma once
#include <stdint.h>
#include <string.h>

namespace hb {

static inline float float_from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
static inline uint32_t bits_of_float(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline float bf16_to_f32(uint16_t h) { return float_from_bits(uint32_t(h) << 16); }

static inline uint16_t f32_to_bf16(float x) {
  const uint32_t bits = bits_of_float(x);
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const uint32_t quiet = bits >> 16 | 0x40;
  return uint16_t((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}

static inline float f16_to_f32(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000) << 16;
  const uint32_t shifted = uint32_t(h & 0x7fff) << 13;  // exponent field where float has its own
  const uint32_t normal = shifted + (112u << 23);       // biases: 127 - 15 = 112
  const uint32_t special = shifted | 0x7f800000u | (shifted > 0x0f800000u ? 0x00400000u : 0u);
  // A subnormal m * 2^-24: 2^-14 with m in its mantissa, less 2^-14. No subnormal float occurs, so
  // flush-to-zero modes do no harm.
  const uint32_t tiny =
      bits_of_float(float_from_bits(shifted + (113u << 23)) - float_from_bits(113u << 23));
  const uint32_t magnitude =
      shifted >= 0x0f800000u ? special : (shifted < 0x00800000u ? tiny : normal);
  return float_from_bits(sign | magnitude);
}

static inline uint16_t f32_to_f16(float x) {
  const uint32_t bits = bits_of_float(x);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  // Overflow of the mantissa carries into the exponent, and from 65520 on into infinity.
  const uint32_t normal = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
  // Below 2^-14: next to 0.5 a float has steps of 2^-24, so the addition rounds as wanted.
  const uint32_t tiny = bits_of_float(float_from_bits(magnitude) + 0.5f) - (126u << 23);
  const uint32_t nan = magnitude >> 13 | 0x7e00;
  const uint32_t large = magnitude > 0x7f800000u ? (nan & 0x7fff) : 0x7c00u;
  const uint32_t result =
      magnitude >= 0x47800000u ? large : (magnitude < 0x38800000u ? tiny : normal);
  return uint16_t(sign | result);
}

// A float for rounding on to a shorter type: what is lost is kept in the last bit (round to odd),
// so rounding twice gives the same as rounding once.
static inline float f64_to_f32_odd(double x) {
  const float nearest = float(x);
  const uint32_t bits = bits_of_float(nearest);
  const double back = double(nearest);
  // A magnitude that was rounded up steps down one; then any loss sets the last bit.
  const uint32_t up = (x < 0 ? back < x : back > x) ? 1u : 0u;
  const uint32_t inexact = back != x && x == x ? 1u : 0u;
  return float_from_bits((bits - up) | inexact);
}
static inline uint16_t f64_to_f16(double x) { return f32_to_f16(f64_to_f32_odd(x)); }
static inline uint16_t f64_to_bf16(double x) { return f32_to_bf16(f64_to_f32_odd(x)); }

}  // namespace hb
