// The register kernels of gemm_kernel.h, one for each tile height, compiled once for all ops.
#include "ops/gemm_kernel.h"

#include "ops/gemm_finish.h"
#include "simd/multiply_add.h"

namespace hb::HB_ISA {
namespace {

template <class T>
HB_INLINE Vec<T> finish(Vec<T> v, bool relu) {
  return relu ? (v < Vec<T>{} ? Vec<T>{} : v) : v;  // keeps NaN
}

// Copies fewer than `kEnd` bytes, a multiple of four, in two pieces that may overlap.
template <size_t kEnd>
HB_INLINE void copy_edge(void* to, const void* from, size_t bytes) {
  constexpr size_t kPiece = kEnd / 2;
  if constexpr (kPiece >= 4) {
    if (bytes < kPiece) return copy_edge<kPiece>(to, from, bytes);
    struct Piece {
      char data[kPiece];
    } first, last;
    memcpy(&first, from, kPiece);
    memcpy(&last, static_cast<const char*>(from) + bytes - kPiece, kPiece);
    memcpy(to, &first, kPiece);
    memcpy(static_cast<char*>(to) + bytes - kPiece, &last, kPiece);
  }
}

// What the epilogue reads of a tile comes to L1 while the products are summed.
template <class E, class T = Sum<E>>
HB_INLINE void fetch_operands(const Tile<E>& t) {
  const T* operands[] = {t.epilogue->residual, t.epilogue->mask};
  for (const T* x : operands) {
    if (!x) continue;
    for (int i = 0; i < t.m; ++i)
      for (int j = 0; j < t.n; j += 64 / int(sizeof(T)))
        __builtin_prefetch(x + t.row[i] + t.column + j);
  }
}

#ifdef HB_BF16_PAIRS
HB_INLINE Vec<float> load_half(const uint16_t* p) {
  return load_as<float>(reinterpret_cast<const bf16*>(p));
}
#endif

// Operands of E; sums of T. kCopyB: packs the panel of B on its way, which costs two stores for MR
// rows of multiply-adds: a pass of its own would wait for memory instead.
template <class E, int MR, int NV, bool kInPlace, bool kCopyB = false>
void tile_kernel(const Tile<E>& t) {
  using T = Sum<E>;
  constexpr int L = kLanes<T>;
  static_assert(kLanes<E> == L);
  if (t.epilogue) fetch_operands(t);
  Vec<T> acc[MR][NV];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) acc[i][j] = Vec<T>{};
  // The tile of C comes to L2 meanwhile, with what is wanted next. Not to L1: rows a power of two
  // apart would meet there. Wide tiles have instructions to spare, and fetch a little with each k:
  // all lines at once would keep those of the panels waiting.
  constexpr bool kSpread = NV > 1 && HB_VEC_BYTES == 64;
  const bool spread = kSpread && t.kc >= 64;
  if (!spread) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const T* c = t.c + t.row[i < t.m ? i : 0];
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) __builtin_prefetch(c + j * L, 0, 2);
    }
  }
  constexpr uint32_t kOne = 1 << 16;  // counts are in units of 1 / kOne: a k gets part of a line
  const auto steps = [&](int64_t n) { return spread ? uint32_t(n) * kOne / uint32_t(t.kc) : 0; };
  [[maybe_unused]] const uint32_t c_step = steps(t.m * NV), next_step = steps(t.next.count);
  [[maybe_unused]] const Lines<E> next = t.next.count > 0 ? t.next : Lines<E>{t.b, 0, 0};
  [[maybe_unused]] uint32_t c_line = 0, next_piece = 0;
  const E* b = t.b;
  const int64_t ldb = t.ldb;
  [[maybe_unused]] E* copy = t.b_copy;
  [[maybe_unused]] constexpr int64_t kAhead = 16;  // rows of B to fetch, before they are copied
  // One k: row i of A has the element a(i).
  const auto step = [&](const auto& a) __attribute__((always_inline)) {
    Vec<E> bv[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      bv[j] = load(b + j * L);
      if constexpr (kCopyB) {
        __builtin_prefetch(b + kAhead * ldb + j * L);
        store(copy + j * L, bv[j]);
      }
    }
    if constexpr (kCopyB) copy += NV * L;
    if constexpr (kSpread) {
      __builtin_prefetch(t.c + t.row[c_line / (NV * kOne)] + c_line / kOne % NV * L, 0, 2);
      const int64_t piece = next_piece / kOne;
      const E* from = next.first + (piece & ((int64_t(1) << next.log_rows) - 1)) * next.step +
                      (piece >> next.log_rows) * (NV * L);
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) __builtin_prefetch(from + j * L, 0, 2);
      c_line += c_step, next_piece += next_step;
    }
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const E ai = a(i);
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) multiply_add(acc[i][j], ai, bv[j]);
    }
    b += ldb;
  };
  if constexpr (kInPlace) {
    const E* const* rows = t.in_place;
    for (int64_t run = 0; run < t.runs; ++run, rows += MR)
      for (int64_t k = 0; k < t.length[run]; ++k) step([&](int i) { return rows[i][k]; });
  } else {
    const E* a = t.a;
    const int64_t lda = t.lda ? t.lda : MR;
    for (int64_t k = t.kc; k > 0; --k, a += lda) step([&](int i) { return a[i]; });
  }
#ifdef HB_BF16_PAIRS
  if (t.half && t.n == NV * L) {
    Vec<T> bias[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) bias[j] = t.half_bias ? load_half(t.half_bias + j * L) : Vec<T>{};
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      if (i >= t.m) return;
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) {
        Vec<T> v = acc[i][j];
        if (t.add) v += load(t.c + t.row[i] + j * L);
        if (t.half_bias) v += bias[j];
        const __m256bh rounded = _mm512_cvtneps_pbh((__m512)finish<T>(v, t.relu));
        memcpy(t.half + t.half_row[i] + j * L, &rounded, sizeof rounded);
      }
    }
    return;
  }
#endif
  if (t.n == NV * L && !t.epilogue) {
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
  if constexpr (__is_same(T, float) && NV > 1 && !kCopyB)
    if (t.n == NV * L) {
      const Epilogue<T> epilogue = *t.epilogue;  // a copy: stores to C might change the other
#pragma GCC unroll 16
      for (int i = 0; i < MR; ++i) {
        if (i >= t.m) return;
        T* c = t.c + t.row[i];
        const int64_t at = t.row[i] + t.column;
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) {
          Vec<T> v = acc[i][j];
          if (t.add) v += load(c + j * L);
          store(c + j * L, epilogue.template vector<T>(v, t.column + j * L, at + j * L));
        }
      }
      return;
    }
  // Fewer columns: through memory.
  if (t.epilogue) {
    alignas(64) T sums[MR * NV * L];
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) store(sums + (i * NV + j) * L, acc[i][j]);
    return finish_tile<E>(t, *t.epilogue, sums, NV * L);
  }
  const size_t width = size_t(t.n) * sizeof(T);
  T edge[NV * L] = {}, bias[NV * L] = {};
  if (t.bias) copy_edge<NV * L * sizeof(T)>(bias, t.bias, width);
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
    if (i >= t.m) return;
    T* c = t.c + t.row[i];
    if (t.add) copy_edge<NV * L * sizeof(T)>(edge, c, width);
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      Vec<T> v = acc[i][j];
      if (t.add) v += load(edge + j * L);
      if (t.bias) v += load(bias + j * L);
      store(edge + j * L, finish<T>(v, t.relu));
    }
    copy_edge<NV * L * sizeof(T)>(c, edge, width);
  }
}

template <class T, bool kInPlace, int MR = kMaxRows>
TileKernel<T> find(int rows, int vecs) {
  if (rows == MR)
    return vecs == 1 ? &tile_kernel<T, MR, 1, kInPlace> : &tile_kernel<T, MR, kTileVecs, kInPlace>;
  if constexpr (MR > 1)
    return find<T, kInPlace, MR - 1>(rows, vecs);
  else
    return nullptr;
}

template <class T, int MR = kMaxRows>
TileKernel<T> find_copy(int rows) {
  if (rows == MR) return &tile_kernel<T, MR, kTileVecs, false, true>;
  if constexpr (MR > 1)
    return find_copy<T, MR - 1>(rows);
  else
    return nullptr;
}

}  // namespace

// Compiled once for everything that the level has, and once for each of its extensions, which are
// asked for at run time: pairs of bfloat16, and dot products of bytes.
#if defined(HB_BF16_PAIRS)
TileKernel<Pair> find_tile_kernel(Pair, int rows, int vecs, bool in_place) {
  return in_place ? find<Pair, true>(rows, vecs) : find<Pair, false>(rows, vecs);
}
#elif defined(HB_BYTE_DOTS)
TileKernel<Quad> find_tile_kernel(Quad, int rows, int vecs, bool) {
  return find<Quad, false>(rows, vecs);
}
#else
TileKernel<float> find_tile_kernel(float, int rows, int vecs, bool in_place) {
  return in_place ? find<float, true>(rows, vecs) : find<float, false>(rows, vecs);
}
TileKernel<float> find_copy_kernel(float, int rows) { return find_copy<float>(rows); }
TileKernel<double> find_copy_kernel(double, int rows) { return find_copy<double>(rows); }
TileKernel<double> find_tile_kernel(double, int rows, int vecs, bool in_place) {
  return in_place ? find<double, true>(rows, vecs) : find<double, false>(rows, vecs);
}
TileKernel<Words> find_tile_kernel(Words, int rows, int vecs, bool) {
  return find<Words, false>(rows, vecs);
}
#endif

}  // namespace hb::HB_ISA
