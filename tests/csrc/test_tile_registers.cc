// The software model of tile registers, on which tests run the products of the level amx, against
// the reference of the instructions.
#define HB_ISA model_of_tiles
#define HB_ISA_LEVEL 0
#define HB_VEC_BYTES 16
#include "check.h"
#include "simd/tile_registers.h"

using namespace hb;
using Tiles = hb::HB_ISA::TileModel;

TEST(model_of_tiles_flushes_what_the_instructions_flush) {
  uint16_t a[16][32] = {}, b[16][32] = {};
  float c[16][16] = {};
  // Subnormal operands count as zero; subnormal sums become zero.
  a[0][0] = 0x0001, b[0][0] = f32_to_bf16(0x1p100f);
  a[1][0] = f32_to_bf16(0x1p-70f), b[0][2] = f32_to_bf16(0x1p-60f);
  a[2][1] = f32_to_bf16(3), b[0][3] = f32_to_bf16(-5), c[2][1] = 1;
  Tiles::open(16);
  Tiles::load<0>(c, 64), Tiles::load<4>(a, 64), Tiles::load<6>(b, 64);
  Tiles::dot_bf16<0, 4, 6>();
  Tiles::store<0>(c, 64);
  CHECK(c[0][0] == 0 && c[1][1] == 0 && c[2][1] == -14 && c[3][3] == 0);
  Tiles::close();
}

TEST(model_of_tiles_multiplies_unsigned_by_signed_bytes) {
  uint8_t x[16][64];
  int8_t y[16][64];
  int32_t z[16][16] = {};
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 64; ++j)
      x[i][j] = uint8_t(i * 17 + j * 5), y[i][j] = int8_t(i * 31 - j * 7);
  Tiles::open(14);  // rows of the tiles 0 to 3
  Tiles::zero<1>(), Tiles::load<2>(x, 64), Tiles::load<6>(y, 64);
  Tiles::dot_bytes<1, 2, 6>();
  Tiles::store<1>(z, 64);
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 16; ++n) {
      int32_t sum = 0;
      for (int k = 0; k < 64; ++k) sum += x[m][k] * y[k / 4][4 * n + k % 4];
      CHECK(z[m][n] == (m < 14 ? sum : 0));
    }
  Tiles::close();
}
