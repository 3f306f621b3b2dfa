// Tile registers (AMX): eight tiles of up to 16 rows of 64 bytes, as the products of gemm_amx.cc
// use them.
//
// Two implementations of one small interface: the instructions, and a software model of them, on
// which tests run the products on machines without AMX (the CMake option HORNBEAM_TILES_MODEL).
// Registers are template arguments because the instructions have them as constants. Tiles 0 to 3
// have the rows asked for, the others 16.
//
//   open(rows)  close(): configured in between, so the system need not save tiles outside
//   zero<t>()  load<t>(p, bytes from row to row)  store<t>(p, bytes from row to row)
//   dot_bf16<c, a, b>(): c[m][n] += sum_k a[m][2k] b[k][2n] + a[m][2k+1] b[k][2n+1]
//   dot_bytes<c, a, b>(): the same in groups of four, a unsigned, b signed, summed in int32
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/half.h"
#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AMX_INT8__)
#include <immintrin.h>
#define HB_HAS_TILES 1
#endif
#include "simd/vec.h"

namespace hb::HB_ISA {
namespace {

constexpr int kTileRows = 16, kTileRowBytes = 64;

#ifdef HB_HAS_TILES
// In assembly, because the intrinsics want the registers as literals.
class TileRegisters {
 public:
  static void open(int rows) {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    for (int i = 0; i < 8; ++i) {
      config.row_bytes[i] = kTileRowBytes;
      config.rows[i] = uint8_t(i < 4 ? rows : kTileRows);
    }
    _tile_loadconfig(&config);
  }
  static void close() { _tile_release(); }

  template <int t>
  static HB_INLINE void zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(t));
  }
  template <int t>
  static HB_INLINE void load(const void* p, int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(t) : "memory");
  }
  template <int t>
  static HB_INLINE void store(void* p, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(t) : "memory");
  }
  template <int c, int a, int b>
  static HB_INLINE void dot_bf16() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
  template <int c, int a, int b>
  static HB_INLINE void dot_bytes() {
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
};
#endif

// As the instruction set reference defines them: bfloat16 products are summed by multiply-adds from
// zero, those of even and of odd elements apart; then the two sums are added, and that is added to
// c. Subnormal operands count as zero, subnormal results become zero, rounding is to nearest even.
class TileModel {
 public:
  static void open(int rows) {
    memset(&state_, 0, sizeof state_);
    for (int i = 0; i < 8; ++i) state_.rows[i] = i < 4 ? rows : kTileRows;
  }
  static void close() { memset(&state_, 0, sizeof state_); }

  template <int t>
  static void zero() {
    memset(state_.tile[t], 0, sizeof state_.tile[t]);
  }
  template <int t>
  static void load(const void* p, int64_t stride) {
    zero<t>();
    for (int r = 0; r < state_.rows[t]; ++r)
      memcpy(state_.tile[t][r], static_cast<const char*>(p) + r * stride, kTileRowBytes);
  }
  template <int t>
  static void store(void* p, int64_t stride) {
    for (int r = 0; r < state_.rows[t]; ++r)
      memcpy(static_cast<char*>(p) + r * stride, state_.tile[t][r], kTileRowBytes);
  }
  template <int c, int a, int b>
  static void dot_bf16() {
    for (int m = 0; m < state_.rows[c]; ++m)
      for (int n = 0; n < 16; ++n) {
        float even = 0, odd = 0;
        for (int k = 0; k < kTileRows; ++k) {
          even = multiply_add(half(a, m, 2 * k), half(b, k, 2 * n), even);
          odd = multiply_add(half(a, m, 2 * k + 1), half(b, k, 2 * n + 1), odd);
        }
        float sum;
        memcpy(&sum, &state_.tile[c][m][4 * n], sizeof sum);
        sum = flush(flush(sum) + flush(even + odd));
        memcpy(&state_.tile[c][m][4 * n], &sum, sizeof sum);
      }
  }
  template <int c, int a, int b>
  static void dot_bytes() {
    for (int m = 0; m < state_.rows[c]; ++m)
      for (int n = 0; n < 16; ++n) {
        uint32_t sum;  // wraps around
        memcpy(&sum, &state_.tile[c][m][4 * n], sizeof sum);
        for (int k = 0; k < kTileRows; ++k)
          for (int i = 0; i < 4; ++i)
            sum += uint32_t(int32_t(state_.tile[a][m][4 * k + i]) *
                            int32_t(int8_t(state_.tile[b][k][4 * n + i])));
        memcpy(&state_.tile[c][m][4 * n], &sum, sizeof sum);
      }
  }

 private:
  static float flush(float x) {
    return bits_of_float(x) & 0x7f800000 ? x : float_from_bits(bits_of_float(x) & 0x80000000);
  }
  static float multiply_add(float a, float b, float sum) { return flush(fmaf(a, b, sum)); }
  static float half(int t, int row, int i) {
    uint16_t h;
    memcpy(&h, &state_.tile[t][row][2 * i], sizeof h);
    return flush(bf16_to_f32(h));
  }

  struct State {
    int rows[8];
    uint8_t tile[8][kTileRows][kTileRowBytes];
  };
  static inline thread_local State state_;
};

}  // namespace
}  // namespace hb::HB_ISA
