// The products of attention.cc: one register kernel whose left operand is read as it lies, of float
// or of pairs of bfloat16.
#pragma once
#include "ops/gemm_kernel.h"
#include "simd/multiply_add.h"

namespace hb::HB_ISA {

// c[i ldc + j] (+)= sum_k a[i rs + k cs] b[k ldb + j]. k counts elements of E.
template <class E>
struct Product {
  const E* a;
  int64_t rs, cs;
  const E* b;
  int64_t ldb;
  float* c;
  int64_t ldc, k;
  bool add;
};
template <class E>
using ProductKernel = void (*)(const Product<E>&);

// For up to kMaxRows rows, and one vector of columns or two. Only for processors that have them
// (has_bf16_pairs).
ProductKernel<Pair> find_pair_product(int64_t rows, bool wide);

namespace {

template <class E, int MR, int NV>
void product_kernel(const Product<E>& p) {
  constexpr int L = kLanes<float>;
  Vec<float> acc[MR][NV];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) acc[i][j] = Vec<float>{};
  // Three rows share a pointer: 0, 1 and 2 strides are addressing modes.
  constexpr int kPointers = (MR + 2) / 3;
  const E* a[kPointers];
  const int64_t rs = p.rs, cs = p.cs, ldb = p.ldb;
#pragma GCC unroll 8
  for (int g = 0; g < kPointers; ++g) a[g] = p.a + 3 * g * rs;
  const E* b = p.b;
  for (int64_t k = p.k; k > 0; --k) {
    Vec<E> bv[NV];
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) bv[j] = load(b + j * L);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const E ai = a[i / 3][(i % 3) * rs];
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) multiply_add(acc[i][j], ai, bv[j]);
    }
#pragma GCC unroll 8
    for (int g = 0; g < kPointers; ++g) a[g] += cs;
    b += ldb;
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) {
      float* c = p.c + i * p.ldc + j * L;
      store(c, p.add ? load(c) + acc[i][j] : acc[i][j]);
    }
  }
}
template <class E, int MR = kMaxRows>
ProductKernel<E> find_product(int64_t rows, bool wide) {
  if (rows == MR) return wide ? &product_kernel<E, MR, 2> : &product_kernel<E, MR, 1>;
  if constexpr (MR > 1)
    return find_product<E, MR - 1>(rows, wide);
  else
    return nullptr;
}

}  // namespace
}  // namespace hb::HB_ISA
