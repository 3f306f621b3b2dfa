// Sums and maxima over the threads of a block, in a fixed order of additions.
#pragma once
#include "cuda/kernel.cuh"

namespace hb::cuda {

struct Add {
  template <class C>
  static __device__ __forceinline__ C start() {
    return C(0);
  }
  template <class C>
  static __device__ __forceinline__ C join(C a, C b) {
    return a + b;
  }
};
struct Multiply {
  template <class C>
  static __device__ __forceinline__ C start() {
    return C(1);
  }
  template <class C>
  static __device__ __forceinline__ C join(C a, C b) {
    return a * b;
  }
};
struct Larger {  // NaN wins
  template <class C>
  static __device__ __forceinline__ C join(C a, C b) {
    return a > b || a != a ? a : b;
  }
};

// Joins one value of each of kThreads threads; all of them get the result. Lanes of a warp first,
// then the warps in order.
template <class Op, class C>
__device__ C over_block(C x) {
  __shared__ C shared[kThreads / 32];
  for (int by = 16; by > 0; by /= 2) x = Op::join(x, shuffle_down(x, by));
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  x = shared[0];
  for (int w = 1; w < kThreads / 32; ++w) x = Op::join(x, shared[w]);
  __syncthreads();
  return x;
}

// What the threads before this one bring, joined; total: what all bring.
template <class Op, class C>
__device__ C scan_block(C x, C* total) {
  __shared__ C shared[kThreads / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int by = 1; by < 32; by *= 2) {
    const C other = __shfl_up_sync(0xffffffffu, x, by);
    if (lane >= by) x = Op::join(other, x);
  }
  if (lane == 31) shared[warp] = x;
  __syncthreads();
  C before = Op::template start<C>();
  *total = before;
  for (int w = 0; w < kThreads / 32; ++w) {
    if (w == warp) before = *total;
    *total = Op::join(*total, shared[w]);
  }
  x = __shfl_up_sync(0xffffffffu, x, 1);
  __syncthreads();
  return lane == 0 ? before : Op::join(before, x);
}

// Rows for sums over them, one thread for a column and a chunk: enough threads for a large device.
// The number of chunks depends on the shape only.
struct Chunks {
  int64_t count, size;
  Chunks(int64_t rows, int64_t columns) {
    const int64_t most = rows / 64, wanted = 65536 / (columns > 0 ? columns : 1);
    count = wanted < most ? wanted : most;
    if (count < 1) count = 1;
    size = (rows + count - 1) / count;
    if (size < 1) size = 1;
    count = rows > 0 ? (rows + size - 1) / size : 1;  // none is empty
  }
};

}  // namespace hb::cuda
