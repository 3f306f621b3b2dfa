// Reading and writing at computed places: gather, gather_nd, take_along_axis, and their transposes
// scatter_nd, scatter_along_axis and segment_reduce.
//
// Indices are int32 or int64; a negative one counts from the end; one out of range is an error that
// names it. The check is one pass over the indices before any element is moved.
// Writers give the same bits for any number of threads: a destination belongs to one task, which
// takes its updates in their order.
#include "ops/element.h"
#include "ops/parameters.h"
#include "ops/segments.h"
#include "ops/strided_copy.h"
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

HB_KERNELS_BEGIN

template <class T>
static void check_range(const T* p, int64_t count, int64_t step, int64_t n, int axis) {
  T lo = 0, hi = n > 0 ? T(0) : T(-1);
  for (int64_t i = 0; i < count; ++i) {
    T x = p[i * step];
    lo = x < lo ? x : lo;
    hi = x > hi ? x : hi;
  }
  if (count > 0 && (lo < -n || hi >= n)) {
    fail("index %lld is out of range for axis %d of size %lld; expected %lld <= index < %lld",
         (long long)(hi >= n ? hi : lo), axis, (long long)n, (long long)-n, (long long)n);
  }
}
static void check_indices(Indices x, int64_t count, int64_t n, int axis, int64_t step = 1,
                          int64_t first = 0) {
  if (x.wide) {
    check_range(static_cast<const int64_t*>(x.data) + first, count, step, n, axis);
  } else {
    check_range(static_cast<const int32_t*>(x.data) + first, count, step, n, axis);
  }
}

static void copy_row(char* dst, const char* src, int64_t bytes) {
  if (bytes == 4) {
    memcpy(dst, src, 4);
  } else if (bytes == 8) {
    memcpy(dst, src, 8);
  } else {
    memcpy(dst, src, size_t(bytes));
  }
}

// y[o, j, :] = x[o, indices[j], :], x: [outer, n, inner].
struct Gather {
  AxisView x;
  int64_t count, row, per_task;
  int axis;
  bool wide;
  explicit Gather(Prepare& p) : wide(is_wide(p.inputs[1])) {
    axis = int(attr_int(*p.attrs, "axis"));
    x = AxisView(p.inputs[0], axis);
    count = num_elements(p.inputs[1]);
    row = x.inner * int64_t(item_bytes(p.inputs[0].dtype));
    per_task = (64 << 10) / (row + 16) + 1;
  }
  void run(const Call& c) const {
    const Indices at{c.inputs[1], wide};
    check_indices(at, count, x.n, axis);
    const char* src = static_cast<const char*>(c.inputs[0]);
    char* dst = static_cast<char*>(c.outputs[0]);
    const int64_t rows = row == 0 ? 0 : x.outer * count;
    parallel_for((rows + per_task - 1) / per_task, [&](int64_t task, int) {
      const int64_t begin = task * per_task, end = min_of(rows, begin + per_task);
      int64_t o = begin / count, j = begin % count;
      for (int64_t r = begin; r < end; ++r) {
        const int64_t i = at[j];
        copy_row(dst + r * row, src + (o * x.n + (i < 0 ? i + x.n : i)) * row, row);
        if (++j == count) {
          j = 0;
          ++o;
        }
      }
    });
  }
};
HB_CPU_KERNEL(gather, Gather, kAllDTypes)

struct IndexedRows : IndexedShape {
  bool wide;
  IndexedRows(const TensorSpec& x, const TensorSpec& indices)
      : IndexedShape(x, indices), wide(is_wide(indices)) {}
  void check(Indices at) const {
    for (int i = 0; i < depth; ++i) check_indices(at, count, dims[i], i, depth, i);
  }
  HB_INLINE int64_t row(Indices at, int64_t j) const {
    int64_t r = 0;
    for (int i = 0; i < depth; ++i) {
      const int64_t k = at[j * depth + i];
      r = r * dims[i] + (k < 0 ? k + dims[i] : k);
    }
    return r;
  }
};

struct GatherNd {
  IndexedRows rows;
  int64_t bytes, per_task;
  explicit GatherNd(Prepare& p) : rows(p.inputs[0], p.inputs[1]) {
    bytes = rows.inner * int64_t(item_bytes(p.inputs[0].dtype));
    per_task = (64 << 10) / (bytes + 16) + 1;
  }
  void run(const Call& c) const {
    const Indices at{c.inputs[1], rows.wide};
    rows.check(at);
    const char* src = static_cast<const char*>(c.inputs[0]);
    char* dst = static_cast<char*>(c.outputs[0]);
    parallel_for((rows.count + per_task - 1) / per_task, [&](int64_t task, int) {
      const int64_t begin = task * per_task, end = min_of(rows.count, begin + per_task);
      for (int64_t j = begin; j < end; ++j) {
        copy_row(dst + j * bytes, src + rows.row(at, j) * bytes, bytes);
      }
    });
  }
};
HB_CPU_KERNEL(gather_nd, GatherNd, kAllDTypes)

template <Reduction kOp, class T>
HB_INLINE T reduce_two(T a, T b) {  // NaN wins in max and min
  if constexpr (kOp == Reduction::kAdd) return T(a + b);
  if constexpr (kOp == Reduction::kMul) return T(a * b);
  if constexpr (kOp == Reduction::kMax) return b > a || b != b ? b : a;
  if constexpr (kOp == Reduction::kMin) return b < a || b != b ? b : a;
  return b;
}
template <class F>
static void with_reduction(Reduction r, const F& f) {
  switch (r) {
    case Reduction::kUpdate:
      return f.template operator()<Reduction::kUpdate>();
    case Reduction::kAdd:
      return f.template operator()<Reduction::kAdd>();
    case Reduction::kMul:
      return f.template operator()<Reduction::kMul>();
    case Reduction::kMax:
      return f.template operator()<Reduction::kMax>();
    case Reduction::kMin:
      return f.template operator()<Reduction::kMin>();
  }
}

// y = x, then y[indices[j]] (op)= updates[j] for every j in order. A task owns a range of rows of y
// and looks through all indices for them.
struct ScatterNd {
  static constexpr int64_t kRanges = 16;
  IndexedRows rows;
  StridedCopy whole;
  DType dtype;
  Reduction reduction;
  explicit ScatterNd(Prepare& p) : rows(p.inputs[0], p.inputs[1]), dtype(p.inputs[0].dtype) {
    reduction = reduction_of(*p.attrs);
    int64_t n = num_elements(p.inputs[0]), item = int64_t(item_bytes(dtype));
    rows.expect_updates(p.inputs[2]);
    whole = StridedCopy(1, &n, &item, &item, size_t(item));
    p.scratch_bytes = size_t(rows.count) * sizeof(int64_t);
  }
  void run(const Call& c) const {
    const Indices at{c.inputs[1], rows.wide};
    rows.check(at);
    if (c.outputs[0] != c.inputs[0]) whole.run(c.outputs[0], c.inputs[0]);
    int64_t* place = static_cast<int64_t*>(c.scratch);
    for (int64_t j = 0; j < rows.count; ++j) place[j] = rows.row(at, j);
    const int64_t ranges = rows.count * rows.inner < (16 << 10) ? 1 : kRanges;
    const int64_t range = (rows.rows + ranges - 1) / ranges;
    with_type(dtype, [&]<class T>(T) {
      T* y = static_cast<T*>(c.outputs[0]);
      const T* updates = static_cast<const T*>(c.inputs[2]);
      with_reduction(reduction, [&]<Reduction kOp>() {
        parallel_for(ranges, [&](int64_t task, int) {
          for (int64_t j = 0; j < rows.count; ++j) {
            if (uint64_t(place[j] - task * range) >= uint64_t(range)) continue;
            T* to = y + place[j] * rows.inner;
            const T* from = updates + j * rows.inner;
            for (int64_t i = 0; i < rows.inner; ++i) {
              to[i] = narrowed<T>(reduce_two<kOp, Compute<T>>(widened(to[i]), widened(from[i])));
            }
          }
        });
      });
    });
  }
};
HB_CPU_KERNEL_INPLACE(scatter_nd, ScatterNd, kAllDTypes)

// Columns of an [outer, n, inner] tensor in blocks, one task each.
struct Columns {
  static constexpr int64_t kBlock = 64;
  int64_t outer, inner, blocks;
  Columns() = default;
  explicit Columns(const AxisView& x)
      : outer(x.outer), inner(x.inner), blocks((x.inner + kBlock - 1) / kBlock) {}
  template <class F>
  void each(int64_t cost, const F& f) const {  // f(o, first, last); cost: elements per column
    const int64_t total = outer * blocks, width = inner < kBlock ? inner : kBlock;
    const int64_t per_task = (16 << 10) / (cost * width + 1) + 1;
    parallel_for((total + per_task - 1) / per_task, [&](int64_t task, int) {
      const int64_t end = min_of(total, (task + 1) * per_task);
      for (int64_t u = task * per_task; u < end; ++u) {
        const int64_t first = u % blocks * kBlock;
        f(u / blocks, first, min_of(inner, first + kBlock));
      }
    });
  }
};

// y[o, j, i] = x[o, indices[o, j, i], i].
struct TakeAlongAxis {
  AxisView x;
  Columns columns;
  int64_t m;
  int axis;
  bool wide;
  DType dtype;
  explicit TakeAlongAxis(Prepare& p) : wide(is_wide(p.inputs[1])), dtype(p.inputs[0].dtype) {
    axis = int(attr_int(*p.attrs, "axis"));
    x = AxisView(p.inputs[0], axis);
    columns = Columns(x);
    m = p.inputs[1].shape[axis];
  }
  void run(const Call& c) const {
    const Indices at{c.inputs[1], wide};
    check_indices(at, x.outer * m * x.inner, x.n, axis);
    with_type(dtype, [&]<class T>(T) {
      const T* src = static_cast<const T*>(c.inputs[0]);
      T* dst = static_cast<T*>(c.outputs[0]);
      columns.each(m, [&](int64_t o, int64_t first, int64_t last) {
        for (int64_t j = 0; j < m; ++j) {
          for (int64_t i = first; i < last; ++i) {
            const int64_t y = (o * m + j) * x.inner + i, k = at[y];
            dst[y] = src[(o * x.n + (k < 0 ? k + x.n : k)) * x.inner + i];
          }
        }
      });
    });
  }
};
HB_CPU_KERNEL(take_along_axis, TakeAlongAxis, kAllDTypes)

// y = x, then y[o, indices[o, j, i], i] (op)= updates[o, j, i] for every j in order.
struct ScatterAlongAxis {
  AxisView x;
  Columns columns;
  StridedCopy whole;
  int64_t m;
  int axis;
  bool wide;
  DType dtype;
  Reduction reduction;
  explicit ScatterAlongAxis(Prepare& p) : wide(is_wide(p.inputs[1])), dtype(p.inputs[0].dtype) {
    axis = int(attr_int(*p.attrs, "axis"));
    reduction = reduction_of(*p.attrs);
    x = AxisView(p.inputs[0], axis);
    columns = Columns(x);
    m = p.inputs[1].shape[axis];
    int64_t n = num_elements(p.inputs[0]), item = int64_t(item_bytes(dtype));
    whole = StridedCopy(1, &n, &item, &item, size_t(item));
  }
  void run(const Call& c) const {
    const Indices at{c.inputs[1], wide};
    check_indices(at, x.outer * m * x.inner, x.n, axis);
    if (c.outputs[0] != c.inputs[0]) whole.run(c.outputs[0], c.inputs[0]);
    with_type(dtype, [&]<class T>(T) {
      T* dst = static_cast<T*>(c.outputs[0]);
      const T* updates = static_cast<const T*>(c.inputs[2]);
      with_reduction(reduction, [&]<Reduction kOp>() {
        columns.each(m, [&](int64_t o, int64_t first, int64_t last) {
          for (int64_t j = 0; j < m; ++j) {
            for (int64_t i = first; i < last; ++i) {
              const int64_t u = (o * m + j) * x.inner + i, k = at[u];
              T& to = dst[(o * x.n + (k < 0 ? k + x.n : k)) * x.inner + i];
              to = narrowed<T>(reduce_two<kOp, Compute<T>>(widened(to), widened(updates[u])));
            }
          }
        });
      });
    });
  }
};
HB_CPU_KERNEL_INPLACE(scatter_along_axis, ScatterAlongAxis, kAllDTypes)

// y[s, :] = reduction of the rows x[j, :] with ids[j] == s; x: [n, inner], y: [segments, inner].
// The gradient of an embedding table is the sum. Attribute wrap: negative ids count from the end;
// other ids out of range are dropped.
//
// Many segments: rows are sorted by segment, then each task takes a range of segments: it reduces
// the rows of those that have any, in blocks of columns that stay in L1, and fills the others.
// Few segments (histograms): fixed chunks of rows are reduced apart, then the chunks in order.
struct SegmentReduce {
  static constexpr int64_t kBlock = 256;      // columns
  static constexpr int64_t kTask = 64 << 10;  // elements of y
  static constexpr int64_t kSmall = 8192;     // elements of y up to which chunks are used
  static constexpr int64_t kMaxChunks = 32;
  static constexpr int64_t kCached = 8 << 20;  // bytes
  int64_t n, inner, segments, chunks = 1;
  DType dtype;
  Reduction reduction;
  bool wide, wrap, streams = false;
  SegmentOrder rows;
  explicit SegmentReduce(Prepare& p) : dtype(p.inputs[0].dtype), wide(is_wide(p.inputs[1])) {
    reduction = reduction_of(*p.attrs);
    wrap = attr_has(*p.attrs, "wrap") && attr_int(*p.attrs, "wrap");
    n = num_elements(p.inputs[1]);
    segments = p.outputs[0].shape[0];
    inner = 1;
    for (int i = 1; i < p.outputs[0].rank; ++i) inner *= p.outputs[0].shape[i];
    if (num_elements(p.inputs[0]) != n * inner) {
      fail("segment_reduce: %lld elements for %lld ids of %lld",
           (long long)num_elements(p.inputs[0]), (long long)n, (long long)inner);
    }
    rows = SegmentOrder(n, segments, wide, wrap);
    if (segments * inner <= kSmall && n * inner >= 2 * kSmall) {
      chunks = min_of(kMaxChunks, n * inner / kSmall);
      p.scratch_bytes = size_t(chunks * segments * inner) * 8;
    } else {
      p.scratch_bytes = size_t(2 * n) * sizeof(int32_t) + rows.scratch_bytes();
      // what the cache cannot keep anyway need not be read before it is written
      streams = segments * inner * int64_t(item_bytes(dtype)) > kCached;
    }
  }
  void run(const Call& c) const {
    with_type(dtype, [&]<class T>(T) {
      with_reduction(reduction, [&]<Reduction kOp>() {
        if (chunks > 1) {
          in_chunks<T, kOp>(c);
        } else {
          sorted<T, kOp>(c);
        }
      });
    });
  }

 private:
  HB_INLINE int64_t segment(Indices ids, int64_t j) const {  // -1: dropped
    int64_t id = ids[j];
    if (wrap && id < 0) id += segments;
    return uint64_t(id) < uint64_t(segments) ? id : -1;
  }
  template <class C, Reduction kOp>
  static C identity() {
    if constexpr (kOp == Reduction::kMul) return C(1);
    if constexpr (kOp == Reduction::kMax) return Limits<C>::lowest();
    if constexpr (kOp == Reduction::kMin) return Limits<C>::highest();
    return C(0);
  }

  template <class T, Reduction kOp>
  void sorted(const Call& c) const {
    const T* x = static_cast<const T*>(c.inputs[0]);
    T* y = static_cast<T*>(c.outputs[0]);
    int32_t *keys = static_cast<int32_t*>(c.scratch), *order = keys + n;
    rows.run(c.inputs[1], keys, order, order + n);
    const int64_t per_task = kTask / (inner + 1) + 1;
    parallel_for((segments + per_task - 1) / per_task, [&](int64_t task, int) {
      const int64_t last = min_of(segments, (task + 1) * per_task);
      int64_t s = task * per_task, k = lower_bound(keys, n, s);
      for (; s < last; ++s) {
        const int64_t next = k < n ? min_of(int64_t(keys[k]), last) : last;
        fill<T>(y + s * inner, (next - s) * inner, narrowed<T>(identity<Compute<T>, kOp>()));
        if (next == last) break;
        const int64_t begin = k;
        for (s = next; k < n && keys[k] == s; ++k) {
        }
        reduce_rows<T, kOp>(x, order + begin, order + k, y + s * inner);
      }
#if defined(__SSE2__)
      if (streams) _mm_sfence();
#endif
    });
  }

  template <class T>
  void fill(T* y, int64_t count, T value) const {
    T zero;
    memset(&zero, 0, sizeof zero);
    if (memcmp(&value, &zero, sizeof zero) != 0) {
      for (int64_t i = 0; i < count; ++i) y[i] = value;
      return;
    }
    char* p = reinterpret_cast<char*>(y);
    char* const end = p + count * int64_t(sizeof(T));
#if defined(__SSE2__)
    if (streams && end - p > 256) {
      while (uintptr_t(p) % 16 != 0) *p++ = 0;
      for (; p + 16 <= end; p += 16) _mm_stream_si128((__m128i*)p, _mm_setzero_si128());
    }
#endif
    memset(p, 0, size_t(end - p));
  }

  template <class T, Reduction kOp>
  void reduce_rows(const T* x, const int32_t* row, const int32_t* row_end, T* y) const {
    typedef Compute<T> C;
    alignas(64) C acc[kBlock];
    for (int64_t i0 = 0; i0 < inner; i0 += kBlock) {
      const int64_t width = min_of(kBlock, inner - i0);
      for (int64_t i = 0; i < width; ++i) acc[i] = identity<C, kOp>();
      for (const int32_t* r = row; r < row_end; ++r) {
        const T* from = x + int64_t(*r) * inner + i0;
        for (int64_t i = 0; i < width; ++i) {
          acc[i] = reduce_two<kOp, C>(acc[i], widened(from[i]));
        }
      }
      for (int64_t i = 0; i < width; ++i) y[i0 + i] = narrowed<T>(acc[i]);
    }
  }

  template <class T, Reduction kOp>
  void in_chunks(const Call& c) const {
    typedef Compute<T> C;
    const Indices ids{c.inputs[1], wide};
    const T* x = static_cast<const T*>(c.inputs[0]);
    T* y = static_cast<T*>(c.outputs[0]);
    C* partial = static_cast<C*>(c.scratch);
    const int64_t size = segments * inner, per_chunk = (n + chunks - 1) / chunks;
    parallel_for(chunks, [&](int64_t chunk, int) {
      C* acc = partial + chunk * size;
      for (int64_t i = 0; i < size; ++i) acc[i] = identity<C, kOp>();
      const int64_t last = min_of(n, (chunk + 1) * per_chunk);
      for (int64_t j = chunk * per_chunk; j < last; ++j) {
        const int64_t s = segment(ids, j);
        if (s < 0) continue;
        C* to = acc + s * inner;
        const T* row = x + j * inner;
        for (int64_t i = 0; i < inner; ++i) to[i] = reduce_two<kOp, C>(to[i], widened(row[i]));
      }
    });
    for (int64_t i = 0; i < size; ++i) {
      C total = partial[i];
      for (int64_t chunk = 1; chunk < chunks; ++chunk) {
        total = reduce_two<kOp, C>(total, partial[chunk * size + i]);
      }
      y[i] = narrowed<T>(total);
    }
  }
};
HB_CPU_KERNEL(segment_reduce, SegmentReduce, kAllDTypes)

// keys, order: the rows sorted by segment (segments.h), for kernels that read a sum of rows without
// a buffer for it. ids: [n].
struct SegmentOrderKernel {
  SegmentOrder rows;
  explicit SegmentOrderKernel(Prepare& p)
      : rows(num_elements(p.inputs[0]), attr_int(*p.attrs, "num_segments"), is_wide(p.inputs[0]),
             attr_int(*p.attrs, "wrap") != 0) {
    p.scratch_bytes = rows.scratch_bytes();
  }
  void run(const Call& c) const {
    rows.run(c.inputs[0], static_cast<int32_t*>(c.outputs[0]), static_cast<int32_t*>(c.outputs[1]),
             c.scratch);
  }
};
HB_CPU_KERNEL(segment_order, SegmentOrderKernel, kI32 | kI64)

// y[k, :] = the sum of the rows of segment keys[k] if k is its first place, else zeros: all that a
// function of the segments' sums needs that is zero for zeros. x, y: [n, inner]. A sum is added up
// as elsewhere, row by row from zero.
struct SegmentSums {
  static constexpr int64_t kTask = 256;  // places
  int64_t n, inner, segments;
  explicit SegmentSums(Prepare& p)
      : n(num_elements(p.inputs[1])), inner(1), segments(attr_int(*p.attrs, "num_segments")) {
    for (int i = 1; i < p.outputs[0].rank; ++i) inner *= p.outputs[0].shape[i];
  }
  void run(const Call& c) const {
    const float* x = static_cast<const float*>(c.inputs[0]);
    const int32_t *keys = static_cast<const int32_t*>(c.inputs[1]),
                  *order = static_cast<const int32_t*>(c.inputs[2]);
    float* y = static_cast<float*>(c.outputs[0]);
    parallel_for((n + kTask - 1) / kTask, [&](int64_t task, int) {
      for (int64_t k = task * kTask; k < min_of(n, (task + 1) * kTask); ++k) {
        float* to = y + k * inner;
        memset(to, 0, size_t(inner) * sizeof(float));
        if (keys[k] >= segments || (k > 0 && keys[k] == keys[k - 1])) continue;
        for (int64_t j = k; j < n && keys[j] == keys[k]; ++j) {
          const float* row = x + order[j] * inner;
          for (int64_t i = 0; i < inner; ++i) to[i] += row[i];
        }
      }
    });
  }
};
HB_CPU_KERNEL(segment_sums, SegmentSums, kF32)

// Which rows of x, [n, …], hold anything but zeros: [n, 1, …].
struct NonzeroRows {
  int64_t n, inner = 1;
  DType dtype;
  explicit NonzeroRows(Prepare& p) : n(p.inputs[0].shape[0]), dtype(p.inputs[0].dtype) {
    for (int i = 1; i < p.inputs[0].rank; ++i) inner *= p.inputs[0].shape[i];
  }
  void run(const Call& c) const {
    with_type(dtype, [&]<class T>(T) {
      const T* x = static_cast<const T*>(c.inputs[0]);
      uint8_t* y = static_cast<uint8_t*>(c.outputs[0]);
      const int64_t per_task = (64 << 10) / (inner + 1) + 1;
      parallel_for((n + per_task - 1) / per_task, [&](int64_t task, int) {
        for (int64_t r = task * per_task; r < min_of(n, (task + 1) * per_task); ++r) {
          uint8_t any = 0;
          for (int64_t i = 0; i < inner; ++i) {
            any |= uint8_t(widened(x[r * inner + i]) != Compute<T>(0));
          }
          y[r] = any;
        }
      });
    });
  }
};
HB_CPU_KERNEL(nonzero_rows, NonzeroRows, kAllDTypes)

HB_KERNELS_END
