// Packer of products of int8 (simd/quad.h). k counts elements of T here, each of them
// kPerElement<T> neighbours along k; what lies past the end of k is zero.
#pragma once
#include "ops/gemm.h"
#include "simd/quad.h"

namespace hb::HB_ISA {
namespace {

// The matrix of PackMatrix, of int8; `depth` counts its k in bytes. kOffset: of the side that is
// the same in all lanes (A).
template <class T, bool kOffset>
struct PackMatrixBytes {
  static constexpr int kPer = kPerElement<T>, L = kLanes<T>;
  const int8_t* data;
  int64_t ld;
  bool along_k;
  int64_t depth;

  void pack(T* dst, int width, int64_t i, int n, int64_t k, int64_t kc) const {
    return along_k ? pack_along(dst, width, i, n, k, kc) : pack_across(dst, width, i, n, k, kc);
  }
  // Full panels i, i + width, ..., one after another: rows are read for a few of them at a time.
  void pack_panels(T* dst, int width, int64_t panels, int64_t i, int64_t k, int64_t kc) const {
    const bool wide = !along_k && width % L == 0;
    const int64_t most = wide ? 4 : 1, ahead = 8 * ld;  // fetched meanwhile
    for (int64_t p = 0; p < panels; p += most, dst += most * width * kc) {
      if (!wide) {
        pack(dst, width, i + p * width, width, k, kc);
        continue;
      }
      const int64_t count = min64(most, panels - p);
      for (int64_t q = 0; q < kc; ++q) {
        const Rows rows(*this, k + q, i + p * width);
        for (const int8_t* row : rows.at)
          for (int64_t r = 0; r < count * width; r += 64) __builtin_prefetch(row + ahead + r);
        for (int64_t r = 0; r < count; ++r)
          for (int g = 0; g < width; g += L)
            store(dst + (r * kc + q) * width + g, rows.join(r * width + g));
      }
    }
  }
  const T* in_place(int64_t, int64_t) const { return nullptr; }
  void layout(const void* operand, int64_t* words) const {  // as PackMatrix
    words[0] = data - static_cast<const int8_t*>(operand);
    words[1] = ld, words[2] = along_k, words[3] = depth;
  }

 private:
  typedef Bytes<T, kOffset> Stored;

  void pack_along(T* dst, int width, int64_t i, int n, int64_t k, int64_t kc) const {
    const Stored* rows[kMaxPanel<T>];
    for (int r = 0; r < n; ++r)
      rows[r] = reinterpret_cast<const Stored*>(data + (i + r) * ld + k * kPer);
    const int64_t whole = min64(kc, depth / kPer - k);
    pack_rows<T, Stored>(dst, width, rows, n, whole, whole, width * ld / kPer);
    if (whole == kc) return;
    for (int r = 0; r < width; ++r) {
      Stored last{};
      if (r < n) memcpy(last.x, rows[r] + whole, size_t(depth % kPer));
      dst[whole * width + r] = widen(last);
    }
  }

  // The bytes of one element of k, from column i on; those of rows past the end are masked.
  struct Rows {
    const int8_t* at[kPer];
    uint32_t mask = ~0u;  // of the bytes that are there
    HB_INLINE Rows(const PackMatrixBytes& m, int64_t q, int64_t i) {
      const int64_t rows = m.depth - q * kPer;
#pragma GCC unroll 4
      for (int e = 0; e < kPer; ++e) at[e] = m.data + (q * kPer + (e < rows ? e : 0)) * m.ld + i;
      if (rows < kPer) mask = (1u << (32 / kPer * rows)) - 1;
    }
    HB_INLINE Vec<T> join(int64_t g) const { return join_rows<T, kOffset>(at, g) & mask; }
  };

  // Whole vectors are stored: lanes past `width` fall on the next k, which is written later. Those
  // from n on hold rubbish, as results there are not stored.
  void pack_across(T* dst, int width, int64_t i, int n, int64_t k, int64_t kc) const {
    const int64_t whole = round_up(n, L);  // columns that are read, if they all exist
    for (int64_t q = k; q < k + kc; ++q, dst += width) {
      Rows rows(*this, q, i);
      int8_t edge[kPer][2 * kMaxPanel<T>];
      if (whole > n && i + whole > ld) {
        for (int e = 0; e < kPer; ++e) {
          memcpy(edge[e], rows.at[e], size_t(n));
          memset(edge[e] + n, 0, size_t(whole - n));
          rows.at[e] = edge[e];
        }
      }
      int g = 0;
      for (; g < n; g += L) store(dst + g, rows.join(g));
      for (; g < width; g += L) store(dst + g, Vec<T>{});
    }
  }
};

// to[j] = bias[j] - 128 * (sum of column j) of B, for columns [j0, j1): what a product with A
// offset by 128 has too much (and the bias, or null).
inline void offset_columns(const int8_t* b, int64_t ld, bool along_k, int64_t depth, int64_t j0,
                           int64_t j1, const int32_t* bias, int32_t* to) {
  constexpr int L = kLanes<int32_t>;
  const auto put = [&](int64_t j, int32_t sum) {
    to[j] = int32_t((bias ? uint32_t(bias[j]) : 0u) - 128u * uint32_t(sum));
  };
  if (along_k) {
    for (int64_t j = j0; j < j1; ++j) {
      const int8_t* row = b + j * ld;
      int32_t sum = 0;
      for (int64_t k = 0; k < depth; ++k) sum += row[k];
      put(j, sum);
    }
    return;
  }
  int64_t j = j0;
  for (; j + 4 * L <= j1; j += 4 * L) {
    Vec<int32_t> sum[4] = {};
    int32_t lane[4 * L];
    for (int64_t k = 0; k < depth; ++k)
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v)
        sum[v] += (Vec<int32_t>)(load_lanes(b + k * ld + j + v * L) << 24) >> 24;
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) store(lane + v * L, sum[v]);
    for (int r = 0; r < 4 * L; ++r) put(j + r, lane[r]);
  }
  for (; j < j1; ++j) {
    int32_t sum = 0;
    for (int64_t k = 0; k < depth; ++k) sum += b[k * ld + j];
    put(j, sum);
  }
}

}  // namespace
}  // namespace hb::HB_ISA
