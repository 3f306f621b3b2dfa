// What the register kernels do with a broadcast element and a vector.
#pragma once
#include "simd/quad.h"

namespace hb::HB_ISA {
namespace {

// sum += a * b, where a is the same in every lane.
template <class T>
HB_INLINE void multiply_add(Vec<T>& sum, T a, Vec<T> b) {
  sum += splat(a) * b;
}
#ifdef HB_BF16_PAIRS
HB_INLINE void multiply_add(Vec<float>& sum, Pair a, Vec<Pair> b) {
  const Vec<Pair> pairs = bit_cast<uint32_t>(a) - Vec<Pair>{};
  sum = (Vec<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)pairs, (__m512bh)b);
}
#endif
#if HB_VEC_BYTES == 16 && defined(__SSE2__)
HB_INLINE Vec<int32_t> dot_words(Vec<Words> a, Vec<Words> b) {
  return (Vec<int32_t>)_mm_madd_epi16((__m128i)a, (__m128i)b);
}
#elif defined(__AVX2__) && HB_VEC_BYTES == 32
HB_INLINE Vec<int32_t> dot_words(Vec<Words> a, Vec<Words> b) {
  return (Vec<int32_t>)_mm256_madd_epi16((__m256i)a, (__m256i)b);
}
#elif defined(__AVX512BW__) && HB_VEC_BYTES == 64
HB_INLINE Vec<int32_t> dot_words(Vec<Words> a, Vec<Words> b) {
  return (Vec<int32_t>)_mm512_madd_epi16((__m512i)a, (__m512i)b);
}
#else
HB_INLINE Vec<int32_t> dot_words(Vec<Words> a, Vec<Words> b) {
  const Vec<int32_t> x = (Vec<int32_t>)a, y = (Vec<int32_t>)b;
  return (x << 16 >> 16) * (y << 16 >> 16) + (x >> 16) * (y >> 16);
}
#endif
HB_INLINE void multiply_add(Vec<int32_t>& sum, Words a, Vec<Words> b) {
  sum += dot_words(bit_cast<uint32_t>(a) - Vec<Words>{}, b);
}
#ifdef HB_BYTE_DOTS
HB_INLINE void multiply_add(Vec<int32_t>& sum, Quad a, Vec<Quad> b) {
  const Vec<Quad> quads = bit_cast<uint32_t>(a) - Vec<Quad>{};
#if HB_VEC_BYTES == 64
  sum = (Vec<int32_t>)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)quads, (__m512i)b);
#else
  sum = (Vec<int32_t>)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)quads, (__m256i)b);
#endif
}
#endif

}  // namespace
}  // namespace hb::HB_ISA
