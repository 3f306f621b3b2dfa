// Vectors of the width of the level being compiled (HB_VEC_BYTES: 16, 32 or 64), on the vector
// extensions of GCC and Clang: + - * /, comparisons, ?: select and __builtin_convertvector work on
// them on every architecture. FMA comes from contraction (-ffp-contract=fast) where the level has
// it. Loads and stores are unaligned.
#pragma once
#include <stdint.h>
#include <string.h>

#define HB_INLINE inline __attribute__((always_inline))

namespace hb::HB_ISA {
namespace {

template <class T>
struct VecOf {
  typedef T type __attribute__((vector_size(HB_VEC_BYTES)));
};
template <class T>
using Vec = typename VecOf<T>::type;
template <class T>
constexpr int kLanes = HB_VEC_BYTES / int(sizeof(T));

template <class T>
HB_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
HB_INLINE void store(T* p, Vec<T> v) {
  memcpy(p, &v, sizeof v);
}
template <class T>
HB_INLINE Vec<T> splat(T x) {
  return x - Vec<T>{};  // x - 0: keeps -0 and NaN
}

}  // namespace
}  // namespace hb::HB_ISA
