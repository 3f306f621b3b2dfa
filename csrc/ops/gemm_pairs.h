// Packers of products that multiply pairs of bfloat16 (simd/pair.h). k counts pairs here.
//
// An operand whose k runs along memory is a matrix, or an image, of pairs as it stands, if its runs
// are of even length. Where k runs across memory a pair is put together from two rows.
#pragma once
#include "ops/gemm.h"

namespace hb::HB_ISA {
namespace {

// What can be multiplied in pairs of bfloat16.
template <class S>
constexpr bool kPairsOf = false;
template <>
constexpr bool kPairsOf<bf16> = true;
template <>
constexpr bool kPairsOf<float> = true;

// Whether products of S are to be: the processor gains by them, and float may be rounded.
template <class S>
HB_INLINE bool use_pairs() {
  return (has_bf16_pairs() || has_tiles()) &&
         (sizeof(S) == 2 || matmul_precision() == Precision::Medium);
}

// The matrix of PackMatrix, of S; `rows` counts k in elements of S (across memory it may be odd).
template <class S>
struct PackMatrixPairs {
  const S* data;
  int64_t ld;
  bool along_k;
  int64_t rows;
  void layout(const void* operand, int64_t* words) const {  // as PackMatrix
    words[0] = reinterpret_cast<const char*>(data) - static_cast<const char*>(operand);
    words[1] = ld, words[2] = along_k, words[3] = rows;
  }
  void pack(Pair* dst, int width, int64_t i, int n, int64_t k, int64_t kc) const {
    if (!along_k) {
      const int64_t first = 2 * k;
      return pack_pairs(dst, width, data + first * ld + i, ld, n, min64(2 * kc, rows - first));
    }
    const Stored<Pair, S>* places[kMaxPanel<Pair>];
    for (int r = 0; r < n; ++r) places[r] = at(i + r, k);
    pack_rows<Pair, Stored<Pair, S>>(dst, width, places, n, kc, kc);
  }
  // Full panels i, i + width, ..., one after another: two rows are read for a few of them at a
  // time.
  void pack_panels(Pair* dst, int width, int64_t panels, int64_t i, int64_t k, int64_t kc) const {
    constexpr int64_t kMost = 4;
    if (along_k || width != kTileCols<Pair>) {
      for (int64_t q = 0; q < panels; ++q)
        pack(dst + q * width * kc, width, i + q * width, width, k, kc);
      return;
    }
    const S zeros[kMost * kTileCols<Pair>] = {};
    for (int64_t p = 0; p < panels; p += kMost, dst += kMost * width * kc) {
      const int64_t count = min64(kMost, panels - p);
      for (int64_t q = 0; q < kc; ++q) {
        const S* even = data + 2 * (k + q) * ld + i + p * width;
        const S* odd = 2 * (k + q) + 1 < rows ? even + ld : zeros;
        for (int64_t r = 0; r < count; ++r)
          join_rows(dst + (r * kc + q) * width, even + r * width, odd + r * width);
      }
    }
  }
  // As PackMatrix, of rows that are read as they stand.
  Lines<Pair> lines(int64_t i, int64_t n, int64_t k, int64_t kc, int64_t part, int64_t parts) const
    requires(kSame<Pair, S>)
  {
    if (!along_k) return {};
    return lines_along(at(i, k), ld / 2, n, kc, part, parts);
  }
  const Pair* in_place(int64_t, int64_t) const { return nullptr; }
  int64_t read(const Pair** places, int64_t* length, int width, int64_t i, int n, int64_t k,
               int64_t kc) const
    requires(kSame<Pair, S>)
  {
    for (int r = 0; r < width; ++r) places[r] = at(i + (r < n ? r : 0), k);
    *length = kc;
    return 1;
  }

 private:
  HB_INLINE const Stored<Pair, S>* at(int64_t i, int64_t k) const {
    return reinterpret_cast<const Stored<Pair, S>*>(data + i * ld) + k;
  }
};

// The packer of a matrix of S for products of T.
template <class T, class S>
HB_INLINE PackMatrix<T, S> pack_matrix(const S* data, int64_t ld, bool along_k, int64_t) {
  return {data, ld, along_k};
}
#if HB_VEC_BYTES == 64
template <class T, class S>
  requires(kPerElement<T> == 2)
HB_INLINE PackMatrixPairs<S> pack_matrix(const S* data, int64_t ld, bool along_k, int64_t rows) {
  return {data, ld, along_k, rows};
}
#endif

// Pairs along k of what another packer gives one by one, as float. `rows`: its k.
template <class P>
struct PackPairsOf {
  P packer;
  int64_t rows;
  void pack(Pair* dst, int width, int64_t i, int n, int64_t k, int64_t kc) const {
    constexpr int64_t kChunk = 128;
    float piece[kChunk * kMaxPanel<float> + 64];
    for (int64_t q = 0; q < kc; q += kChunk / 2) {
      const int64_t from = 2 * (k + q), count = min64(min64(kChunk, 2 * (kc - q)), rows - from);
      packer.pack(piece, width, i, n, from, count);
      pack_pairs(dst + q * width, width, piece, width, width, count);
    }
  }
};

}  // namespace
}  // namespace hb::HB_ISA
