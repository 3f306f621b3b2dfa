// Pooling over windows of 1 to 3 spatial dimensions, channels last, and the gradients.
//
//   x: [N, *S, C], y: [N, *O, C]; attributes pool_size, strides (one per dimension) and padding
//   (two per dimension: before, after).
//
// Padding takes no part: a maximum is taken over, and an average divided by, the elements inside.
// A window without any gives the lowest value, or 0. The gradient of a maximum goes to the first
// element that attains it. Loops run over channels, which lie contiguously, in blocks that stay in
// registers or L1; a task is one line of outputs (forward) or one sample and block of channels
// (gradients, whose windows overlap), so results do not depend on the number of threads.
#include "ops/element.h"
#include "ops/strided_copy.h"

HB_KERNELS_BEGIN

struct Pooling {
  static constexpr int64_t kBlock = 64;
  int64_t batch, channels;
  int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1};
  int64_t size[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, before[3] = {0, 0, 0};
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
    }
  }

  struct Range {
    int64_t begin, end;
  };
  HB_INLINE Range window(int d, int64_t o) const {
    const int64_t start = o * stride[d] - before[d];
    return {max_of(start, int64_t(0)), min_of(start + size[d], in[d])};
  }
  HB_INLINE int64_t in_size() const { return in[0] * in[1] * in[2]; }
  HB_INLINE int64_t out_size() const { return out[0] * out[1] * out[2]; }

  // f(y_offset, channels_in_block, for_each) for all outputs of a line and blocks of channels;
  // for_each(g) calls g(x_offset) for the elements of the window, in order.
  template <class F>
  HB_INLINE void line(int64_t n, int64_t o0, int64_t o1, int64_t c0, int64_t c1, const F& f) const {
    const Range r0 = window(0, o0), r1 = window(1, o1);
    for (int64_t o2 = 0; o2 < out[2]; ++o2) {
      const Range r2 = window(2, o2);
      const int64_t y = (((n * out[0] + o0) * out[1] + o1) * out[2] + o2) * channels;
      for (int64_t c = c0; c < c1; c += kBlock) {
        f(y + c, min_of(kBlock, c1 - c), [&](const auto& g) __attribute__((always_inline)) {
          for (int64_t i0 = r0.begin; i0 < r0.end; ++i0) {
            for (int64_t i1 = r1.begin; i1 < r1.end; ++i1) {
              for (int64_t i2 = r2.begin; i2 < r2.end; ++i2) {
                g((((n * in[0] + i0) * in[1] + i1) * in[2] + i2) * channels + c);
              }
            }
          }
        });
      }
    }
  }

  template <class F>
  void each_line(const F& f) const {
    const int64_t lines = batch * out[0] * out[1];
    const int64_t cost = out[2] * channels * size[0] * size[1] * size[2];
    const int64_t per_task = (32 << 10) / (cost + 1) + 1;
    parallel_for((lines + per_task - 1) / per_task, [&](int64_t task, int) {
      const int64_t end = min_of(lines, (task + 1) * per_task);
      for (int64_t u = task * per_task; u < end; ++u) {
        line(u / (out[0] * out[1]), u / out[1] % out[0], u % out[1], 0, channels, f);
      }
    });
  }
  // One task per sample and block of channels; f as above.
  template <class F>
  void each_sample(const F& f) const {
    const int64_t blocks = (channels + kBlock - 1) / kBlock;
    parallel_for(batch * blocks, [&](int64_t task, int) {
      const int64_t n = task / blocks, c = task % blocks * kBlock;
      for (int64_t o0 = 0; o0 < out[0]; ++o0) {
        for (int64_t o1 = 0; o1 < out[1]; ++o1) {
          line(n, o0, o1, c, min_of(channels, c + kBlock), f);
        }
      }
    });
  }
};

struct MaxPool {
  Pooling pool;
  explicit MaxPool(Prepare& p) : pool(p.inputs[0], p.outputs[0], *p.attrs) {}
  void run(const Call& c) const {
    with_type(pool.dtype, [&]<class T>(T) {
      typedef Compute<T> C;
      const T* x = static_cast<const T*>(c.inputs[0]);
      T* y = static_cast<T*>(c.outputs[0]);
      pool.each_line([&](int64_t at, int64_t width, const auto& for_each) {
        C best[Pooling::kBlock];
        for (int64_t i = 0; i < width; ++i) best[i] = Limits<C>::lowest();
        for_each([&](int64_t from) {
          for (int64_t i = 0; i < width; ++i) {
            const C v = widened(x[from + i]);
            best[i] = v > best[i] || v != v ? v : best[i];
          }
        });
        for (int64_t i = 0; i < width; ++i) y[at + i] = narrowed<T>(best[i]);
      });
    });
  }
};
HB_CPU_KERNEL(max_pool, MaxPool, kAllDTypes & ~kBool)

// For every element of a window and channel, f(x_offset, y_offset, i, hit): whether it is the first
// that attains the maximum. `open` is a number, not a truth value, to stay in full-width lanes.
template <class T, class F>
HB_INLINE void first_maxima(const T* x, const T* y, int64_t at, int64_t width, const auto& for_each,
                            const F& f) {
  typedef Compute<T> C;
  C open[Pooling::kBlock];
  for (int64_t i = 0; i < Pooling::kBlock; ++i) open[i] = C(1);
  for_each([&](int64_t from) __attribute__((always_inline)) {
    for (int64_t i = 0; i < width; ++i) {
      const C v = widened(x[from + i]), m = widened(y[at + i]);
      const C share = (v == m) | (v != v) ? open[i] : C(0);
      open[i] -= share;
      f(from + i, at + i, i, share != C(0));
    }
  });
}

// inputs: x, y, dy. dx[e] = sum of dy over the windows whose maximum is e.
struct MaxPoolGrad {
  Pooling pool;
  int64_t item;
  explicit MaxPoolGrad(Prepare& p)
      : pool(p.inputs[0], p.inputs[1], *p.attrs), item(int64_t(item_bytes(p.inputs[0].dtype))) {}
  void run(const Call& c) const {
    zero_fill(c.outputs[0], pool.batch * pool.in_size() * pool.channels * item);
    with_float_type(pool.dtype, [&]<class T>(T) {
      const T* x = static_cast<const T*>(c.inputs[0]);
      const T* y = static_cast<const T*>(c.inputs[1]);
      const T* dy = static_cast<const T*>(c.inputs[2]);
      T* dx = static_cast<T*>(c.outputs[0]);
      pool.each_sample([&](int64_t at, int64_t width, const auto& for_each) {
        first_maxima(x, y, at, width, for_each, [=](int64_t in, int64_t out, int64_t, bool hit) {
          const Compute<T> d = widened(dy[out]);
          dx[in] = narrowed<T>(widened(dx[in]) + (hit ? d : Compute<T>(0)));
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
  void run(const Call& c) const {
    with_float_type(pool.dtype, [&]<class T>(T) {
      const T* x = static_cast<const T*>(c.inputs[0]);
      const T* y = static_cast<const T*>(c.inputs[1]);
      const T* z = static_cast<const T*>(c.inputs[2]);
      T* picked = static_cast<T*>(c.outputs[0]);
      pool.each_line([&](int64_t at, int64_t width, const auto& for_each) {
        Compute<T> value[Pooling::kBlock] = {};
        first_maxima(x, y, at, width, for_each, [&](int64_t in, int64_t, int64_t i, bool hit) {
          value[i] = hit ? widened(z[in]) : value[i];
        });
        for (int64_t i = 0; i < width; ++i) picked[at + i] = narrowed<T>(value[i]);
      });
    });
  }
};
HB_CPU_KERNEL(max_pool_pick, MaxPoolPick, kAllFloat)

struct AveragePool {
  Pooling pool;
  explicit AveragePool(Prepare& p) : pool(p.inputs[0], p.outputs[0], *p.attrs) {}
  void run(const Call& c) const {
    with_float_type(pool.dtype, [&]<class T>(T) {
      typedef Compute<T> C;
      const T* x = static_cast<const T*>(c.inputs[0]);
      T* y = static_cast<T*>(c.outputs[0]);
      pool.each_line([&](int64_t at, int64_t width, const auto& for_each) {
        C sum[Pooling::kBlock] = {};
        int64_t count = 0;
        for_each([&](int64_t from) {
          for (int64_t i = 0; i < width; ++i) sum[i] += widened(x[from + i]);
          ++count;
        });
        const C share = C(1) / C(count > 0 ? count : 1);
        for (int64_t i = 0; i < width; ++i) y[at + i] = narrowed<T>(sum[i] * share);
      });
    });
  }
};
HB_CPU_KERNEL(average_pool, AveragePool, kAllFloat)

// input: dy. Every element of a window gets an equal share of its dy.
struct AveragePoolGrad {
  Pooling pool;
  int64_t item;
  explicit AveragePoolGrad(Prepare& p)
      : pool(p.outputs[0], p.inputs[0], *p.attrs), item(int64_t(item_bytes(p.inputs[0].dtype))) {}
  void run(const Call& c) const {
    zero_fill(c.outputs[0], pool.batch * pool.in_size() * pool.channels * item);
    with_float_type(pool.dtype, [&]<class T>(T) {
      typedef Compute<T> C;
      const T* dy = static_cast<const T*>(c.inputs[0]);
      T* dx = static_cast<T*>(c.outputs[0]);
      pool.each_sample([&](int64_t at, int64_t width, const auto& for_each) {
        int64_t count = 0;
        for_each([&](int64_t) { ++count; });
        const C share = C(1) / C(count > 0 ? count : 1);
        for_each([&](int64_t from) {
          for (int64_t i = 0; i < width; ++i) {
            dx[from + i] = narrowed<T>(widened(dx[from + i]) + widened(dy[at + i]) * share);
          }
        });
      });
    });
  }
};
HB_CPU_KERNEL(average_pool_grad, AveragePoolGrad, kAllFloat)

HB_KERNELS_END
