// Normalisations over the last axis on CUDA and their gradients: layer_norm and rms_norm. Formulas
// and operands: normalize.cc.
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

}  // namespace
}  // namespace hb::cuda
