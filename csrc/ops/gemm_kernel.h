// The register kernel of the matrix-multiply core, and the panel copies that feed it.
//
// C[i, j] (+)= sum_k a[k, i] * b[k, j] over one tile of MR rows and NV vectors of columns. All
// accumulators stay in registers: per k one load of each B vector, one broadcast per row, MR * NV
// fused multiply-adds. Every element is summed in the order of k, whatever the tile, so tiling and
// threads never change a bit.
//
// Packed operands: panel of A = [kc][MR], panel of B = [kc][NR], both read front to back. A may
// also be read in place, where its rows lie in runs along k: then no copy is made for the few
// columns that would use it.
#pragma once
#include <stddef.h>

#include "ops/epilogue.h"
#include "simd/half.h"
#include "simd/quad.h"
#include "simd/vec.h"

namespace hb::HB_ISA {

// `count` pieces of the width of a panel of B, which lie in 2^log_rows rows `step` elements apart:
// down all rows, then further right.
template <class T>
struct Lines {
  const T* first;
  int64_t step, count;
  int log_rows = 30;
};

template <class T>
struct Tile {
  const T* a;  // packed panel [kc][MR], or rows of k lda apart (0: MR)
  int64_t lda;
  const T* const* in_place;  // or [runs][MR] places of the rows of A, each of length[run] elements
  const int64_t* length;
  int64_t runs;
  const T* b;  // [kc] rows of NV vectors, ldb apart
  int64_t ldb, kc;
  T* b_copy;           // of kernels that copy B: where it goes, packed
  Lines<T> next{};     // what is wanted next, and comes to L2 meanwhile
  Sum<T>* c;           // column 0 of the tile; row i is at c + row[i]
  const int64_t* row;  // [m]
  int m, n;            // rows and columns to store
  bool add;            // add to what C holds
  const Sum<T>* bias;  // [n], or null
  bool relu;
  const Epilogue<Sum<T>>* epilogue = nullptr;  // or what to do beyond `bias` and `relu`
  int64_t column = 0;                          // of the result: where the tile starts
  // Pairs, whole vectors of columns: the result goes to half + half_row[i] as bfloat16, and c holds
  // what is added; bias and relu as above. Or null.
  uint16_t* half = nullptr;
  const int64_t* half_row = nullptr;
  const uint16_t* half_bias = nullptr;
};
template <class T>
using TileKernel = void (*)(const Tile<T>&);

// The kernels for `rows` rows and `vecs` vectors of columns, with A packed or in place
// (gemm_kernel.cc).
TileKernel<float> find_tile_kernel(float, int rows, int vecs, bool in_place = false);
TileKernel<double> find_tile_kernel(double, int rows, int vecs, bool in_place = false);
// Only for processors that have them (has_bf16_pairs).
TileKernel<Pair> find_tile_kernel(Pair, int rows, int vecs, bool in_place = false);
// A packed. Quad: only for processors that have them (has_byte_dots).
TileKernel<Words> find_tile_kernel(Words, int rows, int vecs, bool in_place = false);
TileKernel<Quad> find_tile_kernel(Quad, int rows, int vecs, bool in_place = false);
// On tile registers, where `has_tiles` (gemm_amx.cc): a panel of A is [kc / 16][rows][16]. They are
// opened before and closed after.
TileKernel<Pair> find_amx_kernel(Pair);
TileKernel<Quad> find_amx_kernel(Quad);
void open_tiles();
void close_tiles();
template <class T>
constexpr bool kOnTiles = HB_VEC_BYTES == 64 && (__is_same(T, Pair) || __is_same(T, Quad));
// The kernel that reads full panels of B in place and copies them, for A that is packed.
TileKernel<float> find_copy_kernel(float, int rows);
TileKernel<double> find_copy_kernel(double, int rows);

namespace {

// Rows of a tile: as many as leave room for two B vectors and a broadcast in the register file
// (32 registers on AVX-512 and NEON, 16 on AVX2 and SSE).
#if HB_VEC_BYTES == 64
constexpr int kMaxRows = 14;
#elif HB_VEC_BYTES == 32
constexpr int kMaxRows = 6;
#elif defined(__x86_64__)
constexpr int kMaxRows = 6;
#else
constexpr int kMaxRows = 12;
#endif
constexpr int kTileVecs = 2;
template <class T>
constexpr int kTileCols = kTileVecs * kLanes<T>;
template <class T>  // rows or columns of the widest panel
constexpr int kMaxPanel = kTileCols<T> > kMaxRows ? kTileCols<T> : kMaxRows;

// lo, hi = a0 b0 a1 b1 ...
template <class V>
HB_INLINE void interleave(V a, V b, V& lo, V& hi) {
  constexpr int n = sizeof(V) / sizeof(a[0]);
  if constexpr (n == 2) {
    lo = __builtin_shufflevector(a, b, 0, 2);
    hi = __builtin_shufflevector(a, b, 1, 3);
  } else if constexpr (n == 4) {
    lo = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    hi = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  } else if constexpr (n == 8) {
    lo = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    hi = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  } else {
    static_assert(n == 16);
    lo = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    hi =
        __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  }
}

// Transposes a square of L vectors: log2(L) perfect shuffles of the rows.
template <class V, int L>
HB_INLINE void transpose(V (&r)[L]) {
#pragma GCC unroll 4
  for (int step = 1; step < L; step *= 2) {
    V t[L];
#pragma GCC unroll 8
    for (int i = 0; i < L / 2; ++i) interleave(r[i], r[i + L / 2], t[2 * i], t[2 * i + 1]);
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) r[i] = t[i];
  }
}

// dst[k * width + i] = rows[i][k] for i < n, zero for n <= i < width; k in [0, kc). Squares are
// transposed in registers and stored whole: lanes past `width` fall on the next k, which is written
// later. So up to L elements after the panel are overwritten: panels are packed in ascending order.
// `readable` (>= kc) elements of every row may be read. What lies `ahead` elements after them (0:
// nothing) will be packed next, and is fetched.
template <class T, class S>
void pack_rows(T* dst, int width, const S* const* rows, int n, int64_t kc, int64_t readable,
               int64_t ahead = 0) {
  constexpr int L = kLanes<T>;
  int64_t k = 0;
  while (k < kc && readable >= L && kc > L / 4) {
    if (kc >= L && k + L > kc) k = kc - L;  // the last square overlaps the one before
    const int stored = kc < L ? int(kc) : L;
    for (int g = (width - 1) / L * L; g >= 0; g -= L) {
      Vec<T> v[L];
#pragma GCC unroll 16
      for (int i = 0; i < L; ++i) {
        v[i] = g + i < n ? load_as<T>(rows[g + i] + k) : Vec<T>{};
        if (ahead && g + i < n) __builtin_prefetch(rows[g + i] + k + ahead, 0, 2);
      }
      transpose(v);
#pragma GCC unroll 16
      for (int i = 0; i < L; ++i) {
        if (i >= stored) break;
        store(dst + (k + i) * width + g, v[i]);
      }
    }
    k += L;
  }
  for (; k < kc; ++k) {
    T* d = dst + k * width;
    for (int i = 0; i < n; ++i) d[i] = widen(rows[i][k]);
    for (int i = n; i < width; ++i) d[i] = T(0);
  }
}

// dst[k * width + i] = src[k * ld + i] for i < n, zero for n <= i < width; k in [0, kc). As for
// pack_rows, up to L elements after the panel are overwritten.
template <class T, class S>
void pack_cols(T* dst, int width, const S* src, int64_t ld, int n, int64_t kc) {
  constexpr int L = kLanes<T>;
  if (n == width && width % L == 0) {
    for (int64_t k = 0; k < kc; ++k)
      for (int i = 0; i < width; i += L) store(dst + k * width + i, load_as<T>(src + k * ld + i));
    return;
  }
  // Reads whole vectors as long as they end before the last row's end.
  int64_t k = 0;
  const int64_t whole = (n + L - 1) / L * L;
  decltype(Vec<T>{} < Vec<T>{}) lane;
  for (int i = 0; i < L; ++i) lane[i] = i;
  for (; k < kc && (kc - 1 - k) * ld + n >= whole; ++k) {
    int i = 0;
    for (; i + L <= n; i += L) store(dst + k * width + i, load_as<T>(src + k * ld + i));
    if (i < n) {
      const Vec<T> v = load_as<T>(src + k * ld + i);
      store<T>(dst + k * width + i, lane < decltype(lane){} + (n - i) ? v : Vec<T>{});
      i += L;
    }
    for (; i < width; i += L) store(dst + k * width + i, Vec<T>{});
  }
  for (; k < kc; ++k) {
    T* d = dst + k * width;
    for (int i = 0; i < n; ++i) d[i] = widen(src[k * ld + i]);
    for (int i = n; i < width; ++i) d[i] = T(0);
  }
}

// The panels of columns [q * width, (q + 1) * width) for q < panels, one after another: reads rows
// of all of them, so that a long stride costs its cache misses once.
template <class T, class S>
void pack_cols_wide(T* dst, int width, const S* src, int64_t ld, int64_t panels, int64_t kc) {
  constexpr int L = kLanes<T>;
  const int64_t rows = width % L == 0 ? kc : kc - 1;  // written as whole vectors
  constexpr int64_t kBlock = 8;  // rows at a time, while the next ones are fetched
  for (int64_t k0 = 0; k0 < rows; k0 += kBlock) {
    const int64_t k1 = k0 + kBlock < rows ? k0 + kBlock : rows;
    for (int64_t q = 0; q < panels; ++q)
      for (int64_t k = k0; k < k1; ++k)
        for (int i = 0; i < width; i += L) {
          const S* from = src + k * ld + q * width + i;
          __builtin_prefetch(from + kBlock * ld);
          store(dst + (q * kc + k) * width + i, load_as<T>(from));
        }
  }
  for (int64_t k = rows; k < kc; ++k)
    for (int64_t q = 0; q < panels; ++q)
      for (int i = 0; i < width; ++i)
        dst[(q * kc + k) * width + i] = widen(src[k * ld + q * width + i]);
}

}  // namespace
}  // namespace hb::HB_ISA
