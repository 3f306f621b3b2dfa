// Products on tile registers (AMX): C[M, N] = A[M, K] * B[K, N] of bfloat16, or of float32 that is
// split into bfloat16 parts.
//
// A float32 number is the exact sum of three bfloat16 numbers, x = x0 + x1 + x2, each the rest of
// the one before rounded to nearest: |x1| <= 2^-9 |x|, |x2| <= 2^-18 |x|. So
//   6 products  x0y0 + x0y1 + x1y0 + x0y2 + x1y1 + x2y0   leave out less than 2^-25 |xy|
//   3 products  x0y0 + x0y1 + x1y0                        leave out about 2^-17 |xy|
//   1 product   x0y0                                      2^-8 |xy|
// With six the result is as near to the exact one as that of float32 multiply-adds: they round at
// each of K additions; a tile adds 32 products before it rounds a sum to the size of C.
//
// That needs parts and products that are normal numbers: tiles flush subnormal ones, and inf - inf
// is not a number. While packing, the least and the largest magnitudes are found; outside of the
// bounds of `fits` the caller takes multiply-adds instead.
//
// Operands are packed into tiles of 1 KiB, one after another: [block of 16 rows][32 of k][part].
// A task computes up to kBlock x kBlock elements of C in four accumulators at a time, in sums of
// its own, a kc of K after another so that both operands stay in L2.
#pragma once
#include "core/kernel.h"
#include "ops/amx_tiles.h"
#include "simd/vec.h"

namespace hb::HB_ISA {
namespace {

class AmxGemm {
 public:
  // `parts` 1, 2 or 3 for one, three or six products.
  void plan(int64_t m, int64_t n, int64_t k, int parts) {
    m_ = m, n_ = n, k_ = k, parts_ = parts;
    // Pairs of tiles, as the accumulators are two by two.
    tiles_m_ = (m + 31) / 32 * 2, tiles_n_ = (n + 31) / 32 * 2, tiles_k_ = (k + 31) / 32;
  }
  size_t scratch_bytes() const {
    return size_t(range_bytes() + tile_bytes(tiles_m_) + tile_bytes(tiles_n_)) +
           size_t(num_threads()) * kSumBytes;
  }

  // Packs both operands; a(i, k) and b(k, j) give elements as float. False: the products would not
  // be as exact as promised, C must be computed in another way.
  template <class A, class B>
  bool pack(const A& a, const B& b, void* scratch) const {
    Range* ranges = static_cast<Range*>(scratch);
    uint16_t *pa = packed_a(scratch), *pb = packed_b(scratch);
    parallel_for(tiles_m_ + tiles_n_, [&](int64_t task, int) {
      Range range;
      if (task < tiles_m_)
        pack_rows_of<false>(a, pa, task, m_, range);
      else
        pack_rows_of<true>([&](int64_t j, int64_t k) { return b(k, j); }, pb, task - tiles_m_, n_,
                           range);
      ranges[task] = range;
    });
    Range ra, rb;
    for (int64_t i = 0; i < tiles_m_; ++i) ra.add(ranges[i]);
    for (int64_t i = 0; i < tiles_n_; ++i) rb.add(ranges[tiles_m_ + i]);
    return fits(ra, rb);
  }

  // store(i, j, n, sums): n sums of row i from column j on.
  template <class Tiles, class Store>
  void run(void* scratch, const Store& store) const {
    const uint16_t *pa = packed_a(scratch), *pb = packed_b(scratch);
    const int64_t blocks_m = (m_ + kBlock - 1) / kBlock, blocks_n = (n_ + kBlock - 1) / kBlock;
    char* sums =
        static_cast<char*>(scratch) + range_bytes() + tile_bytes(tiles_m_) + tile_bytes(tiles_n_);
    parallel_for(blocks_m * blocks_n, [&](int64_t task, int worker) {
      Tiles tiles;
      float* c = reinterpret_cast<float*>(sums + size_t(worker) * kSumBytes);
      const int64_t i0 = task / blocks_n * kBlock, j0 = task % blocks_n * kBlock;
      const int64_t i1 = i0 + kBlock < m_ ? i0 + kBlock : m_;
      const int64_t j1 = j0 + kBlock < n_ ? j0 + kBlock : n_;
      for (int64_t k = 0; k < tiles_k_; k += kTilesK) {
        const int64_t kn = k + kTilesK < tiles_k_ ? kTilesK : tiles_k_ - k;
        for (int64_t i = i0; i < i1; i += 32)
          for (int64_t j = j0; j < j1; j += 32)
            four_tiles(tiles, pa + tile_at(i / 16, k), pb + tile_at(j / 16, k), kn,
                       c + (i - i0) * kBlock + (j - j0), k > 0);
      }
      for (int64_t i = i0; i < i1; ++i) store(i, j0, j1 - j0, c + (i - i0) * kBlock);
    });
  }

 private:
  static constexpr int64_t kBlock = 128, kTilesK = 16;                    // 16 tiles: a kc of 512
  static constexpr int64_t kSumBytes = kBlock * kBlock * 4, kTile = 512;  // elements of a tile

  // Magnitudes of the elements that are not zero, as bits.
  struct Range {
    uint32_t least = 0x7f800000, largest = 0;
    void add(const Range& r) {
      least = r.least < least ? r.least : least;
      largest = r.largest > largest ? r.largest : largest;
    }
    bool empty() const { return largest == 0; }
    int low() const { return int(least >> 23) - 127; }
    int high() const { return int(largest >> 23) - 127; }
  };
  // Three parts of x are normal numbers or zero if |x| >= 2^-102, and so are the products of parts
  // that count, down to 2^-25 |xy|, if |xy| >= 2^-100. Sums stay below 2^128 if |xy| K < 2^127.
  bool fits(const Range& a, const Range& b) const {
    if (a.empty() || b.empty()) return a.high() < 128 && b.high() < 128;
    int bits = 0;
    while ((k_ >> bits) > 0) ++bits;
    if (a.high() > 100 || b.high() > 100 || a.high() + b.high() + 2 + bits > 126) return false;
    if (parts_ == 1) return true;  // flushed products are below the rounding of bfloat16
    return a.low() >= -102 && b.low() >= -102 && a.low() + b.low() >= -100;
  }

  int64_t range_bytes() const {
    return ((tiles_m_ + tiles_n_) * int64_t(sizeof(Range)) + 63) / 64 * 64;
  }
  int64_t tile_at(int64_t block, int64_t k) const {
    return (block * tiles_k_ + k) * parts_ * kTile;
  }
  int64_t tile_bytes(int64_t blocks) const { return blocks * tiles_k_ * parts_ * kTile * 2; }
  uint16_t* packed_a(void* scratch) const {
    return reinterpret_cast<uint16_t*>(static_cast<char*>(scratch) + range_bytes());
  }
  uint16_t* packed_b(void* scratch) const { return packed_a(scratch) + tile_bytes(tiles_m_) / 2; }

  // Sixteen rows of A, or columns of B. A tile of A is [16 rows][32 of k], one of B [16 pairs of
  // k][16 columns][2].
  template <bool kPaired, class X>
  void pack_rows_of(const X& x, uint16_t* dst, int64_t block, int64_t end, Range& range) const {
    for (int64_t kt = 0; kt < tiles_k_; ++kt) {
      uint16_t* tile = dst + tile_at(block, kt);
      for (int r = 0; r < 16; ++r)
        for (int q = 0; q < 32; ++q) {
          const int64_t i = block * 16 + r, k = kt * 32 + q;
          float rest = i < end && k < k_ ? x(i, k) : 0.f;
          const uint32_t magnitude = bits_of_float(rest) & 0x7fffffff;
          if (magnitude > range.largest) range.largest = magnitude;
          if (magnitude != 0 && magnitude < range.least) range.least = magnitude;
          const int at = kPaired ? (q / 2 * 16 + r) * 2 + q % 2 : r * 32 + q;
          for (int p = 0; p < parts_; ++p) {
            const uint16_t h = f32_to_bf16(rest);
            tile[p * kTile + at] = h;
            rest -= bf16_to_f32(h);
          }
        }
    }
  }

  // Two by two tiles of C over kn tiles of K. Small products come first, and from one to the next
  // only one operand is loaded.
  template <class Tiles>
  void four_tiles(Tiles& t, const uint16_t* a, const uint16_t* b, int64_t kn, float* c,
                  bool add) const {
    constexpr int64_t kRow = kBlock * 4;
    const int64_t next = tiles_k_ * parts_ * kTile;  // the second tile of A, or of B
    if (add) {
      t.template load<0>(c, kRow), t.template load<1>(c + 16, kRow);
      t.template load<2>(c + 16 * kBlock, kRow), t.template load<3>(c + 16 * kBlock + 16, kRow);
    } else {
      t.template zero<0>(), t.template zero<1>(), t.template zero<2>(), t.template zero<3>();
    }
    const auto load_a = [&](int p) __attribute__((always_inline)) {
      t.template load<4>(a + p * kTile, 64), t.template load<5>(a + next + p * kTile, 64);
    };
    const auto load_b = [&](int p) __attribute__((always_inline)) {
      t.template load<6>(b + p * kTile, 64), t.template load<7>(b + next + p * kTile, 64);
    };
    const auto dot = [&]() __attribute__((always_inline)) {
      t.template dot<0, 4, 6>(), t.template dot<1, 4, 7>();
      t.template dot<2, 5, 6>(), t.template dot<3, 5, 7>();
    };
    for (; kn > 0; --kn, a += parts_ * kTile, b += parts_ * kTile) {
      if (parts_ == 3) {
        load_a(2), load_b(0), dot();
        load_a(1), load_b(1), dot();
        load_a(0), load_b(2), dot();
        load_b(1), dot();
        load_a(1), load_b(0), dot();
        load_a(0), dot();
      } else if (parts_ == 2) {
        load_a(0), load_b(1), dot();
        load_a(1), load_b(0), dot();
        load_a(0), dot();
      } else {
        load_a(0), load_b(0), dot();
      }
    }
    t.template store<0>(c, kRow), t.template store<1>(c + 16, kRow);
    t.template store<2>(c + 16 * kBlock, kRow), t.template store<3>(c + 16 * kBlock + 16, kRow);
  }

  int64_t m_ = 0, n_ = 0, k_ = 0, tiles_m_ = 0, tiles_n_ = 0, tiles_k_ = 0;
  int parts_ = 1;
};

}  // namespace
}  // namespace hb::HB_ISA
