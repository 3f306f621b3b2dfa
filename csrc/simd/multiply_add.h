// What the register kernels do with a broadcast element and a vector.
#pragma once
#include "simd/pair.h"

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

}  // namespace
}  // namespace hb::HB_ISA
