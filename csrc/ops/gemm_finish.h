// The end of a tile whose sums are in memory: what gemm_kernel.cc and gemm_amx.cc share.
#pragma once
#include "ops/gemm_kernel.h"

namespace hb::HB_ISA {
namespace {

// Adds what C holds, applies the epilogue, stores: `sums` [m][ld] of a tile, fresh in L1.
template <class E, class T = Sum<E>>
__attribute__((noinline)) void finish_tile(const Tile<E>& t, const Epilogue<T> epilogue,
                                           const T* sums, int ld) {
  constexpr int L = kLanes<T>;
  for (int i = 0; i < t.m; ++i, sums += ld) {
    T* c = t.c + t.row[i];
    const int64_t at = t.row[i] + t.column;
    int j = 0;
    for (; j + L <= t.n; j += L) {
      Vec<T> v = load(sums + j);
      if (t.add) v += load(c + j);
      store(c + j, epilogue.template vector<T>(v, t.column + j, at + j));
    }
    for (; j < t.n; ++j) {
      const T v = t.add ? sums[j] + c[j] : sums[j];
      c[j] = epilogue.template scalar<T>(v, t.column + j, at + j);
    }
  }
}

}  // namespace
}  // namespace hb::HB_ISA
