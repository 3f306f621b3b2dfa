// Batch normalisation in training: x as [rows, n], statistics of each column over the rows.
//
//   batch_norm_train  y = activation((x - mean) scale + beta + residual),  scale = gamma rstd,
//                     rstd = 1 / sqrt(var + epsilon)
//   batch_norm_grad   with h = (x - mean) rstd: dgamma = sum dy h, dbeta = sum dy,
//                     dx = scale (dy - mean(dy) - h mean(dy h))
//
// Two passes over memory each. Statistics are made by blocks of rows that stay in L1: their mean
// first, then the squares of what is left, both of the distances from the first row, so a large
// mean costs no digits; Chan's formula joins blocks to chunks and chunks to the whole. Blocks and
// chunks depend on the shape only: the same bits for any number of threads. The second pass starts
// with the rows that the first one read last. float16 and bfloat16 are what is stored, sums are of
// float; the parameters and statistics are of x's dtype or of the sums'.
#include "core/kernel.h"
#include "simd/half.h"
#include "simd/math.h"
#include "simd/stream.h"

HB_KERNELS_BEGIN

constexpr int64_t kMaxChunks = 64;
constexpr int64_t kBlockBytes = 32 << 10, kAhead = 8 << 10;
constexpr int kRows = 8, kFinishedRows = 4;  // at a time, for each load of a column's sum or factor

template <class T>
struct AccumulatorOf {
  typedef float type;
};
template <>
struct AccumulatorOf<double> {
  typedef double type;
};

// f<V>(c) for every column c that a vector V = Vec<A> of them starts at, and V = A for the rest.
template <class A, class F>
HB_INLINE void each_column(int64_t n, const F& f) {
  int64_t c = 0;
  for (; c + kLanes<A> <= n; c += kLanes<A>) f.template operator()<Vec<A>>(c);
  for (; c < n; ++c) f.template operator()<A>(c);
}
template <class A, class V>
constexpr bool kIsOne = sizeof(V) == sizeof(A);
template <class A, class V, class T>
HB_INLINE V get(const T* p) {
  if constexpr (kIsOne<A, V>)
    return A(widen(*p));
  else
    return load_as<A>(p);
}
// From memory: rows of a group are apart, a pattern that the processor does not fetch ahead itself.
template <class A, class V, class T>
HB_INLINE V fetch(const T* p) {
  __builtin_prefetch(reinterpret_cast<const char*>(p) + kAhead);
  return get<A, V>(p);
}
template <class A, class V, class T>
HB_INLINE void put(T* p, V v) {
  if constexpr (kIsOne<A, V>)
    narrow(v, *p);
  else
    store_as(p, v);
}
template <int R, class V>
HB_INLINE V tree_sum(V (&v)[R]) {
  for (int w = R / 2; w > 0; w /= 2)
    for (int i = 0; i < w; ++i) v[i] += v[i + w];
  return v[0];
}

template <class T>
class Columns {
 protected:
  typedef typename AccumulatorOf<T>::type A;
  explicit Columns(const Prepare& p)
      : n_(p.inputs[0].shape[p.inputs[0].rank - 1]),
        rows_(n_ == 0 ? 0 : num_elements(p.inputs[0]) / n_),
        epsilon_(A(attr_float(*p.attrs, "epsilon"))),
        wide_(p.inputs[1].dtype != p.inputs[0].dtype) {
    const int64_t fit = n_ == 0 ? 1 : kBlockBytes / (n_ * int64_t(sizeof(T))) / kRows;
    block_ = (fit < 1 ? 1 : fit) * kRows;
    const int64_t blocks = (rows_ + block_ - 1) / block_;
    per_chunk_ = (blocks + kMaxChunks - 1) / kMaxChunks * block_;
    chunks_ = rows_ == 0 ? 0 : (rows_ + per_chunk_ - 1) / per_chunk_;
  }
  void check_vector(const TensorSpec& v, const TensorSpec& first) const {
    if (v.dtype != first.dtype || num_elements(v) != n_)
      fail("expected vectors of %lld numbers of one dtype", (long long)n_);
  }
  int64_t first_row(int64_t chunk) const { return chunk * per_chunk_; }
  int64_t end_row(int64_t chunk) const {
    const int64_t end = (chunk + 1) * per_chunk_;
    return end < rows_ ? end : rows_;
  }
  // f<rows at a time>(first row)
  template <int R, class F>
  static HB_INLINE void each_rows(int64_t first, int64_t end, const F& f) {
    for (; first + R <= end; first += R) f.template operator()<R>(first);
    for (; first < end; ++first) f.template operator()<1>(first);
  }
  // f(first row, end) for the blocks of a chunk
  template <class F>
  void each_block(int64_t chunk, const F& f) const {
    const int64_t end = end_row(chunk);
    for (int64_t r = first_row(chunk); r < end; r += block_)
      f(r, r + block_ < end ? r + block_ : end);
  }
  // The pass that stores, in tasks of a chunk, from the last chunk to the first.
  template <class F>
  void finish([[maybe_unused]] bool streams, const F& f) const {
    parallel_for(chunks_, [&](int64_t task, int) {
      const int64_t chunk = chunks_ - 1 - task;
      if constexpr (sizeof(T) == sizeof(A)) {
        if (streams) {
          f.template operator()<true>(first_row(chunk), end_row(chunk));
          return stream_fence();
        }
      }
      f.template operator()<false>(first_row(chunk), end_row(chunk));
    });
  }
  template <bool kStreams, class V>
  static HB_INLINE void put_result(T* p, V v) {
    if constexpr (kStreams && !kIsOne<A, V>)
      stream(p, v);
    else
      put<A>(p, v);
  }
  // Whether the result is larger than the caches and every vector of it is aligned. (With vectors
  // of half a line, of 16 bits, nothing is won.)
  bool streams(const void* y) const {
    const size_t row = size_t(n_) * sizeof(T);
    return sizeof(T) == sizeof(A) && rows_ * int64_t(row) > kStreamBytes &&
           row % HB_VEC_BYTES == 0 && uintptr_t(y) % HB_VEC_BYTES == 0;
  }
  // Vectors of parameters and statistics.
  void read(const void* from, A* to) const {
    for (int64_t i = 0; i < n_; ++i)
      to[i] = wide_ ? static_cast<const A*>(from)[i] : A(widen(static_cast<const T*>(from)[i]));
  }
  void write(const A* from, void* to) const {
    for (int64_t i = 0; i < n_; ++i)
      wide_ ? narrow(from[i], static_cast<A*>(to)[i]) : narrow(from[i], static_cast<T*>(to)[i]);
  }
  A rstd(A variance) const { return A(1) / vsqrt(splat<A>(variance + epsilon_))[0]; }

  int64_t n_, rows_, block_, per_chunk_, chunks_;
  A epsilon_;
  bool wide_;  // parameters are of A where x is shorter
};

// inputs: x, gamma [n], beta [n], residual?; outputs: y, mean [n], variance [n] (over all rows, not
// corrected). Attribute activation: linear or relu.
template <class T>
class BatchNormTrain : Columns<T> {
  typedef Columns<T> Base;
  using Base::n_, Base::rows_, Base::chunks_;
  using typename Base::A;

 public:
  explicit BatchNormTrain(Prepare& p) : Base(p) {
    this->check_vector(p.inputs[2], p.inputs[1]);
    this->check_vector(p.outputs[1], p.inputs[1]);
    this->check_vector(p.outputs[2], p.inputs[1]);
    has_residual_ = p.num_inputs > 3;
    if (has_residual_ && (p.inputs[3].dtype != p.inputs[0].dtype ||
                          num_elements(p.inputs[3]) != num_elements(p.inputs[0])))
      fail("expected a residual like the input");
    relu_ =
        attr_has(*p.attrs, "activation") && strcmp(attr_str(*p.attrs, "activation"), "relu") == 0;
    // per chunk and for the whole: mean and squares; per worker those of a block and what is left;
    // scale, shift, first row
    p.scratch_bytes = sizeof(A) * size_t(n_) * size_t(2 * chunks_ + 5 + 3 * num_threads());
  }

  void run(const Call& c) const {
    const T* x = static_cast<const T*>(c.inputs[0]);
    const T* residual = has_residual_ ? static_cast<const T*>(c.inputs[3]) : nullptr;
    T* y = static_cast<T*>(c.outputs[0]);
    A* partial = static_cast<A*>(c.scratch);
    A *mean = partial + 2 * chunks_ * n_, *var = mean + n_, *scale = var + n_, *shift = scale + n_;
    A *origin = shift + n_, *buffers = origin + n_;
    for (int64_t i = 0; i < n_; ++i) origin[i] = rows_ > 0 ? A(widen(x[i])) : A(0);
    parallel_for(chunks_, [&](int64_t chunk, int worker) {
      A *m = partial + 2 * chunk * n_, *buffer = buffers + worker * 3 * n_;
      memset(m, 0, size_t(2 * n_) * sizeof(A));
      const int64_t first = this->first_row(chunk);
      this->each_block(chunk, [&](int64_t begin, int64_t end) {
        moments(x, origin, begin, end, buffer);
        join(m, double(begin - first), buffer, double(end - begin));
      });
    });
    memset(mean, 0, size_t(2 * n_) * sizeof(A));
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
      const int64_t begin = this->first_row(chunk);
      join(mean, double(begin), partial + 2 * chunk * n_, double(this->end_row(chunk) - begin));
    }
    this->read(c.inputs[1], scale);
    this->read(c.inputs[2], shift);
    for (int64_t i = 0; i < n_; ++i) {
      mean[i] += origin[i];
      var[i] /= A(rows_);
      scale[i] *= this->rstd(var[i]);
    }
    const bool streams = this->streams(y) && y != x && y != residual;
    this->finish(streams, [&]<bool kStreams>(int64_t first, int64_t end) {
      this->template each_rows<kFinishedRows>(first, end, [&]<int R>(int64_t r) {
        each_column<A>(n_, [&]<class V>(int64_t i) {
          const V m = get<A, V>(mean + i), s = get<A, V>(scale + i), b = get<A, V>(shift + i);
#pragma GCC unroll 4
          for (int k = 0; k < R; ++k) {
            const int64_t at = (r + k) * n_ + i;
            V v = (fetch<A, V>(x + at) - m) * s + b;
            if (residual) v += fetch<A, V>(residual + at);
            if (relu_) v = v < V{} ? V{} : v;  // keeps NaN
            this->template put_result<kStreams>(y + at, v);
          }
        });
      });
    });
    this->write(mean, c.outputs[1]);
    this->write(var, c.outputs[2]);
  }

 private:
  // to: mean of x - origin, sum of squares about it, and what rounding took from it, [n] each.
  void moments(const T* x, const A* origin, int64_t begin, int64_t end, A* to) const {
    A *mean = to, *squares = to + n_, *left = to + 2 * n_;
    memset(to, 0, size_t(3 * n_) * sizeof(A));
    this->template each_rows<kRows>(begin, end, [&]<int R>(int64_t r) {
      each_column<A>(n_, [&]<class V>(int64_t i) {
        const V o = get<A, V>(origin + i);
        V v[R];
#pragma GCC unroll 8
        for (int k = 0; k < R; ++k) v[k] = fetch<A, V>(x + (r + k) * n_ + i) - o;
        put<A>(mean + i, V(get<A, V>(mean + i) + tree_sum(v)));
      });
    });
    const A share = A(1) / A(end - begin);
    for (int64_t i = 0; i < n_; ++i) mean[i] *= share;
    this->template each_rows<kRows>(begin, end, [&]<int R>(int64_t r) {
      each_column<A>(n_, [&]<class V>(int64_t i) {
        const V o = get<A, V>(origin + i), m = get<A, V>(mean + i);
        V d[R], q[R];
#pragma GCC unroll 8
        for (int k = 0; k < R; ++k) {
          d[k] = (get<A, V>(x + (r + k) * n_ + i) - o) - m;
          q[k] = d[k] * d[k];
        }
        put<A>(left + i, V(get<A, V>(left + i) + tree_sum(d)));
        put<A>(squares + i, V(get<A, V>(squares + i) + tree_sum(q)));
      });
    });
    for (int64_t i = 0; i < n_; ++i) {
      squares[i] -= left[i] * left[i] * share;
      mean[i] += left[i] * share;
    }
  }
  // Chan's formula: mean and squares `to` of `before` rows take in those of `count` more.
  void join(A* to, double before, const A* from, double count) const {
    const A share = A(count / (before + count)), weight = A(before * count / (before + count));
    A *mean = to, *squares = to + n_;
    for (int64_t i = 0; i < n_; ++i) {
      const A d = from[i] - mean[i];
      mean[i] += d * share;
      squares[i] += from[n_ + i] + d * d * weight;
    }
  }

  bool has_residual_, relu_;
};

// inputs: x, gamma [n], mean [n], variance [n], dy; outputs: dx, dgamma [n], dbeta [n].
template <class T>
class BatchNormGrad : Columns<T> {
  typedef Columns<T> Base;
  using Base::n_, Base::rows_, Base::chunks_;
  using typename Base::A;

 public:
  explicit BatchNormGrad(Prepare& p) : Base(p) {
    for (int i = 2; i < 4; ++i) this->check_vector(p.inputs[i], p.inputs[1]);
    for (int i = 1; i < 3; ++i) this->check_vector(p.outputs[i], p.inputs[1]);
    // per chunk, for the whole and per worker (a block): sums of dy (x - mean) and of dy; mean,
    // scale, and the factors of x - mean and of 1
    p.scratch_bytes = sizeof(A) * size_t(n_) * size_t(2 * chunks_ + 6 + 2 * num_threads());
  }

  void run(const Call& c) const {
    const T *x = static_cast<const T*>(c.inputs[0]), *dy = static_cast<const T*>(c.inputs[4]);
    T* dx = static_cast<T*>(c.outputs[0]);
    A* partial = static_cast<A*>(c.scratch);
    A *sums = partial + 2 * chunks_ * n_, *mean = sums + 2 * n_, *scale = mean + n_;
    A *slope = scale + n_, *shift = slope + n_, *buffers = shift + n_;
    this->read(c.inputs[2], mean);
    parallel_for(chunks_, [&](int64_t chunk, int worker) {
      A *total = partial + 2 * chunk * n_, *block = buffers + worker * 2 * n_;
      memset(total, 0, size_t(2 * n_) * sizeof(A));
      this->each_block(chunk, [&](int64_t begin, int64_t end) {
        add_block(x, dy, mean, begin, end, block);
        for (int64_t i = 0; i < 2 * n_; ++i) total[i] += block[i];
      });
    });
    memset(sums, 0, size_t(2 * n_) * sizeof(A));
    for (int64_t chunk = 0; chunk < chunks_; ++chunk)
      for (int64_t i = 0; i < 2 * n_; ++i) sums[i] += partial[2 * chunk * n_ + i];
    A *dgamma = sums, *dbeta = sums + n_;
    this->read(c.inputs[3], slope);
    this->read(c.inputs[1], scale);
    const A share = A(1) / A(rows_ > 0 ? rows_ : 1);
    for (int64_t i = 0; i < n_; ++i) {
      const A rstd = this->rstd(slope[i]);
      dgamma[i] *= rstd;
      scale[i] *= rstd;
      slope[i] = dgamma[i] * share * rstd * scale[i];
      shift[i] = dbeta[i] * share * scale[i];
    }
    const bool streams = this->streams(dx) && dx != x && dx != dy;
    this->finish(streams, [&]<bool kStreams>(int64_t first, int64_t end) {
      this->template each_rows<kFinishedRows>(first, end, [&]<int R>(int64_t r) {
        each_column<A>(n_, [&]<class V>(int64_t i) {
          const V m = get<A, V>(mean + i), s = get<A, V>(scale + i);
          const V h = get<A, V>(slope + i), b = get<A, V>(shift + i);
#pragma GCC unroll 4
          for (int k = 0; k < R; ++k) {
            const int64_t at = (r + k) * n_ + i;
            const V left = fetch<A, V>(dy + at) * s - b;
            this->template put_result<kStreams>(dx + at, V(left - (fetch<A, V>(x + at) - m) * h));
          }
        });
      });
    });
    this->write(dgamma, c.outputs[1]);
    this->write(dbeta, c.outputs[2]);
  }

 private:
  void add_block(const T* x, const T* dy, const A* mean, int64_t begin, int64_t end, A* to) const {
    memset(to, 0, size_t(2 * n_) * sizeof(A));
    this->template each_rows<kRows>(begin, end, [&]<int R>(int64_t r) {
      each_column<A>(n_, [&]<class V>(int64_t i) {
        const V m = get<A, V>(mean + i);
        V d[R], q[R];
#pragma GCC unroll 8
        for (int k = 0; k < R; ++k) {
          d[k] = fetch<A, V>(dy + (r + k) * n_ + i);
          q[k] = d[k] * (fetch<A, V>(x + (r + k) * n_ + i) - m);
        }
        put<A>(to + n_ + i, V(get<A, V>(to + n_ + i) + tree_sum(d)));
        put<A>(to + i, V(get<A, V>(to + i) + tree_sum(q)));
      });
    });
  }
};

// x, dy and the residual may lie where the result goes: every element is read before it is written,
// and statistics are written last.
#define HB_BATCH_NORM(T, name, dtypes)                                            \
  typedef BatchNormTrain<T> Train_##name;                                         \
  typedef BatchNormGrad<T> Grad_##name;                                           \
  HB_CPU_KERNEL_IF(batch_norm_train, Train_##name, dtypes, 1u | 1u << 3, nullptr) \
  HB_CPU_KERNEL_IF(batch_norm_grad, Grad_##name, dtypes, 1u | 1u << 4, nullptr)

HB_BATCH_NORM(float, f32, kF32)
HB_BATCH_NORM(double, f64, kF64)
HB_BATCH_NORM(f16, f16, kF16)
HB_BATCH_NORM(bf16, bf16, kBF16)

HB_KERNELS_END
