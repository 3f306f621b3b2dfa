// matmul: c[.., i, j] = epilogue(sum_k a[.., i, k] * b[.., k, j]); inputs from the third on belong
// to the epilogue (epilogue.h).
//
// a: [.., M, K], or [.., K, M] with transpose_a;  b: [.., K, N], or [.., N, K] with transpose_b;
// batch axes broadcast. Batches of `a` over one `b` fold into M. Products run on the packed core
// (gemm.h); a single row or column is a matrix-vector product, bound by reading the matrix once, so
// it packs nothing. float16 and bfloat16 are widened to float and summed there; integers wrap.
// A product of int8 is int32, of the same core.
#include <stdlib.h>

#include "core/kernel.h"
#include "ops/gemm.h"
#include "ops/gemm_bytes.h"
#include "ops/gemm_parts.h"
#include "ops/matmul_narrow.h"
#include "simd/lanes.h"

HB_KERNELS_BEGIN

struct MatmulShape {
  int64_t m, n, k, batch;
  bool transpose_a, transpose_b;
  EpilogueInputs epilogue;
  // Batch axes: element strides of a and b (0 where broadcast) and extents, innermost last.
  int axes;
  int64_t extent[kMaxRank], stride_a[kMaxRank], stride_b[kMaxRank];

  explicit MatmulShape(const Prepare& p) : epilogue(p, 2) {
    const TensorSpec &a = p.inputs[0], &b = p.inputs[1], &c = p.outputs[0];
    transpose_a = attr_has(*p.attrs, "transpose_a") && attr_int(*p.attrs, "transpose_a");
    transpose_b = attr_has(*p.attrs, "transpose_b") && attr_int(*p.attrs, "transpose_b");
    if (a.rank < 2 || b.rank < 2) fail("expected operands of rank 2 or more");
    m = c.shape[c.rank - 2], n = c.shape[c.rank - 1];
    k = a.shape[a.rank - (transpose_a ? 2 : 1)];
    if (b.shape[b.rank - (transpose_b ? 1 : 2)] != k ||
        a.shape[a.rank - (transpose_a ? 1 : 2)] != m ||
        b.shape[b.rank - (transpose_b ? 2 : 1)] != n)
      fail("inner or outer sizes of the operands do not match");
    axes = c.rank - 2;
    batch = 1;
    int64_t sa = m * k, sb = k * n;
    bool b_is_one = true;
    for (int i = axes - 1; i >= 0; --i) {
      const int ia = i - (c.rank - a.rank), ib = i - (c.rank - b.rank);
      const int64_t na = ia >= 0 ? a.shape[ia] : 1, nb = ib >= 0 ? b.shape[ib] : 1;
      extent[i] = c.shape[i];
      stride_a[i] = na == 1 ? 0 : sa;
      stride_b[i] = nb == 1 ? 0 : sb;
      sa *= na, sb *= nb;
      batch *= extent[i];
      b_is_one = b_is_one && nb == 1;
    }
    // The batches of a lie one after another, as do those of c: more rows of one product.
    if (b_is_one && !transpose_a && sa == batch * m * k) {
      m *= batch;
      batch = 1, axes = 0;
    }
  }

  void offsets(int64_t i, int64_t* a, int64_t* b) const {
    *a = *b = 0;
    for (int d = axes - 1; d >= 0; --d) {
      const int64_t x = i % extent[d];
      i /= extent[d];
      *a += x * stride_a[d], *b += x * stride_b[d];
    }
  }
  bool b_shared() const {
    for (int d = 0; d < axes; ++d)
      if (stride_b[d] != 0 && extent[d] != 1) return false;
    return true;
  }
};

struct MatmulKernel {
  virtual ~MatmulKernel() = default;
  virtual void run(const Call& call) const = 0;
};

// T computes (Pair: pairs of bfloat16 summed in float), S is stored.
template <class T, class S>
struct MatmulPacked final : MatmulKernel {
  MatmulShape s;
  GemmOf<T, S> gemm;

  MatmulPacked(const MatmulShape& shape, Prepare& p) : s(shape) {
    constexpr bool kAsStored = sizeof(S) == sizeof(T) && kPerElement<T> == 1;
    gemm.plan(s.m, s.n, ceil_div(s.k, kPerElement<T>), s.batch,
              {.converts = sizeof(S) != sizeof(Sum<T>),
               .b_rows = kAsStored && !s.transpose_b,
               .a_run = kAsStored && !s.transpose_a ? s.k : 0,
               .a_columns = kAsStored && s.transpose_a});
    const S* b = static_cast<const S*>(p.constants[1]);
    // Where more rows use a row-major B, the first of them pack it on their way as fast.
    const bool gains = !kAsStored || has_tiles() || s.transpose_b || s.m <= 2 * kMaxRows;
    if (b && s.batch == 1 && gains) {
      gemm.pack_constant_b(p, pack_matrix<T>(b, s.transpose_b ? s.k : s.n, s.transpose_b, s.k));
    }
    p.scratch_bytes = gemm.scratch_bytes();
  }
  void run(const Call& call) const override {
    const S* a = static_cast<const S*>(call.inputs[0]);
    const S* b = static_cast<const S*>(call.inputs[1]);
    const Epilogue<S> epilogue = s.epilogue.of<S>(call);
    S* c = static_cast<S*>(call.outputs[0]);
    const int64_t lda = s.transpose_a ? s.m : s.k, ldb = s.transpose_b ? s.k : s.n;
    gemm.run(
        [&](int64_t i) {
          int64_t oa, ob;
          s.offsets(i, &oa, &ob);
          return product(pack_matrix<T>(a + oa, lda, !s.transpose_a, s.k),
                         pack_matrix<T>(b + ob, ldb, s.transpose_b, s.k), c + i * s.m * s.n,
                         PlainRows{s.n}, epilogue.elements(i * s.m * s.n));
        },
        s.b_shared(), call.scratch);
  }
};

template <class T, class S>
struct MatmulVector final : MatmulKernel {
  static constexpr int L = kLanes<T>;
  MatmulShape s;
  bool row;      // x is a, the matrix is b
  bool along_k;  // k runs along the matrix's memory: a dot product per output
  int64_t len, block;

  explicit MatmulVector(const MatmulShape& shape) : s(shape), row(shape.m == 1) {
    along_k = row ? s.transpose_b : !s.transpose_a;
    len = row ? s.n : s.m;
    // A task reads about 256 KiB; whole groups of eight vectors of outputs.
    block = round_up(max64(1, (256 << 10) / int64_t(sizeof(S)) / max64(s.k, 1)), 8 * L);
  }
  void run(const Call& call) const override {
    const S* a = static_cast<const S*>(call.inputs[0]);
    const S* b = static_cast<const S*>(call.inputs[1]);
    const Epilogue<S> epilogue = s.epilogue.of<S>(call);
    S* c = static_cast<S*>(call.outputs[0]);
    const int64_t blocks = ceil_div(len, block);
    const auto task = [&](int64_t t, int) {
      int64_t oa, ob;
      s.offsets(t / blocks, &oa, &ob);
      const S* matrix = row ? b + ob : a + oa;
      const S* x = row ? a + oa : b + ob;
      const int64_t i0 = t % blocks * block, i1 = min64(len, i0 + block);
      const Out y{c + t / blocks * len, epilogue.elements(t / blocks * len)};
      along_k ? dots(matrix, x, y, i0, i1) : sums(matrix, x, y, i0, i1);
    };
    parallel_unless(s.batch * len * s.k < (1 << 17), s.batch * blocks, task);
  }
  struct Out {
    S* y;
    Epilogue<S> epilogue;
  };
  HB_INLINE void put(T v, const Out& out, int64_t i) const {
    narrow(out.epilogue.template scalar<T>(v, row ? i : 0, i), out.y[i]);
  }
  // matrix: [len, k]
  void dots(const S* matrix, const S* x, const Out& y, int64_t i0, int64_t i1) const {
    constexpr int R = 4;
    for (int64_t i = i0; i < i1; i += R) {
      const S* m[R];
      for (int r = 0; r < R; ++r) m[r] = matrix + min64(i + r, i1 - 1) * s.k;
      Vec<T> acc[R][2] = {};
      int64_t k = 0;
      for (; k + 2 * L <= s.k; k += 2 * L) {
        const Vec<T> x0 = load_as<T>(x + k), x1 = load_as<T>(x + k + L);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          acc[r][0] += load_as<T>(m[r] + k) * x0;
          acc[r][1] += load_as<T>(m[r] + k + L) * x1;
        }
      }
      T rest[R] = {};
      for (; k < s.k; ++k)
        for (int r = 0; r < R; ++r) rest[r] += widen(m[r][k]) * widen(x[k]);
      for (int r = 0; r < R && i + r < i1; ++r)
        put(sum_lanes<T>(acc[r][0] + acc[r][1]) + rest[r], y, i + r);
    }
  }
  // matrix: [k, len]
  void sums(const S* matrix, const S* x, const Out& y, int64_t i0, int64_t i1) const {
    int64_t i = i0;
    for (; i + 8 * L <= i1; i += 8 * L) columns<8>(matrix + i, x, y, i);
    for (; i + L <= i1; i += L) columns<1>(matrix + i, x, y, i);
    if (i == i1) return;
    T acc[L] = {};
    const int n = int(i1 - i);
    for (int64_t k = 0; k < s.k; ++k)
      for (int j = 0; j < n; ++j) acc[j] += widen(matrix[k * len + i + j]) * widen(x[k]);
    for (int j = 0; j < n; ++j) put(acc[j], y, i + j);
  }
  template <int V>
  void columns(const S* matrix, const S* x, const Out& y, int64_t i) const {
    Vec<T> acc[V] = {};
    for (int64_t k = 0; k < s.k; ++k) {
      const Vec<T> xk = splat(T(widen(x[k])));
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[v] += load_as<T>(matrix + k * len + v * L) * xk;
    }
    T lane[V * L];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(lane + v * L, acc[v]);
    for (int j = 0; j < V * L; ++j) put(lane[j], y, i + j);
  }
};

// Few columns (matmul_narrow.h).
template <class T>
struct MatmulNarrow final : MatmulKernel {
  MatmulShape s;
  NarrowProduct<T> product;

  static NarrowProduct<T> of(const MatmulShape& s) { return {s.m, s.n, s.k, !s.transpose_a}; }
  static bool serves(const MatmulShape& s) {
    return s.batch == 1 && !s.transpose_b && of(s).serves();
  }
  MatmulNarrow(const MatmulShape& shape, Prepare& p) : s(shape), product(of(shape)) {
    p.scratch_bytes = size_t(product.packed()) * sizeof(T);
  }
  void run(const Call& call) const override {
    const T* a = static_cast<const T*>(call.inputs[0]);
    const T* b =
        product.pack_b(static_cast<const T*>(call.inputs[1]), static_cast<T*>(call.scratch));
    T* c = static_cast<T*>(call.outputs[0]);
    const Epilogue<T> epilogue = s.epilogue.of<T>(call);
    const int64_t rows = product.rows_of_task();
    parallel_for(ceil_div(s.m, rows), [&](int64_t task, int) {
      product.run(a, b, c, epilogue, task * rows, min64(s.m, (task + 1) * rows));
    });
  }
};

// Integers, modulo 2^bits. U is unsigned: overflow wraps. A row of c per task.
template <class U, class S>
struct MatmulInteger final : MatmulKernel {
  MatmulShape s;
  explicit MatmulInteger(const MatmulShape& shape) : s(shape) {
    if (!s.epilogue.simple()) fail("expected no epilogue but bias and relu for integers");
  }
  void run(const Call& call) const override {
    const U* a = static_cast<const U*>(call.inputs[0]);
    const U* b = static_cast<const U*>(call.inputs[1]);
    const Epilogue<U> epilogue = s.epilogue.of<U>(call);
    U* c = static_cast<U*>(call.outputs[0]);
    const int64_t rows = max64(1, 65536 / max64(1, s.n * s.k));
    const int64_t blocks = ceil_div(s.m, rows);
    parallel_for(s.batch * blocks, [&](int64_t t, int) {
      int64_t oa, ob;
      s.offsets(t / blocks, &oa, &ob);
      const int64_t i0 = t % blocks * rows, i1 = min64(s.m, i0 + rows);
      for (int64_t i = i0; i < i1; ++i)
        row(a + oa + (s.transpose_a ? i : i * s.k), b + ob, epilogue,
            c + (t / blocks * s.m + i) * s.n);
    });
  }
  void row(const U* a, const U* b, const Epilogue<U>& e, U* c) const {
    const int64_t step = s.transpose_a ? s.m : 1;
    for (int64_t j = 0; j < s.n; ++j) c[j] = e.bias ? e.bias[j] : U(0);
    if (s.transpose_b) {
      for (int64_t j = 0; j < s.n; ++j)
        for (int64_t k = 0; k < s.k; ++k) c[j] += a[k * step] * b[j * s.k + k];
    } else {
      for (int64_t k = 0; k < s.k; ++k) {
        const U x = a[k * step];
        for (int64_t j = 0; j < s.n; ++j) c[j] += x * b[k * s.n + j];
      }
    }
    if (e.relu)
      for (int64_t j = 0; j < s.n; ++j) c[j] = S(c[j]) < 0 ? U(0) : c[j];
  }
};

// int8 by int8, exact in int32. T: Quad or Words (simd/quad.h).
template <class T>
struct MatmulBytes final : MatmulKernel {
  // Quads hold A with an offset, which makes sums too large by so much for each column.
  static constexpr bool kOffset = kPerElement<T> == 4;
  MatmulShape s;
  Gemm<T> gemm;
  int64_t num_b, offsets_at;
  int32_t* constant_offsets = nullptr;

  MatmulBytes(const MatmulShape& shape, Prepare& p) : s(shape) {
    if (!s.epilogue.simple()) fail("expected no epilogue but bias and relu for integers");
    gemm.plan(s.m, s.n, ceil_div(s.k, kPerElement<T>), s.batch, {});
    num_b = 1;
    for (int i = 0; i < p.inputs[1].rank - 2; ++i) num_b *= p.inputs[1].shape[i];
    const int8_t* b = static_cast<const int8_t*>(p.constants[1]);
    if (b && s.batch == 1) gemm.pack_constant_b(p, matrix_b(b));
    offsets_at = round_up(int64_t(gemm.scratch_bytes()), 64);
    p.scratch_bytes = size_t(offsets_at);
    if (!kOffset) return;
    if (b && p.num_inputs == 2) {
      constant_offsets = static_cast<int32_t*>(malloc(size_t(num_b * s.n + 1) * 4));
      if (!constant_offsets) fail("out of memory for sums of weights");
      offset_b(b, nullptr, constant_offsets);
    } else {
      p.scratch_bytes += size_t(num_b * s.n) * 4;
    }
  }
  ~MatmulBytes() override { free(constant_offsets); }

  void run(const Call& call) const override {
    const int8_t* a = static_cast<const int8_t*>(call.inputs[0]);
    const int8_t* b = static_cast<const int8_t*>(call.inputs[1]);
    const Epilogue<int32_t> epilogue = s.epilogue.of<int32_t>(call);
    int32_t* c = static_cast<int32_t*>(call.outputs[0]);
    const int32_t* columns = constant_offsets;
    if (kOffset && !columns) {
      int32_t* to = reinterpret_cast<int32_t*>(static_cast<char*>(call.scratch) + offsets_at);
      offset_b(b, epilogue.bias, to);
      columns = to;
    }
    gemm.run(
        [&](int64_t i) {
          int64_t oa, ob;
          s.offsets(i, &oa, &ob);
          Epilogue<int32_t> own = epilogue;
          if (kOffset) own.bias = columns + (ob > 0 ? ob / s.k : 0);
          return product(
              PackMatrixBytes<T, kOffset>{a + oa, s.transpose_a ? s.m : s.k, !s.transpose_a, s.k},
              matrix_b(b + ob), c + i * s.m * s.n, PlainRows{s.n}, own);
        },
        s.b_shared(), call.scratch);
  }

 private:
  PackMatrixBytes<T, false> matrix_b(const int8_t* b) const {
    return {b, s.transpose_b ? s.k : s.n, s.transpose_b, s.k};
  }
  void offset_b(const int8_t* b, const int32_t* bias, int32_t* to) const {
    constexpr int64_t kColumns = 256;
    const int64_t blocks = ceil_div(s.n, kColumns);
    const auto task = [&](int64_t t, int) {
      const int64_t i = t / blocks, j = t % blocks * kColumns;
      offset_columns(b + i * s.k * s.n, s.transpose_b ? s.k : s.n, s.transpose_b, s.k, j,
                     min64(s.n, j + kColumns), bias, to + i * s.n);
    };
    parallel_unless(num_b * s.n * s.k < (1 << 18), num_b * blocks, task);
  }
};

class Matmul {
 public:
  explicit Matmul(Prepare& p) {
    const MatmulShape s(p);
    switch (p.inputs[0].dtype) {
      case DType::F32:
        pick<float, float>(s, p);
        break;
      case DType::F64:
        pick<double, double>(s, p);
        break;
      case DType::F16:
        pick<float, f16>(s, p);
        break;
      case DType::BF16:
        pick<float, bf16>(s, p);
        break;
      case DType::I8:
#ifdef HB_HAS_BYTE_DOTS
        if (has_byte_dots()) {
          kernel_ = new MatmulBytes<Quad>(s, p);
          break;
        }
#endif
        kernel_ = new MatmulBytes<Words>(s, p);
        break;
      case DType::I32:
        kernel_ = new MatmulInteger<uint32_t, int32_t>(s);
        break;
      default:
        kernel_ = new MatmulInteger<uint64_t, int64_t>(s);
    }
  }
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;
  ~Matmul() { delete kernel_; }
  void run(const Call& call) const { kernel_->run(call); }

 private:
  template <class T, class S>
  void pick(const MatmulShape& s, Prepare& p) {
    if (s.m == 1 || s.n == 1) {
      kernel_ = new MatmulVector<T, S>(s);
      return;
    }
#if HB_VEC_BYTES == 64
    if constexpr (kPairsOf<S>)
      // Pairs along memory must not reach into the next row.
      if (use_pairs<S>() && (s.k % 2 == 0 || (s.transpose_a && !s.transpose_b))) {
        kernel_ = new MatmulPacked<Pair, S>(s, p);
        return;
      }
#endif
    if constexpr (__is_same(T, S))
      if (MatmulNarrow<T>::serves(s)) {
        kernel_ = new MatmulNarrow<T>(s, p);
        return;
      }
    kernel_ = new MatmulPacked<T, S>(s, p);
  }
  MatmulKernel* kernel_ = nullptr;
};
HB_CPU_KERNEL(matmul, Matmul, kAllFloat | kI8 | kI32 | kI64)

HB_KERNELS_END
