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
// loss = log sum e^(x - m) - (x[label] - m), dx = (softmax - one_hot) dy; one of them may be null.
// The loss and dy may be wider than the logits. dx may be x: what the loss asks for is read before
// the sums, for which the row's threads wait.
template <class T, class W>
__global__ void __launch_bounds__(kThreads, 2)
    sparse_loss(const RowPlan p, bool aligned, T* dx, W* loss, const T* x, const int32_t* labels,
                const W* dy, IndexError* errors) {
  typedef Compute<T> C;
  for (int64_t turn = blockIdx.x; turn < p.turns; turn += gridDim.x) {
    const RowThread t(p, aligned, turn);
    const int64_t at = t.row * p.n;
    const Row<T> row(t, x + at);
    const int label = label_is_valid(t, labels, errors) ? labels[t.row] : -1;
    const C asked = loss && label >= 0 ? widened(x[at + label]) : C(0);
    __syncwarp();
    const C m = row_max(t, row);
    const auto e = row.mapped(Exponential<C>{m});
    const C sum = row_sum(t, e);
    if (loss && t.first()) loss[t.row] = narrowed<W>(log(sum) - (asked - m));
    if (!dx) continue;
    const C g = t.there ? widened(dy[t.row]) : C(0), scale = g / sum;
    put_numbers(dx + at, [&](int i, C v) { return v * scale - (i == label ? g : C(0)); }, e);
  }
}
// loss = sum t (log s - (x - m)), where a logit of -inf that is not asked for costs nothing;
// dx = (softmax sum t - t) dy; one of them may be null.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    dense_loss(const RowPlan p, bool aligned, T* dx, T* loss, const T* x, const T* target,
               const T* dy) {
  typedef Compute<T> C;
  for (int64_t turn = blockIdx.x; turn < p.turns; turn += gridDim.x) {
    const RowThread t(p, aligned, turn);
    const int64_t at = t.row * p.n;
    const Row<T> row(t, x + at), wanted(t, target + at);
    const C m = row_max(t, row);
    const auto away = row.mapped(Minus<C>{m});
    C sum = 0;
    each_number([&](int, C v) { sum += exp(v); }, away);
    sum = t.template join<Add>(sum);
    const C total = dx ? row_sum(t, wanted) : C(0);
    if (loss) {
      const C log_s = log(sum);
      C cost = 0;
      each_number([&](int, C v, C w) { cost += w == C(0) ? w : w * (log_s - v); }, away, wanted);
      cost = t.template join<Add>(cost);
      if (t.first()) loss[t.row] = narrowed<T>(cost);
    }
    if (!dx) continue;
    const C g = t.there ? widened(dy[t.row]) : C(0), scale = g * total / sum;
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
    return i < 0 ? nullptr : static_cast<const T*>(c.inputs[i]);
  }
  template <class T>
  static T* out(const Call& c, int i) {
    return i < 0 ? nullptr : static_cast<T*>(c.outputs[i]);
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

struct SparseLoss : Rows {
  bool wide = false;                // the loss and dy are float32 beside shorter logits
  int dx = -1, loss = -1, dy = -1;  // outputs, and an input
  SparseLoss(Prepare& p, int dx, int loss, int dy) : Rows(p), dx(dx), loss(loss), dy(dy) {
    const DType of_loss = loss >= 0 ? p.outputs[loss].dtype : p.inputs[dy].dtype;
    wide = of_loss != dtype;
    if ((wide && (dtype == DType::F64 || of_loss != DType::F32)) ||
        (loss >= 0 && dy >= 0 && p.inputs[dy].dtype != of_loss))
      fail("expected a loss and its gradient of the logits' dtype, or in float32");
  }
  template <class T, class W>
  void run_as(const Call& c) const {
    start(c, sparse_loss<T, W>, out<T>(c, dx), out<W>(c, loss), in<T>(c, 0), in<int32_t>(c, 1),
          in<W>(c, dy), index_error());
  }
  void run(const Call& c) const {
    if (plan.rows == 0) return;
    with_float_type(dtype, [&]<class T>() {
      if constexpr (sizeof(T) == 2)
        if (wide) return run_as<T, float>(c);
      run_as<T, T>(c);
    });
  }
};
struct DenseLoss : Rows {
  int dx, loss, dy;
  DenseLoss(Prepare& p, int dx, int loss, int dy) : Rows(p), dx(dx), loss(loss), dy(dy) {}
  void run(const Call& c) const {
    if (plan.rows == 0) return;
    with_float_type(dtype, [&]<class T>() {
      start(c, dense_loss<T>, out<T>(c, dx), out<T>(c, loss), in<T>(c, 0), in<T>(c, 1),
            in<T>(c, dy));
    });
  }
};
// The loss, its gradient to the logits, or both at once.
template <class Loss>
struct OnlyLoss : Loss {
  explicit OnlyLoss(Prepare& p) : Loss(p, -1, 0, -1) {}
};
template <class Loss>
struct OnlyGrad : Loss {
  explicit OnlyGrad(Prepare& p) : Loss(p, 0, -1, 2) {}
};
template <class Loss>
struct Both : Loss {
  explicit Both(Prepare& p) : Loss(p, 0, 1, 2) {}
};
typedef OnlyLoss<SparseLoss> SparseOnlyLoss;
typedef OnlyGrad<SparseLoss> SparseOnlyGrad;
typedef Both<SparseLoss> SparseBoth;
typedef OnlyLoss<DenseLoss> DenseOnlyLoss;
typedef OnlyGrad<DenseLoss> DenseOnlyGrad;
typedef Both<DenseLoss> DenseBoth;
HB_CUDA_KERNEL(sparse_softmax_crossentropy, SparseOnlyLoss, kAllFloat)
HB_CUDA_KERNEL_INPLACE(sparse_softmax_crossentropy_grad, SparseOnlyGrad, kAllFloat)
HB_CUDA_KERNEL_INPLACE(sparse_softmax_crossentropy_both, SparseBoth, kAllFloat)
HB_CUDA_KERNEL(softmax_crossentropy, DenseOnlyLoss, kAllFloat)
HB_CUDA_KERNEL_INPLACE(softmax_crossentropy_grad, DenseOnlyGrad, kAllFloat)
HB_CUDA_KERNEL_INPLACE(softmax_crossentropy_both, DenseBoth, kAllFloat)

}  // namespace
}  // namespace hb::cuda
