// The register kernels of winograd.h, one for each tile height.
#include "ops/winograd.h"

namespace hb::HB_ISA {
namespace {

template <int MR, int NV, bool kInterleaved>
void winograd_kernel(const WinogradTile& t) {
  constexpr int L = kLanes<float>;
  const float *a = t.a, *b = t.b;
  const int64_t lda = t.lda, ldb = t.ldb, chunk = t.chunk;
  bool add = t.add;
  for (int64_t left = t.k; left > 0; left -= chunk) {
    Vec<float> acc[MR][NV];
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) acc[i][j] = Vec<float>{};
    // One k: row i of A has the element a[i * step].
    const auto one = [&](const float* from, int step) __attribute__((always_inline)) {
      Vec<float> bv[NV];
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) bv[j] = load(b + j * L);
#pragma GCC unroll 16
      for (int i = 0; i < MR; ++i) {
        const Vec<float> ai = splat(from[i * step]);
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) acc[i][j] += ai * bv[j];
      }
      b += ldb;
    };
    const int64_t count = left < chunk ? left : chunk;
    if constexpr (kInterleaved) {
      for (int64_t k = 0; k < count; k += L, a += MR * L) {
        const float* end = a + (count - k < L ? count - k : L);
        for (const float* from = a; from != end; ++from) one(from, L);
      }
    } else {
      for (int64_t k = 0; k < count; ++k, a += lda) one(a, 1);
    }
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      if (i >= t.m) break;
      float* c = t.c + i * t.ldc;
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) store(c + j * L, add ? load(c + j * L) + acc[i][j] : acc[i][j]);
    }
    add = true;
  }
}

template <bool kInterleaved, int MR = kMaxRows>
WinogradKernel find(int rows, int vecs) {
  if (rows == MR)
    return vecs == 1 ? &winograd_kernel<MR, 1, kInterleaved>
                     : &winograd_kernel<MR, kTileVecs, kInterleaved>;
  if constexpr (MR > 1)
    return find<kInterleaved, MR - 1>(rows, vecs);
  else
    return nullptr;
}

}  // namespace

WinogradKernel find_winograd_kernel(int rows, int vecs, bool interleaved) {
  return interleaved ? find<true>(rows, vecs) : find<false>(rows, vecs);
}

}  // namespace hb::HB_ISA
