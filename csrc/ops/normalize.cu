// Normalisations over the last axis on CUDA and their gradients: layer_norm and rms_norm. Formulas
// and operands: normalize.cc.
//
// Rows as in rows.cuh, parameters' gradients by columns as in columns.cuh. Variances are two-pass:
// the mean first.
#include "ops/columns.cuh"
#include "ops/rows.cuh"

namespace hb::cuda {
namespace {

template <class C>
struct RowStatistics {
  C mean, rstd;
};
// `centered`: about the mean (layer_norm), not about 0 (rms_norm).
template <class T>
__device__ __forceinline__ RowStatistics<Compute<T>> row_statistics(const RowThread& t,
                                                                    const Row<T>& x, int n,
                                                                    bool centered, double epsilon) {
  typedef Compute<T> C;
  C mean = 0, squares = 0;
  if (centered) {
    each_number([&](int, C v) { mean += v; }, x);
    mean = t.template join<Add>(mean) / C(n);
  }
  each_number([&](int, C v) { squares += (v - mean) * (v - mean); }, x);
  return {mean, C(1) / sqrt(t.template join<Add>(squares) / C(n) + C(epsilon))};
}

// y may be x: a thread writes only what it alone reads.
template <bool kCentered, class T>
__global__ void __launch_bounds__(kThreads, 2)
    norm_rows(T* y, const T* x, const T* gamma, const T* beta, const RowPlan p, bool aligned,
              double epsilon) {
  typedef Compute<T> C;
  for (int64_t turn = blockIdx.x; turn < p.turns; turn += gridDim.x) {
    const RowThread t(p, aligned, turn);
    const Row<T> row(t, x + t.row * p.n);
    const RowView<T> scale{t, gamma}, shift{t, beta};
    const RowStatistics<C> s = row_statistics(t, row, p.n, kCentered, epsilon);
    T* to = y + t.row * p.n;
    if constexpr (kCentered)
      put_numbers(
          to, [&](int, C v, C g, C b) { return (v - s.mean) * s.rstd * g + b; }, row, scale, shift);
    else
      put_numbers(to, [&](int, C v, C g) { return v * s.rstd * g; }, row, scale);
  }
}

// dx; statistics of the rows are kept for the gradients of the parameters. (A flag in norm_rows
// would take it more registers than there are; here it takes none.)
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    norm_rows_grad(T* dx, RowStatistics<Compute<T>>* kept, const T* x, const T* gamma, const T* dy,
                   const RowPlan p, bool aligned, bool centered, double epsilon) {
  typedef Compute<T> C;
  for (int64_t turn = blockIdx.x; turn < p.turns; turn += gridDim.x) {
    const RowThread t(p, aligned, turn);
    const Row<T> row(t, x + t.row * p.n), d(t, dy + t.row * p.n);
    const RowView<T> scale{t, gamma};
    const RowStatistics<C> s = row_statistics(t, row, p.n, centered, epsilon);
    C sum_g = 0, sum_gh = 0;
    each_number(
        [&](int, C v, C d, C g) {
          g *= d;
          sum_g += g;
          sum_gh += g * ((v - s.mean) * s.rstd);
        },
        row, d, scale);
    sum_gh = t.template join<Add>(sum_gh) / C(p.n);
    sum_g = centered ? t.template join<Add>(sum_g) / C(p.n) : C(0);
    put_numbers(
        dx + t.row * p.n,
        [&](int, C v, C d, C g) {
          return s.rstd * (d * g - sum_g - (v - s.mean) * s.rstd * sum_gh);
        },
        row, d, scale);
    if (t.first()) kept[t.row] = s;
  }
}

// partial [chunks, 2, n]: sums of dy h and of dy.
template <class T>
__global__ void __launch_bounds__(kThreads)
    parameter_sums(Compute<T>* partial, const RowStatistics<Compute<T>>* rows_of, const T* x,
                   const T* dy, const Columns c, bool aligned) {
  typedef Compute<T> C;
  constexpr int kCount = kPack<T>;
  const ColumnThread<T> t(c, aligned);
  C sums[kCount][2] = {};
  t.each_rows(c, [&]<int kRows>(int64_t r) {
    C v[kRows][kCount], d[kRows][kCount];
    RowStatistics<C> s[kRows];
    HB_UNROLL
    for (int i = 0; i < kRows; ++i) s[i] = rows_of[r + i * c.down];
    t.load_rows(v, x, c, r);
    t.load_rows(d, dy, c, r);
    HB_UNROLL
    for (int e = 0; e < kCount; ++e) {
      HB_UNROLL
      for (int i = 0; i < kRows; ++i) {
        sums[e][0] += d[i][e] * ((v[i][e] - s[i].mean) * s[i].rstd);
        sums[e][1] += d[i][e];
      }
    }
  });
  put_sums<T>(partial, sums, c, t);
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    join_sums(T* dgamma, T* dbeta, const Compute<T>* partial, const Columns c) {
  const int64_t i = int64_t(blockIdx.x) * 32 + threadIdx.x % 32;
  Compute<T> sums[2];
  get_sums(sums, partial, i, c);
  if (threadIdx.x >= 32 || i >= c.n) return;
  dgamma[i] = narrowed<T>(sums[0]);
  if (dbeta) dbeta[i] = narrowed<T>(sums[1]);
}

struct Norm {
  int64_t n, rows;
  DType dtype;
  double epsilon;
  RowPlan plan;
  explicit Norm(Prepare& p)
      : n(p.inputs[0].shape[p.inputs[0].rank - 1]),
        rows(n == 0 ? 0 : num_elements(p.inputs[0]) / n),
        dtype(p.inputs[0].dtype),
        epsilon(attr_float(*p.attrs, "epsilon")),
        plan(rows, n, dtype) {
    if (num_elements(p.inputs[1]) != n || p.inputs[1].dtype != dtype)
      fail("one parameter of the input's dtype per feature");
  }
  size_t item() const { return dtype == DType::F64 ? 8 : 4; }
  template <class T>
  static const T* in(const Call& c, int i) {
    return static_cast<const T*>(c.inputs[i]);
  }
  template <class T>
  static T* out(const Call& c, int i) {
    return static_cast<T*>(c.outputs[i]);
  }
};

template <bool kCentered>
struct RowNorm : Norm {
  using Norm::Norm;
  void run(const Call& c) const {
    if (rows == 0) return;
    with_float_type(dtype, [&]<class T>() {
      const T *x = in<T>(c, 0), *gamma = in<T>(c, 1), *beta = kCentered ? in<T>(c, 2) : nullptr;
      T* y = out<T>(c, 0);
      const bool aligned = is_aligned(x) && is_aligned(y) && is_aligned(gamma) && is_aligned(beta);
      launch(plan.grid(), dim3(kThreads), c.stream, norm_rows<kCentered, T>, y, x, gamma, beta,
             plan, aligned, epsilon);
    });
  }
};
typedef RowNorm<true> LayerNorm;
typedef RowNorm<false> RmsNorm;
HB_CUDA_KERNEL_INPLACE(layer_norm, LayerNorm, kAllFloat)
HB_CUDA_KERNEL_INPLACE(rms_norm, RmsNorm, kAllFloat)

template <bool kCentered>
struct RowNormGrad : Norm {
  Columns columns;
  explicit RowNormGrad(Prepare& p) : Norm(p), columns(rows, n, dtype) {
    p.scratch_bytes = item() * size_t(2 * rows + 2 * columns.chunks * n);
  }
  void run(const Call& c) const {
    if (n == 0) return;
    with_float_type(dtype, [&]<class T>() {
      typedef Compute<T> C;
      auto* kept = static_cast<RowStatistics<C>*>(c.scratch);
      C* partial = static_cast<C*>(c.scratch) + 2 * rows;
      const T *x = in<T>(c, 0), *gamma = in<T>(c, 1), *dy = in<T>(c, 2);
      T* dx = out<T>(c, 0);
      const bool aligned = is_aligned(x) && is_aligned(dy);
      if (rows > 0)
        launch(plan.grid(), dim3(kThreads), c.stream, norm_rows_grad<T>, dx, kept, x, gamma, dy,
               plan, aligned && is_aligned(gamma) && is_aligned(dx), kCentered, epsilon);
      launch(columns.grid(), dim3(kThreads), c.stream, parameter_sums<T>, partial,
             static_cast<const RowStatistics<C>*>(kept), x, dy, columns, aligned);
      launch(slices_grid(n), dim3(kThreads), c.stream, join_sums<T>, out<T>(c, 1),
             kCentered ? out<T>(c, 2) : nullptr, static_cast<const C*>(partial), columns);
    });
  }
};
typedef RowNormGrad<true> LayerNormGrad;
typedef RowNormGrad<false> RmsNormGrad;
HB_CUDA_KERNEL(layer_norm_grad, LayerNormGrad, kAllFloat)
HB_CUDA_KERNEL(rms_norm_grad, RmsNormGrad, kAllFloat)

}  // namespace
}  // namespace hb::cuda
