// The register kernels of gemm_kernel.h for pairs of bfloat16 and quads of bytes on tile registers
// (AMX): an extension of the level avx512. A tile of C is two tiles side by side; for each 16
// elements of k one tile of A and two of B are loaded and two dot instructions run, which take
// longer than the loads while the panels are in the caches.
//
// What tests run, where no processor has AMX, is the same code on a model of the registers. So the
// level is taken only after these kernels have multiplied small integers exactly (check_tiles).
#include "core/cpu_info.h"
#include "ops/gemm_finish.h"
#include "simd/tile_registers.h"

namespace hb::HB_ISA {
namespace {

#ifdef HB_TILES_MODEL
using Tiles = TileModel;
#else
using Tiles = TileRegisters;
#endif
constexpr int kCols = 32, kRow = kCols * 4;  // of a tile of C, and bytes of its rows

template <int c, int a, int b, class T>
HB_INLINE void dot() {
  if constexpr (kPerElement<T> == 2)
    Tiles::dot_bf16<c, a, b>();
  else
    Tiles::dot_bytes<c, a, b>();
}
// Sixteen elements of k: a is [rows][16], b rows of B.
template <class T>
HB_INLINE void add_block(const T* a, const T* b, int64_t ldb) {
  Tiles::load<2>(a, kTileRowBytes);
  Tiles::load<4>(b, ldb * 4), dot<0, 2, 4, T>();
  Tiles::load<5>(b + 16, ldb * 4), dot<1, 2, 5, T>();
}

// Whole vectors of columns, rounded to bfloat16.
void store_half(const Tile<Pair>& t, const float* sums) {
  constexpr int L = kLanes<float>;
  for (int i = 0; i < t.m; ++i, sums += kCols)
    for (int j = 0; j < t.n; j += L) {
      Vec<float> v = load(sums + j);
      if (t.add) v += load(t.c + t.row[i] + j);
      if (t.half_bias) v += load_as<float>(reinterpret_cast<const bf16*>(t.half_bias) + j);
      if (t.relu) v = v < Vec<float>{} ? Vec<float>{} : v;  // keeps NaN
      store_as(reinterpret_cast<bf16*>(t.half + t.half_row[i]) + j, v);
    }
}

template <class T>
void tile_kernel(const Tile<T>& t) {
  using S = Sum<T>;
  Tiles::zero<0>(), Tiles::zero<1>();
  const int64_t whole = t.kc / 16 * 16;
  const T *a = t.a, *b = t.b;
  for (int64_t k = 0; k < whole; k += 16, a += 16 * t.m, b += 16 * t.ldb) add_block(a, b, t.ldb);
  if (const int64_t rest = t.kc - whole) {  // a: [rows][rest]
    alignas(64) T last_a[kMaxRows * 16], last_b[16 * kCols];
    memset(static_cast<void*>(last_a), 0, sizeof last_a);
    memset(static_cast<void*>(last_b), 0, sizeof last_b);
    for (int i = 0; i < t.m; ++i) memcpy(last_a + i * 16, a + i * rest, size_t(rest) * sizeof(T));
    for (int64_t k = 0; k < rest; ++k) memcpy(last_b + k * kCols, b + k * t.ldb, kRow);
    add_block<T>(last_a, last_b, kCols);
  }
  alignas(64) S sums[kMaxRows * kCols];
  Tiles::store<0>(sums, kRow), Tiles::store<1>(sums + 16, kRow);

  if constexpr (kPerElement<T> == 2)
    if (t.half) return store_half(t, sums);
  Epilogue<S> simple;
  simple.bias = t.bias ? t.bias - t.column : nullptr, simple.relu = t.relu;
  finish_tile<T>(t, t.epilogue ? *t.epilogue : simple, sums, kCols);
}

Pair check_element(const int* x, Pair, bool) {
  return Pair(f32_to_bf16(float(x[0])), f32_to_bf16(float(x[1])));
}
Quad check_element(const int* x, Quad, bool unsigned_a) {
  Quad q;
  for (int i = 0; i < 4; ++i) q.x[i] = int8_t(uint8_t(x[i] + (unsigned_a ? 128 : 0)));
  return q;
}

// Whether a tile of `rows` rows of small integers is their exact product, added to what C held.
template <class T>
bool check_kernel(int rows) {
  constexpr int kE = kPerElement<T>, kc = 3 * 16 + 7, n = kCols - 3;
  alignas(64) T a[kc * kMaxRows], b[kc * kCols];
  Sum<T> c[kMaxRows * kCols], expected[kMaxRows * kCols];
  int64_t row[kMaxRows];
  const auto left = [](int i, int k) { return (i * 7 + k * 5) % 17 - 8; };
  const auto right = [](int k, int j) { return (k * 3 + j * 11) % 13 - 6; };
  int x[4];
  for (int k = 0; k < kc; ++k) {
    const int block = k / 16 * 16, depth = kc - block < 16 ? kc - block : 16;
    for (int i = 0; i < rows; ++i) {
      for (int e = 0; e < kE; ++e) x[e] = left(i, k * kE + e);
      a[block * rows + i * depth + k - block] = check_element(x, T(0), true);
    }
    for (int j = 0; j < kCols; ++j) {
      for (int e = 0; e < kE; ++e) x[e] = right(k * kE + e, j);
      b[k * kCols + j] = check_element(x, T(0), false);
    }
  }
  for (int i = 0; i < rows; ++i) {
    row[i] = i * kCols;
    for (int j = 0; j < kCols; ++j) {
      int sum = c[i * kCols + j] = Sum<T>(i - j);
      for (int k = 0; k < kc * kE && j < n; ++k)
        sum += (left(i, k) + (kE == 4 ? 128 : 0)) * right(k, j);
      expected[i * kCols + j] = Sum<T>(sum);
    }
  }
  Tile<T> tile{};
  tile.a = a, tile.b = b, tile.ldb = kCols, tile.kc = kc;
  tile.c = c, tile.row = row, tile.m = rows, tile.n = n, tile.add = true;
  tile_kernel<T>(tile);
  return memcmp(c, expected, size_t(rows) * kCols * sizeof c[0]) == 0;
}

bool check_tiles() {
  open_tiles();
  bool right = true;
  for (const int rows : {kMaxRows, 5, 1})
    right = right && check_kernel<Pair>(rows) && check_kernel<Quad>(rows);
  close_tiles();
  return right;
}

// A plain call: what runs while the library is loaded must not need this level.
const struct RegisterCheck {
  RegisterCheck() { set_tiles_check(check_tiles); }
} register_check;

}  // namespace

TileKernel<Pair> find_amx_kernel(Pair) { return tile_kernel<Pair>; }
TileKernel<Quad> find_amx_kernel(Quad) { return tile_kernel<Quad>; }
void open_tiles() { Tiles::open(kMaxRows); }
void close_tiles() { Tiles::close(); }

}  // namespace hb::HB_ISA
