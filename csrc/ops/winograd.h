// Winograd's convolution for 3x3 filters: the transforms of tiles, and the register kernel.
//
// F(M, 3) finds M outputs of a filter of three taps with N = M + 2 multiplications. With the
// polynomial through N points (the last at infinity), for tile d, taps g:
//   y = A^T ((G g) * (B^T d)),   and for the gradient to the taps, of e = dL/dy:
//   h = A'^T ((G' e) * (B^T d)).
// Two axes nest, so M x M outputs cost N x N multiplications per channel in place of 9 M x M: 2.25
// times fewer for M = 2, 4 times for M = 4, 3 times for four rows of two. Points: 0, 1, -1 for M =
// 2 and 0, +-a, +-b for M = 4, where a and b are those of short fractions with the least error
// measured (see conv_winograd.h); the usual 1 and 2 have more than twice that error.
#pragma once
#include "ops/conv.h"

namespace hb::HB_ISA {

// C[i, j] (+)= sum_k a(i, k) b[k, j] for `m` of MR rows and NV vectors of columns. Sums of `chunk`
// products (a multiple of the lanes) are formed in registers and added to C, which keeps the error
// of long sums small.
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
  int64_t chunk;
  bool add;
};
using WinogradKernel = void (*)(const WinogradTile&);
WinogradKernel find_winograd_kernel(int rows, int vecs, bool interleaved);

namespace {

template <int M>
struct Winograd;

template <>
struct Winograd<2> {
  template <int P, class V>
  static HB_INLINE void image(const V (&d)[4], V& first, V& second) {
    first = P ? d[1] + d[2] : d[0] - d[2];
    second = P ? d[2] - d[1] : d[3] - d[1];
  }
  template <int P, class V>
  static HB_INLINE void filter(const V (&g)[3], V& first, V& second) {
    const V even = (g[0] + g[2]) * 0.5f, odd = g[1] * 0.5f;
    first = P ? even + odd : g[0];
    second = P ? even - odd : g[2];
  }
  template <int P, class V>
  static HB_INLINE void gradient(const V (&e)[2], V& first, V& second) {
    const V even = e[0] * 0.5f, odd = e[1] * 0.5f;
    first = P ? even + odd : e[0];
    second = P ? even - odd : e[1];
  }
  template <class V>
  static HB_INLINE void output(const V (&m)[4], V (&y)[2]) {
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] + m[3];
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

  template <int P, class V>
  static HB_INLINE void image(const V (&d)[6], V& first, V& second) {
    if constexpr (P == 0) {
      constexpr float sum = float(a2 + b2), product = float(a2 * b2);
      first = (d[4] - sum * d[2]) + product * d[0];
      second = (d[5] - sum * d[3]) + product * d[1];
    } else {
      constexpr float other = P == 1 ? pb2 : pa2, point = P == 1 ? pa : pb;
      const V even = d[4] - other * d[2], odd = point * (d[3] - other * d[1]);
      first = even + odd;
      second = even - odd;
    }
  }
  template <int P, class V>
  static HB_INLINE void filter(const V (&g)[3], V& first, V& second) {
    if constexpr (P == 0) {
      first = g[0] * f0;
      second = g[2];
    } else {
      constexpr float square = P == 1 ? pa2 : pb2, f = P == 1 ? fa : fb;
      constexpr float fp = P == 1 ? float(a * double(fa)) : float(b * double(fb));
      const V even = (g[0] + square * g[2]) * f, odd = g[1] * fp;
      first = even + odd;
      second = even - odd;
    }
  }
  template <int P, class V>
  static HB_INLINE void gradient(const V (&e)[4], V& first, V& second) {
    if constexpr (P == 0) {
      first = e[0] * f0;
      second = e[3];
    } else {
      constexpr float square = P == 1 ? pa2 : pb2, f = P == 1 ? fa : fb;
      constexpr float fp = P == 1 ? float(a * double(fa)) : float(b * double(fb));
      const V even = (e[0] + square * e[2]) * f, odd = (e[1] + square * e[3]) * fp;
      first = even + odd;
      second = even - odd;
    }
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
  static HB_INLINE void taps(const V (&m)[6], V (&h)[3]) {
    const V even_a = m[1] + m[2], even_b = m[3] + m[4];
    h[0] = m[0] + even_a + even_b;
    h[1] = pa * (m[1] - m[2]) + pb * (m[3] - m[4]);
    h[2] = m[5] + pa2 * even_a + pb2 * even_b;
  }
};

// Points come in pairs: 0 and infinity, a and -a, b and -b, which share most of their work. Where
// the N values lie pair by pair, value i has this place:
template <int N>
constexpr int place_in_pairs(int i) {
  return i == 0 ? 0 : i == N - 1 ? 1 : i + 1;
}

// The transforms of one axis.
template <int M>
struct ImageAxis {
  static constexpr int kFrom = M + 2, kTo = M + 2;
  template <int P, class V>
  static HB_INLINE void pair(const V (&d)[kFrom], V& first, V& second) {
    Winograd<M>::template image<P>(d, first, second);
  }
};
template <int M>
struct FilterAxis {
  static constexpr int kFrom = 3, kTo = M + 2;
  template <int P, class V>
  static HB_INLINE void pair(const V (&g)[kFrom], V& first, V& second) {
    Winograd<M>::template filter<P>(g, first, second);
  }
};
template <int M>
struct GradientAxis {
  static constexpr int kFrom = M, kTo = M + 2;
  template <int P, class V>
  static HB_INLINE void pair(const V (&e)[kFrom], V& first, V& second) {
    Winograd<M>::template gradient<P>(e, first, second);
  }
};
template <int M>
struct OutputAxis {
  static constexpr int kFrom = M + 2, kTo = M;
  template <class V>
  static HB_INLINE void whole(const V (&m)[kFrom], V (&y)[kTo]) {
    Winograd<M>::output(m, y);
  }
};
template <int M>
struct TapsAxis {
  static constexpr int kFrom = M + 2, kTo = 3;
  template <class V>
  static HB_INLINE void whole(const V (&m)[kFrom], V (&h)[kTo]) {
    Winograd<M>::taps(m, h);
  }
};
template <class Axis, class V>
HB_INLINE void transform_axis(const V (&in)[Axis::kFrom], V (&out)[Axis::kTo]) {
  if constexpr (requires { Axis::whole(in, out); }) {
    Axis::whole(in, out);
  } else {
    constexpr int N = Axis::kTo;
    Axis::template pair<0>(in, out[0], out[N - 1]);
    Axis::template pair<1>(in, out[1], out[2]);
    if constexpr (N > 4) Axis::template pair<2>(in, out[3], out[4]);
  }
}

// A rectangle's columns [kFirst, kEnd), of what load(i, j) gives, along y; then its rows along x,
// to store(i, j, v).
template <class AxisY, int kFirst, int kEnd, int NX, class Load>
HB_INLINE void transform_columns(Vec<float> (&t)[AxisY::kTo][NX], const Load& load) {
#pragma GCC unroll 8
  for (int j = kFirst; j < kEnd; ++j) {
    Vec<float> in[AxisY::kFrom], out[AxisY::kTo];
#pragma GCC unroll 8
    for (int i = 0; i < AxisY::kFrom; ++i) in[i] = load(i, j);
    transform_axis<AxisY>(in, out);
#pragma GCC unroll 8
    for (int i = 0; i < AxisY::kTo; ++i) t[i][j] = out[i];
  }
}
template <class AxisX, int NY, class Store>
HB_INLINE void transform_rows(const Vec<float> (&t)[NY][AxisX::kFrom], const Store& store) {
#pragma GCC unroll 8
  for (int i = 0; i < NY; ++i) {
    Vec<float> out[AxisX::kTo];
    transform_axis<AxisX>(t[i], out);
#pragma GCC unroll 8
    for (int j = 0; j < AxisX::kTo; ++j) store(i, j, out[j]);
  }
}
template <class AxisY, class AxisX, class Load, class Store>
HB_INLINE void both_axes(const Load& load, const Store& store) {
  Vec<float> t[AxisY::kTo][AxisX::kFrom];
  transform_columns<AxisY, 0, AxisX::kFrom>(t, load);
  transform_rows<AxisX>(t, store);
}
// The same for the two rows of the result of pair P: store(0 or 1, j, v).
template <int P, class AxisY, class AxisX, class Load, class Store>
HB_INLINE void pair_of_rows(const Load& load, const Store& store) {
  using V = Vec<float>;
  V t[2][AxisX::kFrom];
#pragma GCC unroll 8
  for (int j = 0; j < AxisX::kFrom; ++j) {
    V in[AxisY::kFrom];
#pragma GCC unroll 8
    for (int i = 0; i < AxisY::kFrom; ++i) in[i] = load(i, j);
    AxisY::template pair<P>(in, t[0][j], t[1][j]);
  }
  transform_rows<AxisX>(t, store);
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
  // f(load) with load(y, x, c): a vector of channels of pixel (y, x) of a rectangle of `width` <=
  // kMost pixels; zero outside.
  template <int NY, int kMost, class F>
  HB_INLINE void rectangle(int64_t i, int64_t y0, int64_t x0, int64_t width, const F& f) const {
    const int64_t first = (i * h + y0) * w + x0, end = n * h * w - 1;
    if (y0 >= 0 && y0 + NY <= h && x0 >= 0 && x0 + width <= w &&
        first + (NY - 1) * w + width <= end) {
      const float* from = data + first * c;
      const int64_t step = c, row = w * c;
      f([=](int y, int64_t x, int64_t k)
            __attribute__((always_inline)) { return load(from + y * row + x * step + k); });
      return;
    }
    const float* pixel[NY][kMost];
    for (int y = 0; y < NY; ++y)
      for (int64_t x = 0; x < width; ++x) {
        const int64_t at = first + y * w + x;
        const bool inside = y0 + y >= 0 && y0 + y < h && x0 + x >= 0 && x0 + x < w;
        pixel[y][x] = !inside ? zeros : at == end ? last : data + at * c;
      }
    f([&](int y, int64_t x, int64_t k)
          __attribute__((always_inline)) { return load(pixel[y][x] + k); });
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

template <class T>
struct KernelType {
  typedef T type;
};

// The tiles of an output of h x w positions, my x mx each.
struct TileGrid {
  int64_t rows, cols, total;
  TileGrid(int64_t n, int64_t h, int64_t w, int64_t my, int64_t mx)
      : rows(ceil_div(h, my)), cols(ceil_div(w, mx)), total(n * rows * cols) {}
  HB_INLINE void at(int64_t tile, int64_t* n, int64_t* row, int64_t* col) const {
    *col = tile % cols, tile /= cols;
    *row = tile % rows, *n = tile / rows;
  }
};

}  // namespace
}  // namespace hb::HB_ISA
