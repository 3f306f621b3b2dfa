// float16 and bfloat16 as storage types: widened to float on load, rounded to nearest even on
// store.
#pragma once
#include "core/half.h"
#include "simd/vec.h"
#ifdef __F16C__
#include <immintrin.h>
#endif

namespace hb::HB_ISA {
namespace {

struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

template <class To, class From>
HB_INLINE To bit_cast(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}

HB_INLINE float widen(bf16 x) { return bf16_to_f32(x.bits); }
HB_INLINE float widen(f16 x) { return f16_to_f32(x.bits); }
template <class T>
HB_INLINE T widen(T x) {
  return x;
}
HB_INLINE void narrow(float x, bf16& y) { y.bits = f32_to_bf16(x); }
HB_INLINE void narrow(float x, f16& y) { y.bits = f32_to_f16(x); }
template <class T>
HB_INLINE void narrow(T x, T& y) {
  y = x;
}

// kLanes<T> elements, widened to T.
template <class T>
HB_INLINE Vec<T> load_as(const T* p) {
  return load(p);
}
template <class T>
HB_INLINE Vec<float> load_as(const bf16* p) {
  typedef uint16_t Half __attribute__((vector_size(HB_VEC_BYTES / 2)));
  Half h;
  memcpy(&h, p, sizeof h);
  return bit_cast<Vec<float>>(__builtin_convertvector(h, Vec<uint32_t>) << 16);
}
template <class T>
HB_INLINE Vec<float> load_as(const f16* p) {
#if defined(__F16C__) && HB_VEC_BYTES == 64
  return bit_cast<Vec<float>>(_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i*)p)));
#elif defined(__F16C__) && HB_VEC_BYTES == 32
  return bit_cast<Vec<float>>(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)));
#else
  Vec<float> v;
  for (int i = 0; i < kLanes<float>; ++i) v[i] = widen(p[i]);
  return v;
#endif
}

// A vector of T, narrowed to what is stored: the same values as narrow() of each lane.
template <class T, class V>
HB_INLINE void store_as(T* p, V v) {
  store(p, v);
}
HB_INLINE void store_as(bf16* p, Vec<float> v) {
  const Vec<uint32_t> bits = (Vec<uint32_t>)v;
  const Vec<uint32_t> rounded = v == v ? bits + 0x7fff + (bits >> 16 & 1) : bits | 0x400000;
  typedef uint16_t Half __attribute__((vector_size(HB_VEC_BYTES / 2)));
  const Half h = __builtin_convertvector(rounded >> 16, Half);
  memcpy(p, &h, sizeof h);
}
HB_INLINE void store_as(f16* p, Vec<float> v) {
#if defined(__F16C__) && HB_VEC_BYTES == 64
  _mm256_storeu_si256((__m256i*)p, _mm512_maskz_cvtps_ph(0xffff, (__m512)v, 0));
#elif defined(__F16C__) && HB_VEC_BYTES == 32
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph((__m256)v, 0));
#else
  for (int i = 0; i < kLanes<float>; ++i) narrow(v[i], p[i]);
#endif
}

}  // namespace
}  // namespace hb::HB_ISA
