// Normalisations over the last axis, layer_norm and rms_norm, and their gradients.
//
//   layer_norm  y = gamma (x - mean) rstd + beta,  rstd = 1 / sqrt(var + epsilon)
//   rms_norm    y = gamma x rstd,                  rstd = 1 / sqrt(mean(x^2) + epsilon)
//   with h = (x - mean) rstd and g = dy gamma:
//     dx = rstd (g - mean(g) - h mean(g h)), dgamma = sum dy h, dbeta = sum dy
//   (rms_norm: without mean(g))
//
// Variances are two-pass: the mean first, then the squares of what is left, so a large mean costs
// no digits. Sums over rows are made in a number of chunks that depends on the shape only, then
// added in order: the same bits for any number of threads.
#include "ops/rowwise.h"

HB_KERNELS_BEGIN

constexpr int64_t kMaxChunks = 64;

// Rows split for sums over them.
struct Chunks {
  int64_t rows, per_chunk, count;
  Chunks(int64_t rows, int64_t n) : rows(rows) {
    const int64_t least = (4 << 10) / (n + 1) + 1;  // at least about 4096 elements
    per_chunk = max_of(least, (rows + kMaxChunks - 1) / kMaxChunks);
    count = (rows + per_chunk - 1) / per_chunk;
  }
  template <class F>
  void each(const F& f) const {  // f(chunk, first_row, last_row, worker)
    parallel_for(count, [&](int64_t chunk, int worker) {
      f(chunk, chunk * per_chunk, min_of(rows, (chunk + 1) * per_chunk), worker);
    });
  }
};

// to[i] = sum over chunks of partial[chunk * stride + i]
template <class C>
static void add_chunks(const C* partial, int64_t stride, int64_t count, C* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = 0;
  for (int64_t chunk = 0; chunk < count; ++chunk) {
    for (int64_t i = 0; i < n; ++i) to[i] += partial[chunk * stride + i];
  }
}

template <class C>
HB_INLINE C rsqrt_of(C x) {
  return C(1) / vsqrt(splat<C>(x))[0];
}

template <class C>
struct RowStatistics {
  C mean, rstd;
};
template <bool kCentered, class C>
HB_INLINE RowStatistics<C> row_statistics(const C* x, int64_t n, C epsilon) {
  C mean = 0;
  if (kCentered) {
    mean =
        row_sum<C>(n, [&](int64_t i, int64_t count) { return load_n(x + i, count, C(0)); }) / C(n);
  }
  const C var = row_sum<C>(n,
                           [&](int64_t i, int64_t count) {
                             const Vec<C> d = load_n(x + i, count, mean) - mean;
                             return d * d;
                           }) /
                C(n);
  return {mean, rsqrt_of(var + epsilon)};
}

// inputs: x [rows, n], gamma [n], beta [n] (rms_norm: none).
template <bool kCentered>
struct RowNorm : RowKernel<1, 1> {
  double epsilon;
  size_t rows_scratch;  // elements of float before the widened parameters
  explicit RowNorm(Prepare& p)
      : RowKernel(p, p.inputs[0]), epsilon(attr_float(*p.attrs, "epsilon")) {
    for (int i = 1; i < p.num_inputs; ++i) {
      if (num_elements(p.inputs[i]) != n || p.inputs[i].dtype != dtype) {
        fail("one parameter of the input's dtype per feature");
      }
    }
    rows_scratch = p.scratch_bytes / sizeof(float);
    if (is_half(dtype)) p.scratch_bytes += size_t(2 * n) * sizeof(float);
  }
  void run(const Call& c) const {
    with_float_type(dtype, [&]<class T>(T) {
      typedef Compute<T> P;
      const P *gamma, *beta = nullptr;
      if constexpr (sizeof(T) == sizeof(P)) {
        gamma = static_cast<const P*>(c.inputs[1]);
        if (kCentered) beta = static_cast<const P*>(c.inputs[2]);
      } else {
        P* wide = static_cast<P*>(c.scratch) + rows_scratch;
        widen_row(static_cast<const T*>(c.inputs[1]), wide, n);
        if (kCentered) widen_row(static_cast<const T*>(c.inputs[2]), wide + n, n);
        gamma = wide;
        beta = wide + n;
      }
      each_row(c, {0}, [&]<class C>(int64_t, const C* const* in, C* y) {
        if constexpr (sizeof(C) == sizeof(P)) {  // the other combination does not occur
          const C* x = in[0];
          const RowStatistics<C> s = row_statistics<kCentered>(x, n, C(epsilon));
          each_vector<C>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
            const Vec<C> h = (load_n(x + i, count, C(0)) - s.mean) * s.rstd;
            Vec<C> v = h * load_n(gamma + i, count, C(0));
            if (kCentered) v += load_n(beta + i, count, C(0));
            store_n(y + i, v, count);
          });
        }
      });
    });
  }
};
typedef RowNorm<true> LayerNorm;
typedef RowNorm<false> RmsNorm;
HB_CPU_KERNEL_INPLACE(layer_norm, LayerNorm, kAllFloat)
HB_CPU_KERNEL_INPLACE(rms_norm, RmsNorm, kAllFloat)

// inputs: x [rows, n], gamma [n], dy [rows, n]; outputs: dx, dgamma [n], dbeta [n] (rms_norm: not).
template <bool kCentered>
struct RowNormGrad {
  int64_t n;
  Chunks chunks;
  DType dtype;
  double epsilon;
  size_t item;
  static int64_t last(const TensorSpec& s) { return s.shape[s.rank - 1]; }
  explicit RowNormGrad(Prepare& p)
      : n(last(p.inputs[0])),
        chunks(n == 0 ? 0 : num_elements(p.inputs[0]) / n, n),
        dtype(p.inputs[0].dtype),
        epsilon(attr_float(*p.attrs, "epsilon")),
        item(dtype == DType::F64 ? 8 : 4) {
    // per chunk dgamma and dbeta; gamma; per worker x, dy, dx
    p.scratch_bytes = size_t(n) * item * size_t(2 * chunks.count + 1 + 3 * num_threads());
  }
  void run(const Call& c) const {
    with_float_type(dtype, [&]<class T>(T) {
      typedef Compute<T> C;
      C* partial = static_cast<C*>(c.scratch);
      C* gamma = partial + 2 * chunks.count * n;
      C* buffers = gamma + n;
      widen_row(static_cast<const T*>(c.inputs[1]), gamma, n);
      chunks.each([&](int64_t chunk, int64_t first, int64_t end, int worker) {
        C *dgamma = partial + 2 * chunk * n, *dbeta = dgamma + n;
        memset(dgamma, 0, size_t(2 * n) * sizeof(C));
        C* buffer = buffers + worker * 3 * n;
        for (int64_t r = first; r < end; ++r) {
          const T* x = static_cast<const T*>(c.inputs[0]) + r * n;
          const T* dy = static_cast<const T*>(c.inputs[2]) + r * n;
          T* dx = static_cast<T*>(c.outputs[0]) + r * n;
          if constexpr (sizeof(T) == sizeof(C)) {
            row(x, gamma, dy, dx, dgamma, dbeta);
          } else {
            widen_row(x, buffer, n);
            widen_row(dy, buffer + n, n);
            row<C>(buffer, gamma, buffer + n, buffer + 2 * n, dgamma, dbeta);
            narrow_row(buffer + 2 * n, dx, n);
          }
        }
      });
      for (int k = 0; k < (kCentered ? 2 : 1); ++k) {
        add_chunks(partial + k * n, 2 * n, chunks.count, buffers, n);
        narrow_row(buffers, static_cast<T*>(c.outputs[1 + k]), n);
      }
    });
  }

 private:
  template <class C>
  HB_INLINE void row(const C* x, const C* gamma, const C* dy, C* dx, C* dgamma, C* dbeta) const {
    const RowStatistics<C> s = row_statistics<kCentered>(x, n, C(epsilon));
    Vec<C> sum_g[2] = {}, sum_gh[2] = {};  // in turns: an addition waits for the one before it
    const auto add = [&](int64_t i, int64_t count, int k) __attribute__((always_inline)) {
      const Vec<C> h = (load_n(x + i, count, s.mean) - s.mean) * s.rstd;
      const Vec<C> d = load_n(dy + i, count, C(0)), g = d * load_n(gamma + i, count, C(0));
      sum_g[k] += g;
      sum_gh[k] += g * h;
      store_n(dgamma + i, load_n(dgamma + i, count, C(0)) + d * h, count);
      if (kCentered) store_n(dbeta + i, load_n(dbeta + i, count, C(0)) + d, count);
    };
    constexpr int kStep = kLanes<C>;
    int64_t i = 0;
    for (; i + 2 * kStep <= n; i += 2 * kStep) {
      add(i, kStep, 0);
      add(i + kStep, kStep, 1);
    }
    each_vector<C>(n - i, [&](int64_t j, int64_t count)
                              __attribute__((always_inline)) { add(i + j, count, 0); });
    const C mean_g = kCentered ? sum_lanes<C>(sum_g[0] + sum_g[1]) / C(n) : C(0);
    const C mean_gh = sum_lanes<C>(sum_gh[0] + sum_gh[1]) / C(n);
    each_vector<C>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
      const Vec<C> h = (load_n(x + i, count, s.mean) - s.mean) * s.rstd;
      const Vec<C> g = load_n(dy + i, count, C(0)) * load_n(gamma + i, count, C(0));
      store_n(dx + i, (g - mean_g - h * mean_gh) * s.rstd, count);
    });
  }
};
typedef RowNormGrad<true> LayerNormGrad;
typedef RowNormGrad<false> RmsNormGrad;
HB_CPU_KERNEL(layer_norm_grad, LayerNormGrad, kAllFloat)
HB_CPU_KERNEL(rms_norm_grad, RmsNormGrad, kAllFloat)

HB_KERNELS_END
