// From the lanes of a vector to one number, and the extremes of two numbers or vectors.
#pragma once
#include "simd/vec.h"

namespace hb::HB_ISA {
namespace {

// a where it is larger (smaller) or NaN, else b: over many, NaN if any is.
template <class V>
HB_INLINE V larger(V a, V b) {
  return ((a > b) | (a != a)) ? a : b;
}
template <class V>
HB_INLINE V smaller(V a, V b) {
  return ((a < b) | (a != a)) ? a : b;
}

template <class C, int kCount>
struct Part {
  typedef C type __attribute__((vector_size(kCount * sizeof(C))));
};
// f(first half, second half), down to one element.
template <int kCount, class C, class V, class F>
HB_INLINE C fold_lanes(V v, const F& f) {
  if constexpr (kCount == 2) {
    typename Part<C, 2>::type w{v[1], v[1]};
    return f(v, w)[0];
  } else {
    typename Part<C, kCount / 2>::type half[2];
    memcpy(half, &v, sizeof v);
    return fold_lanes<kCount / 2, C>(f(half[0], half[1]), f);
  }
}
template <class C>
HB_INLINE C sum_lanes(Vec<C> v) {
  return fold_lanes<kLanes<C>, C>(
      v, [](auto a, auto b) __attribute__((always_inline)) { return a + b; });
}

}  // namespace
}  // namespace hb::HB_ISA
