// Normalisations on CUDA and their gradients: layer_norm and rms_norm over the last axis,
// batch_norm_train over all axes but the last. Formulas and operands: normalize.cc.
//
// A block takes a row; statistics per column have a thread for each column and chunk of rows, and a
// second kernel that joins the chunks in order. Variances are two-pass: the mean first.
#include "cuda/block.cuh"

namespace hb::cuda {
namespace {

template <class C>
struct RowStatistics {
  C mean, rstd;
};
template <bool kCentered, class T>
__device__ RowStatistics<Compute<T>> row_statistics(const T* x, int64_t n, double epsilon) {
  typedef Compute<T> C;
  C mean = 0, squares = 0;
  if (kCentered) {
    for (int64_t i = threadIdx.x; i < n; i += kThreads) mean += widened(x[i]);
    mean = over_block<Add>(mean) / C(n);
  }
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const C d = widened(x[i]) - mean;
    squares += d * d;
  }
  return {mean, C(1) / sqrt(over_block<Add>(squares) / C(n) + C(epsilon))};
}

template <bool kCentered, class T>
__global__ void __launch_bounds__(kThreads)
    norm_rows(T* y, const T* x, const T* gamma, const T* beta, int64_t rows, int64_t n,
              double epsilon) {
  typedef Compute<T> C;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* from = x + r * n;
    const RowStatistics<C> s = row_statistics<kCentered>(from, n, epsilon);
    for (int64_t i = threadIdx.x; i < n; i += kThreads) {
      C v = (widened(from[i]) - s.mean) * s.rstd * widened(gamma[i]);
      if (kCentered) v += widened(beta[i]);
      y[r * n + i] = narrowed<T>(v);
    }
  }
}

// dx; statistics of the rows are kept for the gradients of the parameters.
template <bool kCentered, class T>
__global__ void __launch_bounds__(kThreads)
    norm_rows_grad(T* dx, RowStatistics<Compute<T>>* kept, const T* x, const T* gamma, const T* dy,
                   int64_t rows, int64_t n, double epsilon) {
  typedef Compute<T> C;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T *from = x + r * n, *d = dy + r * n;
    const RowStatistics<C> s = row_statistics<kCentered>(from, n, epsilon);
    C sum_g = 0, sum_gh = 0;
    for (int64_t i = threadIdx.x; i < n; i += kThreads) {
      const C g = widened(d[i]) * widened(gamma[i]);
      sum_g += g;
      sum_gh += g * ((widened(from[i]) - s.mean) * s.rstd);
    }
    sum_gh = over_block<Add>(sum_gh) / C(n);
    sum_g = kCentered ? over_block<Add>(sum_g) / C(n) : C(0);
    for (int64_t i = threadIdx.x; i < n; i += kThreads) {
      const C g = widened(d[i]) * widened(gamma[i]), h = (widened(from[i]) - s.mean) * s.rstd;
      dx[r * n + i] = narrowed<T>(s.rstd * (g - sum_g - h * sum_gh));
    }
    if (threadIdx.x == 0) kept[r] = s;
  }
}

// partial[chunk] = sum dy h (and sum dy), per column
template <class T>
__global__ void __launch_bounds__(kThreads)
    parameter_sums(Compute<T>* partial, const RowStatistics<Compute<T>>* rows_of, const T* x,
                   const T* dy, int64_t rows, int64_t n, const Chunks chunks) {
  typedef Compute<T> C;
  HB_EACH(task, chunks.count * n) {
    const int64_t i = task % n, chunk = task / n, begin = chunk * chunks.size;
    const int64_t end = begin + chunks.size < rows ? begin + chunks.size : rows;
    C sum_dh = 0, sum_d = 0;
    for (int64_t r = begin; r < end; ++r) {
      const C d = widened(dy[r * n + i]);
      sum_d += d;
      sum_dh += d * ((widened(x[r * n + i]) - rows_of[r].mean) * rows_of[r].rstd);
    }
    partial[(2 * chunk) * n + i] = sum_dh;
    partial[(2 * chunk + 1) * n + i] = sum_d;
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    join_sums(T* dgamma, T* dbeta, const Compute<T>* partial, int64_t n, int64_t chunks) {
  HB_EACH(i, n) {
    Compute<T> a = 0, b = 0;
    for (int64_t k = 0; k < chunks; ++k) {
      a += partial[2 * k * n + i];
      b += partial[(2 * k + 1) * n + i];
    }
    dgamma[i] = narrowed<T>(a);
    if (dbeta) dbeta[i] = narrowed<T>(b);
  }
}

struct Norm {
  int64_t n, rows;
  DType dtype;
  double epsilon;
  explicit Norm(Prepare& p) : dtype(p.inputs[0].dtype), epsilon(attr_float(*p.attrs, "epsilon")) {
    const TensorSpec& x = p.inputs[0];
    n = x.shape[x.rank - 1];
    rows = n == 0 ? 0 : num_elements(x) / n;
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
      launch(blocks_for(rows, 1), dim3(kThreads), c.stream, norm_rows<kCentered, T>, out<T>(c, 0),
             in<T>(c, 0), in<T>(c, 1), kCentered ? in<T>(c, 2) : nullptr, rows, n, epsilon);
    });
  }
};
typedef RowNorm<true> LayerNorm;
typedef RowNorm<false> RmsNorm;
HB_CUDA_KERNEL_INPLACE(layer_norm, LayerNorm, kAllFloat)
HB_CUDA_KERNEL_INPLACE(rms_norm, RmsNorm, kAllFloat)

template <bool kCentered>
struct RowNormGrad : Norm {
  Chunks chunks;
  explicit RowNormGrad(Prepare& p) : Norm(p), chunks(rows, n) {
    p.scratch_bytes = item() * size_t(2 * rows + 2 * chunks.count * n);
  }
  void run(const Call& c) const {
    if (n == 0) return;
    with_float_type(dtype, [&]<class T>() {
      typedef Compute<T> C;
      auto* kept = static_cast<RowStatistics<C>*>(c.scratch);
      C* partial = static_cast<C*>(c.scratch) + 2 * rows;
      if (rows > 0)
        launch(blocks_for(rows, 1), dim3(kThreads), c.stream, norm_rows_grad<kCentered, T>,
               out<T>(c, 0), kept, in<T>(c, 0), in<T>(c, 1), in<T>(c, 2), rows, n, epsilon);
      launch(blocks_for(chunks.count * n), dim3(kThreads), c.stream, parameter_sums<T>, partial,
             static_cast<const RowStatistics<C>*>(kept), in<T>(c, 0), in<T>(c, 2), rows, n, chunks);
      launch(blocks_for(n), dim3(kThreads), c.stream, join_sums<T>, out<T>(c, 1),
             kCentered ? out<T>(c, 2) : nullptr, static_cast<const C*>(partial), n, chunks.count);
    });
  }
};
typedef RowNormGrad<true> LayerNormGrad;
typedef RowNormGrad<false> RmsNormGrad;
HB_CUDA_KERNEL(layer_norm_grad, LayerNormGrad, kAllFloat)
HB_CUDA_KERNEL(rms_norm_grad, RmsNormGrad, kAllFloat)

// ---------------------------------------------------------------------- batch norm

// Mean and sum of squares about it, of a chunk of rows, per column.
template <class T>
__global__ void __launch_bounds__(kThreads)
    column_moments(Compute<T>* partial, const T* x, int64_t rows, int64_t n, const Chunks chunks) {
  typedef Compute<T> C;
  HB_EACH(task, chunks.count * n) {
    const int64_t i = task % n, chunk = task / n, begin = chunk * chunks.size;
    const int64_t end = begin + chunks.size < rows ? begin + chunks.size : rows;
    C mean = 0, squares = 0, left = 0;  // left: what rounding took from the mean
    for (int64_t r = begin; r < end; ++r) mean += widened(x[r * n + i]);
    mean /= C(end - begin);
    for (int64_t r = begin; r < end; ++r) {
      const C d = widened(x[r * n + i]) - mean;
      squares += d * d;
      left += d;
    }
    partial[2 * chunk * n + i] = mean + left / C(end - begin);
    partial[(2 * chunk + 1) * n + i] = squares - left * left / C(end - begin);
  }
}
// Chan's formula joins them. factors: mean, scale, shift, [n] each.
template <class T>
__global__ void __launch_bounds__(kThreads)
    join_moments(T* mean_out, T* var_out, Compute<T>* factors, const Compute<T>* partial,
                 const T* gamma, const T* beta, int64_t rows, int64_t n, double epsilon,
                 const Chunks chunks) {
  typedef Compute<T> C;
  HB_EACH(i, n) {
    C mean = 0, squares = 0;
    for (int64_t k = 0; k < chunks.count; ++k) {
      const int64_t begin = k * chunks.size;
      const int64_t end = begin + chunks.size < rows ? begin + chunks.size : rows;
      const C d = partial[2 * k * n + i] - mean, share = C(end - begin) / C(end);
      mean += d * share;
      squares += partial[(2 * k + 1) * n + i] + d * d * (C(begin) * share);
    }
    const C var = squares / C(rows);
    mean_out[i] = narrowed<T>(mean);
    var_out[i] = narrowed<T>(var);
    factors[i] = mean;
    factors[n + i] = widened(gamma[i]) / sqrt(var + C(epsilon));
    factors[2 * n + i] = widened(beta[i]);
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    scale_columns(T* y, const T* x, const Compute<T>* factors, int64_t total, int64_t n) {
  HB_EACH(e, total) {
    const int64_t i = e % n;
    y[e] = narrowed<T>((widened(x[e]) - factors[i]) * factors[n + i] + factors[2 * n + i]);
  }
}

// inputs: x, gamma, beta; outputs: y, mean, variance
struct BatchNormTrain : Norm {
  Chunks chunks;
  explicit BatchNormTrain(Prepare& p) : Norm(p), chunks(rows, n) {
    p.scratch_bytes = item() * size_t(2 * chunks.count + 3) * size_t(n);
  }
  static bool supports(const Prepare& p) {
    return num_elements(p.inputs[0]) > 0 && p.inputs[1].dtype == p.inputs[0].dtype;
  }
  void run(const Call& c) const {
    with_float_type(dtype, [&]<class T>() {
      typedef Compute<T> C;
      C *partial = static_cast<C*>(c.scratch), *factors = partial + 2 * chunks.count * n;
      launch(blocks_for(chunks.count * n), dim3(kThreads), c.stream, column_moments<T>, partial,
             in<T>(c, 0), rows, n, chunks);
      launch(blocks_for(n), dim3(kThreads), c.stream, join_moments<T>, out<T>(c, 1), out<T>(c, 2),
             factors, static_cast<const C*>(partial), in<T>(c, 1), in<T>(c, 2), rows, n, epsilon,
             chunks);
      launch(blocks_for(rows * n), dim3(kThreads), c.stream, scale_columns<T>, out<T>(c, 0),
             in<T>(c, 0), static_cast<const C*>(factors), rows * n, n);
    });
  }
};
HB_CUDA_KERNEL_IF(batch_norm_train, BatchNormTrain, kAllFloat, 0u, BatchNormTrain::supports)

// partial[chunk] = sum dy h and sum dy, per column
template <class T>
__global__ void __launch_bounds__(kThreads)
    column_sums(Compute<T>* partial, const T* x, const T* mean, const T* var, const T* dy,
                int64_t rows, int64_t n, double epsilon, const Chunks chunks) {
  typedef Compute<T> C;
  HB_EACH(task, chunks.count * n) {
    const int64_t i = task % n, chunk = task / n, begin = chunk * chunks.size;
    const int64_t end = begin + chunks.size < rows ? begin + chunks.size : rows;
    const C m = widened(mean[i]), rstd = C(1) / sqrt(widened(var[i]) + C(epsilon));
    C sum_dh = 0, sum_d = 0;
    for (int64_t r = begin; r < end; ++r) {
      const C d = widened(dy[r * n + i]);
      sum_d += d;
      sum_dh += d * ((widened(x[r * n + i]) - m) * rstd);
    }
    partial[2 * chunk * n + i] = sum_dh;
    partial[(2 * chunk + 1) * n + i] = sum_d;
  }
}
// factors: mean, scale, mean of dy, factor of x - mean, [n] each.
template <class T>
__global__ void __launch_bounds__(kThreads)
    join_column_sums(T* dgamma, T* dbeta, Compute<T>* factors, const Compute<T>* partial,
                     const T* gamma, const T* mean, const T* var, int64_t rows, int64_t n,
                     double epsilon, int64_t chunks) {
  typedef Compute<T> C;
  HB_EACH(i, n) {
    C sum_dh = 0, sum_d = 0;
    for (int64_t k = 0; k < chunks; ++k) {
      sum_dh += partial[2 * k * n + i];
      sum_d += partial[(2 * k + 1) * n + i];
    }
    dgamma[i] = narrowed<T>(sum_dh);
    dbeta[i] = narrowed<T>(sum_d);
    const C rstd = C(1) / sqrt(widened(var[i]) + C(epsilon));
    factors[i] = widened(mean[i]);
    factors[n + i] = widened(gamma[i]) * rstd;
    factors[2 * n + i] = sum_d / C(rows);
    factors[3 * n + i] = sum_dh / C(rows) * rstd;
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    column_grad(T* dx, const T* x, const T* dy, const Compute<T>* factors, int64_t total,
                int64_t n) {
  typedef Compute<T> C;
  HB_EACH(e, total) {
    const int64_t i = e % n;
    const C h = (widened(x[e]) - factors[i]) * factors[3 * n + i];
    dx[e] = narrowed<T>(factors[n + i] * (widened(dy[e]) - factors[2 * n + i] - h));
  }
}

// inputs: x, gamma, mean, variance, dy; outputs: dx, dgamma, dbeta
struct BatchNormGrad : Norm {
  Chunks chunks;
  explicit BatchNormGrad(Prepare& p) : Norm(p), chunks(rows, n) {
    p.scratch_bytes = item() * size_t(2 * chunks.count + 4) * size_t(n);
  }
  void run(const Call& c) const {
    with_float_type(dtype, [&]<class T>() {
      typedef Compute<T> C;
      C *partial = static_cast<C*>(c.scratch), *factors = partial + 2 * chunks.count * n;
      launch(blocks_for(chunks.count * n), dim3(kThreads), c.stream, column_sums<T>, partial,
             in<T>(c, 0), in<T>(c, 2), in<T>(c, 3), in<T>(c, 4), rows, n, epsilon, chunks);
      launch(blocks_for(n), dim3(kThreads), c.stream, join_column_sums<T>, out<T>(c, 1),
             out<T>(c, 2), factors, static_cast<const C*>(partial), in<T>(c, 1), in<T>(c, 2),
             in<T>(c, 3), rows, n, epsilon, chunks.count);
      launch(blocks_for(rows * n), dim3(kThreads), c.stream, column_grad<T>, out<T>(c, 0),
             in<T>(c, 0), in<T>(c, 4), static_cast<const C*>(factors), rows * n, n);
    });
  }
};
HB_CUDA_KERNEL_IF(batch_norm_grad, BatchNormGrad, kAllFloat, 0u, BatchNormTrain::supports)

}  // namespace
}  // namespace hb::cuda
