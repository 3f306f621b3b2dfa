// Neighbours in memory that are read and written as a whole.
#pragma once
#include "cuda/kernel.cuh"

namespace hb::cuda {

template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T x[kCount];
};

template <class T>
constexpr int kPack = 16 / int(sizeof(T));  // of 16 bytes

inline bool is_aligned(const void* p) { return uintptr_t(p) % 16 == 0; }

// 16 bytes of numbers, computed. `whole`: all are there and aligned; else the first `left` are
// there, the others count as zero and are not written.
template <class T>
__device__ __forceinline__ void load_pack(Compute<T>* to, const T* from, bool whole, int left) {
  if (whole) {
    const Pack<T, kPack<T>> pack = *reinterpret_cast<const Pack<T, kPack<T>>*>(from);
    HB_UNROLL
    for (int e = 0; e < kPack<T>; ++e) to[e] = widened(pack.x[e]);
  } else {
    HB_UNROLL
    for (int e = 0; e < kPack<T>; ++e) to[e] = e < left ? widened(from[e]) : Compute<T>(0);
  }
}
template <class T>
__device__ __forceinline__ void store_pack(T* to, const Compute<T>* from, bool whole, int left) {
  if (whole) {
    Pack<T, kPack<T>> pack;
    HB_UNROLL
    for (int e = 0; e < kPack<T>; ++e) pack.x[e] = narrowed<T>(from[e]);
    *reinterpret_cast<Pack<T, kPack<T>>*>(to) = pack;
  } else {
    HB_UNROLL
    for (int e = 0; e < kPack<T>; ++e)
      if (e < left) to[e] = narrowed<T>(from[e]);
  }
}

}  // namespace hb::cuda
