// Softmax over the last axis and what is made of it: log_softmax, cross entropy from logits with
// dense or integer targets, and the gradients.
//
//   m = max_j x[j], s = sum_j e^(x[j] - m)
//   softmax = e^(x - m) / s      log_softmax = x - m - log s
//   cross entropy = sum_j t[j] (m + log s - x[j])
//
// One task per block of rows; a row stays in L1 between its passes, so the floor is one read and
// one write of memory. Cross entropy writes one number per row: no copy of the logits is made, and
// its gradient recomputes the probabilities from them. Where both are wanted and the gradient of
// the loss is known before it (passes/crossentropy.py), one kernel does both, over the logits
// themselves: same numbers, exponentials computed once.
#include "ops/rowwise.h"

HB_KERNELS_BEGIN

// The largest element that is not NaN (NaN comes back with the sum of exponentials). Four at a
// time: a comparison waits for the one before it.
template <class C>
HB_INLINE C row_max(const C* x, int64_t n) {
  constexpr int kStep = kLanes<C>;
  const C lowest = Limits<C>::lowest();
  Vec<C> m[4];
  for (auto& v : m) v = splat<C>(lowest);
  int64_t i = 0;
  for (; i + 4 * kStep <= n; i += 4 * kStep) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const Vec<C> v = load(x + i + k * kStep);
      m[k] = v > m[k] ? v : m[k];
    }
  }
  for (; i < n; i += kStep) {
    const Vec<C> v = load_n(x + i, min_of(int64_t(kStep), n - i), lowest);
    m[0] = v > m[0] ? v : m[0];
  }
  m[0] = m[1] > m[0] ? m[1] : m[0];
  m[2] = m[3] > m[2] ? m[3] : m[2];
  return max_lanes<C>(m[2] > m[0] ? m[2] : m[0]);
}
// e^x of x <= 0 (or NaN)
template <class C>
HB_INLINE Vec<C> exp_below(Vec<C> x) {
  return exp_within<C>(vat_least<C>(x, kExpLow<C>));
}
// Sum of e^(x - m); stored as well if y is not null.
template <bool kStore, class C>
HB_INLINE C exp_sum(const C* x, C m, C* y, int64_t n) {
  return row_sum<C>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    Vec<C> e = exp_below<C>(load_n(x + i, count, Limits<C>::lowest()) - m);
    if (kStore) store_n(y + i, e, count);
    if (count < kLanes<C>) {
      for (int64_t k = count; k < kLanes<C>; ++k) e[k] = 0;
    }
    return e;
  });
}
template <class C>
HB_INLINE C log_of(C x) {
  return vlog<C>(splat<C>(x))[0];
}
template <class C, class F>
HB_INLINE void map_row(C* y, int64_t n, const F& f) {
  each_vector<C>(n, [&](int64_t i, int64_t count)
                        __attribute__((always_inline)) { store_n<C>(y + i, f(i, count), count); });
}

struct Softmax : RowKernel<1, 1> {
  explicit Softmax(Prepare& p) : RowKernel(p, p.inputs[0]) {}
  void run(const Call& c) const {
    each_row(c, {0}, [&]<class C>(int64_t, const C* const* in, C* y) {
      const C s = exp_sum<true>(in[0], row_max(in[0], n), y, n), scale = C(1) / s;
      map_row(y, n, [&](int64_t i, int64_t count) { return load_n(y + i, count, C(0)) * scale; });
    });
  }
};
HB_CPU_KERNEL_INPLACE(softmax, Softmax, kAllFloat)

struct LogSoftmax : RowKernel<1, 1> {
  explicit LogSoftmax(Prepare& p) : RowKernel(p, p.inputs[0]) {}
  void run(const Call& c) const {
    each_row(c, {0}, [&]<class C>(int64_t, const C* const* in, C* y) {
      const C* x = in[0];
      const C m = row_max(x, n), log_s = log_of(exp_sum<false>(x, m, y, n));
      map_row(y, n,
              [&](int64_t i, int64_t count) { return (load_n(x + i, count, C(0)) - m) - log_s; });
    });
  }
};
HB_CPU_KERNEL_INPLACE(log_softmax, LogSoftmax, kAllFloat)

// inputs: y, dy. dx = y (dy - sum_j y[j] dy[j]).
struct SoftmaxGrad : RowKernel<2, 1> {
  explicit SoftmaxGrad(Prepare& p) : RowKernel(p, p.inputs[0]) {}
  void run(const Call& c) const {
    each_row(c, {0, 1}, [&]<class C>(int64_t, const C* const* in, C* dx) {
      const C *y = in[0], *dy = in[1];
      const C total = row_sum<C>(n, [&](int64_t i, int64_t count) {
        return load_n(y + i, count, C(0)) * load_n(dy + i, count, C(0));
      });
      map_row(dx, n, [&](int64_t i, int64_t count) {
        return load_n(y + i, count, C(0)) * (load_n(dy + i, count, C(0)) - total);
      });
    });
  }
};
HB_CPU_KERNEL_IF(softmax_grad, SoftmaxGrad, kAllFloat, 3u, nullptr)

// inputs: y, dy. dx = dy - e^y sum_j dy[j].
struct LogSoftmaxGrad : RowKernel<2, 1> {
  explicit LogSoftmaxGrad(Prepare& p) : RowKernel(p, p.inputs[0]) {}
  void run(const Call& c) const {
    each_row(c, {0, 1}, [&]<class C>(int64_t, const C* const* in, C* dx) {
      const C *y = in[0], *dy = in[1];
      const C total =
          row_sum<C>(n, [&](int64_t i, int64_t count) { return load_n(dy + i, count, C(0)); });
      map_row(dx, n, [&](int64_t i, int64_t count) {
        return load_n(dy + i, count, C(0)) - vexp<C>(load_n(y + i, count, C(0))) * total;
      });
    });
  }
};
HB_CPU_KERNEL_IF(log_softmax_grad, LogSoftmaxGrad, kAllFloat, 3u, nullptr)

// int32 labels in [0, n), checked before any use.
static const int32_t* checked_labels(const void* data, int64_t rows, int64_t n) {
  const int32_t* labels = static_cast<const int32_t*>(data);
  int32_t lo = 0, hi = 0;
  for (int64_t r = 0; r < rows; ++r) {
    lo = labels[r] < lo ? labels[r] : lo;
    hi = labels[r] > hi ? labels[r] : hi;
  }
  if (rows > 0 && (lo < 0 || hi >= n)) {
    fail("class index %d is out of range; expected 0 <= index < %lld, the number of logits",
         int(lo < 0 ? lo : hi), (long long)n);
  }
  return labels;
}
static void expect_labels(const TensorSpec& labels, int64_t rows) {
  if (labels.dtype != DType::I32 || num_elements(labels) != rows) fail("one int32 label per row");
}

// inputs: logits [rows, n], labels int32 [rows]; output: loss [rows].
struct SparseSoftmaxCrossentropy : RowKernel<1, 0> {
  explicit SparseSoftmaxCrossentropy(Prepare& p) : RowKernel(p, p.inputs[0]) {
    expect_labels(p.inputs[1], rows);
  }
  void run(const Call& c) const {
    const int32_t* labels = checked_labels(c.inputs[1], rows, n);
    each_row(c, {0}, [&]<class C>(int64_t r, const C* const* in, C*) {
      const C* x = in[0];
      const C m = row_max(x, n), log_s = log_of(exp_sum<false, C>(x, m, nullptr, n));
      PerRow::set<C>(dtype, c.outputs[0], r, log_s - (x[labels[r]] - m));
    });
  }
};
HB_CPU_KERNEL(sparse_softmax_crossentropy, SparseSoftmaxCrossentropy, kAllFloat)

// inputs: logits, labels, dy [rows]; output: (softmax - one_hot) dy.
struct SparseSoftmaxCrossentropyGrad : RowKernel<1, 1> {
  explicit SparseSoftmaxCrossentropyGrad(Prepare& p) : RowKernel(p, p.inputs[0]) {
    expect_labels(p.inputs[1], rows);
  }
  void run(const Call& c) const {
    const int32_t* labels = checked_labels(c.inputs[1], rows, n);
    each_row(c, {0}, [&]<class C>(int64_t r, const C* const* in, C* dx) {
      const C dy = PerRow::get<C>(dtype, c.inputs[2], r);
      const C s = exp_sum<true>(in[0], row_max(in[0], n), dx, n), scale = dy / s;
      map_row(dx, n, [&](int64_t i, int64_t count) { return load_n(dx + i, count, C(0)) * scale; });
      dx[labels[r]] -= dy;
    });
  }
};
HB_CPU_KERNEL_INPLACE(sparse_softmax_crossentropy_grad, SparseSoftmaxCrossentropyGrad, kAllFloat)

// The dtype of a loss and of its gradient, given that of the logits: the same, or float32.
static DType loss_dtype(const Prepare& p) {
  const DType logits = p.inputs[0].dtype, wide = p.inputs[2].dtype;
  if (p.outputs[1].dtype != wide || !(wide == logits || (is_half(logits) && wide == DType::F32)))
    fail("a loss and its gradient of the logits' dtype, or in float32");
  return wide;
}

// inputs: logits, labels, dy [rows]; outputs: (softmax - one_hot) dy, loss [rows].
struct SparseSoftmaxCrossentropyBoth : RowKernel<1, 1> {
  DType loss;
  explicit SparseSoftmaxCrossentropyBoth(Prepare& p)
      : RowKernel(p, p.inputs[0]), loss(loss_dtype(p)) {
    expect_labels(p.inputs[1], rows);
  }
  void run(const Call& c) const {
    const int32_t* labels = checked_labels(c.inputs[1], rows, n);
    each_row(c, {0}, [&]<class C>(int64_t r, const C* const* in, C* dx) {
      const C dy = PerRow::get<C>(loss, c.inputs[2], r);
      const C m = row_max(in[0], n), asked = in[0][labels[r]] - m;
      const C s = exp_sum<true>(in[0], m, dx, n), scale = dy / s;
      PerRow::set<C>(loss, c.outputs[1], r, log_of(s) - asked);
      map_row(dx, n, [&](int64_t i, int64_t count) { return load_n(dx + i, count, C(0)) * scale; });
      dx[labels[r]] -= dy;
    });
  }
};
HB_CPU_KERNEL_INPLACE(sparse_softmax_crossentropy_both, SparseSoftmaxCrossentropyBoth, kAllFloat)

// Of a row of logits and one of targets, m the largest logit: s = sum e^(x - m) (the terms go to e,
// if kStore), sum t, and sum t (x - m), where a logit of -inf that is not asked for is nothing.
template <class C>
struct DenseSums {
  C s, targets, asked;
  HB_INLINE C loss() const { return log_of(s) * targets - asked; }
};
template <bool kStore, class C>
HB_INLINE DenseSums<C> dense_sums(const C* x, const C* t, C m, C* e, int64_t n) {
  Vec<C> targets{}, asked{};
  const C s = row_sum<C>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    const Vec<C> w = load_n(t + i, count, C(0));
    const Vec<C> below = load_n(x + i, count, Limits<C>::lowest()) - m;
    Vec<C> y = exp_below<C>(below);
    targets += w;
    asked += w == C(0) ? w : w * below;
    if (kStore) store_n(e + i, y, count);
    if (count < kLanes<C>) {
      for (int64_t k = count; k < kLanes<C>; ++k) y[k] = 0;
    }
    return y;
  });
  return {s, sum_lanes<C>(targets), sum_lanes<C>(asked)};
}
// Targets have the dtype of the logits, or float32.
static void expect_targets(const Prepare& p) {
  const DType logits = p.inputs[0].dtype, targets = p.inputs[1].dtype;
  if (num_elements(p.inputs[1]) != num_elements(p.inputs[0]) ||
      !(targets == logits || (is_half(logits) && targets == DType::F32)))
    fail("targets of the logits' shape and dtype, or in float32");
}

// inputs: logits [rows, n], targets [rows, n]; output: loss [rows].
struct SoftmaxCrossentropy : RowKernel<2, 0> {
  explicit SoftmaxCrossentropy(Prepare& p) : RowKernel(p, p.inputs[0]) { expect_targets(p); }
  void run(const Call& c) const {
    each_row(c, {0, 1}, [&]<class C>(int64_t r, const C* const* in, C*) {
      const C m = row_max(in[0], n);
      PerRow::set<C>(dtype, c.outputs[0], r,
                     dense_sums<false, C>(in[0], in[1], m, nullptr, n).loss());
    });
  }
};
HB_CPU_KERNEL(softmax_crossentropy, SoftmaxCrossentropy, kAllFloat)

// inputs: logits, targets, dy [rows]; outputs: (softmax sum_j t[j] - t) dy and, if kBoth, loss
// [rows].
template <bool kBoth>
struct SoftmaxCrossentropySlope : RowKernel<2, 1> {
  DType loss;
  explicit SoftmaxCrossentropySlope(Prepare& p)
      : RowKernel(p, p.inputs[0]), loss(kBoth ? loss_dtype(p) : dtype) {
    expect_targets(p);
  }
  void run(const Call& c) const {
    each_row(c, {0, 1}, [&]<class C>(int64_t r, const C* const* in, C* dx) {
      const C* t = in[1];
      const C dy = PerRow::get<C>(loss, c.inputs[2], r), m = row_max(in[0], n);
      const DenseSums<C> sums = dense_sums<true>(in[0], t, m, dx, n);
      const C scale = dy * sums.targets / sums.s;
      map_row(dx, n, [&](int64_t i, int64_t count) {
        return load_n(dx + i, count, C(0)) * scale - load_n(t + i, count, C(0)) * dy;
      });
      if constexpr (kBoth) PerRow::set<C>(loss, c.outputs[1], r, sums.loss());
    });
  }
};
typedef SoftmaxCrossentropySlope<false> SoftmaxCrossentropyGrad;
typedef SoftmaxCrossentropySlope<true> SoftmaxCrossentropyBoth;
HB_CPU_KERNEL_INPLACE(softmax_crossentropy_grad, SoftmaxCrossentropyGrad, kAllFloat)
HB_CPU_KERNEL_INPLACE(softmax_crossentropy_both, SoftmaxCrossentropyBoth, kAllFloat)

HB_KERNELS_END
