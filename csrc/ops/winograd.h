// Winograd's convolution for 3x3 filters: the transforms of tiles, and the register kernel.
//
// F(M, 3) finds M outputs of a filter of three taps with N = M + 2 multiplications. With the
// polynomial through N points (the last at infinity), for tile d, taps g:
//   y = A^T ((G g) * (B^T d)),   and for the gradient to the taps, of e = dL/dy:
//   h = A'^T ((G' e) * (B^T d)).
// Two axes nest, so M x M outputs cost N x N multiplications per channel in place of 9 M x M: 2.25
// times fewer for M = 2, 4 times for M = 4. Points: 0, 1, -1 for M = 2 and 0, +-a, +-b for M = 4,
// where a and b are those of short fractions with the least error measured (see conv_winograd.h);
// the usual 1 and 2 have more than twice that error.
#pragma once
#include "ops/conv.h"

namespace hb::HB_ISA {

// C[i, j] (+)= sum_k a(i, k) b[k, j] for `m` of MR rows and NV vectors of columns. Sums of kChunk
// products are formed in registers and added to C, which keeps the error of long sums small.
//   interleaved  a(i, k) = a[(k / L * MR + i) * L + k % L]: vectors along k, for MR rows
//   across       a(i, k) = a[k * lda + i]
struct WinogradTile {
  const float* a;
  int64_t lda;
  const float* b;
  int64_t ldb, k;
  float* c;
  int64_t ldc;
  int m;
  bool add;
};
using WinogradKernel = void (*)(const WinogradTile&);
WinogradKernel find_winograd_kernel(int rows, int vecs, bool interleaved);

namespace {

template <int M>
struct Winograd;

template <>
struct Winograd<2> {
  template <class V>
  static HB_INLINE void image(const V (&d)[4], V (&v)[4]) {
    v[0] = d[0] - d[2];
    v[1] = d[1] + d[2];
    v[2] = d[2] - d[1];
    v[3] = d[3] - d[1];
  }
  template <class V>
  static HB_INLINE void filter(const V (&g)[3], V (&u)[4]) {
    const V even = (g[0] + g[2]) * 0.5f, odd = g[1] * 0.5f;
    u[0] = g[0];
    u[1] = even + odd;
    u[2] = even - odd;
    u[3] = g[2];
  }
  template <class V>
  static HB_INLINE void output(const V (&m)[4], V (&y)[2]) {
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] + m[3];
  }
  template <class V>
  static HB_INLINE void gradient(const V (&e)[2], V (&u)[4]) {
    const V even = e[0] * 0.5f, odd = e[1] * 0.5f;
    u[0] = e[0];
    u[1] = even + odd;
    u[2] = even - odd;
    u[3] = e[1];
  }
  template <class V>
  static HB_INLINE void taps(const V (&m)[4], V (&h)[3]) {
    const V even = m[1] + m[2];
    h[0] = m[0] + even;
    h[1] = m[1] - m[2];
    h[2] = even + m[3];
  }
};

template <>
struct Winograd<4> {
  static constexpr double a = 5. / 8, b = 3. / 2, a2 = a * a, b2 = b * b;
  // Values at a point are divided by its distances from the other points.
  static constexpr float f0 = float(1 / (a2 * b2)), fa = float(1 / (2 * a2 * (a2 - b2))),
                         fb = float(1 / (2 * b2 * (b2 - a2)));
  static constexpr float pa = float(a), pb = float(b), pa2 = float(a2), pb2 = float(b2);
  static constexpr float pa3 = float(a2 * a), pb3 = float(b2 * b);

  template <class V>
  static HB_INLINE void image(const V (&d)[6], V (&v)[6]) {
    constexpr float sum = float(a2 + b2), product = float(a2 * b2);
    const V even_a = d[4] - pb2 * d[2], odd_a = pa * (d[3] - pb2 * d[1]);
    const V even_b = d[4] - pa2 * d[2], odd_b = pb * (d[3] - pa2 * d[1]);
    v[0] = (d[4] - sum * d[2]) + product * d[0];
    v[1] = even_a + odd_a;
    v[2] = even_a - odd_a;
    v[3] = even_b + odd_b;
    v[4] = even_b - odd_b;
    v[5] = (d[5] - sum * d[3]) + product * d[1];
  }
  template <class V>
  static HB_INLINE void filter(const V (&g)[3], V (&u)[6]) {
    const V even_a = (g[0] + pa2 * g[2]) * fa, odd_a = g[1] * float(a * double(fa));
    const V even_b = (g[0] + pb2 * g[2]) * fb, odd_b = g[1] * float(b * double(fb));
    u[0] = g[0] * f0;
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = g[2];
  }
  template <class V>
  static HB_INLINE void output(const V (&m)[6], V (&y)[4]) {
    const V even_a = m[1] + m[2], odd_a = m[1] - m[2];
    const V even_b = m[3] + m[4], odd_b = m[3] - m[4];
    y[0] = m[0] + even_a + even_b;
    y[1] = pa * odd_a + pb * odd_b;
    y[2] = pa2 * even_a + pb2 * even_b;
    y[3] = m[5] + pa3 * odd_a + pb3 * odd_b;
  }
  template <class V>
  static HB_INLINE void gradient(const V (&e)[4], V (&u)[6]) {
    const V even_a = (e[0] + pa2 * e[2]) * fa, odd_a = (e[1] + pa2 * e[3]) * float(a * double(fa));
    const V even_b = (e[0] + pb2 * e[2]) * fb, odd_b = (e[1] + pb2 * e[3]) * float(b * double(fb));
    u[0] = e[0] * f0;
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = e[3];
  }
  template <class V>
  static HB_INLINE void taps(const V (&m)[6], V (&h)[3]) {
    const V even_a = m[1] + m[2], even_b = m[3] + m[4];
    h[0] = m[0] + even_a + even_b;
    h[1] = pa * (m[1] - m[2]) + pb * (m[3] - m[4]);
    h[2] = m[5] + pa2 * even_a + pb2 * even_b;
  }
};

// A transform of one axis, From to To values, applied to both axes of a square: reads load(i, j),
// gives store(i, j, v).
template <int From, int To, class F, class Load, class Store>
HB_INLINE void both_axes(const F& f, const Load& load, const Store& store) {
  using V = Vec<float>;
  V t[To][From];
#pragma GCC unroll 8
  for (int j = 0; j < From; ++j) {
    V in[From], out[To];
#pragma GCC unroll 8
    for (int i = 0; i < From; ++i) in[i] = load(i, j);
    f(in, out);
#pragma GCC unroll 8
    for (int i = 0; i < To; ++i) t[i][j] = out[i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < To; ++i) {
    V out[To];
    f(t[i], out);
#pragma GCC unroll 8
    for (int j = 0; j < To; ++j) store(i, j, out[j]);
  }
}

// The first n of kLanes elements; others are zero.
HB_INLINE Vec<float> load_part(const float* p, int64_t n) {
  if (n >= kLanes<float>) return load(p);
  float part[kLanes<float>] = {};
  memcpy(part, p, size_t(n) * sizeof(float));
  return load(part);
}
HB_INLINE void store_part(float* p, Vec<float> v, int64_t n) {
  if (n >= kLanes<float>) return store(p, v);
  float part[kLanes<float>];
  store(part, v);
  memcpy(p, part, size_t(n) * sizeof(float));
}

// Images [n, h, w, c] that tiles are cut from. Whole vectors of channels are read: `last` is the
// last pixel, the only one whose vectors would pass the end, in a place where they do not.
struct TileImage {
  const float* data;
  int64_t n, h, w, c;
  const float *zeros, *last;

  static int64_t scratch_elements(int64_t c) { return round_up(c, kLanes<float>); }
  void at(const float* x, float* scratch) {
    data = x;
    last = x + (n * h * w - 1) * c;
    if (c % kLanes<float> == 0) return;
    memset(scratch, 0, size_t(scratch_elements(c)) * sizeof(float));
    memcpy(scratch, last, size_t(c) * sizeof(float));
    last = scratch;
  }
  // Places of a square of pixels; those outside are zero.
  template <int N>
  HB_INLINE void square(int64_t i, int64_t y0, int64_t x0, const float* (&pixel)[N][N]) const {
    const int64_t end = n * h * w - 1;
    for (int dy = 0; dy < N; ++dy) {
      const int64_t y = y0 + dy, row = (i * h + y) * w;
      for (int dx = 0; dx < N; ++dx) {
        const int64_t x = x0 + dx;
        const bool inside = y >= 0 && y < h && x >= 0 && x < w;
        pixel[dy][dx] = !inside ? zeros : row + x == end ? last : data + (row + x) * c;
      }
    }
  }
};

// Whether a convolution is one of 3x3 filters over images of full groups, with steps of one.
inline bool serves_winograd(const ConvShape& s) {
  constexpr int64_t kLeast = 8;  // fewer channels or filters leave vectors empty
  for (int a = 0; a < 3; ++a)
    if (s.kernel[a] != (a == 0 ? 1 : 3) || s.stride[a] != 1 || s.dilation[a] != 1) return false;
  return s.in[0] == 1 && s.out[0] == 1 && s.lo[0] == 0 && s.groups == 1 && s.c >= kLeast &&
         s.o >= kLeast && s.n > 0 && s.in_size() > 0 && s.out_size() > 0;
}

// The tiles of an output of h x w positions, M x M each.
struct TileGrid {
  int64_t rows, cols, total;
  TileGrid(int64_t n, int64_t h, int64_t w, int64_t m)
      : rows(ceil_div(h, m)), cols(ceil_div(w, m)), total(n * rows * cols) {}
  HB_INLINE void at(int64_t tile, int64_t* n, int64_t* row, int64_t* col) const {
    *col = tile % cols, tile /= cols;
    *row = tile % rows, *n = tile / rows;
  }
};

}  // namespace
}  // namespace hb::HB_ISA
