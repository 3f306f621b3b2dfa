// From the lanes of a vector to one number.
#pragma once
#include "simd/vec.h"

namespace hb::HB_ISA {
namespace {

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
