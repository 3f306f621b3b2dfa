// The products on tile registers, on the software model of them: how exact they are, beside
// multiply-adds of float32 and against float64.
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "check.h"

#define HB_ISA model_of_tiles
#define HB_ISA_LEVEL 0
#define HB_VEC_BYTES 16
#include "ops/gemm_amx.h"

using namespace hb;
using hb::HB_ISA::AmxGemm;
using hb::HB_ISA::ModelTiles;

namespace {

struct Errors {
  bool fits;
  double tiles, multiply_adds;  // largest error over sum |a| |b|
};

// [m, k] * [k, n] with `parts`, and by float32 multiply-adds in the order of k.
Errors compare(int64_t m, int64_t n, int64_t k, int parts, const std::function<float()>& draw_a,
               const std::function<float()>& draw_b, bool cancel = false) {
  std::vector<float> a(size_t(m * k)), b(size_t(k * n)), c(size_t(m * n));
  for (float& x : a) x = draw_a();
  for (float& x : b) x = draw_b();
  if (cancel)  // the second half of a sum takes the first one away again, almost
    for (int64_t q = k / 2; q < k; ++q) {
      for (int64_t i = 0; i < m; ++i) a[i * k + q] = -a[i * k + q - k / 2] * (1 + 0x1p-20f);
      for (int64_t j = 0; j < n; ++j) b[q * n + j] = b[(q - k / 2) * n + j];
    }
  AmxGemm gemm;
  gemm.plan(m, n, k, parts);
  std::vector<char> memory(gemm.scratch_bytes() + 64);
  void* scratch = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  Errors e{};
  e.fits = gemm.pack([&](int64_t i, int64_t q) { return a[size_t(i * k + q)]; },
                     [&](int64_t q, int64_t j) { return b[size_t(q * n + j)]; }, scratch);
  if (!e.fits) return e;
  gemm.run<ModelTiles>(scratch, [&](int64_t i, int64_t j, int64_t count, const float* sums) {
    for (int64_t q = 0; q < count; ++q) c[size_t(i * n + j + q)] = sums[q];
  });
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double exact = 0, magnitude = 0;
      float sum = 0;
      for (int64_t q = 0; q < k; ++q) {
        const double product = double(a[i * k + q]) * b[q * n + j];
        exact += product, magnitude += std::fabs(product);
        sum = std::fma(a[i * k + q], b[q * n + j], sum);
      }
      if (magnitude == 0) {
        CHECK(c[i * n + j] == 0);
        continue;
      }
      e.tiles = std::fmax(e.tiles, std::fabs(c[i * n + j] - exact) / magnitude);
      e.multiply_adds = std::fmax(e.multiply_adds, std::fabs(sum - exact) / magnitude);
    }
  return e;
}

std::mt19937 generator(1);
float normal() { return std::normal_distribution<float>()(generator); }
float uniform() { return std::uniform_real_distribution<float>(0, 1)(generator); }
// Exponents from -20 to 20.
float ill_scaled() {
  return std::ldexp(normal(), std::uniform_int_distribution<int>(-20, 20)(generator));
}

constexpr int64_t kSizes[][3] = {{32, 32, 64}, {37, 45, 70}, {20, 150, 600}, {16, 16, 2048}};

}  // namespace

TEST(amx_six_products_are_as_exact_as_float32_multiply_adds) {
  for (const auto& s : kSizes) {
    for (const auto& draw : {normal, uniform, ill_scaled}) {
      const Errors e = compare(s[0], s[1], s[2], 3, draw, draw);
      CHECK(e.fits);
      CHECK(e.tiles <= e.multiply_adds);
    }
    const Errors e = compare(s[0], s[1], s[2], 3, normal, ill_scaled);
    CHECK(e.fits && e.tiles <= e.multiply_adds);
    const Errors cancelling = compare(s[0], s[1], s[2], 3, normal, normal, true);
    CHECK(cancelling.fits && cancelling.tiles <= cancelling.multiply_adds);
  }
}

TEST(amx_six_products_at_the_bounds_of_exponents) {
  const auto at = [](int exponent) { return [=] { return std::ldexp(1 + uniform(), exponent); }; };
  for (const auto& [a, b] : {std::pair(-50, -50), {-100, 0}, {40, -102}, {100, 10}, {60, 50}}) {
    const Errors e = compare(32, 32, 96, 3, at(a), at(b));
    CHECK(e.fits);
    CHECK(e.tiles <= e.multiply_adds);
  }
}

TEST(amx_operands_that_parts_cannot_hold_are_found) {
  constexpr float kInfinite = std::numeric_limits<float>::infinity();
  for (const float bad : {kInfinite, -kInfinite, std::nanf(""), 0x1p-130f, -0x1p-103f, 0x1p101f}) {
    int count = 0;
    const auto one_bad = [&] { return count++ == 77 ? bad : normal(); };
    CHECK(!compare(32, 32, 64, 3, one_bad, normal).fits);
    count = 0;
    CHECK(!compare(32, 32, 64, 2, normal, one_bad).fits);
  }
  const auto zero = [] { return 0.f; };
  const auto infinite = [] { return kInfinite; };
  CHECK(!compare(32, 32, 64, 3, zero, infinite).fits);  // not a number, not zero
  CHECK(compare(32, 32, 64, 3, zero, normal).fits);
  const auto small = [] { return 0x1p-60f * (1 + uniform()); };
  CHECK(!compare(32, 32, 64, 3, small, small).fits);
}

TEST(amx_fewer_products_are_as_exact_as_promised) {
  for (const auto& s : kSizes) {
    CHECK(compare(s[0], s[1], s[2], 2, normal, normal).tiles < 0x1p-16);
    CHECK(compare(s[0], s[1], s[2], 1, normal, normal).tiles < 0x1p-7);
    const auto half = [] { return bf16_to_f32(f32_to_bf16(normal())); };
    const Errors exact = compare(s[0], s[1], s[2], 1, half, half);
    CHECK(exact.tiles <= exact.multiply_adds);
  }
}

TEST(amx_model_follows_the_reference) {
  ModelTiles t;
  uint16_t a[16][32] = {}, b[16][32] = {};
  float c[16][16] = {};
  // Subnormal operands count as zero; subnormal sums become zero.
  a[0][0] = 0x0001, b[0][0] = f32_to_bf16(0x1p100f);
  a[1][0] = f32_to_bf16(0x1p-70f), b[0][2] = f32_to_bf16(0x1p-60f);
  a[2][1] = f32_to_bf16(3), b[0][3] = f32_to_bf16(-5), c[2][1] = 1;
  t.load<0>(c, 64), t.load<4>(a, 64), t.load<6>(b, 64);
  t.dot<0, 4, 6>();
  t.store<0>(c, 64);
  CHECK(c[0][0] == 0 && c[1][1] == 0 && c[2][1] == -14 && c[3][3] == 0);

  int8_t x[16][64], y[16][64];
  int32_t z[16][16];
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 64; ++j) x[i][j] = int8_t(i * 17 + j * 5), y[i][j] = int8_t(i * 31 - j * 7);
  t.zero<1>(), t.load<4>(x, 64), t.load<6>(y, 64);
  t.dot_i8<1, 4, 6>();
  t.store<1>(z, 64);
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 16; ++n) {
      int32_t sum = 0;
      for (int k = 0; k < 64; ++k) sum += x[m][k] * y[k / 4][4 * n + k % 4];
      CHECK(z[m][n] == sum);
    }
}
