// Batch normalisation in training on CUDA: formulas and operands are those of batch_norm.cc.
//
// One pass for the statistics, one that stores. Four rows at a time have their mean and squares
// about it, of the distances from the first row; Chan's formula joins them, threads, and blocks. So
// a large mean costs no digits. Parameters and statistics are of x's dtype, or float32.
#include "ops/columns.cuh"

namespace hb::cuda {
namespace {

// A number of each column: of T, or computed (`wide`).
struct Vector {
  const void* data;
  bool wide;
  template <class T>
  __device__ __forceinline__ Compute<T> get(int64_t i) const {
    return wide ? static_cast<const Compute<T>*>(data)[i] : widened(static_cast<const T*>(data)[i]);
  }
};
struct VectorOut {
  void* data;
  bool wide;
  template <class T>
  __device__ __forceinline__ void put(int64_t i, Compute<T> x) const {
    if (wide)
      static_cast<Compute<T>*>(data)[i] = x;
    else
      static_cast<T*>(data)[i] = narrowed<T>(x);
  }
};

// {mean, squares about it, count}
struct JoinMoments {
  template <class C>
  __device__ __forceinline__ void operator()(C* mine, const C* other) const {
    const C count = mine[2] + other[2];
    if (!(count > C(0))) return;
    const C d = other[0] - mine[0], share = other[2] / count;
    mine[0] += d * share;
    mine[1] += other[1] + d * d * (mine[2] * share);
    mine[2] = count;
  }
};

// partial [chunks, 2, n]: mean of x - x[0] and squares about it.
template <class T>
__global__ void __launch_bounds__(kThreads)
    column_moments(Compute<T>* partial, const T* x, const Columns c, bool aligned) {
  typedef Compute<T> A;
  constexpr int kCount = kPack<T>;
  const ColumnThread<T> t(c, aligned);
  A moments[kCount][3] = {}, origin[kCount] = {}, count = 0;
  if (t.left > 0) load_pack(origin, x + t.column, t.whole, t.left);
  t.each_rows(c, [&]<int kRows>(int64_t r) {
    A v[kRows][kCount];
    t.load_rows(v, x, c, r);
    const A share = A(kRows) / (count + A(kRows)), weight = count * share;
    HB_UNROLL
    for (int e = 0; e < kCount; ++e) {
      A mean = 0, squares = 0;
      HB_UNROLL
      for (int i = 0; i < kRows; ++i) mean += v[i][e] -= origin[e];
      mean *= A(1) / A(kRows);
      HB_UNROLL
      for (int i = 0; i < kRows; ++i) squares += (v[i][e] - mean) * (v[i][e] - mean);
      const A d = mean - moments[e][0];
      moments[e][0] += d * share;
      moments[e][1] += squares + d * d * weight;
    }
    count += A(kRows);
  });
  for (int e = 0; e < kCount; ++e) moments[e][2] = count;
  join_down<3>(moments, c, t.y, JoinMoments());
  if (t.y == 0)
    for (int e = 0; e < t.left; ++e)
      for (int i = 0; i < 2; ++i) partial[(2 * t.chunk + i) * c.n + t.column + e] = moments[e][i];
}

// factors: mean, scale, shift, [n] each.
template <class T>
__global__ void __launch_bounds__(kThreads)
    join_moments(VectorOut mean, VectorOut var, Compute<T>* factors, const Compute<T>* partial,
                 const T* x, Vector gamma, Vector beta, double epsilon, const Columns c) {
  typedef Compute<T> A;
  const int64_t i = int64_t(blockIdx.x) * 32 + threadIdx.x % 32;
  A moments[3] = {};
  if (i < c.n)
    for (int64_t k = threadIdx.x / 32; k < c.chunks; k += kSlices) {
      const A other[3] = {partial[2 * k * c.n + i], partial[(2 * k + 1) * c.n + i],
                          A(c.rows_of(k))};
      JoinMoments()(moments, other);
    }
  join_slices(moments, JoinMoments());
  if (threadIdx.x >= 32 || i >= c.n) return;
  const A m = moments[0] + widened(x[i]), v = moments[1] / A(c.rows);
  mean.put<T>(i, m);
  var.put<T>(i, v);
  factors[i] = m;
  factors[c.n + i] = gamma.get<T>(i) / sqrt(v + A(epsilon));
  factors[2 * c.n + i] = beta.get<T>(i);
}

// Number e of this thread's columns, of vector k of `factors`.
template <class T>
__device__ __forceinline__ void load_factors(Compute<T>* to, const Compute<T>* factors, int k,
                                             const Columns& c, const ColumnThread<T>& t) {
  HB_UNROLL
  for (int e = 0; e < kPack<T>; ++e)
    to[e] = e < t.left ? factors[k * c.n + t.column + e] : Compute<T>(0);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    scale_columns(T* __restrict__ y, const T* __restrict__ x, const T* __restrict__ residual,
                  bool relu, const Compute<T>* factors, const Columns c, bool aligned) {
  typedef Compute<T> A;
  constexpr int kCount = kPack<T>;
  const ColumnThread<T> t(c, aligned, true);  // what was read last may still be in the cache
  A mean[kCount], scale[kCount], shift[kCount];
  load_factors<T>(mean, factors, 0, c, t);
  load_factors<T>(scale, factors, 1, c, t);
  load_factors<T>(shift, factors, 2, c, t);
  t.each_rows(c, [&]<int kRows>(int64_t r) {
    A v[kRows][kCount], add[kRows][kCount] = {};
    t.load_rows(v, x, c, r);
    if (residual) t.load_rows(add, residual, c, r);
    HB_UNROLL
    for (int i = 0; i < kRows; ++i) {
      HB_UNROLL
      for (int e = 0; e < kCount; ++e) {
        A z = (v[i][e] - mean[e]) * scale[e] + shift[e];
        if (residual) z += add[i][e];
        if (relu) z = z < A(0) ? A(0) : z;  // keeps NaN
        v[i][e] = z;
      }
      store_pack(y + (r + i * c.down) * c.n + t.column, v[i], t.whole, t.left);
    }
  });
}

// partial [chunks, 2, n]: sums of dy (x - mean) and of dy.
template <class T>
__global__ void __launch_bounds__(kThreads)
    column_sums(Compute<T>* partial, const T* x, const T* dy, Vector mean, const Columns c,
                bool aligned) {
  typedef Compute<T> A;
  constexpr int kCount = kPack<T>;
  const ColumnThread<T> t(c, aligned);
  A sums[kCount][2] = {}, m[kCount] = {};
  for (int e = 0; e < t.left; ++e) m[e] = mean.get<T>(t.column + e);
  t.each_rows(c, [&]<int kRows>(int64_t r) {
    A v[kRows][kCount], d[kRows][kCount];
    t.load_rows(v, x, c, r);
    t.load_rows(d, dy, c, r);
    HB_UNROLL
    for (int e = 0; e < kCount; ++e) {
      A sum_dx = 0, sum_d = 0;
      HB_UNROLL
      for (int i = 0; i < kRows; ++i) {
        sum_dx += d[i][e] * (v[i][e] - m[e]);
        sum_d += d[i][e];
      }
      sums[e][0] += sum_dx;
      sums[e][1] += sum_d;
    }
  });
  put_sums<T>(partial, sums, c, t);
}

// factors: mean, scale, factor of x - mean, mean of dy by scale, [n] each.
template <class T>
__global__ void __launch_bounds__(kThreads)
    join_column_sums(VectorOut dgamma, VectorOut dbeta, Compute<T>* factors,
                     const Compute<T>* partial, Vector gamma, Vector mean, Vector var,
                     double epsilon, const Columns c) {
  typedef Compute<T> A;
  const int64_t i = int64_t(blockIdx.x) * 32 + threadIdx.x % 32;
  A sums[2];
  get_sums(sums, partial, i, c);
  if (threadIdx.x >= 32 || i >= c.n) return;
  const A rstd = A(1) / sqrt(var.get<T>(i) + A(epsilon)), scale = gamma.get<T>(i) * rstd;
  const A sum_dh = sums[0] * rstd, share = A(1) / A(c.rows);
  dgamma.put<T>(i, sum_dh);
  dbeta.put<T>(i, sums[1]);
  factors[i] = mean.get<T>(i);
  factors[c.n + i] = scale;
  factors[2 * c.n + i] = sum_dh * share * rstd * scale;
  factors[3 * c.n + i] = sums[1] * share * scale;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    column_grad(T* __restrict__ dx, const T* __restrict__ x, const T* __restrict__ dy,
                const Compute<T>* factors, const Columns c, bool aligned) {
  typedef Compute<T> A;
  constexpr int kCount = kPack<T>;
  const ColumnThread<T> t(c, aligned, true);
  A mean[kCount], scale[kCount], slope[kCount], shift[kCount];
  load_factors<T>(mean, factors, 0, c, t);
  load_factors<T>(scale, factors, 1, c, t);
  load_factors<T>(slope, factors, 2, c, t);
  load_factors<T>(shift, factors, 3, c, t);
  t.each_rows(c, [&]<int kRows>(int64_t r) {
    A v[kRows][kCount], d[kRows][kCount];
    t.load_rows(v, x, c, r);
    t.load_rows(d, dy, c, r);
    HB_UNROLL
    for (int i = 0; i < kRows; ++i) {
      HB_UNROLL
      for (int e = 0; e < kCount; ++e)
        v[i][e] = d[i][e] * scale[e] - shift[e] - (v[i][e] - mean[e]) * slope[e];
      store_pack(dx + (r + i * c.down) * c.n + t.column, v[i], t.whole, t.left);
    }
  });
}

struct BatchNorm {
  DType dtype;
  bool wide;  // parameters and statistics are float32 where x is shorter
  double epsilon;
  Columns columns;
  explicit BatchNorm(Prepare& p)
      : dtype(p.inputs[0].dtype),
        wide(p.inputs[1].dtype != dtype),
        epsilon(attr_float(*p.attrs, "epsilon")),
        columns(rows_of(p.inputs[0]), p.inputs[0].shape[p.inputs[0].rank - 1], dtype) {
    // per chunk two numbers for each column, and four factors
    const size_t item = dtype == DType::F64 ? 8 : 4;
    p.scratch_bytes = item * size_t(2 * columns.chunks + 4) * size_t(columns.n);
  }
  static int64_t rows_of(const TensorSpec& x) {
    const int64_t n = x.shape[x.rank - 1];
    return n == 0 ? 0 : num_elements(x) / n;
  }
  void check_vector(const TensorSpec& v, const TensorSpec& first) const {
    if (v.dtype != first.dtype || num_elements(v) != columns.n)
      fail("expected vectors of %lld numbers of one dtype", (long long)columns.n);
  }
  static bool supports(const Prepare& p) {
    const DType x = p.inputs[0].dtype, v = p.inputs[1].dtype;
    return num_elements(p.inputs[0]) > 0 && (v == x || (x != DType::F64 && v == DType::F32));
  }
  Vector in(const Call& c, int i) const { return {c.inputs[i], wide}; }
  VectorOut out(const Call& c, int i) const { return {c.outputs[i], wide}; }
};

// inputs: x, gamma, beta, residual?; outputs: y, mean, variance
struct BatchNormTrain : BatchNorm {
  bool has_residual, relu;
  explicit BatchNormTrain(Prepare& p) : BatchNorm(p), has_residual(p.num_inputs > 3) {
    check_vector(p.inputs[2], p.inputs[1]);
    check_vector(p.outputs[1], p.inputs[1]);
    check_vector(p.outputs[2], p.inputs[1]);
    if (has_residual &&
        (p.inputs[3].dtype != dtype || num_elements(p.inputs[3]) != num_elements(p.inputs[0])))
      fail("expected a residual like the input");
    relu =
        attr_has(*p.attrs, "activation") && strcmp(attr_str(*p.attrs, "activation"), "relu") == 0;
  }
  void run(const Call& c) const {
    with_float_type(dtype, [&]<class T>() {
      typedef Compute<T> A;
      const T *x = static_cast<const T*>(c.inputs[0]),
              *residual = has_residual ? static_cast<const T*>(c.inputs[3]) : nullptr;
      T* y = static_cast<T*>(c.outputs[0]);
      A *partial = static_cast<A*>(c.scratch), *factors = partial + 2 * columns.chunks * columns.n;
      launch(columns.grid(), dim3(kThreads), c.stream, column_moments<T>, partial, x, columns,
             is_aligned(x));
      launch(slices_grid(columns.n), dim3(kThreads), c.stream, join_moments<T>, out(c, 1),
             out(c, 2), factors, static_cast<const A*>(partial), x, in(c, 1), in(c, 2), epsilon,
             columns);
      const bool aligned = is_aligned(x) && is_aligned(y) && is_aligned(residual);
      launch(columns.grid(), dim3(kThreads), c.stream, scale_columns<T>, y, x, residual, relu,
             static_cast<const A*>(factors), columns, aligned);
    });
  }
};
HB_CUDA_KERNEL_IF(batch_norm_train, BatchNormTrain, kAllFloat, 0u, BatchNorm::supports)

// inputs: x, gamma, mean, variance, dy; outputs: dx, dgamma, dbeta
struct BatchNormGrad : BatchNorm {
  explicit BatchNormGrad(Prepare& p) : BatchNorm(p) {
    for (int i = 2; i < 4; ++i) check_vector(p.inputs[i], p.inputs[1]);
    for (int i = 1; i < 3; ++i) check_vector(p.outputs[i], p.inputs[1]);
  }
  void run(const Call& c) const {
    with_float_type(dtype, [&]<class T>() {
      typedef Compute<T> A;
      const T *x = static_cast<const T*>(c.inputs[0]), *dy = static_cast<const T*>(c.inputs[4]);
      T* dx = static_cast<T*>(c.outputs[0]);
      A *partial = static_cast<A*>(c.scratch), *factors = partial + 2 * columns.chunks * columns.n;
      const bool aligned = is_aligned(x) && is_aligned(dy);
      launch(columns.grid(), dim3(kThreads), c.stream, column_sums<T>, partial, x, dy, in(c, 2),
             columns, aligned);
      launch(slices_grid(columns.n), dim3(kThreads), c.stream, join_column_sums<T>, out(c, 1),
             out(c, 2), factors, static_cast<const A*>(partial), in(c, 1), in(c, 2), in(c, 3),
             epsilon, columns);
      launch(columns.grid(), dim3(kThreads), c.stream, column_grad<T>, dx, x, dy,
             static_cast<const A*>(factors), columns, aligned && is_aligned(dx));
    });
  }
};
HB_CUDA_KERNEL_IF(batch_norm_grad, BatchNormGrad, kAllFloat, 0u, BatchNorm::supports)

}  // namespace
}  // namespace hb::cuda
