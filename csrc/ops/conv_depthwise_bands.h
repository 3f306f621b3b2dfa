// Depthwise convolutions whose filters have 3, 5 or 7 rows: a band of four rows at a time, so that
// a vector of x serves up to four products while it is in a register, and rows of x are read from
// memory once.
//
// Within a band, eight positions at a time go through all channels: what they read stays in L1.
// Where a filter reaches beyond the image, the part of x in question is first copied, with zeros
// around it.
//
// Bounds: for 3x3, nine multiply-adds and seven loads for each vector of the result, 4.5 cycles; so
// memory, once the image has left L2. The places that a band reads lie too far apart for the
// processor to fetch them ahead by itself.
#pragma once
#include <type_traits>

#include "ops/conv.h"

namespace hb::HB_ISA {
namespace {

constexpr int kBandRows = 4, kBandPositions = 8;

// Filters over an image `src` at the positions `dst`: the one at (h, p) starts in row
// h * stride - lo; columns alike.
struct BandShape {
  int64_t c, src[2], dst[2], kernel[2], stride[2], lo[2], dilation;

  // The forward pass, or as such the gradient to x of stride 1, with dy as the image.
  BandShape(const ConvShape& s, bool gradient) : c(gradient ? s.c : s.o), dilation(s.dilation[2]) {
    for (int a = 0; a < 2; ++a) {
      src[a] = gradient ? s.out[a + 1] : s.in[a + 1];
      dst[a] = gradient ? s.in[a + 1] : s.out[a + 1];
      kernel[a] = s.kernel[a + 1], stride[a] = s.stride[a + 1];
      lo[a] = s.lo[a + 1];
      if (gradient) lo[a] = (kernel[a] - 1) * s.dilation[a + 1] - lo[a];
    }
  }
  static bool serves(const ConvShape& s, bool gradient) {
    const int64_t k = s.kernel[1], most = gradient ? 1 : 2;
    return s.kernel[0] == 1 && s.in[0] == 1 && s.out[0] == 1 && (k == 3 || k == 5 || k == 7) &&
           s.dilation[1] == 1 && s.stride[1] <= most && s.stride[2] <= most &&
           BandShape(s, gradient).columns() <= kMaxColumns;
  }
  int64_t bands() const { return ceil_div(dst[0], kBandRows); }
  // What a band of so many rows and eight positions reads of the image.
  static constexpr int rows(int kernel, int stride) { return (kBandRows - 1) * stride + kernel; }
  int64_t columns() const {
    return (kBandPositions - 1) * stride[1] + (kernel[1] - 1) * dilation + 1;
  }
  static constexpr int64_t kMaxColumns = 32;
};

// f(rows of the filter, stride of rows) as constants.
template <class F>
HB_INLINE void with_band_constants(const BandShape& b, const F& f) {
  const auto with = [&](auto k) {
    if (b.stride[0] == 2) return f(k, std::integral_constant<int, 2>());
    f(k, std::integral_constant<int, 1>());
  };
  if (b.kernel[0] == 3) return with(std::integral_constant<int, 3>());
  if (b.kernel[0] == 5) return with(std::integral_constant<int, 5>());
  with(std::integral_constant<int, 7>());
}

// A piece of an image at some vectors of channels: steps from row to row and column to column.
template <class S>
struct BandPiece {
  const S* x;
  int64_t row, column;
};

// Rows h .. h + rows and columns p .. p + columns at kWidth channels: in place, or copied to `to`
// with zeros beyond the image of size[0] rows, size[1] columns and c channels.
template <int kWidth, class S>
HB_INLINE BandPiece<S> band_piece(const S* image, const int64_t* size, int64_t c, int64_t h,
                                  int64_t p, int64_t rows, int64_t columns, S* to) {
  if (h >= 0 && h + rows <= size[0] && p >= 0 && p + columns <= size[1])
    return {image + (h * size[1] + p) * c, size[1] * c, c};
  const int64_t left = min64(columns, max64(0, -p)),
                right = max64(left, min64(columns, size[1] - p));
  const auto zeros = [](S* at, int64_t n) __attribute__((always_inline)) {
    for (int64_t j = 0; j < n; ++j)  // a vector: a call for so few would take longer
      memset(static_cast<void*>(at + j * kWidth), 0, kWidth * sizeof(S));
  };
  S* at = to;
  for (int64_t i = h; i < h + rows; ++i, at += columns * kWidth) {
    const bool outside = i < 0 || i >= size[0];
    const int64_t from = outside ? columns : left, end = outside ? columns : right;
    zeros(at, from);
    const S* x = image + (i * size[1] + p) * c;
    for (int64_t j = from; j < end; ++j)
      memcpy(static_cast<void*>(at + j * kWidth), x + j * c, kWidth * sizeof(S));
    zeros(at + end * kWidth, columns - end);
  }
  return {to, columns * kWidth, kWidth};
}

// Fetches what the positions from (h, p) on read that those before in this band and in the last did
// not: the part of it that falls to the channels c0 .. c0 + width.
template <class S>
HB_INLINE void fetch_band(const S* image, const BandShape& b, int64_t h, int64_t p, int64_t c0,
                          int width) {
  if (p >= b.dst[1]) h += kBandRows, p = 0;
  const int64_t last = h * b.stride[0] - b.lo[0] + (kBandRows - 1) * b.stride[0] + b.kernel[0];
  const int64_t each = kBandPositions * b.stride[1];
  const int64_t first = (p * b.stride[1] - b.lo[1] + b.columns() - each) * b.c + c0 * each;
  const int64_t end = min64(first + each * width, b.src[1] * b.c);
  for (int64_t i = max64(0, last - kBandRows * b.stride[0]); i < min64(last, b.src[0]); ++i)
    for (int64_t at = first; at < end; at += 64 / int64_t(sizeof(S)))
      __builtin_prefetch(image + i * b.src[1] * b.c + at);
}

// y[n, h, p, ch] = epilogue(sum_tap x[n, at(h, p, tap), ch] * w[tap, ch]) for whole vectors of
// channels; the gradient to the input alike, with the taps from the last to the first.
template <class T, class S>
void depthwise_bands(const BandShape& b, bool gradient, int64_t samples, const S* x, const S* w,
                     const Epilogue<S>& epilogue, S* y) {
  with_band_constants(b, [&](auto k, auto stride) {
    constexpr int K = k, kStride = stride, kRows = BandShape::rows(K, kStride), L = kLanes<T>;
    const int64_t tap = gradient ? -b.c : b.c, tap_row = tap * b.kernel[1];
    const S* taps = gradient ? w + (K * b.kernel[1] - 1) * b.c : w;

    parallel_for(samples * b.bands(), [&](int64_t task, int) {
      const int64_t n = task / b.bands(), h = task % b.bands() * kBandRows;
      const int rows = int(min64(kBandRows, b.dst[0] - h));
      for (int64_t p = 0; p < b.dst[1]; p += kBandPositions) {
        const int64_t to = ((n * b.dst[0] + h) * b.dst[1] + p) * b.c;
        const Epilogue<S> e = epilogue.elements(to);
        const int64_t count = min64(kBandPositions, b.dst[1] - p);
        for (int64_t c0 = 0; c0 + L <= b.c; c0 += L) {
          S copy[kRows * BandShape::kMaxColumns * L];
          const BandPiece<S> from = band_piece<L>(
              x + n * b.src[0] * b.src[1] * b.c + c0, b.src, b.c, h * kStride - b.lo[0],
              p * b.stride[1] - b.lo[1], kRows, b.columns(), copy);
          fetch_band(x + n * b.src[0] * b.src[1] * b.c, b, h, p + kBandPositions, c0, L);
          const auto positions = [&](int64_t i, auto num) __attribute__((always_inline)) {
            constexpr int P = num;
            Vec<T> sum[P][kBandRows] = {};
            const int64_t next = b.stride[1] * from.column;
            const S *at = from.x + i * next, *wk = taps + c0;
            for (int64_t kw = 0; kw < b.kernel[1];
                 ++kw, at += b.dilation * from.column, wk += tap) {
              Vec<T> v[K];
#pragma GCC unroll 7
              for (int j = 0; j < K; ++j) v[j] = load_as<T>(wk + j * tap_row);
#pragma GCC unroll 13
              for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 2
                for (int q = 0; q < P; ++q) {
                  const Vec<T> xv = load_as<T>(at + row * from.row + q * next);
#pragma GCC unroll 4
                  for (int r = 0; r < kBandRows; ++r)
                    if (row >= r * kStride && row < r * kStride + K)
                      sum[q][r] += xv * v[row - r * kStride];
                }
            }
#pragma GCC unroll 4
            for (int r = 0; r < kBandRows; ++r) {
              if (r >= rows) break;
#pragma GCC unroll 2
              for (int q = 0; q < P; ++q) {
                const int64_t o = (r * b.dst[1] + i + q) * b.c + c0;
                store_as(y + to + o, e.template vector<T>(sum[q][r], c0, o));
              }
            }
          };
          int64_t i = 0;
          for (; i + 2 <= count; i += 2) positions(i, std::integral_constant<int, 2>());
          if (i < count) positions(i, std::integral_constant<int, 1>());
        }
      }
    });
  });
}

}  // namespace
}  // namespace hb::HB_ISA
