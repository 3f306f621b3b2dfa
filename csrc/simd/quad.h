// Neighbouring int8 along k: the elements of products of int8, summed in int32 (modulo 2^32).
//
// `Quad` is for processors whose dot instructions multiply four unsigned by four signed bytes
// (VNNI): the side that is the same in all lanes is stored with an offset of 128, and 128 times the
// sums of the other side's columns is taken off the result, so it is exact. `Words` is for all
// others: two neighbours as int16, whose products and their sum fit int32.
#pragma once
#if defined(__x86_64__) && HB_VEC_BYTES >= 32
#define HB_HAS_BYTE_DOTS 1  // where the processor has the instructions (has_byte_dots)
#endif
#include "simd/pair.h"
#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace hb {
bool has_byte_dots();  // core/cpu_info.h
}  // namespace hb

namespace hb::HB_ISA {

struct Quad {
  int8_t x[4];
  Quad() = default;
  HB_INLINE explicit constexpr Quad(int) : x{} {}  // zero
};
struct Words {
  int16_t x[2];
  Words() = default;
  HB_INLINE explicit constexpr Words(int) : x{} {}
};

namespace {

template <>
struct VecOf<Quad> : VecOf<uint32_t> {};
template <>
struct VecOf<Words> : VecOf<uint32_t> {};
template <>
struct SumOf<Quad> {
  typedef int32_t type;
};
template <>
struct SumOf<Words> {
  typedef int32_t type;
};
template <>
constexpr int kPerElement<Quad> = 4;
template <>
constexpr int kPerElement<Words> = 2;

// What memory of int8 holds for one Quad or Words: as it stands, or to be stored with the offset.
template <class T, bool kOffset>
struct Bytes {
  int8_t x[kPerElement<T>];
};

template <bool kOffset>
HB_INLINE Quad widen(Bytes<Quad, kOffset> b) {
  Quad q(0);
  for (int i = 0; i < 4; ++i) q.x[i] = int8_t(b.x[i] ^ (kOffset ? 0x80 : 0));
  return q;
}
template <bool kOffset>
HB_INLINE Words widen(Bytes<Words, kOffset> b) {
  Words w(0);
  for (int i = 0; i < 2; ++i) w.x[i] = b.x[i];
  return w;
}
template <class T, bool kOffset>
  requires(kPerElement<T> == 4)
HB_INLINE Vec<T> load_as(const Bytes<T, kOffset>* p) {
  Vec<T> v;
  memcpy(&v, p, sizeof v);
  return kOffset ? v ^ 0x80808080u : v;
}
template <class T, bool kOffset>
  requires(kPerElement<T> == 2)
HB_INLINE Vec<T> load_as(const Bytes<T, kOffset>* p) {
  typedef int8_t Half __attribute__((vector_size(HB_VEC_BYTES / 2)));
  Half h;
  memcpy(&h, p, sizeof h);
#if defined(__AVX512BW__) && HB_VEC_BYTES == 64
  return (Vec<T>)_mm512_maskz_cvtepi8_epi16(__mmask32(-1), (__m256i)h);
#elif defined(__AVX2__) && HB_VEC_BYTES == 32
  return (Vec<T>)_mm256_cvtepi8_epi16((__m128i)h);
#elif defined(__SSE4_1__) && HB_VEC_BYTES == 16
  return (Vec<T>)_mm_cvtepi8_epi16(_mm_cvtsi64_si128(bit_cast<int64_t>(h)));
#else
  return (Vec<T>)__builtin_convertvector(h, Vec<int16_t>);
#endif
}

// L bytes, one in each lane.
HB_INLINE Vec<uint32_t> load_lanes(const int8_t* p) {
  typedef uint8_t Part __attribute__((vector_size(HB_VEC_BYTES / 4)));
  Part b;
  memcpy(&b, p, sizeof b);
  // GCC makes element by element of the conversion.
#if defined(__AVX512F__) && HB_VEC_BYTES == 64
  return (Vec<uint32_t>)_mm512_maskz_cvtepu8_epi32(__mmask16(-1), (__m128i)b);
#elif defined(__AVX2__) && HB_VEC_BYTES == 32
  return (Vec<uint32_t>)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bit_cast<int64_t>(b)));
#elif defined(__SSE4_1__) && HB_VEC_BYTES == 16
  return (Vec<uint32_t>)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(bit_cast<int32_t>(b)));
#else
  return __builtin_convertvector(b, Vec<uint32_t>);
#endif
}
// Elements of L columns from g on: rows[0 .. kPerElement<T>) hold the bytes of one row each.
template <class T, bool kOffset>
HB_INLINE Vec<T> join_rows(const int8_t* const* rows, int64_t g) {
  if constexpr (kPerElement<T> == 4) {
    const Vec<T> v = load_lanes(rows[0] + g) | load_lanes(rows[1] + g) << 8 |
                     load_lanes(rows[2] + g) << 16 | load_lanes(rows[3] + g) << 24;
    return kOffset ? v ^ 0x80808080u : v;
  } else {
    const Vec<int32_t> even = (Vec<int32_t>)load_lanes(rows[0] + g) << 24;
    const Vec<int32_t> odd = (Vec<int32_t>)load_lanes(rows[1] + g) << 24;
    return (Vec<T>)(even >> 24 & 0xffff) | ((Vec<T>)(odd >> 8) & 0xffff0000u);
  }
}

}  // namespace
}  // namespace hb::HB_ISA
