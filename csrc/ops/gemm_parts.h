// GemmOf<T, S>: the product that computes in T and stores S, which is Gemm<T>; but float32 and
// float16, where tile registers are to be used (gemm_amx.cc), are split into bfloat16 parts there.
//
// A float32 number is the exact sum of three bfloat16 numbers, x = x0 + x1 + x2, each the rest of
// the one before rounded to nearest: |x1| <= 2^-9 |x|, |x2| <= 2^-18 |x|. So
//   6 products  x2y0 + x1y1 + x0y2 + x1y0 + x0y1 + x0y0   leave out less than 2^-25 |xy|
//   3 products  x1y0 + x0y1 + x0y0                        leave out about 2^-17 |xy|
//   1 product   x0y0                                      2^-8 |xy|
// (set_matmul_precision: highest, high, medium). With six the result is as near to the exact one as
// that of float32 multiply-adds: they round at each of K additions; a tile adds 32 products before
// it rounds a sum. A float16 number is the exact sum of two, and what three products leave out,
// 2^-18 |xy|, is far below the rounding of a result to float16.
//
// To the core this is one product of bfloat16 with a longer k: for every 32 of k, a block of 16
// pairs for each of the products, small ones first.
//
// It needs parts and products that are normal numbers: tiles flush subnormal ones, and inf - inf is
// not a number. While packing, the least and the largest magnitudes are found; outside of the
// bounds of `fits` the product is computed again by multiply-adds.
#pragma once
#include <atomic>

#include "ops/gemm_pairs.h"

namespace hb::HB_ISA {
namespace {

#if HB_VEC_BYTES == 64
// Magnitudes of the elements of an operand that are not zero, as bits.
struct Range {
  std::atomic<uint32_t> least{0x7f800000}, largest{0};
  void clear() { least = 0x7f800000, largest = 0; }
  void add(Vec<uint32_t> low, Vec<uint32_t> high) {
    uint32_t x = low[0], y = high[0];
    for (int i = 1; i < 16; ++i) x = low[i] < x ? low[i] : x, y = high[i] > y ? high[i] : y;
    for (uint32_t a = least; x < a && !least.compare_exchange_weak(a, x);) {
    }
    for (uint32_t b = largest; y > b && !largest.compare_exchange_weak(b, y);) {
    }
  }
  bool empty() const { return largest == 0; }
  int low() const { return int(least >> 23) - 127; }
  int high() const { return int(largest >> 23) - 127; }
};

// How many products, and which parts of A (of B: the mirror image) they multiply.
struct Parts {
  int num = 1, products = 1;
  template <class S>
  static Parts of(Precision precision) {
    if (sizeof(S) == 2 || precision == Precision::High) return {2, 3};
    return precision == Precision::Highest ? Parts{3, 6} : Parts{1, 1};
  }
  int part(int product, bool of_a) const {
    constexpr int kSix[6][2] = {{2, 0}, {1, 1}, {0, 2}, {1, 0}, {0, 1}, {0, 0}};
    return kSix[6 - products + product][of_a ? 0 : 1];
  }
  int64_t pairs(int64_t k) const { return ceil_div(k, 32) * 16 * products; }
};

// The parts of what another packer gives as float. `depth`: its k.
template <class P, bool kOfA>
struct PackParts {
  P packer;
  int64_t depth;
  Parts parts;
  Range* range;

  void pack(Pair* dst, int width, int64_t i, int n, int64_t k, int64_t kc) const {
    float piece[32 * kMaxPanel<float> + 64];
    Vec<uint32_t> least = splat(uint32_t(0x7f800000)), largest{};
    const int64_t step = 16 * parts.products, block = 16 * width;
    for (int64_t q = k; q < k + kc; q += step, dst += parts.products * block) {
      const int64_t from = q / step * 32, count = min64(32, depth - from);
      packer.pack(piece, width, i, n, from, count);
      memset(piece + count * width, 0, size_t((32 - count) * width) * sizeof(float));
      for (int64_t row = 0; row < 16; ++row)
        for (int g = 0; g < width; g += 16) {
          const __mmask16 mask = __mmask16(width - g >= 16 ? 0xffff : (1 << (width - g)) - 1);
          const float* at = piece + 2 * row * width + g;
          Vec<float> even = (Vec<float>)_mm512_maskz_loadu_ps(mask, at);
          Vec<float> odd = (Vec<float>)_mm512_maskz_loadu_ps(mask, at + width);
          const Vec<uint32_t> a = (Vec<uint32_t>)even & 0x7fffffff;
          const Vec<uint32_t> b = (Vec<uint32_t>)odd & 0x7fffffff;
          largest = max(max(largest, a), b);
          least = min(min(least, a != 0 ? a : least), b != 0 ? b : least);
          Vec<uint32_t> pairs[3];
          for (int p = 0; p < parts.num; ++p) {
            const Vec<uint32_t> low = bf16_upper(even) & 0xffff0000;
            const Vec<uint32_t> high = bf16_upper(odd) & 0xffff0000;
            pairs[p] = low >> 16 | high;
            even -= (Vec<float>)low, odd -= (Vec<float>)high;
          }
          for (int p = 0; p < parts.products; ++p)
            _mm512_mask_storeu_epi32(dst + p * block + row * width + g, mask,
                                     (__m512i)pairs[parts.part(p, kOfA)]);
        }
    }
    range->add(least, largest);
  }
  const Pair* in_place(int64_t, int64_t) const { return nullptr; }
  static constexpr int64_t ld = 0;

 private:
  static Vec<uint32_t> max(Vec<uint32_t> a, Vec<uint32_t> b) { return a > b ? a : b; }
  static Vec<uint32_t> min(Vec<uint32_t> a, Vec<uint32_t> b) { return a < b ? a : b; }
};

// As Gemm<float>, of operands stored as S.
template <class S>
class PartsGemm {
 public:
  void plan(int64_t m, int64_t n, int64_t k, int64_t batch, const GemmOperands& operands) {
    plain_.plan(m, n, k, batch, operands);
    k_ = k, parts_ = Parts::of<S>(matmul_precision());
    // Six products on tiles (2.1 TFLOP/s measured with operands in L2) take 0.6 of the time of
    // multiply-adds (214 GFLOP/s), three 0.3; to split an element takes the time of about 50 of
    // those. So every element must serve more than 50 / 0.4 or 50 / 0.7: m n > so many (m + n).
    split_ = has_tiles() && k >= 64 && m * n >= (parts_.products > 3 ? 128 : 72) * (m + n);
    if (split_) tiles_.plan(m, n, parts_.pairs(k), batch, {.converts = operands.converts});
  }
  template <class B>
  void pack_constant_b(const Prepare& p, const B& b) {
    if (split_)
      b_packed_ = tiles_.pack_constant_b(p, PackParts<B, false>{b, k_, parts_, &constant_b_});
    else
      plain_.pack_constant_b(p, b);
  }
  size_t scratch_bytes() const {
    return split_ ? range_offset() + 2 * sizeof(Range) : plain_.scratch_bytes();
  }
  template <class Make>
  void run(const Make& make, bool b_shared, void* scratch) const {
    if (split_ && run_split(make, b_shared, scratch)) return;
    plain_.run(make, b_shared, scratch);
  }

 private:
  // False: the results are not as exact as promised.
  template <class Make>
  bool run_split(const Make& make, bool b_shared, void* scratch) const {
    Range* ranges = reinterpret_cast<Range*>(static_cast<char*>(scratch) + range_offset());
    ranges[0].clear(), ranges[1].clear();
    tiles_.run(
        [&](int64_t i) {
          const auto p = make(i);
          return product(PackParts<decltype(p.a), true>{p.a, k_, parts_, &ranges[0]},
                         PackParts<decltype(p.b), false>{p.b, k_, parts_, &ranges[1]}, p.c, p.rows,
                         p.epilogue);
        },
        b_shared, scratch);
    return fits(ranges[0], b_packed_ ? constant_b_ : ranges[1]);
  }
  // Three parts of x are normal numbers or zero if |x| >= 2^-102, and so are the products of parts
  // that count, down to 2^-25 |xy|, if |xy| >= 2^-100. Sums stay below 2^128 if |xy| K < 2^127.
  bool fits(const Range& a, const Range& b) const {
    if (a.empty() || b.empty()) return a.high() < 128 && b.high() < 128;
    int bits = 0;
    while ((k_ >> bits) > 0) ++bits;
    if (a.high() > 100 || b.high() > 100 || a.high() + b.high() + 2 + bits > 126) return false;
    if (parts_.num == 1) return true;  // flushed products are below the rounding of bfloat16
    return a.low() >= -102 && b.low() >= -102 && a.low() + b.low() >= -100;
  }
  size_t range_offset() const {
    const size_t plain = plain_.scratch_bytes(), tiles = tiles_.scratch_bytes();
    return size_t(round_up(int64_t(plain > tiles ? plain : tiles), 64));
  }

  Gemm<float> plain_;
  Gemm<Pair> tiles_;
  Parts parts_;
  Range constant_b_;
  int64_t k_ = 0;
  bool split_ = false, b_packed_ = false;
};

template <class T, class S>
struct GemmOfTypes {
  typedef Gemm<T> type;
};
template <>
struct GemmOfTypes<float, float> {
  typedef PartsGemm<float> type;
};
template <>
struct GemmOfTypes<float, f16> {
  typedef PartsGemm<f16> type;
};
template <class T, class S>
using GemmOf = typename GemmOfTypes<T, S>::type;
#else
template <class T, class S>
using GemmOf = Gemm<T>;
#endif

}  // namespace
}  // namespace hb::HB_ISA
