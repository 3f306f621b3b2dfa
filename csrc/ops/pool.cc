// Pooling over windows of 1 to 3 spatial dimensions, channels last, and the gradients.
//
//   x: [N, *S, C], y: [N, *O, C]; attributes pool_size, strides (one per dimension) and padding
//   (two per dimension: before, after).
//
// Padding takes no part: a maximum is taken over, and an average divided by, the elements inside.
// A window without any gives the lowest value, or 0. The gradient of a maximum goes to the first
// element that attains it. Vectors run over channels, which lie contiguously; what a window sums up
// stays in registers. A task is one line of outputs; where windows overlap, a gradient's task is
// one sample and block of channels, which adds. So results do not depend on the number of threads.
//
// Floor: memory. Forward: reads x, writes y; gradient of a maximum: reads x, y, dy, writes dx
// (once, where windows do not overlap).
#include <string.h>

#include <type_traits>

#include "ops/element.h"
#include "simd/half.h"

HB_KERNELS_BEGIN

// f with a value of the type that stores `dtype`.
template <class F>
void with_pooled_float(DType dtype, const F& f) {
  if (dtype == DType::F16) return f(f16{});
  if (dtype == DType::BF16) return f(bf16{});
  with_float_type(dtype, [&](auto t) {
    if constexpr (sizeof(t) >= 4) f(t);
  });
}
template <class F>
void with_pooled(DType dtype, const F& f) {
  if (dtype == DType::F16 || dtype == DType::BF16) return with_pooled_float(dtype, f);
  with_type(dtype, [&](auto t) {
    if constexpr (requires { t < t; }) f(t);
  });
}

// Channels side by side: a vector of the computing type, or one of them.
template <class V, class S>
HB_INLINE V get(const S* p) {
  if constexpr (requires(V v) { v[0]; })
    return load_as<std::remove_cvref_t<decltype(V{}[0])>>(p);
  else
    return widen(*p);
}
template <class V, class S>
HB_INLINE void put(S* p, V v) {
  if constexpr (requires { v[0]; })
    store_as(p, v);
  else
    narrow(v, *p);
}

struct Pooling {
  int64_t batch, channels;
  int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1};
  int64_t size[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, before[3] = {0, 0, 0};
  bool apart = true;    // no element lies in two windows
  bool covered = true;  // every element lies in one window
  bool square;          // windows are squares of two by two, apart and without padding
  DType dtype;

  Pooling(const TensorSpec& x, const TensorSpec& y, const Attrs& attrs) : dtype(x.dtype) {
    const int dims = x.rank - 2, skip = 3 - dims;
    IntList k = attr_ints(attrs, "pool_size"), s = attr_ints(attrs, "strides"),
            p = attr_ints(attrs, "padding");
    if (dims < 1 || dims > 3 || k.size != dims || s.size != dims || p.size != 2 * dims) {
      fail("pooling: 1 to 3 spatial dimensions with a size, a stride and two paddings each");
    }
    batch = x.shape[0];
    channels = x.shape[x.rank - 1];
    for (int i = 0; i < dims; ++i) {
      in[skip + i] = x.shape[1 + i];
      out[skip + i] = y.shape[1 + i];
      size[skip + i] = k.data[i];
      stride[skip + i] = s.data[i];
      before[skip + i] = p.data[2 * i];
      apart = apart && s.data[i] >= k.data[i];
    }
    square = size[0] == 1 && stride[0] == 1 && in[0] == out[0];
    for (int d = 0; d < 3; ++d) {
      covered = covered && size[d] == stride[d] && before[d] == 0 && in[d] == out[d] * size[d];
      square = square && before[d] == 0;
      if (d > 0) square = square && size[d] == 2 && stride[d] == 2 && 2 * out[d] <= in[d];
    }
  }

  struct Range {
    int64_t begin, end;
  };
  HB_INLINE Range window(int d, int64_t o) const {
    const int64_t start = o * stride[d] - before[d];
    return {min_of(in[d], max_of(start, int64_t(0))),
            max_of(int64_t(0), min_of(start + size[d], in[d]))};
  }
  HB_INLINE int64_t in_size() const { return in[0] * in[1] * in[2]; }
  HB_INLINE int64_t line_size() const { return in[2] * channels; }

  // The elements of a window, from its first on, at the first channel of a block.
  struct Window {
    int64_t count[3], step[3];
    HB_INLINE int64_t elements() const { return count[0] * count[1] * count[2]; }
    template <class F>
    HB_INLINE void each(const F& f) const {
      for (int64_t i0 = 0; i0 < count[0]; ++i0)
        for (int64_t i1 = 0; i1 < count[1]; ++i1) {
          int64_t at = i0 * step[0] + i1 * step[1];
          for (int64_t i2 = 0; i2 < count[2]; ++i2, at += step[2]) f(at);
        }
    }
  };

  // The same for `square`, with no loop.
  struct Square {
    int64_t right, down;
    HB_INLINE int64_t elements() const { return 4; }
    template <class F>
    HB_INLINE void each(const F& f) const {
      f(0), f(right), f(down), f(down + right);
    }
  };

  // body.template operator()<V, K>(window, offset of its first element, offset in y) for channels
  // [c0, c1), which are taken by K vectors V, by single vectors and one by one.
  template <class C, class W, class F>
  HB_INLINE static void channels_of(const W& w, int64_t x, int64_t y, int64_t c0, int64_t c1,
                                    const F& body) {
    constexpr int L = kLanes<C>;
    int64_t c = c0;
    for (; c + 4 * L <= c1; c += 4 * L) body.template operator()<Vec<C>, 4>(w, x + c, y + c);
    if (c + 2 * L <= c1) {
      body.template operator()<Vec<C>, 2>(w, x + c, y + c);
      c += 2 * L;
    }
    if (c + L <= c1) {
      body.template operator()<Vec<C>, 1>(w, x + c, y + c);
      c += L;
    }
    for (; c < c1; ++c) body.template operator()<C, 1>(w, x + c, y + c);
  }
  // The same for all windows of line `row` of outputs.
  template <class S, class F>
  HB_INLINE void line(int64_t row, int64_t c0, int64_t c1, const F& body) const {
    typedef decltype(widen(S())) C;
    const int64_t o1 = row % out[1], o0 = row / out[1] % out[0], n = row / out[1] / out[0];
    const Range r0 = window(0, o0), r1 = window(1, o1);
    const int64_t start = ((n * in[0] + r0.begin) * in[1] + r1.begin) * in[2];
    int64_t x = start * channels, y = row * out[2] * channels;
    if (square) {
      const Square w{channels, line_size()};
      for (int64_t o2 = 0; o2 < out[2]; ++o2, x += 2 * channels, y += channels)
        channels_of<C>(w, x, y, c0, c1, body);
      return;
    }
    Window w{{max_of(int64_t(0), r0.end - r0.begin), max_of(int64_t(0), r1.end - r1.begin), 0},
             {in[1] * line_size(), line_size(), channels}};
    for (int64_t o2 = 0; o2 < out[2]; ++o2, y += channels) {
      const Range r2 = window(2, o2);
      w.count[2] = max_of(int64_t(0), r2.end - r2.begin);
      channels_of<C>(w, x + r2.begin * channels, y, c0, c1, body);
    }
  }

  // f(row) for all lines of outputs, in parallel.
  template <class F>
  void each_row(const F& f) const {
    const int64_t rows = batch * out[0] * out[1];
    const int64_t cost = out[2] * channels * size[0] * size[1] * size[2];
    const int64_t per_task = (32 << 10) / (cost + 1) + 1;
    parallel_for((rows + per_task - 1) / per_task, [&](int64_t task, int) {
      for (int64_t u = task * per_task; u < min_of(rows, (task + 1) * per_task); ++u) f(u);
    });
  }
  template <class S, class F>
  void each_line(const F& body) const {
    each_row([&](int64_t row) { line<S>(row, 0, channels, body); });
  }

  // The same for a gradient, which writes dx where windows lie apart and else adds to it.
  // body.template operator()<V, K, kAdd>.
  template <class S, class F>
  void each_gradient(S* dx, const F& body) const {
    if (apart) {
      each_row([&](int64_t row) {
        if (!covered) clear_around(row, dx);
        line<S>(row, 0, channels, [&]<class V, int K>(const auto& w, int64_t x, int64_t y) {
          body.template operator()<V, K, false>(w, x, y);
        });
      });
      return;
    }
    const int64_t blocks = (channels + kBlock - 1) / kBlock;
    parallel_for(batch * blocks, [&](int64_t task, int) {
      const int64_t n = task / blocks, c0 = task % blocks * kBlock;
      const int64_t c1 = min_of(channels, c0 + kBlock);
      // Lines of dx are cleared shortly before they are first added to.
      int64_t cleared = 0;
      const auto clear = [&](int64_t lines) {
        for (; cleared < lines; ++cleared) {
          S* to = dx + (n * in[0] * in[1] + cleared) * line_size() + c0;
          for (int64_t i = 0; i < in[2]; ++i)
            memset(to + i * channels, 0, size_t(c1 - c0) * sizeof(S));
        }
      };
      for (int64_t o = 0; o < out[0] * out[1]; ++o) {
        const Range r0 = window(0, o / out[1]), r1 = window(1, o % out[1]);
        if (r0.begin < r0.end) clear((r0.end - 1) * in[1] + r1.end);
        line<S>(n * out[0] * out[1] + o, c0, c1,
                [&]<class V, int K>(const auto& w, int64_t x, int64_t y) {
                  body.template operator()<V, K, true>(w, x, y);
                });
      }
      clear(in[0] * in[1]);
    });
  }

 private:
  static constexpr int64_t kBlock = 64;

  // What belongs to output o of an axis: its window and what lies before the next one.
  HB_INLINE Range strip(int d, int64_t o) const {
    return {o == 0 ? 0 : window(d, o).begin, o + 1 == out[d] ? in[d] : window(d, o + 1).begin};
  }
  // Clears what lies in the strips of a line of outputs and in none of its windows.
  template <class S>
  void clear_around(int64_t row, S* dx) const {
    const int64_t o1 = row % out[1], o0 = row / out[1] % out[0], n = row / out[1] / out[0];
    const Range r0 = window(0, o0), r1 = window(1, o1), s0 = strip(0, o0), s1 = strip(1, o1);
    for (int64_t i0 = s0.begin; i0 < s0.end; ++i0)
      for (int64_t i1 = s1.begin; i1 < s1.end; ++i1) {
        S* to = dx + ((n * in[0] + i0) * in[1] + i1) * line_size();
        const auto clear = [&](int64_t begin, int64_t end) {
          if (begin < end)
            memset(to + begin * channels, 0, size_t((end - begin) * channels) * sizeof(S));
        };
        if (i0 < r0.begin || i0 >= r0.end || i1 < r1.begin || i1 >= r1.end) {
          clear(0, in[2]);
          continue;
        }
        for (int64_t o2 = 0; o2 < out[2]; ++o2) {
          const Range r2 = window(2, o2), s2 = strip(2, o2);
          clear(s2.begin, min_of(s2.end, r2.begin));
          clear(max_of(s2.begin, r2.end), s2.end);
        }
      }
  }
};

template <class V>
constexpr int kStep = 1;
template <class V>
  requires requires(V v) { v[0]; }
constexpr int kStep<V> = int(sizeof(V) / sizeof(V{}[0]));

struct MaxPool {
  Pooling pool;
  explicit MaxPool(Prepare& p) : pool(p.inputs[0], p.outputs[0], *p.attrs) {}
  void run(const Call& call) const {
    with_pooled(pool.dtype, [&]<class S>(S) {
      typedef decltype(widen(S())) C;
      const S* from = static_cast<const S*>(call.inputs[0]);
      S* to = static_cast<S*>(call.outputs[0]);
      pool.each_line<S>([&]<class V, int K>(const auto& w, int64_t x, int64_t y) {
        V best[K], nan[K];  // nan: any there is
#pragma GCC unroll 4
        for (int k = 0; k < K; ++k) best[k] = V{} + Limits<C>::lowest(), nan[k] = V{};
        w.each([&](int64_t at) __attribute__((always_inline)) {
#pragma GCC unroll 4
          for (int k = 0; k < K; ++k) {
            const V v = get<V>(from + x + at + k * kStep<V>);
            best[k] = v > best[k] ? v : best[k];
            nan[k] = v != v ? v : nan[k];
          }
        });
#pragma GCC unroll 4
        for (int k = 0; k < K; ++k)
          put<V>(to + y + k * kStep<V>, nan[k] != nan[k] ? nan[k] : best[k]);
      });
    });
  }
};
HB_CPU_KERNEL(max_pool, MaxPool, kAllDTypes & ~kBool)

// inputs: x, y, dy. dx[e] = sum of dy over the windows whose maximum is e. With activation "relu",
// x is the result of a ReLU, and dx is the gradient to what went in there.
struct MaxPoolGrad {
  Pooling pool;
  bool relu = false;
  explicit MaxPoolGrad(Prepare& p) : pool(p.inputs[0], p.inputs[1], *p.attrs) {
    if (attr_has(*p.attrs, "activation")) relu = !strcmp(attr_str(*p.attrs, "activation"), "relu");
  }
  void run(const Call& call) const {
    with_pooled_float(pool.dtype, [&]<class S>(S) {
      const S* from = static_cast<const S*>(call.inputs[0]);
      const S* top = static_cast<const S*>(call.inputs[1]);
      const S* dtop = static_cast<const S*>(call.inputs[2]);
      S* to = static_cast<S*>(call.outputs[0]);
      pool.each_gradient(to, [&]<class V, int K, bool kAdd>(const auto& w, int64_t x, int64_t y) {
        V m[K], rest[K];  // what no element has got yet
#pragma GCC unroll 4
        for (int k = 0; k < K; ++k) {
          m[k] = get<V>(top + y + k * kStep<V>);
          rest[k] = get<V>(dtop + y + k * kStep<V>);
          if (relu) rest[k] = m[k] > V{} ? rest[k] : V{};
        }
        w.each([&](int64_t at) __attribute__((always_inline)) {
#pragma GCC unroll 4
          for (int k = 0; k < K; ++k) {
            const int64_t i = x + at + k * kStep<V>;
            const V v = get<V>(from + i);
            const auto hit = (v == m[k]) | (v != v);
            const V d = hit ? rest[k] : V{};
            rest[k] = hit ? V{} : rest[k];
            put<V>(to + i, kAdd ? get<V>(to + i) + d : d);
          }
        });
      });
    });
  }
};
HB_CPU_KERNEL(max_pool_grad, MaxPoolGrad, kAllFloat)

// inputs: x, y, z (shaped like x). The elements of z that stand where the maxima of x stand: the
// transpose of max_pool_grad, for second derivatives.
struct MaxPoolPick {
  Pooling pool;
  explicit MaxPoolPick(Prepare& p) : pool(p.inputs[0], p.inputs[1], *p.attrs) {}
  void run(const Call& call) const {
    with_pooled_float(pool.dtype, [&]<class S>(S) {
      typedef decltype(widen(S())) C;
      const S* from = static_cast<const S*>(call.inputs[0]);
      const S* top = static_cast<const S*>(call.inputs[1]);
      const S* z = static_cast<const S*>(call.inputs[2]);
      S* to = static_cast<S*>(call.outputs[0]);
      pool.each_line<S>([&]<class V, int K>(const auto& w, int64_t x, int64_t y) {
        V m[K], open[K], picked[K];
#pragma GCC unroll 4
        for (int k = 0; k < K; ++k) {
          m[k] = get<V>(top + y + k * kStep<V>);
          open[k] = V{} + C(1), picked[k] = V{};
        }
        w.each([&](int64_t at) __attribute__((always_inline)) {
#pragma GCC unroll 4
          for (int k = 0; k < K; ++k) {
            const int64_t i = x + at + k * kStep<V>;
            const V v = get<V>(from + i);
            const auto hit = ((v == m[k]) | (v != v)) & (open[k] != V{});
            picked[k] = hit ? get<V>(z + i) : picked[k];
            open[k] = hit ? V{} : open[k];
          }
        });
#pragma GCC unroll 4
        for (int k = 0; k < K; ++k) put<V>(to + y + k * kStep<V>, picked[k]);
      });
    });
  }
};
HB_CPU_KERNEL(max_pool_pick, MaxPoolPick, kAllFloat)

struct AveragePool {
  Pooling pool;
  explicit AveragePool(Prepare& p) : pool(p.inputs[0], p.outputs[0], *p.attrs) {}
  void run(const Call& call) const {
    with_pooled_float(pool.dtype, [&]<class S>(S) {
      typedef decltype(widen(S())) C;
      const S* from = static_cast<const S*>(call.inputs[0]);
      S* to = static_cast<S*>(call.outputs[0]);
      pool.each_line<S>([&]<class V, int K>(const auto& w, int64_t x, int64_t y) {
        V sum[K] = {};
        w.each([&](int64_t at) __attribute__((always_inline)) {
#pragma GCC unroll 4
          for (int k = 0; k < K; ++k) sum[k] += get<V>(from + x + at + k * kStep<V>);
        });
        const C share = C(1) / C(max_of(int64_t(1), w.elements()));
#pragma GCC unroll 4
        for (int k = 0; k < K; ++k) put<V>(to + y + k * kStep<V>, sum[k] * share);
      });
    });
  }
};
HB_CPU_KERNEL(average_pool, AveragePool, kAllFloat)

// input: dy. Every element of a window gets an equal share of its dy.
struct AveragePoolGrad {
  Pooling pool;
  explicit AveragePoolGrad(Prepare& p) : pool(p.outputs[0], p.inputs[0], *p.attrs) {}
  void run(const Call& call) const {
    with_pooled_float(pool.dtype, [&]<class S>(S) {
      typedef decltype(widen(S())) C;
      const S* dtop = static_cast<const S*>(call.inputs[0]);
      S* to = static_cast<S*>(call.outputs[0]);
      pool.each_gradient(to, [&]<class V, int K, bool kAdd>(const auto& w, int64_t x, int64_t y) {
        const C share = C(1) / C(max_of(int64_t(1), w.elements()));
        V d[K];
#pragma GCC unroll 4
        for (int k = 0; k < K; ++k) d[k] = get<V>(dtop + y + k * kStep<V>) * share;
        w.each([&](int64_t at) __attribute__((always_inline)) {
#pragma GCC unroll 4
          for (int k = 0; k < K; ++k) {
            const int64_t i = x + at + k * kStep<V>;
            put<V>(to + i, kAdd ? get<V>(to + i) + d[k] : d[k]);
          }
        });
      });
    });
  }
};
HB_CPU_KERNEL(average_pool_grad, AveragePoolGrad, kAllFloat)

HB_KERNELS_END
