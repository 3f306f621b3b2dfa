// Pooling and its gradients on CUDA; the contract is that of pool.cc. One thread makes one element.
// The gradients gather: a thread goes through the windows that hold its element, so nothing is
// added atomically. Whether an element is the first maximum of a window is looked up again in the
// window.
#include "cuda/kernel.cuh"

namespace hb::cuda {
namespace {

struct Pooling {
  int64_t batch, channels;
  int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1};
  int64_t size[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, before[3] = {0, 0, 0};
  bool relu;  // max_pool_grad: through a ReLU before the pooling, too
  Pooling(const TensorSpec& x, const TensorSpec& y, const Attrs& attrs) {
    const int dims = x.rank - 2, skip = 3 - dims;
    const IntList k = attr_ints(attrs, "pool_size"), s = attr_ints(attrs, "strides"),
                  p = attr_ints(attrs, "padding");
    if (dims < 1 || dims > 3 || k.size != dims || s.size != dims || p.size != 2 * dims)
      fail("pooling: 1 to 3 spatial dimensions with a size, a stride and two paddings each");
    relu = attr_has(attrs, "activation") && strcmp(attr_str(attrs, "activation"), "relu") == 0;
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
  int64_t inputs() const { return batch * in[0] * in[1] * in[2] * channels; }
  int64_t outputs() const { return batch * out[0] * out[1] * out[2] * channels; }
};

// Element e of a tensor [batch, *extent, channels].
struct Place {
  int64_t n, at[3], channel;
  __device__ Place(int64_t e, const int64_t* extent, int64_t channels) {
    channel = e % channels;
    e /= channels;
    for (int d = 2; d >= 0; --d) {
      at[d] = e % extent[d];
      e /= extent[d];
    }
    n = e;
  }
};

// Calls f(offset in x) for the elements of the window of an output, in order, until it says stop.
template <class F>
__device__ void each_in_window(const Pooling& p, const Place& o, F& f) {
  int64_t begin[3], end[3];
  for (int d = 0; d < 3; ++d) {
    const int64_t start = o.at[d] * p.stride[d] - p.before[d];
    begin[d] = start > 0 ? start : 0;
    end[d] = start + p.size[d] < p.in[d] ? start + p.size[d] : p.in[d];
  }
  for (int64_t a = begin[0]; a < end[0]; ++a)
    for (int64_t b = begin[1]; b < end[1]; ++b)
      for (int64_t c = begin[2]; c < end[2]; ++c)
        if (f.stop(((((o.n * p.in[0] + a) * p.in[1] + b) * p.in[2] + c) * p.channels) + o.channel))
          return;
}

template <class T>
struct Largest {
  typedef Compute<T> C;
  const T* x;
  C best = lowest<C>();
  __device__ bool stop(int64_t at) {
    const C v = widened(x[at]);
    best = v > best || v != v ? v : best;
    return false;
  }
};
template <class T>
struct Total {
  const T* x;
  Compute<T> sum = 0;
  int64_t count = 0;
  __device__ bool stop(int64_t at) {
    if (x) sum += widened(x[at]);
    ++count;
    return false;
  }
};
template <class T>
struct First {  // the first element that attains the maximum
  const T* x;
  Compute<T> maximum;
  int64_t found = -1;
  __device__ bool stop(int64_t at) {
    const Compute<T> v = widened(x[at]);
    if (v == maximum || v != v) found = at;
    return found >= 0;
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    max_windows(T* y, const T* x, const Pooling p, int64_t total) {
  HB_EACH(e, total) {
    Largest<T> f{x};
    each_in_window(p, Place(e, p.out, p.channels), f);
    y[e] = narrowed<T>(f.best);
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    average_windows(T* y, const T* x, const Pooling p, int64_t total) {
  typedef Compute<T> C;
  HB_EACH(e, total) {
    Total<T> f{x};
    each_in_window(p, Place(e, p.out, p.channels), f);
    y[e] = narrowed<T>(f.sum * (C(1) / C(f.count > 0 ? f.count : 1)));
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    pick_maxima(T* picked, const T* x, const T* y, const T* z, const Pooling p, int64_t total) {
  HB_EACH(e, total) {
    First<T> f{x, widened(y[e])};
    each_in_window(p, Place(e, p.out, p.channels), f);
    picked[e] = f.found >= 0 ? z[f.found] : narrowed<T>(Compute<T>(0));
  }
}

// dx[e] = sum over the windows that hold e, in order. kMax: of dy where e is the first maximum;
// else of an equal share of dy.
template <bool kMax, class T>
__global__ void __launch_bounds__(kThreads)
    spread_windows(T* dx, const T* x, const T* y, const T* dy, const Pooling p, int64_t total) {
  typedef Compute<T> C;
  HB_EACH(e, total) {
    Place i(e, p.in, p.channels), o = i;
    int64_t first[3], last[3];
    for (int d = 0; d < 3; ++d) {
      const int64_t at = i.at[d] + p.before[d], low = at - p.size[d] + 1;
      first[d] = low > 0 ? (low + p.stride[d] - 1) / p.stride[d] : 0;
      last[d] = at / p.stride[d] < p.out[d] - 1 ? at / p.stride[d] : p.out[d] - 1;
    }
    C sum = 0;
    for (o.at[0] = first[0]; o.at[0] <= last[0]; ++o.at[0])
      for (o.at[1] = first[1]; o.at[1] <= last[1]; ++o.at[1])
        for (o.at[2] = first[2]; o.at[2] <= last[2]; ++o.at[2]) {
          const int64_t at =
              (((o.n * p.out[0] + o.at[0]) * p.out[1] + o.at[1]) * p.out[2] + o.at[2]) *
                  p.channels +
              o.channel;
          if (kMax) {
            First<T> f{x, widened(y[at])};
            if (p.relu && !(f.maximum > C(0))) continue;
            each_in_window(p, o, f);
            if (f.found == e) sum += widened(dy[at]);
          } else {
            Total<T> f{nullptr};
            each_in_window(p, o, f);
            sum += widened(dy[at]) * (C(1) / C(f.count));
          }
        }
    dx[e] = narrowed<T>(sum);
  }
}

template <class T>
const T* in(const Call& c, int i) {
  return static_cast<const T*>(c.inputs[i]);
}
template <class F>
void with_number(DType t, const F& f) {
  with_type(t, [&]<class T>() {
    if constexpr (!std::is_same_v<T, Bool>) f.template operator()<T>();
  });
}

// The op named by `op` on windows of x and y: `kernel` has a thread for each element of its result.
#define HB_POOL(op, Type, dtypes, x_spec, y_spec, with, elements, kernel, ...)                     \
  struct Type {                                                                                    \
    Pooling pool;                                                                                  \
    DType dtype;                                                                                   \
    explicit Type(Prepare& p) : pool(p.x_spec, p.y_spec, *p.attrs), dtype(p.inputs[0].dtype) {}    \
    void run(const Call& c) const {                                                                \
      const int64_t total = pool.elements();                                                       \
      if (total == 0) return;                                                                      \
      with(dtype, [&]<class T>() {                                                                 \
        launch(blocks_for(total), dim3(kThreads), c.stream, kernel, static_cast<T*>(c.outputs[0]), \
               __VA_ARGS__, pool, total);                                                          \
      });                                                                                          \
    }                                                                                              \
  };                                                                                               \
  HB_CUDA_KERNEL(op, Type, dtypes)

HB_POOL(max_pool, MaxPool, kAllDTypes & ~kBool, inputs[0], outputs[0], with_number, outputs,
        max_windows<T>, in<T>(c, 0))
HB_POOL(average_pool, AveragePool, kAllFloat, inputs[0], outputs[0], with_float_type, outputs,
        average_windows<T>, in<T>(c, 0))
HB_POOL(max_pool_pick, MaxPoolPick, kAllFloat, inputs[0], inputs[1], with_float_type, outputs,
        pick_maxima<T>, in<T>(c, 0), in<T>(c, 1), in<T>(c, 2))
constexpr bool kMax = true;
HB_POOL(max_pool_grad, MaxPoolGrad, kAllFloat, inputs[0], inputs[1], with_float_type, inputs,
        (spread_windows<kMax, T>), in<T>(c, 0), in<T>(c, 1), in<T>(c, 2))
HB_POOL(average_pool_grad, AveragePoolGrad, kAllFloat, outputs[0], inputs[0], with_float_type,
        inputs, (spread_windows<!kMax, T>), static_cast<const T*>(nullptr),
        static_cast<const T*>(nullptr), in<T>(c, 0))

}  // namespace
}  // namespace hb::cuda
