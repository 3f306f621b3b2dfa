// Pairs of bfloat16: the element of products that run on AVX512_BF16, where one instruction adds
// two neighbouring products along k to a float32 sum.
#pragma once
#include "simd/half.h"

namespace hb::HB_ISA {

struct Pair {
  uint16_t even, odd;
  Pair() = default;
  HB_INLINE explicit constexpr Pair(int) : even(0), odd(0) {}  // zero
  HB_INLINE constexpr Pair(uint16_t e, uint16_t o) : even(e), odd(o) {}
};

namespace {

template <>
struct VecOf<Pair> {
  typedef uint32_t type __attribute__((vector_size(HB_VEC_BYTES)));
};
// Two neighbouring floats that become a pair when packed.
struct FloatPair {
  float even, odd;
};

// What the elements of a product are summed in.
template <class T>
struct SumOf {
  typedef T type;
};
template <>
struct SumOf<Pair> {
  typedef float type;
};
template <class T>
using Sum = typename SumOf<T>::type;

// Neighbours along k in one element of T.
template <class T>
constexpr int kPerElement = 1;
template <>
constexpr int kPerElement<Pair> = 2;

// What memory of S holds for elements of T: itself, or neighbours of S side by side.
template <class T, class S>
struct StoredOf {
  typedef S type;
};
template <>
struct StoredOf<Pair, bf16> {
  typedef Pair type;
};
template <>
struct StoredOf<Pair, float> {
  typedef FloatPair type;
};
template <class T, class S>
using Stored = typename StoredOf<T, S>::type;
// Whether a T can be read in memory of S as it stands.
template <class T, class S>
constexpr bool kSame = sizeof(T) == sizeof(Stored<T, S>);

// bfloat16 in the upper half of each lane, rounded to nearest even; the lower half is rubbish.
HB_INLINE Vec<uint32_t> bf16_upper(Vec<float> x) {
  const Vec<uint32_t> bits = (Vec<uint32_t>)x;
  return x == x ? bits + 0x7fff + (bits >> 16 & 1) : bits | 0x400000;
}
HB_INLINE Pair widen(FloatPair x) { return {f32_to_bf16(x.even), f32_to_bf16(x.odd)}; }

#if HB_VEC_BYTES == 64
template <class T>
HB_INLINE Vec<Pair> load_as(const FloatPair* p) {
  const float* x = &p->even;
  const Vec<uint32_t> a = bf16_upper(load(x)), b = bf16_upper(load(x + 16));
  const Vec<uint32_t> even =
      __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const Vec<uint32_t> odd =
      __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  return even >> 16 | (odd & 0xffff0000);
}

// The first n <= 16 elements (the rest zero) as bfloat16 in the upper halves.
HB_INLINE Vec<uint32_t> load_upper(const bf16* p, int n) {
  const __m256i h = _mm256_maskz_loadu_epi16(__mmask16((1u << n) - 1), p);
  return (Vec<uint32_t>)_mm512_maskz_cvtepu16_epi32(__mmask16(-1), h) << 16;
}
HB_INLINE Vec<uint32_t> load_upper(const float* p, int n) {
  return bf16_upper((Vec<float>)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p));
}
// dst[i] = pair of even[i] and odd[i], i < 32.
HB_INLINE void join_rows(Pair* dst, const bf16* even, const bf16* odd) {
  alignas(64) static constexpr uint16_t kOrder[64] = {
      0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42,
      11, 43, 12, 44, 13, 45, 14, 46, 15, 47, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53,
      22, 54, 23, 55, 24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63};
  const __m512i a = _mm512_loadu_si512(even), b = _mm512_loadu_si512(odd);
  _mm512_storeu_si512(dst, _mm512_permutex2var_epi16(a, _mm512_load_si512(kOrder), b));
  _mm512_storeu_si512(dst + 16, _mm512_permutex2var_epi16(a, _mm512_load_si512(kOrder + 32), b));
}
HB_INLINE void join_rows(Pair* dst, const float* even, const float* odd) {
  for (int i = 0; i < 32; i += 16) {
    const Vec<uint32_t> low = bf16_upper(load(even + i)), high = bf16_upper(load(odd + i));
    store(dst + i, low >> 16 | (high & 0xffff0000));
  }
}
// dst[k * width + i] = pair of src[2 k ld + i] and src[(2 k + 1) ld + i] for i < n, zero for
// n <= i < width. `rows` rows: an odd last one is paired with zero. Lanes past `width` fall on the
// next k, which is written later.
template <class S>
void pack_pairs(Pair* dst, int width, const S* src, int64_t ld, int n, int64_t rows) {
  for (int64_t k = 0; k < rows; k += 2, dst += width, src += 2 * ld) {
    for (int i = 0; i < width; i += 16) {
      const int m = n - i < 0 ? 0 : n - i < 16 ? n - i : 16;
      const Vec<uint32_t> even = load_upper(src + i, m);
      const Vec<uint32_t> odd = k + 1 < rows ? load_upper(src + ld + i, m) : Vec<uint32_t>{};
      store(dst + i, even >> 16 | (odd & 0xffff0000));
    }
  }
}
#endif

}  // namespace
}  // namespace hb::HB_ISA
