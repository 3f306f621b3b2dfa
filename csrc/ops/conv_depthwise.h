// Depthwise convolutions: every filter reads one channel, so there is no matrix product, and memory
// is the bound. Vectors run over channels. A multiplier m > 1 is reduced to m = 1 on o = c * m
// channels: x is repeated, or the gradient to x is summed over the repetitions.
#pragma once
#include "ops/conv.h"

namespace hb::HB_ISA {
namespace {

// y[n, p, ch] = activation(sum_tap x[n, at(p, tap), ch] * w[tap, ch] + bias[ch]), where at() is a
// table per axis of source coordinates, -1 outside. It serves the forward pass and the gradient to
// the input. A row of y per task: four positions and two vectors of channels at a time.
template <class T, class S>
class DepthwiseGather {
 public:
  void plan(const ConvShape& s, bool gradient) {
    n_ = s.n, c_ = s.o, relu_ = s.relu && !gradient;
    for (int a = 0; a < 3; ++a) {
      kernel_[a] = s.kernel[a];
      src_[a] = gradient ? s.out[a] : s.in[a];
      dst_[a] = gradient ? s.in[a] : s.out[a];
      int64_t* at = at_[a].allocate(dst_[a] * kernel_[a]);
      for (int64_t p = 0; p < dst_[a]; ++p)
        for (int64_t k = 0; k < kernel_[a]; ++k) {
          const int64_t stride = gradient ? s.stride[a] : 1;
          const int64_t x = gradient ? p + s.lo[a] - k * s.dilation[a]
                                     : p * s.stride[a] - s.lo[a] + k * s.dilation[a];
          const bool inside = x >= 0 && x % stride == 0 && x / stride < src_[a];
          at[p * kernel_[a] + k] = inside ? x / stride : -1;
        }
    }
  }

  template <class Out>
  void run(const S* x, const S* w, const S* bias, Out* y) const {
    parallel_for(n_ * dst_[0] * dst_[1], [&](int64_t row, int) {
      const int64_t h = row % dst_[1], d = row / dst_[1] % dst_[0], n = row / dst_[1] / dst_[0];
      const S* image = x + n * src_[0] * src_[1] * src_[2] * c_;
      Out* out = y + row * dst_[2] * c_;
      for (int64_t from = 0; from < dst_[2]; from += kPositions) {
        // The last positions of a row overlap those before; a row shorter than them repeats its
        // end.
        const int64_t p = max64(0, min64(from, dst_[2] - kPositions));
        const int count = int(min64(kPositions, dst_[2]));
        const int64_t* at[kPositions];
        bool inside = count == kPositions;
        for (int i = 0; i < kPositions; ++i) {
          at[i] = at_[2].get() + min64(p + i, dst_[2] - 1) * kernel_[2];
          for (int64_t k = 0; k < kernel_[2]; ++k) inside = inside && at[i][k] >= 0;
        }
        const Place<Out> place{image, w, bias, out + p * c_, at, count, d, h};
        int64_t c0 = 0;
        for (; c0 + 2 * L <= c_; c0 += 2 * L)
          inside ? vectors<2, true>(place, c0) : vectors<2, false>(place, c0);
        for (; c0 + L <= c_; c0 += L)
          inside ? vectors<1, true>(place, c0) : vectors<1, false>(place, c0);
        for (; c0 < c_; ++c0) scalar(place, c0);
      }
    });
  }

 private:
  static constexpr int L = kLanes<T>;
  static constexpr int kPositions = 4;

  // f(source row, filter row) for the filter rows that meet the image.
  template <class F>
  HB_INLINE void for_filter_rows(const S* image, const S* w, int64_t d, int64_t h,
                                 const F& f) const {
    for (int64_t kd = 0; kd < kernel_[0]; ++kd) {
      const int64_t sd = at_[0].get()[d * kernel_[0] + kd];
      if (sd < 0) continue;
      for (int64_t kh = 0; kh < kernel_[1]; ++kh) {
        const int64_t sh = at_[1].get()[h * kernel_[1] + kh];
        if (sh < 0) continue;
        f(image + (sd * src_[1] + sh) * src_[2] * c_, w + (kd * kernel_[1] + kh) * kernel_[2] * c_);
      }
    }
  }
  template <class Out>
  struct Place {
    const S *image, *w, *bias;
    Out* out;                  // at the first position
    const int64_t* const* at;  // [positions][filter width]
    int count;
    int64_t d, h;
  };
  // kInside: every tap of every position lies in the image. That is so only where neighbours are
  // equally far apart, for positions as for taps (between strides there are taps outside).
  template <int V, bool kInside, class Out>
  HB_INLINE void vectors(const Place<Out>& q, int64_t c0) const {
    Vec<T> acc[kPositions][V] = {};
    const int64_t first = q.at[0][0] * c_ + c0, position = (q.at[1][0] - q.at[0][0]) * c_;
    const int64_t step = kernel_[2] > 1 ? (q.at[0][1] - q.at[0][0]) * c_ : 0;
    for_filter_rows(q.image, q.w, q.d, q.h,
                    [&](const S* src, const S* taps) __attribute__((always_inline)) {
                      const S* x = src + first;
                      for (int64_t k = 0; k < kernel_[2]; ++k, x += step) {
                        Vec<T> tap[V];
#pragma GCC unroll 2
                        for (int v = 0; v < V; ++v) tap[v] = load_as<T>(taps + k * c_ + c0 + v * L);
#pragma GCC unroll 4
                        for (int i = 0; i < kPositions; ++i) {
                          if (!kInside && q.at[i][k] < 0) continue;
                          const S* xi = kInside ? x + i * position : src + q.at[i][k] * c_ + c0;
#pragma GCC unroll 2
                          for (int v = 0; v < V; ++v) acc[i][v] += load_as<T>(xi + v * L) * tap[v];
                        }
                      }
                    });
#pragma GCC unroll 4
    for (int i = 0; i < kPositions; ++i) {
      if (i >= q.count) break;
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        Vec<T> y = acc[i][v];
        if (q.bias) y += load_as<T>(q.bias + c0 + v * L);
        store_as(q.out + i * c_ + c0 + v * L, relu_ ? (y < Vec<T>{} ? Vec<T>{} : y) : y);
      }
    }
  }
  template <class Out>
  HB_INLINE void scalar(const Place<Out>& q, int64_t c) const {
    for (int i = 0; i < q.count; ++i) {
      T v = 0;
      for_filter_rows(q.image, q.w, q.d, q.h,
                      [&](const S* src, const S* taps) __attribute__((always_inline)) {
                        for (int64_t k = 0; k < kernel_[2]; ++k)
                          if (q.at[i][k] >= 0)
                            v += T(widen(src[q.at[i][k] * c_ + c])) * T(widen(taps[k * c_ + c]));
                      });
      if (q.bias) v += widen(q.bias[c]);
      narrow(relu_ && v < T(0) ? T(0) : v, q.out[i * c_ + c]);
    }
  }

  int64_t n_ = 0, c_ = 0, src_[3] = {}, dst_[3] = {}, kernel_[3] = {};
  bool relu_ = false;
  Zeros<int64_t> at_[3];
};

// y[p, ch * m + j] = x[p, ch]
template <class S>
void repeat_channels(const S* x, S* y, int64_t pixels, int64_t c, int64_t m) {
  const int64_t block = max64(1, 16384 / (c * m));
  parallel_for(ceil_div(pixels, block), [&](int64_t t, int) {
    for (int64_t i = t * block * c; i < min64(pixels, (t + 1) * block) * c; ++i)
      for (int64_t j = 0; j < m; ++j) y[i * m + j] = x[i];
  });
}

// y[p, ch] = sum_j x[p, ch * m + j]
template <class T, class S>
void sum_channels(const T* x, S* y, int64_t pixels, int64_t c, int64_t m) {
  const int64_t block = max64(1, 16384 / (c * m));
  parallel_for(ceil_div(pixels, block), [&](int64_t t, int) {
    for (int64_t i = t * block * c; i < min64(pixels, (t + 1) * block) * c; ++i) {
      T v = x[i * m];
      for (int64_t j = 1; j < m; ++j) v += x[i * m + j];
      narrow(v, y[i]);
    }
  });
}

// dw[tap, ch] = sum_p x[n, p * stride - lo + tap * dilation, ch] * dy[n, p, ch].
// Rows of dy are cut into parts by their number only; each part sums into scratch of its own, and
// the parts are added in order.
template <class T, class S>
class DepthwiseFilter {
 public:
  explicit DepthwiseFilter(const ConvShape& s) : s_(s) {
    const int64_t rows = s.n * s.out[0] * s.out[1];
    part_rows_ = max64(1, ceil_div(rows, kParts));
    parts_ = ceil_div(rows, part_rows_);
  }
  int64_t scratch_elements() const { return parts_ * s_.taps() * s_.o; }

  // x: [n, in, o], repeated over the multiplier.
  void run(const S* x, const S* dy, S* dw, T* scratch) const {
    const int64_t size = s_.taps() * s_.o;
    parallel_for(parts_, [&](int64_t part, int) {
      T* sum = scratch + part * size;
      for (int64_t i = 0; i < size; ++i) sum[i] = T(0);
      const int64_t rows = s_.n * s_.out[0] * s_.out[1];
      for (int64_t r = part * part_rows_; r < min64(rows, (part + 1) * part_rows_); ++r)
        add_row(x, dy + r * s_.out[2] * s_.o, sum, r);
    });
    for (int64_t i = 0; i < size; ++i) {
      T v = 0;
      for (int64_t part = 0; part < parts_; ++part) v += scratch[part * size + i];
      narrow(v, dw[i]);
    }
  }

 private:
  static constexpr int L = kLanes<T>;
  static constexpr int64_t kParts = 32;

  HB_INLINE void add_row(const S* x, const S* dy, T* sum, int64_t row) const {
    const int64_t h = row % s_.out[1], d = row / s_.out[1] % s_.out[0];
    const int64_t n = row / s_.out[1] / s_.out[0], c = s_.o;
    for (int64_t kd = 0; kd < s_.kernel[0]; ++kd)
      for (int64_t kh = 0; kh < s_.kernel[1]; ++kh) {
        const int64_t sd = d * s_.stride[0] - s_.lo[0] + kd * s_.dilation[0];
        const int64_t sh = h * s_.stride[1] - s_.lo[1] + kh * s_.dilation[1];
        if (sd < 0 || sd >= s_.in[0] || sh < 0 || sh >= s_.in[1]) continue;
        const S* src = x + ((n * s_.in[0] + sd) * s_.in[1] + sh) * s_.in[2] * c;
        T* taps = sum + (kd * s_.kernel[1] + kh) * s_.kernel[2] * c;
        for (int64_t kw = 0; kw < s_.kernel[2]; ++kw) add_tap(src, dy, taps + kw * c, kw);
      }
  }
  void add_tap(const S* src, const S* dy, T* sum, int64_t kw) const {
    const int64_t w0 = kw * s_.dilation[2] - s_.lo[2], stride = s_.stride[2], c = s_.o;
    const int64_t begin = min64(s_.out[2], w0 < 0 ? ceil_div(-w0, stride) : 0);
    const int64_t end = min64(s_.out[2], w0 < s_.in[2] ? ceil_div(s_.in[2] - w0, stride) : 0);
    for (int64_t c0 = 0; c0 < c;) {
      const S* xs = src + (begin * stride + w0) * c + c0;
      const S* ds = dy + begin * c + c0;
      if (c0 + 4 * L <= c) {
        c0 += add_vectors<4>(xs, ds, sum + c0, end - begin, stride);
      } else if (c0 + L <= c) {
        c0 += add_vectors<1>(xs, ds, sum + c0, end - begin, stride);
      } else {
        T v = 0;
        for (int64_t p = 0; p < end - begin; ++p)
          v += T(widen(xs[p * stride * c])) * T(widen(ds[p * c]));
        sum[c0++] += v;
      }
    }
  }
  template <int V>
  HB_INLINE int64_t add_vectors(const S* x, const S* dy, T* sum, int64_t count,
                                int64_t stride) const {
    const int64_t c = s_.o;
    Vec<T> acc[V] = {};
    for (int64_t p = 0; p < count; ++p)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v)
        acc[v] += load_as<T>(x + p * stride * c + v * L) * load_as<T>(dy + p * c + v * L);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(sum + v * L, load(sum + v * L) + acc[v]);
    return V * L;
  }

  ConvShape s_;
  int64_t part_rows_ = 1, parts_ = 1;
};

}  // namespace
}  // namespace hb::HB_ISA
