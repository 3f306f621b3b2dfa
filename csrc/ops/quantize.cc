// Rows as integers of 8 bits: scale = high / (max_j |x[j]| + epsilon), q = clip(round(x scale)).
//
// A row stays in L1 between its two passes: the floor is one read of x and one write of q.
#include "ops/rowwise.h"

HB_KERNELS_BEGIN

// NaN if any is.
template <class C>
HB_INLINE C row_abs_max(const C* x, int64_t n) {
  constexpr int kStep = kLanes<C>;
  Vec<C> m[4] = {};
  int64_t i = 0;
  for (; i + 4 * kStep <= n; i += 4 * kStep) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) m[k] = larger(vabs<C>(load(x + i + k * kStep)), m[k]);
  }
  for (; i < n; i += kStep)
    m[0] = larger(vabs<C>(load_n(x + i, min_of(int64_t(kStep), n - i), C(0))), m[0]);
  return fold_lanes<kStep, C>(larger(larger(m[0], m[1]), larger(m[2], m[3])),
                              [](auto a, auto b)
                                  __attribute__((always_inline)) { return larger(a, b); });
}

// input: x [rows, n]; outputs: q int8 [rows, n], scale [rows, 1].
struct AbsMaxQuantize : RowKernel<1, 0> {
  double low, high, epsilon;
  explicit AbsMaxQuantize(Prepare& p)
      : RowKernel(p, p.inputs[0]),
        low(attr_float(*p.attrs, "low")),
        high(attr_float(*p.attrs, "high")),
        epsilon(attr_float(*p.attrs, "epsilon")) {
    if (p.outputs[0].dtype != DType::I8) fail("integers of 8 bits");
  }
  void run(const Call& c) const {
    each_row(c, {0}, [&]<class C>(int64_t r, const C* const* in, C*) {
      const C* x = in[0];
      int8_t* q = static_cast<int8_t*>(c.outputs[0]) + r * n;
      PerRow::set<C>(dtype, c.outputs[1], r, C(high) / (row_abs_max(x, n) + C(epsilon)));
      const C scale = PerRow::get<C>(dtype, c.outputs[1], r), least = C(low), most = C(high);
      int64_t i = 0;
      for (; i + kLanes<C> <= n; i += kLanes<C>)
        integers<C>(q + i, load(x + i) * scale, least, most, kLanes<C>);
      if (i < n) integers<C>(q + i, load_n(x + i, n - i, C(0)) * scale, least, most, int(n - i));
    });
  }

 private:
  template <class C>
  static HB_INLINE void integers(int8_t* q, Vec<C> x, C least, C most, int count) {
    const Vec<C> v = vat_most<C>(vat_least<C>(vround(x), least), most);
    int8_t bytes[kLanes<C>];
#if HB_VEC_BYTES == 64
    if constexpr (sizeof(C) == 4) {
      const __m512i words = _mm512_maskz_cvtps_epi32(0xffff, (__m512)v);
      _mm_storeu_si128((__m128i*)bytes, _mm512_maskz_cvtepi32_epi8(0xffff, words));
      memcpy(q, bytes, size_t(count));
      return;
    }
#endif
    for (int k = 0; k < kLanes<C>; ++k) bytes[k] = int8_t(int32_t(v[k]));
    memcpy(q, bytes, size_t(count));
  }
};
HB_CPU_KERNEL(abs_max_quantize, AbsMaxQuantize, kAllFloat)

HB_KERNELS_END
