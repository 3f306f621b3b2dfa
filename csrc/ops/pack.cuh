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

// As one instruction: the compiler takes such a store apart where another branch stores as well.
// Both keep the order that they have among each other.
template <class T>
__device__ __forceinline__ Pack<T, kPack<T>> load_whole(const T* from) {
  Pack<T, kPack<T>> pack;
#ifdef HB_EMULATE
  if (!is_aligned(from)) fail("a load that is not aligned");
  memcpy(&pack, from, sizeof pack);
#else
  uint4 bits;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
               : "l"(from));
  memcpy(&pack, &bits, sizeof pack);
#endif
  return pack;
}
template <class T>
__device__ __forceinline__ void store_whole(T* to, const Pack<T, kPack<T>>& pack) {
#ifdef HB_EMULATE
  if (!is_aligned(to)) fail("a store that is not aligned");
  memcpy(to, &pack, sizeof pack);
#else
  uint4 bits;
  memcpy(&bits, &pack, sizeof pack);
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(bits.x), "r"(bits.y),
               "r"(bits.z), "r"(bits.w)
               : "memory");
#endif
}

// 16 bytes of numbers, computed. `whole`: all are there and aligned; else the first `left` are
// there, the others count as zero and are not written.
template <class T>
__device__ __forceinline__ void load_pack(Compute<T>* to, const T* from, bool whole, int left) {
  if (whole) {
    const Pack<T, kPack<T>> pack = load_whole(from);
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
    store_whole(to, pack);
  } else {
    HB_UNROLL
    for (int e = 0; e < kPack<T>; ++e)
      if (e < left) to[e] = narrowed<T>(from[e]);
  }
}

}  // namespace hb::cuda
