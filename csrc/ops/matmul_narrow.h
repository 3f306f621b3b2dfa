// Products with few columns, such as the last layer of a classifier and its gradient to the
// weights: C[M, N] = A[M, K] * B[K, N], N at most the lanes of a vector. On the core half of the
// lanes would be empty, with a load for each of them; here lanes run along what is long.
//
//   k along the memory of A:  dot products: vectors along k, of R rows of A by C columns of B. The
//                             lanes of those R * C sums are added together at the end.
//   rows of A along it:       the register kernel of the core computes the transpose of C, with A
//                             in place as its B; tiles are transposed back.
//
// The floor is the rate of multiply-adds; B stays in L1.
#pragma once
#include "ops/gemm_operands.h"

namespace hb::HB_ISA {
namespace {

// v[0], lane i: the sum of the lanes of v[i].
template <class T, int kPairs = kLanes<T> / 2>
HB_INLINE void sum_lanes_of(Vec<T>* v) {
#pragma GCC unroll 8
  for (int i = 0; i < kPairs; ++i) {
    Vec<T> low, high;
    interleave(v[i], v[i + kPairs], low, high);
    v[i] = low + high;
  }
  if constexpr (kPairs > 1) sum_lanes_of<T, kPairs / 2>(v);
}

// Else a compiler would load a vector anew for each of its C products.
template <class V>
HB_INLINE void keep_in_register([[maybe_unused]] V& v) {
#if defined(__x86_64__)
  __asm__("" : "+v"(v));
#endif
}

template <class T>
using Mask = decltype(Vec<T>{} < Vec<T>{});

// acc[r * C + c] += x(r)[i] * w[c][i] in every lane i, or in those of `mask`, of R = L / C rows.
template <class T, int C, bool kPart, class X>
HB_INLINE void add_products(Vec<T>* acc, const T* w, const X& x, Mask<T> mask = Mask<T>{}) {
  constexpr int L = kLanes<T>, R = L / C;
  Vec<T> v[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    v[r] = load(x(r));
    if (kPart) v[r] = mask ? v[r] : Vec<T>{};
    if (C > 1) keep_in_register(v[r]);
  }
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) {
    const Vec<T> wv = load(w + c * L);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) acc[r * C + c] += v[r] * wv;
  }
}

// sums[r * C + c] = sum over k of rows[r][k] * b[k / L][c][k % L]; k is a multiple of L.
template <class T, int C>
__attribute__((noinline)) void dot_tile(const T* const* rows, int64_t k, const T* b, T* sums) {
  constexpr int L = kLanes<T>, R = L / C;
  Vec<T> acc[L];
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) acc[i] = Vec<T>{};
  const T* row[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) row[r] = rows[r];
  for (int64_t q = 0; q < k; q += L, b += C * L)
    add_products<T, C, false>(acc, b, [&](int r) { return row[r] + q; });
  sum_lanes_of<T>(acc);
  store(sums, acc[0]);
}

// to[i][j] = from[j][i] of a square of L x L; rows of `from` are ld apart.
template <class T>
__attribute__((noinline)) void transpose_square(const T* from, int64_t ld, T* to) {
  constexpr int L = kLanes<T>;
  Vec<T> v[L];
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) v[i] = load(from + i * ld);
  transpose(v);
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) store(to + i * L, v[i]);
}

template <class T>
struct NarrowProduct {
  static constexpr int L = kLanes<T>, kCols = kTileCols<T>;

  int64_t m, n, k;
  bool along_k;  // A is [M, K], else [K, M]; B is [K, N]

  // Whether the core would be slower. Short vectors leave few lanes empty.
  bool serves() const {
    if (L < 8 || n < 2 || n > L) return false;
    // Sums of the register kernel are one after another, so they should not be long.
    return along_k ? k >= 4 * L && k <= 4096 && m >= 2 * L
                   : k >= 16 && k <= 1024 && m >= kCols && n <= kMaxRows;
  }
  // Elements of scratch for B.
  int64_t packed() const { return along_k ? passes() * columns() * round_up(k, L) : 0; }
  int64_t rows_of_task() const { return round_up(250000 / (k * n) + 1, kCols); }

  // What run() wants of B: for dot products [pass][k / L][column][L], zero past n and k.
  const T* pack_b(const T* b, T* to) const {
    if (!along_k) return b;
    const int64_t blocks = ceil_div(k, L), wide = columns(), all = passes() * wide;
    T edge[L * L] = {}, square[L * L];
    for (int64_t block = 0; block < blocks; ++block) {
      const T* from = b + block * L * n;
      int64_t ld = n;
      if (block * L * n + (L - 1) * n + L > k * n) {  // whole vectors would reach past the end
        const int64_t rows = min64(L, k - block * L);
        memset(edge, 0, sizeof edge);
        for (int64_t i = 0; i < rows; ++i)
          memcpy(edge + i * L, from + i * n, size_t(n) * sizeof(T));
        from = edge, ld = L;
      }
      transpose_square(from, ld, square);
      for (int64_t j = 0; j < all; ++j)
        store(to + ((j / wide * blocks + block) * wide + j % wide) * L,
              j < n ? load(square + j * L) : Vec<T>{});
    }
    return to;
  }

  // Rows [i0, i1) of C, as one task.
  void run(const T* a, const T* b, T* c, const Epilogue<T>& epilogue, int64_t i0,
           int64_t i1) const {
    const Rows rows(*this, c, epilogue, i1);
    if (!along_k) return transposed(a, b, rows, i0, i1);
    if constexpr (L >= 16) {
      if (columns() == 5) return dots<5>(a, b, rows, i0, i1);
      if (columns() == 6) return dots<6>(a, b, rows, i0, i1);
      if (columns() == 8) return dots<8>(a, b, rows, i0, i1);
    }
    if constexpr (L >= 8)
      columns() == 2 ? dots<2>(a, b, rows, i0, i1) : dots<4>(a, b, rows, i0, i1);
  }

 private:
  // Columns of a pass of dot products.
  int64_t passes() const { return ceil_div(n, L / 2); }
  int64_t columns() const {
    const int64_t even = ceil_div(n, passes());
    return even == 3 ? 4 : even == 7 ? 8 : even;
  }

  // The rows of C of a task, up to row `end`.
  struct Rows {
    const int64_t n, end;
    T* const c;
    Epilogue<T> epilogue;
    T scale[L] = {}, bias[L] = {};  // the epilogue's, to be read in whole vectors

    Rows(const NarrowProduct& p, T* to, const Epilogue<T>& e, int64_t last)
        : n(p.n), end(last), c(to), epilogue(e) {
      if (e.scale) memcpy(scale, e.scale, size_t(n) * sizeof(T)), epilogue.scale = scale;
      if (e.bias) memcpy(bias, e.bias, size_t(n) * sizeof(T)), epilogue.bias = bias;
    }
    Rows(const Rows&) = delete;
    // Row i from its sums, a vector. All of it is stored: what falls on the next row is written
    // later, unless the task ends.
    HB_INLINE void put(int64_t i, const T* sums) const {
      const int64_t at = i * n;
      if (at + L <= end * n)
        store(c + at, epilogue.template vector<T>(load(sums), 0, at));
      else
        for (int64_t j = 0; j < n; ++j) c[at + j] = epilogue.template scalar<T>(sums[j], j, at + j);
    }
  };

  template <int C>
  void dots(const T* a, const T* b, const Rows& rows, int64_t i0, int64_t i1) const {
    constexpr int R = L / C;
    const int64_t whole = k / L * L, step = round_up(k, L) * C;
    for (int64_t i = i0; i < i1; i += R) {
      const T *row[R], *last[R];
      T ends[R][L] = {}, sums[R][2 * L], lane[L];
      for (int r = 0; r < R; ++r) {
        row[r] = a + min64(i + r, i1 - 1) * k, last[r] = ends[r];
        if (whole < k) memcpy(ends[r], row[r] + whole, size_t(k - whole) * sizeof(T));
      }
      for (int64_t pass = 0; pass < passes(); ++pass) {
        const T* panel = b + pass * step;
        dot_tile<T, C>(row, whole, panel, lane);
        if (whole < k) {
          T rest[L];
          dot_tile<T, C>(last, L, panel + whole * C, rest);
          store(lane, load(lane) + load(rest));
        }
        for (int r = 0; r < R; ++r) memcpy(sums[r] + pass * C, lane + r * C, C * sizeof(T));
      }
      for (int r = 0; r < R && i + r < i1; ++r) rows.put(i + r, sums[r]);
    }
  }

  void transposed(const T* a, const T* b, const Rows& rows, int64_t i0, int64_t i1) const {
    T tile[L * kCols] = {}, square[L * L];
    int64_t offsets[kMaxRows];
    for (int j = 0; j < kMaxRows; ++j) offsets[j] = j * kCols;
    const TileKernel<T> kernel = find_tile_kernel(T(0), int(n), kTileVecs);
    for (int64_t i = i0; i < i1; i += kCols) {
      const int64_t from = min64(i, m - kCols);  // the last tile may begin with rows that are done
      Tile<T> t{};
      t.a = b, t.b = a + from, t.ldb = m, t.kc = k;
      t.c = tile, t.row = offsets, t.m = int(n), t.n = kCols;
      if (i + 2 * kCols <= m) t.next = {a + i + kCols, m, k};
      kernel(t);
      for (int64_t g = from; g < from + kCols; g += L) {
        transpose_square(tile + g - from, kCols, square);
        for (int64_t r = max64(0, i - g); r < min64(L, i1 - g); ++r)
          rows.put(g + r, square + r * L);
      }
    }
  }
};

}  // namespace
}  // namespace hb::HB_ISA
