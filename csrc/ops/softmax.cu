// Softmax over the last axis and what is made of it, on CUDA: the ops of softmax.cc.
//
// A block takes a row at a time. Its threads keep to a fixed order of additions (every 256th
// element, then lanes of a warp, then warps), so results have the same bits run after run. Floor:
// one read and one write of memory; rows beyond the L1 cache are read up to three times.
#include "cuda/block.cuh"

namespace hb::cuda {
namespace {

template <class T>
__device__ Compute<T> row_max(const T* x, int64_t n) {
  Compute<T> m = lowest<Compute<T>>();
  for (int64_t i = threadIdx.x; i < n; i += kThreads) m = Larger::join(m, widened(x[i]));
  return over_block<Larger>(m);
}
template <class T>
__device__ Compute<T> exp_sum(const T* x, Compute<T> m, int64_t n) {
  Compute<T> s = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) s += exp(widened(x[i]) - m);
  return over_block<Add>(s);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    softmax_rows(T* y, const T* x, int64_t rows, int64_t n) {
  typedef Compute<T> C;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* from = x + r * n;
    const C m = row_max(from, n), scale = C(1) / exp_sum(from, m, n);
    // y may be x: every thread writes only what it alone reads from here on
    for (int64_t i = threadIdx.x; i < n; i += kThreads)
      y[r * n + i] = narrowed<T>(exp(widened(from[i]) - m) * scale);
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    log_softmax_rows(T* y, const T* x, int64_t rows, int64_t n) {
  typedef Compute<T> C;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* from = x + r * n;
    const C m = row_max(from, n), log_s = log(exp_sum(from, m, n));
    for (int64_t i = threadIdx.x; i < n; i += kThreads)
      y[r * n + i] = narrowed<T>(widened(from[i]) - m - log_s);
  }
}
// dx = y (dy - sum y dy)
template <class T>
__global__ void __launch_bounds__(kThreads)
    softmax_grad_rows(T* dx, const T* y, const T* dy, int64_t rows, int64_t n) {
  typedef Compute<T> C;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T *py = y + r * n, *pdy = dy + r * n;
    C total = 0;
    for (int64_t i = threadIdx.x; i < n; i += kThreads) total += widened(py[i]) * widened(pdy[i]);
    total = over_block<Add>(total);
    for (int64_t i = threadIdx.x; i < n; i += kThreads)
      dx[r * n + i] = narrowed<T>(widened(py[i]) * (widened(pdy[i]) - total));
  }
}
// dx = dy - e^y sum dy
template <class T>
__global__ void __launch_bounds__(kThreads)
    log_softmax_grad_rows(T* dx, const T* y, const T* dy, int64_t rows, int64_t n) {
  typedef Compute<T> C;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T *py = y + r * n, *pdy = dy + r * n;
    C total = 0;
    for (int64_t i = threadIdx.x; i < n; i += kThreads) total += widened(pdy[i]);
    total = over_block<Add>(total);
    for (int64_t i = threadIdx.x; i < n; i += kThreads)
      dx[r * n + i] = narrowed<T>(widened(pdy[i]) - exp(widened(py[i])) * total);
  }
}

__device__ bool label_is_valid(int32_t label, int64_t n, IndexError* errors) {
  if (label >= 0 && label < n) return true;
  if (threadIdx.x == 0) report_index(errors, label, -1, n);
  return false;
}
// loss = log sum e^(x - m) - (x[label] - m)
template <class T>
__global__ void __launch_bounds__(kThreads)
    sparse_loss(T* loss, const T* x, const int32_t* labels, int64_t rows, int64_t n,
                IndexError* errors) {
  typedef Compute<T> C;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* from = x + r * n;
    const C m = row_max(from, n), log_s = log(exp_sum(from, m, n));
    if (label_is_valid(labels[r], n, errors) && threadIdx.x == 0)
      loss[r] = narrowed<T>(log_s - (widened(from[labels[r]]) - m));
  }
}
// dx = (softmax - one_hot) dy
template <class T>
__global__ void __launch_bounds__(kThreads)
    sparse_loss_grad(T* dx, const T* x, const int32_t* labels, const T* dy, int64_t rows, int64_t n,
                     IndexError* errors) {
  typedef Compute<T> C;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* from = x + r * n;
    const C g = widened(dy[r]), m = row_max(from, n), scale = g / exp_sum(from, m, n);
    const int32_t label = labels[r];
    label_is_valid(label, n, errors);
    for (int64_t i = threadIdx.x; i < n; i += kThreads)
      dx[r * n + i] = narrowed<T>(exp(widened(from[i]) - m) * scale - (i == label ? g : C(0)));
  }
}
// loss = sum t (log s - (x - m)); a logit of -inf that is not asked for costs nothing
template <class T>
__global__ void __launch_bounds__(kThreads)
    dense_loss(T* loss, const T* x, const T* t, int64_t rows, int64_t n) {
  typedef Compute<T> C;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* from = x + r * n;
    const C m = row_max(from, n), log_s = log(exp_sum(from, m, n));
    C total = 0;
    for (int64_t i = threadIdx.x; i < n; i += kThreads) {
      const C w = widened(t[r * n + i]);
      total += w == C(0) ? w : w * (log_s - (widened(from[i]) - m));
    }
    total = over_block<Add>(total);
    if (threadIdx.x == 0) loss[r] = narrowed<T>(total);
  }
}
// dx = (softmax sum t - t) dy
template <class T>
__global__ void __launch_bounds__(kThreads)
    dense_loss_grad(T* dx, const T* x, const T* t, const T* dy, int64_t rows, int64_t n) {
  typedef Compute<T> C;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T *from = x + r * n, *target = t + r * n;
    C total = 0;
    for (int64_t i = threadIdx.x; i < n; i += kThreads) total += widened(target[i]);
    total = over_block<Add>(total);
    const C g = widened(dy[r]), m = row_max(from, n), scale = g * total / exp_sum(from, m, n);
    for (int64_t i = threadIdx.x; i < n; i += kThreads)
      dx[r * n + i] = narrowed<T>(exp(widened(from[i]) - m) * scale - widened(target[i]) * g);
  }
}

// Both at once; the loss and dy may be wider than the logits. dx may be x: what the loss asks for
// is read before the barriers of the sum.
template <class T, class W>
__global__ void __launch_bounds__(kThreads)
    sparse_loss_both(T* dx, W* loss, const T* x, const int32_t* labels, const W* dy, int64_t rows,
                     int64_t n, IndexError* errors) {
  typedef Compute<T> C;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* from = x + r * n;
    const int32_t label = labels[r];
    const C asked = label_is_valid(label, n, errors) ? widened(from[label]) : C(0);
    const C g = widened(dy[r]), m = row_max(from, n), sum = exp_sum(from, m, n), scale = g / sum;
    if (threadIdx.x == 0) loss[r] = narrowed<W>(log(sum) - (asked - m));
    for (int64_t i = threadIdx.x; i < n; i += kThreads)
      dx[r * n + i] = narrowed<T>(exp(widened(from[i]) - m) * scale - (i == label ? g : C(0)));
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    dense_loss_both(T* dx, T* loss, const T* x, const T* t, const T* dy, int64_t rows, int64_t n) {
  typedef Compute<T> C;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T *from = x + r * n, *target = t + r * n;
    C total = 0, cost = 0;
    for (int64_t i = threadIdx.x; i < n; i += kThreads) total += widened(target[i]);
    total = over_block<Add>(total);
    const C g = widened(dy[r]), m = row_max(from, n), sum = exp_sum(from, m, n);
    const C scale = g * total / sum, log_s = log(sum);
    for (int64_t i = threadIdx.x; i < n; i += kThreads) {
      const C a = widened(from[i]) - m, w = widened(target[i]);
      cost += w == C(0) ? w : w * (log_s - a);
      dx[r * n + i] = narrowed<T>(exp(a) * scale - w * g);
    }
    cost = over_block<Add>(cost);
    if (threadIdx.x == 0) loss[r] = narrowed<T>(cost);
  }
}

// Rows of the first input.
struct Rows {
  int64_t rows, n;
  DType dtype;
  explicit Rows(Prepare& p) : dtype(p.inputs[0].dtype) {
    const TensorSpec& x = p.inputs[0];
    if (x.rank == 0) fail("expected rank 1 or more");
    n = x.shape[x.rank - 1];
    rows = n == 0 ? 0 : num_elements(x) / n;
  }
  template <class T>
  static const T* in(const Call& c, int i) {
    return static_cast<const T*>(c.inputs[i]);
  }
  template <class... P, class... A>
  void start(const Call& c, void (*kernel)(P...), A... args) const {
    launch(blocks_for(rows, 1), dim3(kThreads), c.stream, kernel, args...);
  }
};

#define HB_ROWS(op, Type, inplace, ...)       \
  struct Type : Rows {                        \
    using Rows::Rows;                         \
    void run(const Call& c) const {           \
      if (rows == 0) return;                  \
      with_float_type(dtype, [&]<class T>() { \
        T* y = static_cast<T*>(c.outputs[0]); \
        start(c, __VA_ARGS__);                \
      });                                     \
    }                                         \
  };                                          \
  HB_CUDA_KERNEL_IF(op, Type, kAllFloat, inplace, nullptr)

HB_ROWS(softmax, Softmax, 1u, softmax_rows<T>, y, in<T>(c, 0), rows, n)
HB_ROWS(log_softmax, LogSoftmax, 1u, log_softmax_rows<T>, y, in<T>(c, 0), rows, n)
HB_ROWS(softmax_grad, SoftmaxGrad, 3u, softmax_grad_rows<T>, y, in<T>(c, 0), in<T>(c, 1), rows, n)
HB_ROWS(log_softmax_grad, LogSoftmaxGrad, 3u, log_softmax_grad_rows<T>, y, in<T>(c, 0), in<T>(c, 1),
        rows, n)
HB_ROWS(sparse_softmax_crossentropy, SparseLoss, 0u, sparse_loss<T>, y, in<T>(c, 0),
        in<int32_t>(c, 1), rows, n, index_error())
HB_ROWS(sparse_softmax_crossentropy_grad, SparseLossGrad, 1u, sparse_loss_grad<T>, y, in<T>(c, 0),
        in<int32_t>(c, 1), in<T>(c, 2), rows, n, index_error())
HB_ROWS(softmax_crossentropy, DenseLoss, 0u, dense_loss<T>, y, in<T>(c, 0), in<T>(c, 1), rows, n)
HB_ROWS(softmax_crossentropy_grad, DenseLossGrad, 1u, dense_loss_grad<T>, y, in<T>(c, 0),
        in<T>(c, 1), in<T>(c, 2), rows, n)
struct SparseBoth : Rows {
  DType wide;
  explicit SparseBoth(Prepare& p) : Rows(p), wide(p.inputs[2].dtype) {
    if (p.outputs[1].dtype != wide ||
        !(wide == dtype || (dtype != DType::F64 && wide == DType::F32)))
      fail("a loss and its gradient of the logits' dtype, or in float32");
  }
  template <class T, class W>
  void run_as(const Call& c) const {
    start(c, sparse_loss_both<T, W>, static_cast<T*>(c.outputs[0]), static_cast<W*>(c.outputs[1]),
          in<T>(c, 0), in<int32_t>(c, 1), in<W>(c, 2), rows, n, index_error());
  }
  void run(const Call& c) const {
    if (rows == 0) return;
    with_float_type(dtype, [&]<class T>() {
      if constexpr (sizeof(T) == 2)
        if (wide == DType::F32) return run_as<T, float>(c);
      run_as<T, T>(c);
    });
  }
};
HB_CUDA_KERNEL_IF(sparse_softmax_crossentropy_both, SparseBoth, kAllFloat, 1u, nullptr)
HB_ROWS(softmax_crossentropy_both, DenseBoth, 1u, dense_loss_both<T>, y,
        static_cast<T*>(c.outputs[1]), in<T>(c, 0), in<T>(c, 1), in<T>(c, 2), rows, n)

}  // namespace
}  // namespace hb::cuda
