// The matrix product of matmul.cu and conv.cu on CUDA without tensor cores.
//
// A block makes a 64 x 64 tile: 16 values of k at a time, tiles of both operands lie in shared
// memory, each of 256 threads keeps 4 x 4 sums in registers. The operands are whatever a type P
// says: a(i, k), b(k, j) inside the bounds, store(i, j, sum), and a_by_k(), b_by_k(): whether
// neighbours in memory differ in k. A sum is added in the order of k, in the computed type.
#pragma once
#include "cuda/kernel.cuh"

namespace hb::cuda {

constexpr int kGemmTile = 64, kGemmDepth = 16, kGemmPerThread = 4;

// The tile of this block (blockIdx.x over rows, blockIdx.y over columns), summed over [k_begin,
// k_end).
template <class C, class P>
__device__ void gemm_tile(const P& p, int64_t m, int64_t n, int64_t k_begin, int64_t k_end) {
  __shared__ C a_tile[kGemmDepth][kGemmTile + 4];
  __shared__ C b_tile[kGemmDepth][kGemmTile + 4];
  const int thread = threadIdx.x;
  const int row = thread / 16 * kGemmPerThread, column = thread % 16 * kGemmPerThread;
  const int64_t i0 = int64_t(blockIdx.x) * kGemmTile, j0 = int64_t(blockIdx.y) * kGemmTile;
  const bool a_by_k = p.a_by_k(), b_by_k = p.b_by_k();
  C sums[kGemmPerThread][kGemmPerThread] = {};
  for (int64_t k0 = k_begin; k0 < k_end; k0 += kGemmDepth) {
    for (int t = thread; t < kGemmTile * kGemmDepth; t += kThreads) {  // 0 beyond the edges
      const int i = a_by_k ? t / kGemmDepth : t % kGemmTile;
      const int k = a_by_k ? t % kGemmDepth : t / kGemmTile;
      a_tile[k][i] = i0 + i < m && k0 + k < k_end ? p.a(i0 + i, k0 + k) : C(0);
    }
    for (int t = thread; t < kGemmTile * kGemmDepth; t += kThreads) {
      const int j = b_by_k ? t / kGemmDepth : t % kGemmTile;
      const int k = b_by_k ? t % kGemmDepth : t / kGemmTile;
      b_tile[k][j] = j0 + j < n && k0 + k < k_end ? p.b(k0 + k, j0 + j) : C(0);
    }
    __syncthreads();
    for (int k = 0; k < kGemmDepth; ++k) {
      C x[kGemmPerThread], y[kGemmPerThread];
      for (int i = 0; i < kGemmPerThread; ++i) x[i] = a_tile[k][row + i];
      for (int j = 0; j < kGemmPerThread; ++j) y[j] = b_tile[k][column + j];
      for (int i = 0; i < kGemmPerThread; ++i)
        for (int j = 0; j < kGemmPerThread; ++j) sums[i][j] += x[i] * y[j];
    }
    __syncthreads();
  }
  for (int i = 0; i < kGemmPerThread; ++i)
    for (int j = 0; j < kGemmPerThread; ++j)
      if (i0 + row + i < m && j0 + column + j < n)
        p.store(i0 + row + i, j0 + column + j, sums[i][j]);
}

inline dim3 gemm_grid(int64_t m, int64_t n, int64_t batch) {
  const int64_t columns = (n + kGemmTile - 1) / kGemmTile;
  if (columns > 65535) fail("a product of %lld columns is too wide", (long long)n);
  return dim3(unsigned((m + kGemmTile - 1) / kGemmTile), unsigned(columns),
              unsigned(batch < 65535 ? batch : 65535));
}

}  // namespace hb::cuda
