// Kernels over rows: [rows, n] tensors of any float dtype, n contiguous, where a row stays in L1
// between its passes. float16 and bfloat16 rows are widened into scratch and narrowed from it, so
// the row functions see float and double only.
#pragma once
#include "ops/element.h"
#include "simd/lanes.h"
#include "simd/math.h"

namespace hb::HB_ISA {
namespace {

// Part of a vector at the end of a row; the other lanes hold `fill`.
template <class C>
HB_INLINE Vec<C> load_part(const C* p, int64_t n, C fill) {
  Vec<C> v = splat<C>(fill);
  memcpy(&v, p, size_t(n) * sizeof(C));
  return v;
}
template <class C>
HB_INLINE void store_part(C* p, Vec<C> v, int64_t n) {
  memcpy(p, &v, size_t(n) * sizeof(C));
}

// f(i, count): for full vectors (count = kLanes) and the rest.
template <class C, class F>
HB_INLINE void each_vector(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + kLanes<C> <= n; i += kLanes<C>) f(i, int64_t(kLanes<C>));
  if (i < n) f(i, n - i);
}
template <class C>
HB_INLINE Vec<C> load_n(const C* p, int64_t count, C fill) {
  return count == kLanes<C> ? load(p) : load_part(p, count, fill);
}
template <class C>
HB_INLINE void store_n(C* p, Vec<C> v, int64_t count) {
  if (count == kLanes<C>) {
    store(p, v);
  } else {
    store_part(p, v, count);
  }
}

template <class C>
HB_INLINE C max_lanes(Vec<C> v) {  // of numbers
  return fold_lanes<kLanes<C>, C>(
      v, [](auto a, auto b) __attribute__((always_inline)) { return a > b ? a : b; });
}
// Sum of f(i, count) over a row, where f gives 0 in lanes past the end. Four sums, since an
// addition waits for the one before it.
template <class C, class F>
HB_INLINE C row_sum(int64_t n, const F& f) {
  constexpr int kStep = kLanes<C>;
  Vec<C> total[4] = {};
  int64_t i = 0;
  for (; i + 4 * kStep <= n; i += 4 * kStep) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) total[k] += f(i + k * kStep, int64_t(kStep));
  }
  for (; i + kStep <= n; i += kStep) total[0] += f(i, int64_t(kStep));
  if (i < n) total[1] += f(i, n - i);
  return sum_lanes<C>((total[0] + total[1]) + (total[2] + total[3]));
}

template <class T>
HB_INLINE void widen_row(const T* from, Compute<T>* to, int64_t n) {
  typedef Compute<T> C;
  if constexpr (sizeof(T) == sizeof(C)) return void(memcpy(to, from, size_t(n) * sizeof(T)));
  int64_t i = 0;
  for (; i + kLanes<C> <= n; i += kLanes<C>) store(to + i, load_as<C>(from + i));
  for (; i < n; ++i) to[i] = widened(from[i]);
}
template <class T>
HB_INLINE void narrow_row(const Compute<T>* from, T* to, int64_t n) {
  typedef Compute<T> C;
  if constexpr (sizeof(T) == sizeof(C)) return void(memcpy(to, from, size_t(n) * sizeof(T)));
  int64_t i = 0;
  for (; i + kLanes<C> <= n; i += kLanes<C>) store_as(to + i, load(from + i));
  for (; i < n; ++i) to[i] = narrowed<T>(from[i]);
}
// Part of a row of T, widened (zero past its end) and narrowed.
template <class T>
HB_INLINE Vec<Compute<T>> load_wide(const T* p, int64_t count) {
  if (count == kLanes<Compute<T>>) return load_as<Compute<T>>(p);
  T part[kLanes<Compute<T>>] = {};
  memcpy(part, p, size_t(count) * sizeof(T));
  return load_as<Compute<T>>(part);
}
template <class T>
HB_INLINE void store_narrow(T* p, Vec<Compute<T>> v, int64_t count) {
  if (count == kLanes<Compute<T>>) return store_as(p, v);
  T part[kLanes<Compute<T>>];
  store_as(part, v);
  memcpy(p, part, size_t(count) * sizeof(T));
}
constexpr bool is_half(DType t) { return t == DType::F16 || t == DType::BF16; }

// One number per row, of any float dtype.
struct PerRow {
  template <class C>
  static HB_INLINE C get(DType dtype, const void* p, int64_t r) {
    switch (dtype) {
      case DType::F16:
        return C(f16_to_f32(static_cast<const uint16_t*>(p)[r]));
      case DType::BF16:
        return C(bf16_to_f32(static_cast<const uint16_t*>(p)[r]));
      default:
        return static_cast<const C*>(p)[r];
    }
  }
  template <class C>
  static HB_INLINE void set(DType dtype, void* p, int64_t r, C x) {
    switch (dtype) {
      case DType::F16:
        static_cast<uint16_t*>(p)[r] = f32_to_f16(float(x));
        break;
      case DType::BF16:
        static_cast<uint16_t*>(p)[r] = f32_to_bf16(float(x));
        break;
      default:
        static_cast<C*>(p)[r] = x;
    }
  }
};

// A kernel with kIn inputs of [rows, n] and one such output (or none: kOut = 0). Beside rows of
// float16 or bfloat16 an input may be float32.
template <int kIn, int kOut>
struct RowKernel {
  int64_t rows, n, per_task;
  DType dtype;
  uint32_t wide = 0;  // bit i: such is input i
  RowKernel(Prepare& p, const TensorSpec& x) : dtype(x.dtype) {
    if (x.rank < 1) fail("at least one axis");
    n = x.shape[x.rank - 1];
    rows = n == 0 ? 0 : num_elements(x) / n;
    per_task = (8 << 10) / (n + 1) + 1;
    if (!is_half(dtype)) return;
    p.scratch_bytes = size_t(num_threads()) * buffer() * sizeof(float);
    for (int i = 0; i < p.num_inputs; ++i) wide |= uint32_t(p.inputs[i].dtype == DType::F32) << i;
  }
  size_t buffer() const { return size_t(kIn + kOut) * size_t(n); }

  // f(row, in[kIn], out), in float or double.
  template <class F>
  void each_row(const Call& c, const int (&inputs)[kIn], const F& f) const {
    const int64_t tasks = (rows + per_task - 1) / per_task;
    with_float_type(dtype, [&]<class T>(T) {
      typedef Compute<T> C;
      parallel_for(tasks, [&](int64_t task, int worker) {
        const int64_t end = min_of(rows, (task + 1) * per_task);
        for (int64_t r = task * per_task; r < end; ++r) {
          const C* in[kIn];
          T* out = kOut ? static_cast<T*>(c.outputs[0]) + r * n : nullptr;
          if constexpr (sizeof(T) == sizeof(C)) {
            for (int i = 0; i < kIn; ++i) {
              in[i] = static_cast<const T*>(c.inputs[inputs[i]]) + r * n;
            }
            f(r, in, out);
          } else {
            C* buf = static_cast<C*>(c.scratch) + size_t(worker) * buffer();
            for (int i = 0; i < kIn; ++i) {
              const void* from = c.inputs[inputs[i]];
              if (wide >> inputs[i] & 1) {
                in[i] = static_cast<const C*>(from) + r * n;
                continue;
              }
              widen_row(static_cast<const T*>(from) + r * n, buf + i * n, n);
              in[i] = buf + i * n;
            }
            f(r, in, buf + kIn * n);
            if (kOut) narrow_row(buf + kIn * n, out, n);
          }
        }
      });
    });
  }
};

}  // namespace
}  // namespace hb::HB_ISA
