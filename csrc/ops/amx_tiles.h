// Tile registers, as the AMX products use them (gemm_amx.h): eight tiles of 16 rows of 64 bytes.
//
// Two implementations of one small interface: the instructions, and a software model of them, on
// which tests run the products on machines without AMX. Registers are template arguments because
// the instructions have them as constants.
//
//   zero<t>()  load<t>(p, bytes from row to row)  store<t>(p, bytes from row to row)
//   dot<c, a, b>(): c[m][n] += sum_k a[m][2k] b[k][2n] + a[m][2k+1] b[k][2n+1], a and b bfloat16
//   dot_i8<c, a, b>(): the same in groups of four int8, summed in int32
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/half.h"
#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AMX_INT8__)
#include <immintrin.h>
#define HB_AMX 1
#endif
#include "simd/vec.h"

namespace hb::HB_ISA {
namespace {

constexpr int kTileRows = 16, kTileRowBytes = 64;

#ifdef HB_AMX
// In assembly, because the intrinsics want the registers as literals. Configured for as long as the
// object lives: the system need not save tiles outside of products.
class AmxTiles {
 public:
  AmxTiles() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    for (int i = 0; i < 8; ++i) config.row_bytes[i] = kTileRowBytes, config.rows[i] = kTileRows;
    _tile_loadconfig(&config);
  }
  ~AmxTiles() { _tile_release(); }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;

  template <int t>
  HB_INLINE void zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(t));
  }
  template <int t>
  HB_INLINE void load(const void* p, int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(t) : "memory");
  }
  template <int t>
  HB_INLINE void store(void* p, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(t) : "memory");
  }
  template <int c, int a, int b>
  HB_INLINE void dot() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
  template <int c, int a, int b>
  HB_INLINE void dot_i8() {
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
};
#endif

// As the instruction set reference defines them: bfloat16 products are summed by multiply-adds from
// zero, those of even and of odd elements apart; then the two sums are added, and that is added to
// c. Subnormal operands count as zero, subnormal results become zero, rounding is to nearest even.
class ModelTiles {
 public:
  template <int t>
  void zero() {
    memset(tile_[t], 0, sizeof tile_[t]);
  }
  template <int t>
  void load(const void* p, int64_t stride) {
    for (int r = 0; r < kTileRows; ++r)
      memcpy(tile_[t][r], static_cast<const char*>(p) + r * stride, kTileRowBytes);
  }
  template <int t>
  void store(void* p, int64_t stride) const {
    for (int r = 0; r < kTileRows; ++r)
      memcpy(static_cast<char*>(p) + r * stride, tile_[t][r], kTileRowBytes);
  }
  template <int c, int a, int b>
  void dot() {
    for (int m = 0; m < kTileRows; ++m)
      for (int n = 0; n < 16; ++n) {
        float even = 0, odd = 0;
        for (int k = 0; k < kTileRows; ++k) {
          even = multiply_add(half(a, m, 2 * k), half(b, k, 2 * n), even);
          odd = multiply_add(half(a, m, 2 * k + 1), half(b, k, 2 * n + 1), odd);
        }
        float sum;
        memcpy(&sum, &tile_[c][m][4 * n], sizeof sum);
        sum = flush(flush(sum) + flush(even + odd));
        memcpy(&tile_[c][m][4 * n], &sum, sizeof sum);
      }
  }
  template <int c, int a, int b>
  void dot_i8() {
    for (int m = 0; m < kTileRows; ++m)
      for (int n = 0; n < 16; ++n) {
        uint32_t sum;  // wraps around
        memcpy(&sum, &tile_[c][m][4 * n], sizeof sum);
        for (int k = 0; k < kTileRows; ++k)
          for (int i = 0; i < 4; ++i)
            sum += uint32_t(int32_t(int8_t(tile_[a][m][4 * k + i])) *
                            int32_t(int8_t(tile_[b][k][4 * n + i])));
        memcpy(&tile_[c][m][4 * n], &sum, sizeof sum);
      }
  }

 private:
  static float flush(float x) {
    return bits_of_float(x) & 0x7f800000 ? x : float_from_bits(bits_of_float(x) & 0x80000000);
  }
  static float multiply_add(float a, float b, float sum) { return flush(fmaf(a, b, sum)); }
  float half(int t, int row, int i) const {
    uint16_t h;
    memcpy(&h, &tile_[t][row][2 * i], sizeof h);
    return flush(bf16_to_f32(h));
  }

  uint8_t tile_[8][kTileRows][kTileRowBytes];
};

}  // namespace
}  // namespace hb::HB_ISA
