// Element types on the device: what is stored, and what it is computed in.
#pragma once
#include <math.h>

#include <type_traits>

#include "core/half.h"
#include "core/kernel.h"

namespace hb::cuda {

struct Half {
  uint16_t bits;
};
struct BHalf {
  uint16_t bits;
};
struct Bool {  // 0 or 1
  uint8_t bits;
};

template <class T>
struct ComputeType {
  typedef T type;
};
template <>
struct ComputeType<Half> {
  typedef float type;
};
template <>
struct ComputeType<BHalf> {
  typedef float type;
};
template <>
struct ComputeType<Bool> {
  typedef uint8_t type;
};
template <class T>
using Compute = typename ComputeType<T>::type;

template <class T>
__device__ __forceinline__ T widened(T x) {
  return x;
}
template <class T>
struct Narrow {
  static __device__ __forceinline__ T of(T x) { return x; }
};
template <>
struct Narrow<Bool> {
  static __device__ __forceinline__ Bool of(uint8_t x) { return {uint8_t(x != 0)}; }
};
__device__ __forceinline__ uint8_t widened(Bool x) { return x.bits; }

#ifdef HB_EMULATE
inline float widened(Half x) { return f16_to_f32(x.bits); }
inline float widened(BHalf x) { return bf16_to_f32(x.bits); }
template <>
struct Narrow<Half> {
  static Half of(float x) { return {f32_to_f16(x)}; }
};
template <>
struct Narrow<BHalf> {
  static BHalf of(float x) { return {f32_to_bf16(x)}; }
};
#else
// The instructions that cuda_fp16.h and cuda_bf16.h stand for: as in elementwise_source.cu, and a
// second less to compile in every file.
__device__ __forceinline__ float widened(Half x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
__device__ __forceinline__ float widened(BHalf x) {
  return __uint_as_float(uint32_t(x.bits) << 16);
}
template <>
struct Narrow<Half> {
  static __device__ __forceinline__ Half of(float x) {
    Half y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
  }
};
template <>
struct Narrow<BHalf> {
  static __device__ __forceinline__ BHalf of(float x) {
    BHalf y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
  }
};
#endif

// The stored form of a computed number (rounded to nearest even).
template <class T>
__device__ __forceinline__ T narrowed(Compute<T> x) {
  return Narrow<T>::of(x);
}

// The ends of a computed type (float types: the infinities).
template <class C>
__device__ __forceinline__ C lowest() {
  if constexpr (std::is_floating_point_v<C>)
    return C(-HUGE_VAL);
  else if constexpr (std::is_signed_v<C>)
    return C(uint64_t(1) << (sizeof(C) * 8 - 1));
  else
    return C(0);
}
template <class C>
__device__ __forceinline__ C highest() {
  if constexpr (std::is_floating_point_v<C>)
    return C(HUGE_VAL);
  else
    return C(~lowest<C>());
}

// From the lane `by` further; all lanes of the warp must come here. CUDA has it from 32 bits on.
template <class C>
__device__ __forceinline__ C shuffle_down(C x, unsigned by) {
  if constexpr (sizeof(C) < 4)
    return C(__shfl_down_sync(0xffffffffu, int(x), by));
  else
    return __shfl_down_sync(0xffffffffu, x, by);
}

// Calls f.template operator()<T>() with the stored type of a dtype (host code).
template <class F>
void with_float_type(DType t, const F& f) {
  switch (t) {
    case DType::F16:
      return f.template operator()<Half>();
    case DType::BF16:
      return f.template operator()<BHalf>();
    case DType::F32:
      return f.template operator()<float>();
    case DType::F64:
      return f.template operator()<double>();
    default:
      fail("expected a float dtype, got %s", dtype_name(t));
  }
}
// The same by the size of an element, for kernels that only move bits.
template <class F>
void with_bits(DType t, const F& f) {
  switch (item_bytes(t)) {
    case 1:
      return f.template operator()<uint8_t>();
    case 2:
      return f.template operator()<uint16_t>();
    case 4:
      return f.template operator()<uint32_t>();
    default:
      return f.template operator()<uint64_t>();
  }
}
template <class F>
void with_type(DType t, const F& f) {
  switch (t) {
    case DType::Bool:
      return f.template operator()<Bool>();
    case DType::I8:
      return f.template operator()<int8_t>();
    case DType::I16:
      return f.template operator()<int16_t>();
    case DType::I32:
      return f.template operator()<int32_t>();
    case DType::I64:
      return f.template operator()<int64_t>();
    case DType::U8:
      return f.template operator()<uint8_t>();
    case DType::U16:
      return f.template operator()<uint16_t>();
    case DType::U32:
      return f.template operator()<uint32_t>();
    case DType::U64:
      return f.template operator()<uint64_t>();
    default:
      return with_float_type(t, f);
  }
}

}  // namespace hb::cuda
