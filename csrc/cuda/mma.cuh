// Instructions of tensor cores and what feeds them (sm_80 on): ldmatrix, cp.async, mma.sync.
//
// Each has two forms: inline PTX for the device, and for the emulation the layout of fragments that
// the PTX manual documents, carried out in software. g = lane / 4, t = lane % 4. A fragment of a
// 16 x k operand: rows g and g + 8, columns in pairs (16 bits) or single (32 bits) from t on; sums
// of a 16 x 8 tile: {(g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)}.
#pragma once
#include "cuda/kernel.cuh"

namespace hb::cuda {

#ifndef HB_EMULATE

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return uint32_t(__cvta_generic_to_shared(p));
}

// Four 8 x 8 tiles of 16 bits: lane 8 j + r names row r (16 bytes) of tile j. Lane gets of each the
// pair (row g, columns 2t and 2t + 1); `transposed`: (rows 2t and 2t + 1, column g).
template <bool transposed>
__device__ __forceinline__ void load_matrices(uint32_t* r, const void* row) {
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// c [16 x 8] += a [16 x 16] b [16 x 8]
__device__ __forceinline__ void mma(BHalf, float* c, const uint32_t* a, const uint32_t* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma(Half, float* c, const uint32_t* a, const uint32_t* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// c [16 x 8] += a [16 x 8] b [8 x 8] of tf32 (to_tf32)
__device__ __forceinline__ void mma(float, float* c, const uint32_t* a, const uint32_t* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// c [16 x 8] += a [16 x 32] b [32 x 8] of int8: four numbers of k in a register
__device__ __forceinline__ void mma(int8_t, uint32_t* c, const uint32_t* a, const uint32_t* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Byte i of the result is byte (selector >> 4 i & 7) of x (0 to 3) and y (4 to 7).
__device__ __forceinline__ uint32_t permute_bytes(uint32_t x, uint32_t y, uint32_t selector) {
  return __byte_perm(x, y, selector);
}
// c [8 x 8] += a [8 x 4] b [4 x 8]: a (g, t), b (t, g), c (g, 2t) and (g, 2t + 1)
__device__ __forceinline__ void mma(double, double* c, double a, double b) {
  asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
               : "+d"(c[0]), "+d"(c[1])
               : "d"(a), "d"(b));
}

__device__ __forceinline__ uint32_t to_tf32(uint32_t float_bits) {
  uint32_t r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(__uint_as_float(float_bits)));
  return r;
}
// Two bfloat16 (round to nearest even), the first in the lower half.
__device__ __forceinline__ uint32_t to_bf16_pair(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
__device__ __forceinline__ float bits_to_float(uint32_t x) { return __uint_as_float(x); }

// Starts to copy `valid` of kBytes (4, 8, 16; both addresses multiples of it) to shared memory and
// zeros behind them. Nothing is there before copy_wait, of this thread, and a barrier, for others.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, int valid) {
  if constexpr (kBytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(valid)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)),
                 "l"(global), "n"(kBytes), "r"(valid)
                 : "memory");
}
__device__ __forceinline__ void copy_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kGroupsLeft>
__device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
}

#else

template <bool transposed>
void load_matrices(uint32_t* r, const void* row) {
  if (uintptr_t(row) % 16 != 0) fail("ldmatrix: a row is not aligned to 16 bytes");
  const int turn = emulate::bring(&row, sizeof row), lane = emulate::lane();
  for (int j = 0; j < 4; ++j)
    for (int half = 0; half < 2; ++half) {
      const int at = lane % 4 * 2 + half, g = lane / 4;
      const uint16_t* from;
      memcpy(&from, emulate::brought(8 * j + (transposed ? at : g), turn), sizeof from);
      reinterpret_cast<uint16_t*>(r + j)[half] = from[transposed ? g : at];
    }
}

inline float number_of(BHalf, const uint32_t* r, int i) {
  return bf16_to_f32(reinterpret_cast<const uint16_t*>(r)[i]);
}
inline float number_of(Half, const uint32_t* r, int i) {
  return f16_to_f32(reinterpret_cast<const uint16_t*>(r)[i]);
}
inline float number_of(float, const uint32_t* r, int i) {
  return float_from_bits(r[i] & 0xffffe000u);  // the rest is not looked at
}

// Tensor cores add exact products and round the sum toward zero (as measured on Volta to Hopper by
// several authors; NVIDIA promises no more than the precision of the operands).
inline float toward_zero(double x) {
  const float nearest = float(x);
  if (!(fabs(double(nearest)) > fabs(x)) || isinf(x)) return nearest;
  return isinf(nearest) ? nearest : nextafterf(nearest, 0.0f);
}

inline int32_t number_of(int8_t, const uint32_t* r, int i) {
  return reinterpret_cast<const int8_t*>(r)[i];
}
inline float from_sum(float, double sum) { return toward_zero(sum); }
inline uint32_t from_sum(uint32_t, double sum) { return uint32_t(int64_t(sum)); }

template <class T, class Sum>
void mma(T kind, Sum* c, const uint32_t* a, const uint32_t* b) {
  constexpr int kPair = 4 / sizeof(T);  // numbers in a register
  uint32_t mine[6];
  memcpy(mine, a, 16);
  memcpy(mine + 4, b, 8);
  const int turn = emulate::bring(mine, sizeof mine), lane = emulate::lane();
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4, lower = i / 2, column = lane % 4 * 2 + i % 2;
    double sum = c[i];
    for (int half = 0; half < 2; ++half)
      for (int t = 0; t < 4; ++t) {
        const auto* x = static_cast<const uint32_t*>(emulate::brought(row * 4 + t, turn));
        const auto* y = static_cast<const uint32_t*>(emulate::brought(column * 4 + t, turn));
        for (int e = 0; e < kPair; ++e)
          sum += double(number_of(kind, x + half * 2 + lower, e)) *
                 double(number_of(kind, y + 4 + half, e));
      }
    c[i] = from_sum(c[i], sum);
  }
}
inline uint32_t permute_bytes(uint32_t x, uint32_t y, uint32_t selector) {
  const uint64_t both = uint64_t(y) << 32 | x;
  uint32_t r = 0;
  for (int i = 0; i < 4; ++i) r |= uint32_t(both >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
  return r;
}
inline void mma(double, double* c, double a, double b) {
  const double mine[2] = {a, b};
  const int turn = emulate::bring(mine, sizeof mine), lane = emulate::lane();
  for (int i = 0; i < 2; ++i)
    for (int t = 0; t < 4; ++t)
      c[i] = fma(static_cast<const double*>(emulate::brought(lane / 4 * 4 + t, turn))[0],
                 static_cast<const double*>(emulate::brought((lane % 4 * 2 + i) * 4 + t, turn))[1],
                 c[i]);
}

inline uint32_t to_tf32(uint32_t x) {  // to nearest, ties away from zero
  return (x & 0x7f800000u) == 0x7f800000u ? x : (x + 0x1000u) & 0xffffe000u;
}
inline uint32_t to_bf16_pair(float low, float high) {
  return f32_to_bf16(low) | uint32_t(f32_to_bf16(high)) << 16;
}
inline float bits_to_float(uint32_t x) { return float_from_bits(x); }

template <int kBytes>
void copy_async(void* shared, const void* global, int valid) {
  emulate::copy_later(shared, global, kBytes, size_t(valid));
}
inline void copy_commit() { emulate::commit_copies(); }
template <int kGroupsLeft>
void copy_wait() {
  emulate::wait_copies(kGroupsLeft);
}

#endif

}  // namespace hb::cuda
