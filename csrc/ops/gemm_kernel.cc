// The register kernels of gemm_kernel.h, one for each tile height, compiled once for all ops.
#include "ops/gemm_kernel.h"

namespace hb::HB_ISA {
namespace {

template <class T>
HB_INLINE Vec<T> finish(Vec<T> v, bool relu) {
  return relu ? (v < Vec<T>{} ? Vec<T>{} : v) : v;  // keeps NaN
}

template <class T, int MR, int NV>
void tile_kernel(const Tile<T>& t) {
  constexpr int L = kLanes<T>;
  Vec<T> acc[MR][NV];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) acc[i][j] = Vec<T>{};
  const T* a = t.a;
  const T* b = t.b;
  const int64_t ldb = t.ldb;
  for (int64_t k = t.kc; k > 0; --k) {
    Vec<T> bv[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) bv[j] = load(b + j * L);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const Vec<T> ai = splat(a[i]);
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) acc[i][j] += ai * bv[j];
    }
    a += MR;
    b += ldb;
  }
  if (t.n == NV * L) {
    Vec<T> bias[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) bias[j] = t.bias ? load(t.bias + j * L) : Vec<T>{};
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      if (i >= t.m) return;
      T* c = t.c + t.row[i];
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) {
        Vec<T> v = acc[i][j];
        if (t.add) v += load(c + j * L);
        if (t.bias) v += bias[j];
        store(c + j * L, finish<T>(v, t.relu));
      }
    }
    return;
  }
  T tmp[MR][NV * L];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) store(&tmp[i][j * L], acc[i][j]);
  for (int i = 0; i < t.m; ++i) {
    T* c = t.c + t.row[i];
    for (int j = 0; j < t.n; ++j) {
      T v = tmp[i][j];
      if (t.add) v += c[j];
      if (t.bias) v += t.bias[j];
      c[j] = t.relu && v < T(0) ? T(0) : v;
    }
  }
}

template <class T, int MR = kMaxRows>
TileKernel<T> find(int rows, int vecs) {
  if (rows == MR) return vecs == 1 ? &tile_kernel<T, MR, 1> : &tile_kernel<T, MR, kTileVecs>;
  if constexpr (MR > 1)
    return find<T, MR - 1>(rows, vecs);
  else
    return nullptr;
}

}  // namespace

TileKernel<float> find_tile_kernel(float, int rows, int vecs) { return find<float>(rows, vecs); }
TileKernel<double> find_tile_kernel(double, int rows, int vecs) { return find<double>(rows, vecs); }

}  // namespace hb::HB_ISA
