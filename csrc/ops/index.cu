// Reading and writing at computed places on CUDA: the ops of index.cc.
//
// Indices are int32 or int64; a negative one counts from the end. One out of range reads nothing
// (its elements are 0) and is reported: the next call that waits for the device throws it.
#include "cuda/block.cuh"
#include "ops/parameters.h"

namespace hb::cuda {
namespace {

struct View {  // [outer, n, inner] around the axis
  int64_t outer = 1, n, inner = 1;
  int axis;
  View(const TensorSpec& s, int64_t at) : n(s.shape[at]), axis(int(at)) {
    for (int d = 0; d < axis; ++d) outer *= s.shape[d];
    for (int d = axis + 1; d < s.rank; ++d) inner *= s.shape[d];
  }
};

template <class I>
__device__ bool resolve(const I* indices, int64_t j, int64_t n, int axis, IndexError* errors,
                        int64_t* index) {
  const int64_t i = int64_t(indices[j]);
  if (i < -n || i >= n) {
    report_index(errors, i, axis, n);
    return false;
  }
  *index = i < 0 ? i + n : i;
  return true;
}

// y[o, j, k] = x[o, indices[j], k]
template <class T, class I>
__global__ void __launch_bounds__(kThreads)
    gather_elements(T* y, const T* x, const I* indices, const View v, int64_t count,
                    IndexError* errors) {
  HB_EACH(e, v.outer * count * v.inner) {
    const int64_t k = e % v.inner, j = e / v.inner % count, o = e / v.inner / count;
    int64_t i;
    y[e] = resolve(indices, j, v.n, v.axis, errors, &i) ? x[(o * v.n + i) * v.inner + k] : T(0);
  }
}
// y[o, j, k] = x[o, indices[o, j, k], k]
template <class T, class I>
__global__ void __launch_bounds__(kThreads)
    take_elements(T* y, const T* x, const I* indices, const View v, int64_t count,
                  IndexError* errors) {
  HB_EACH(e, v.outer * count * v.inner) {
    const int64_t k = e % v.inner, o = e / v.inner / count;
    int64_t i;
    y[e] = resolve(indices, e, v.n, v.axis, errors, &i) ? x[(o * v.n + i) * v.inner + k] : T(0);
  }
}

struct Reader {
  View x;
  int64_t total;
  DType dtype;
  bool wide;
  explicit Reader(Prepare& p)
      : x(p.inputs[0], attr_int(*p.attrs, "axis")),
        total(num_elements(p.outputs[0])),
        dtype(p.inputs[0].dtype),
        wide(is_wide(p.inputs[1])) {}
  template <class F>
  void with_types(const F& f) const {
    with_bits(dtype, [&]<class T>() {
      if (wide)
        f.template operator()<T, int64_t>();
      else
        f.template operator()<T, int32_t>();
    });
  }
};
struct Gather : Reader {
  int64_t count;
  explicit Gather(Prepare& p) : Reader(p), count(num_elements(p.inputs[1])) {}
  void run(const Call& c) const {
    if (total == 0) return;
    with_types([&]<class T, class I>() {
      launch(blocks_for(total), dim3(kThreads), c.stream, gather_elements<T, I>,
             static_cast<T*>(c.outputs[0]), static_cast<const T*>(c.inputs[0]),
             static_cast<const I*>(c.inputs[1]), x, count, index_error());
    });
  }
};
HB_CUDA_KERNEL(gather, Gather, kAllDTypes)
struct TakeAlongAxis : Reader {
  int64_t count;
  explicit TakeAlongAxis(Prepare& p) : Reader(p), count(p.outputs[0].shape[x.axis]) {}
  void run(const Call& c) const {
    if (total == 0) return;
    with_types([&]<class T, class I>() {
      launch(blocks_for(total), dim3(kThreads), c.stream, take_elements<T, I>,
             static_cast<T*>(c.outputs[0]), static_cast<const T*>(c.inputs[0]),
             static_cast<const I*>(c.inputs[1]), x, count, index_error());
    });
  }
};
HB_CUDA_KERNEL(take_along_axis, TakeAlongAxis, kAllDTypes)

// y[s] = x[j] joined over the rows j with ids[j] = s, in their order; ids out of range are dropped.
//
// A block owns a few segments and looks through all ids, 256 at a time: ids are few beside the
// elements of rows, and stay in the L2 cache. Its rows go into a list in shared memory, in order,
// and are added one after the other, a thread for each column. So the order of additions is fixed,
// without a sort.
//
// How to join, and the type of ids, are looked at as it runs: the time goes to memory.
__device__ __forceinline__ int64_t index_at(const void* indices, bool wide, int64_t i) {
  return wide ? static_cast<const int64_t*>(indices)[i] : static_cast<const int32_t*>(indices)[i];
}
template <class C>
__device__ C changed(Reduction how, C a, C b) {  // NaN wins in max and min
  switch (how) {
    case Reduction::kAdd:
      return C(a + b);
    case Reduction::kMul:
      return C(a * b);
    case Reduction::kMax:
      return b > a || b != b ? b : a;
    case Reduction::kMin:
      return b < a || b != b ? b : a;
    default:
      return b;
  }
}
template <class C>
__device__ C join_start(Reduction how) {
  return how == Reduction::kAdd   ? C(0)
         : how == Reduction::kMul ? C(1)
         : how == Reduction::kMax ? lowest<C>()
                                  : highest<C>();
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    join_segments(T* y, Compute<T>* sums, const T* x, const void* ids, bool wide, int64_t n,
                  int64_t inner, int64_t segments, int64_t per_block, Reduction how, bool wrap) {
  typedef Compute<T> C;
  __shared__ int counts[kThreads / 32];
  __shared__ int64_t rows[kThreads], places[kThreads];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int64_t first = blockIdx.x * per_block; first < segments;
       first += int64_t(gridDim.x) * per_block) {
    const int64_t last = first + per_block < segments ? first + per_block : segments;
    for (int64_t e = first * inner + threadIdx.x; e < last * inner; e += kThreads)
      sums[e] = join_start<C>(how);
    __syncthreads();
    for (int64_t begin = 0; begin < n; begin += kThreads) {
      const int64_t j = begin + threadIdx.x;
      int64_t id = j < n ? index_at(ids, wide, j) : -1;
      if (wrap && id < 0 && j < n) id += segments;
      const bool mine = id >= first && id < last;
      const unsigned votes = __ballot_sync(0xffffffffu, mine);
      if (lane == 0) counts[warp] = __popc(votes);
      __syncthreads();
      int before = __popc(votes & ((1u << lane) - 1)), total = 0;
      for (int w = 0; w < kThreads / 32; ++w) {
        if (w < warp) before += counts[w];
        total += counts[w];
      }
      if (mine) {
        rows[before] = j;
        places[before] = id;
      }
      __syncthreads();
      for (int k = 0; k < total; ++k)
        for (int64_t i = threadIdx.x; i < inner; i += kThreads) {
          C& to = sums[places[k] * inner + i];
          to = changed<C>(how, to, C(widened(x[rows[k] * inner + i])));
        }
      __syncthreads();
    }
    for (int64_t e = first * inner + threadIdx.x; e < last * inner; e += kThreads)
      y[e] = narrowed<T>(sums[e]);
  }
}

struct SegmentReduce {
  int64_t n, inner = 1, segments;
  DType dtype;
  Reduction how;
  bool wide, wrap;
  explicit SegmentReduce(Prepare& p)
      : n(num_elements(p.inputs[1])),
        segments(p.outputs[0].shape[0]),
        dtype(p.inputs[0].dtype),
        how(reduction_of(*p.attrs)),
        wide(is_wide(p.inputs[1])),
        wrap(attr_has(*p.attrs, "wrap") && attr_int(*p.attrs, "wrap")) {
    for (int d = 1; d < p.outputs[0].rank; ++d) inner *= p.outputs[0].shape[d];
    if (num_elements(p.inputs[0]) != n * inner)
      fail("segment_reduce: %lld elements for %lld ids of %lld",
           (long long)num_elements(p.inputs[0]), (long long)n, (long long)inner);
    if (is_half()) p.scratch_bytes = size_t(segments * inner) * sizeof(float);
  }
  bool is_half() const { return dtype == DType::F16 || dtype == DType::BF16; }
  static bool supports(const Prepare& p) {
    const char* name = attr_str(*p.attrs, "reduction");
    const bool index = p.inputs[1].dtype == DType::I32 || p.inputs[1].dtype == DType::I64;
    return index && (strcmp(name, "add") == 0 || strcmp(name, "mul") == 0 ||
                     strcmp(name, "max") == 0 || strcmp(name, "min") == 0);
  }
  void run(const Call& c) const {
    if (segments * inner == 0) return;
    const int64_t per_block = (segments + 1023) / 1024;
    with_type(dtype, [&]<class T>() {
      if constexpr (!std::is_same_v<T, Bool>) {
        T* y = static_cast<T*>(c.outputs[0]);
        launch(blocks_for(segments, int(per_block)), dim3(kThreads), c.stream, join_segments<T>, y,
               static_cast<Compute<T>*>(is_half() ? c.scratch : y),
               static_cast<const T*>(c.inputs[0]), c.inputs[1], wide, n, inner, segments, per_block,
               how, wrap);
      }
    });
  }
};
HB_CUDA_KERNEL_IF(segment_reduce, SegmentReduce, kAllDTypes & ~kBool, 0u, SegmentReduce::supports)

// ---------------------------------------------------------------------- several indices a place

struct IndexedRows : IndexedShape {
  using IndexedShape::IndexedShape;
  // The row of place j; < 0: out of range.
  template <class I>
  __device__ int64_t row(const I* indices, int64_t j, IndexError* errors) const {
    int64_t r = 0;
    for (int i = 0; i < depth; ++i) {
      int64_t k;
      if (!resolve(indices, j * depth + i, dims[i], i, errors, &k)) return -1;
      r = r * dims[i] + k;
    }
    return r;
  }
};
template <class T, class I>
__global__ void __launch_bounds__(kThreads)
    gather_rows(T* y, const T* x, const I* indices, const IndexedRows z, IndexError* errors) {
  HB_EACH(e, z.count * z.inner) {
    const int64_t r = z.row(indices, e / z.inner, errors);
    y[e] = r < 0 ? T(0) : x[r * z.inner + e % z.inner];
  }
}
// f.operator()<index type>()
template <class F>
void with_index(bool wide, const F& f) {
  if (wide)
    f.template operator()<int64_t>();
  else
    f.template operator()<int32_t>();
}
struct GatherNd {
  IndexedRows z;
  DType dtype;
  bool wide;
  explicit GatherNd(Prepare& p)
      : z(p.inputs[0], p.inputs[1]), dtype(p.inputs[0].dtype), wide(is_wide(p.inputs[1])) {}
  void run(const Call& c) const {
    if (z.count * z.inner == 0) return;
    with_bits(dtype, [&]<class T>() {
      with_index(wide, [&]<class I>() {
        launch(blocks_for(z.count * z.inner), dim3(kThreads), c.stream, gather_rows<T, I>,
               static_cast<T*>(c.outputs[0]), static_cast<const T*>(c.inputs[0]),
               static_cast<const I*>(c.inputs[1]), z, index_error());
      });
    });
  }
};
HB_CUDA_KERNEL(gather_nd, GatherNd, kAllDTypes)

// ---------------------------------------------------------------------- scatter

// place[j]: the row of update j, -1 where it is out of range.
template <class I>
__global__ void __launch_bounds__(kThreads)
    find_places(int64_t* place, const I* indices, const IndexedRows z, IndexError* errors) {
  HB_EACH(j, z.count) place[j] = z.row(indices, j, errors);
}
// Of the kThreads updates from `begin` on, those of rows [first, first + rows), in order: update
// mine[k] goes to row to[k], for k below the result. All threads of the block call it.
__device__ int list_updates(const int64_t* place, int64_t begin, int64_t count, int64_t first,
                            int64_t rows, int64_t* mine, int64_t* to) {
  const int64_t j = begin + threadIdx.x, r = j < count ? place[j] : -1;
  const bool ours = r >= first && r < first + rows;
  int total;
  const int before = scan_block<Add>(int(ours), &total);
  if (ours) {
    mine[before] = j;
    to[before] = r;
  }
  __syncthreads();
  return total;
}
// y[place[j]] (op)= updates[j] for every j in order. A block owns a range of rows and looks through
// all places, kThreads at a time; those of its own go into a list in shared memory, in order, and
// are done one after the other, a thread for each column. No order is left to chance.
template <class T>
__global__ void __launch_bounds__(kThreads)
    scatter_rows(T* y, const T* updates, const int64_t* place, int64_t count, int64_t inner,
                 int64_t rows, int64_t per_block, Reduction how) {
  typedef Compute<T> C;
  __shared__ int64_t mine[kThreads], to[kThreads];
  for (int64_t first = blockIdx.x * per_block; first < rows;
       first += int64_t(gridDim.x) * per_block) {
    for (int64_t begin = 0; begin < count; begin += kThreads) {
      const int total = list_updates(place, begin, count, first, per_block, mine, to);
      for (int k = 0; k < total; ++k)
        for (int64_t i = threadIdx.x; i < inner; i += kThreads) {
          T& at = y[to[k] * inner + i];
          at = narrowed<T>(changed<C>(how, widened(at), widened(updates[mine[k] * inner + i])));
        }
      __syncthreads();
    }
  }
}
// The same for rows of one element: each is one thread's, which looks through the list.
template <class T>
__global__ void __launch_bounds__(kThreads)
    scatter_elements(T* y, const T* updates, const int64_t* place, int64_t count, int64_t rows,
                     Reduction how) {
  __shared__ int64_t mine[kThreads], to[kThreads];
  const int64_t step = int64_t(gridDim.x) * kThreads;
  for (int64_t first = int64_t(blockIdx.x) * kThreads; first < rows; first += step) {
    const int64_t own = first + threadIdx.x;
    Compute<T> value = own < rows ? widened(y[own]) : Compute<T>(0);
    for (int64_t begin = 0; begin < count; begin += kThreads) {
      const int total = list_updates(place, begin, count, first, kThreads, mine, to);
      for (int k = 0; k < total; ++k)
        if (to[k] == own)
          value = widened(narrowed<T>(changed<Compute<T>>(how, value, widened(updates[mine[k]]))));
      __syncthreads();
    }
    if (own < rows) y[own] = narrowed<T>(value);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) copy_elements(T* y, const T* x, int64_t n) {
  HB_EACH(i, n) y[i] = x[i];
}
void copy_whole(const Call& c, DType dtype, int64_t n) {
  if (c.outputs[0] == c.inputs[0] || n == 0) return;
  with_bits(dtype, [&]<class T>() {
    launch(blocks_for(n), dim3(kThreads), c.stream, copy_elements<T>, static_cast<T*>(c.outputs[0]),
           static_cast<const T*>(c.inputs[0]), n);
  });
}

struct ScatterNd {
  IndexedRows z;
  DType dtype;
  Reduction how;
  bool wide;
  explicit ScatterNd(Prepare& p)
      : z(p.inputs[0], p.inputs[1]),
        dtype(p.inputs[0].dtype),
        how(reduction_of(*p.attrs)),
        wide(is_wide(p.inputs[1])) {
    z.expect_updates(p.inputs[2]);
    p.scratch_bytes = size_t(z.count) * sizeof(int64_t);
  }
  void run(const Call& c) const {
    copy_whole(c, dtype, z.rows * z.inner);
    if (z.count * z.rows * z.inner == 0) return;
    int64_t* place = static_cast<int64_t*>(c.scratch);
    with_index(wide, [&]<class I>() {
      launch(blocks_for(z.count), dim3(kThreads), c.stream, find_places<I>, place,
             static_cast<const I*>(c.inputs[1]), z, index_error());
    });
    with_type(dtype, [&]<class T>() {
      T* y = static_cast<T*>(c.outputs[0]);
      const T* updates = static_cast<const T*>(c.inputs[2]);
      const int64_t per_block = (z.rows + 1023) / 1024;
      if (z.inner == 1)
        launch(blocks_for(z.rows), dim3(kThreads), c.stream, scatter_elements<T>, y, updates, place,
               z.count, z.rows, how);
      else
        launch(blocks_for(z.rows, int(per_block)), dim3(kThreads), c.stream, scatter_rows<T>, y,
               updates, place, z.count, z.inner, z.rows, per_block, how);
    });
  }
};
HB_CUDA_KERNEL_INPLACE(scatter_nd, ScatterNd, kAllDTypes)

// y[o, indices[o, j, i], i] (op)= updates[o, j, i] for every j in order, which is a thread's.
template <class T>
__global__ void __launch_bounds__(kThreads)
    scatter_lines(T* y, const T* updates, const void* indices, bool wide, const View v,
                  int64_t count, Reduction how, IndexError* errors) {
  HB_EACH(e, v.outer * v.inner) {
    const int64_t o = e / v.inner, i = e % v.inner;
    for (int64_t j = 0; j < count; ++j) {
      const int64_t u = (o * count + j) * v.inner + i, k = index_at(indices, wide, u);
      if (k < -v.n || k >= v.n) {
        report_index(errors, k, v.axis, v.n);
        continue;
      }
      T& at = y[(o * v.n + (k < 0 ? k + v.n : k)) * v.inner + i];
      at = narrowed<T>(changed<Compute<T>>(how, widened(at), widened(updates[u])));
    }
  }
}
struct ScatterAlongAxis {
  View x;
  int64_t count;
  DType dtype;
  Reduction how;
  bool wide;
  explicit ScatterAlongAxis(Prepare& p)
      : x(p.inputs[0], attr_int(*p.attrs, "axis")),
        count(p.inputs[1].shape[x.axis]),
        dtype(p.inputs[0].dtype),
        how(reduction_of(*p.attrs)),
        wide(is_wide(p.inputs[1])) {}
  void run(const Call& c) const {
    copy_whole(c, dtype, x.outer * x.n * x.inner);
    if (x.outer * count * x.inner == 0) return;
    with_type(dtype, [&]<class T>() {
      launch(blocks_for(x.outer * x.inner), dim3(kThreads), c.stream, scatter_lines<T>,
             static_cast<T*>(c.outputs[0]), static_cast<const T*>(c.inputs[2]), c.inputs[1], wide,
             x, count, how, index_error());
    });
  }
};
HB_CUDA_KERNEL_INPLACE(scatter_along_axis, ScatterAlongAxis, kAllDTypes)

// Which rows of x, [n, …], hold anything but zeros: [n, 1, …]. A warp looks at a row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    find_nonzero(uint8_t* y, const T* x, int64_t n, int64_t inner) {
  const int64_t warps = int64_t(gridDim.x) * (kThreads / 32);
  for (int64_t r = int64_t(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32; r < n; r += warps) {
    bool any = false;
    for (int64_t i = threadIdx.x % 32; i < inner && !any; i += 32)
      any = widened(x[r * inner + i]) != Compute<T>(0);
    any = __any_sync(0xffffffffu, any);
    if (threadIdx.x % 32 == 0) y[r] = any;
  }
}
struct NonzeroRows {
  int64_t n, inner = 1;
  DType dtype;
  explicit NonzeroRows(Prepare& p) : n(p.inputs[0].shape[0]), dtype(p.inputs[0].dtype) {
    for (int i = 1; i < p.inputs[0].rank; ++i) inner *= p.inputs[0].shape[i];
  }
  void run(const Call& c) const {
    if (n == 0) return;
    with_type(dtype, [&]<class T>() {
      launch(blocks_for(n, kThreads / 32), dim3(kThreads), c.stream, find_nonzero<T>,
             static_cast<uint8_t*>(c.outputs[0]), static_cast<const T*>(c.inputs[0]), n, inner);
    });
  }
};
HB_CUDA_KERNEL(nonzero_rows, NonzeroRows, kAllDTypes)

}  // namespace
}  // namespace hb::cuda
