// Softmax over the last axis and what is made of it, on CUDA: the ops of softmax.cc.
//
// Rows as in rows.cuh: read once, up to 4,096 numbers. Additions go in a fixed order, so results
// have the same bits run after run. Floor: one read and one write of memory.
#include "ops/rows.cuh"

namespace hb::cuda {
namespace {

template <class T, class F>
__device__ __forceinline__ Compute<T> row_max(const RowThread& t, const Row<T, F>& x) {
  Compute<T> m = lowest<Compute<T>>();
  each_number([&](int, Compute<T> v) { m = Larger::join(m, v); }, x);
  return t.template join<Larger>(m);
}
template <class T, class F>
__device__ __forceinline__ Compute<T> row_sum(const RowThread& t, const Row<T, F>& x) {
  Compute<T> sum = 0;
  each_number([&](int, Compute<T> v) { sum += v; }, x);
  return t.template join<Add>(sum);
}
// e^(x - m)
template <class C>
struct Exponential {
  C m;
  __device__ __forceinline__ C operator()(C x) const { return exp(x - m); }
};
template <class C>
struct Minus {
  C m;
  __device__ __forceinline__ C operator()(C x) const { return x - m; }
};

// y may be x: a thread writes only what it alone reads.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    softmax_rows(const RowPlan p, bool aligned, T* y, const T* x) {
  typedef Compute<T> C;
  for (int64_t turn = blockIdx.x; turn < p.turns; turn += gridDim.x) {
    const RowThread t(p, aligned, turn);
    const int64_t at = t.row * p.n;
    const Row<T> row(t, x + at);
    const auto e = row.mapped(Exponential<C>{row_max(t, row)});
    const C scale = C(1) / row_sum(t, e);
    put_numbers(y + at, [&](int, C v) { return v * scale; }, e);
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    log_softmax_rows(const RowPlan p, bool aligned, T* y, const T* x) {
  typedef Compute<T> C;
  for (int64_t turn = blockIdx.x; turn < p.turns; turn += gridDim.x) {
    const RowThread t(p, aligned, turn);
    const int64_t at = t.row * p.n;
    const Row<T> row(t, x + at);
    const C m = row_max(t, row);
    C sum = 0;
    each_number([&](int, C v) { sum += exp(v - m); }, row);
    const C log_s = log(t.join<Add>(sum));
    put_numbers(y + at, [&](int, C v) { return v - m - log_s; }, row);
  }
}
// dx = y (dy - sum y dy)
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    softmax_grad_rows(const RowPlan p, bool aligned, T* dx, const T* y, const T* dy) {
  typedef Compute<T> C;
  for (int64_t turn = blockIdx.x; turn < p.turns; turn += gridDim.x) {
    const RowThread t(p, aligned, turn);
    const int64_t at = t.row * p.n;
    const Row<T> row(t, y + at), d(t, dy + at);
    C total = 0;
    each_number([&](int, C v, C g) { total += v * g; }, row, d);
    total = t.join<Add>(total);
    put_numbers(dx + at, [&](int, C v, C g) { return v * (g - total); }, row, d);
  }
}
// dx = dy - e^y sum dy
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    log_softmax_grad_rows(const RowPlan p, bool aligned, T* dx, const T* y, const T* dy) {
  typedef Compute<T> C;
  for (int64_t turn = blockIdx.x; turn < p.turns; turn += gridDim.x) {
    const RowThread t(p, aligned, turn);
    const int64_t at = t.row * p.n;
    const Row<T> row(t, y + at), d(t, dy + at);
    const C total = row_sum(t, d);
    put_numbers(dx + at, [&](int, C v, C g) { return g - exp(v) * total; }, row, d);
  }
}

__device__ bool label_is_valid(const RowThread& t, const int32_t* labels, IndexError* errors) {
  if (!t.there) return false;
  const int32_t label = labels[t.row];
  if (label >= 0 && label < t.n) return true;
  if (t.lane == 0) report_index(errors, label, -1, t.n);
  return false;
}
// loss = log sum e^(x - m) - (x[label] - m)
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    sparse_loss(const RowPlan p, bool aligned, T* loss, const T* x, const int32_t* labels,
                IndexError* errors) {
  typedef Compute<T> C;
  for (int64_t turn = blockIdx.x; turn < p.turns; turn += gridDim.x) {
    const RowThread t(p, aligned, turn);
    const int64_t at = t.row * p.n;
    const Row<T> row(t, x + at);
    const C m = row_max(t, row), log_s = log(row_sum(t, row.mapped(Exponential<C>{m})));
    if (label_is_valid(t, labels, errors) && t.lane == 0)
      loss[t.row] = narrowed<T>(log_s - (widened(x[at + labels[t.row]]) - m));
  }
}
// dx = (softmax - one_hot) dy
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    sparse_loss_grad(const RowPlan p, bool aligned, T* dx, const T* x, const int32_t* labels,
                     const T* dy, IndexError* errors) {
  typedef Compute<T> C;
  for (int64_t turn = blockIdx.x; turn < p.turns; turn += gridDim.x) {
    const RowThread t(p, aligned, turn);
    const int64_t at = t.row * p.n;
    const Row<T> row(t, x + at);
    const auto e = row.mapped(Exponential<C>{row_max(t, row)});
    const C g = t.there ? widened(dy[t.row]) : C(0), scale = g / row_sum(t, e);
    const int label = label_is_valid(t, labels, errors) ? labels[t.row] : -1;
    put_numbers(dx + at, [&](int i, C v) { return v * scale - (i == label ? g : C(0)); }, e);
  }
}
// loss = sum t (log s - (x - m)); a logit of -inf that is not asked for costs nothing
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    dense_loss(const RowPlan p, bool aligned, T* loss, const T* x, const T* target) {
  typedef Compute<T> C;
  for (int64_t turn = blockIdx.x; turn < p.turns; turn += gridDim.x) {
    const RowThread t(p, aligned, turn);
    const int64_t at = t.row * p.n;
    const Row<T> row(t, x + at);
    const RowView<T> wanted{t, target + at};
    const C m = row_max(t, row), log_s = log(row_sum(t, row.mapped(Exponential<C>{m})));
    C total = 0;
    each_number([&](int, C v, C w) { total += w == C(0) ? w : w * (log_s - (v - m)); }, row,
                wanted);
    total = t.join<Add>(total);
    if (t.first()) loss[t.row] = narrowed<T>(total);
  }
}
// dx = (softmax sum t - t) dy
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    dense_loss_grad(const RowPlan p, bool aligned, T* dx, const T* x, const T* target,
                    const T* dy) {
  typedef Compute<T> C;
  for (int64_t turn = blockIdx.x; turn < p.turns; turn += gridDim.x) {
    const RowThread t(p, aligned, turn);
    const int64_t at = t.row * p.n;
    const Row<T> row(t, x + at), wanted(t, target + at);
    const auto e = row.mapped(Exponential<C>{row_max(t, row)});
    const C g = t.there ? widened(dy[t.row]) : C(0);
    const C scale = g * row_sum(t, wanted) / row_sum(t, e);
    put_numbers(dx + at, [&](int, C v, C w) { return v * scale - w * g; }, e, wanted);
  }
}

// Both at once; the loss and dy may be wider than the logits. dx may be x: what the loss asks for
// is read before the sums, for which the row's threads wait.
template <class T, class W>
__global__ void __launch_bounds__(kThreads, 2)
    sparse_loss_both(const RowPlan p, bool aligned, T* dx, W* loss, const T* x,
                     const int32_t* labels, const W* dy, IndexError* errors) {
  typedef Compute<T> C;
  for (int64_t turn = blockIdx.x; turn < p.turns; turn += gridDim.x) {
    const RowThread t(p, aligned, turn);
    const int64_t at = t.row * p.n;
    const Row<T> row(t, x + at);
    const int label = label_is_valid(t, labels, errors) ? labels[t.row] : -1;
    const C asked = label >= 0 ? widened(x[at + label]) : C(0);
    __syncwarp();
    const C g = t.there ? widened(dy[t.row]) : C(0), m = row_max(t, row);
    const auto e = row.mapped(Exponential<C>{m});
    const C sum = row_sum(t, e), scale = g / sum;
    if (t.first()) loss[t.row] = narrowed<W>(log(sum) - (asked - m));
    put_numbers(dx + at, [&](int i, C v) { return v * scale - (i == label ? g : C(0)); }, e);
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    dense_loss_both(const RowPlan p, bool aligned, T* dx, T* loss, const T* x, const T* target,
                    const T* dy) {
  typedef Compute<T> C;
  for (int64_t turn = blockIdx.x; turn < p.turns; turn += gridDim.x) {
    const RowThread t(p, aligned, turn);
    const int64_t at = t.row * p.n;
    const Row<T> row(t, x + at), wanted(t, target + at);
    const C m = row_max(t, row);
    const auto away = row.mapped(Minus<C>{m});
    C sum = 0, cost = 0;
    each_number([&](int, C v) { sum += exp(v); }, away);
    const C total = row_sum(t, wanted), g = t.there ? widened(dy[t.row]) : C(0);
    sum = t.join<Add>(sum);
    const C scale = g * total / sum, log_s = log(sum);
    each_number([&](int, C v, C w) { cost += w == C(0) ? w : w * (log_s - v); }, away, wanted);
    cost = t.join<Add>(cost);
    if (t.first()) loss[t.row] = narrowed<T>(cost);
    put_numbers(dx + at, [&](int, C v, C w) { return exp(v) * scale - w * g; }, away, wanted);
  }
}

// Rows of the first input.
struct Rows {
  DType dtype;
  RowPlan plan;
  explicit Rows(Prepare& p) : dtype(p.inputs[0].dtype), plan(plan_of(p.inputs[0])) {}
  static RowPlan plan_of(const TensorSpec& x) {
    if (x.rank == 0) fail("expected rank 1 or more");
    const int64_t n = x.shape[x.rank - 1];
    return {n == 0 ? 0 : num_elements(x) / n, n, x.dtype};
  }
  template <class T>
  static const T* in(const Call& c, int i) {
    return static_cast<const T*>(c.inputs[i]);
  }
  template <class... P, class... A>
  void start(const Call& c, void (*kernel)(P...), A... args) const {
    const bool aligned = (is_row_aligned(args) && ...);
    launch(plan.grid(), dim3(kThreads), c.stream, kernel, plan, aligned, args...);
  }
  template <class A>
  static bool is_row_aligned(A* p) {
    return is_aligned(p);
  }
  static bool is_row_aligned(IndexError*) { return true; }
};

#define HB_ROWS(op, Type, inplace, ...)       \
  struct Type : Rows {                        \
    using Rows::Rows;                         \
    void run(const Call& c) const {           \
      if (plan.rows == 0) return;             \
      with_float_type(dtype, [&]<class T>() { \
        T* y = static_cast<T*>(c.outputs[0]); \
        start(c, __VA_ARGS__);                \
      });                                     \
    }                                         \
  };                                          \
  HB_CUDA_KERNEL_IF(op, Type, kAllFloat, inplace, nullptr)

HB_ROWS(softmax, Softmax, 1u, softmax_rows<T>, y, in<T>(c, 0))
HB_ROWS(log_softmax, LogSoftmax, 1u, log_softmax_rows<T>, y, in<T>(c, 0))
HB_ROWS(softmax_grad, SoftmaxGrad, 3u, softmax_grad_rows<T>, y, in<T>(c, 0), in<T>(c, 1))
HB_ROWS(log_softmax_grad, LogSoftmaxGrad, 3u, log_softmax_grad_rows<T>, y, in<T>(c, 0), in<T>(c, 1))
HB_ROWS(sparse_softmax_crossentropy, SparseLoss, 0u, sparse_loss<T>, y, in<T>(c, 0),
        in<int32_t>(c, 1), index_error())
HB_ROWS(sparse_softmax_crossentropy_grad, SparseLossGrad, 1u, sparse_loss_grad<T>, y, in<T>(c, 0),
        in<int32_t>(c, 1), in<T>(c, 2), index_error())
HB_ROWS(softmax_crossentropy, DenseLoss, 0u, dense_loss<T>, y, in<T>(c, 0), in<T>(c, 1))
HB_ROWS(softmax_crossentropy_grad, DenseLossGrad, 1u, dense_loss_grad<T>, y, in<T>(c, 0),
        in<T>(c, 1), in<T>(c, 2))
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
          in<T>(c, 0), in<int32_t>(c, 1), in<W>(c, 2), index_error());
  }
  void run(const Call& c) const {
    if (plan.rows == 0) return;
    with_float_type(dtype, [&]<class T>() {
      if constexpr (sizeof(T) == 2)
        if (wide == DType::F32) return run_as<T, float>(c);
      run_as<T, T>(c);
    });
  }
};
HB_CUDA_KERNEL_IF(sparse_softmax_crossentropy_both, SparseBoth, kAllFloat, 1u, nullptr)
HB_ROWS(softmax_crossentropy_both, DenseBoth, 1u, dense_loss_both<T>, y,
        static_cast<T*>(c.outputs[1]), in<T>(c, 0), in<T>(c, 1), in<T>(c, 2))

}  // namespace
}  // namespace hb::cuda
