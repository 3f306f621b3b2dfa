// Reading and adding at computed places on CUDA: gather, take_along_axis, segment_reduce.
//
// Indices are int32 or int64; a negative one counts from the end. One out of range reads nothing
// (its elements are 0) and is reported: the next call that waits for the device throws it.
#include "cuda/kernel.cuh"

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
  DType dtype, index_type;
  explicit Reader(Prepare& p)
      : x(p.inputs[0], attr_int(*p.attrs, "axis")),
        total(num_elements(p.outputs[0])),
        dtype(p.inputs[0].dtype),
        index_type(p.inputs[1].dtype) {
    if (index_type != DType::I32 && index_type != DType::I64)
      fail("indices must be int32 or int64, got %s", dtype_name(index_type));
  }
  template <class F>
  void with_types(const F& f) const {
    with_bits(dtype, [&]<class T>() {
      if (index_type == DType::I32)
        f.template operator()<T, int32_t>();
      else
        f.template operator()<T, int64_t>();
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
enum class Join { Add, Mul, Max, Min };
template <Join kJoin, class C>
__device__ C joined(C a, C b) {
  if (kJoin == Join::Add) return C(a + b);
  if (kJoin == Join::Mul) return C(a * b);
  if (kJoin == Join::Max) return a > b || a != a ? a : b;
  return a < b || a != a ? a : b;
}
template <Join kJoin, class C>
__device__ C join_start() {
  if (kJoin == Join::Add) return C(0);
  if (kJoin == Join::Mul) return C(1);
  return kJoin == Join::Max ? lowest<C>() : highest<C>();
}

template <Join kJoin, class T, class I>
__global__ void __launch_bounds__(kThreads)
    add_segments(T* y, Compute<T>* sums, const T* x, const I* ids, int64_t n, int64_t inner,
                 int64_t segments, int64_t per_block, bool wrap) {
  typedef Compute<T> C;
  __shared__ int counts[kThreads / 32];
  __shared__ int64_t rows[kThreads], places[kThreads];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int64_t first = blockIdx.x * per_block; first < segments;
       first += int64_t(gridDim.x) * per_block) {
    const int64_t last = first + per_block < segments ? first + per_block : segments;
    for (int64_t e = first * inner + threadIdx.x; e < last * inner; e += kThreads)
      sums[e] = join_start<kJoin, C>();
    __syncthreads();
    for (int64_t begin = 0; begin < n; begin += kThreads) {
      const int64_t j = begin + threadIdx.x;
      int64_t id = j < n ? int64_t(ids[j]) : -1;
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
          to = joined<kJoin>(to, C(widened(x[rows[k] * inner + i])));
        }
      __syncthreads();
    }
    for (int64_t e = first * inner + threadIdx.x; e < last * inner; e += kThreads)
      y[e] = narrowed<T>(sums[e]);
  }
}

struct SegmentReduce {
  int64_t n, inner = 1, segments;
  DType dtype, index_type;
  Join join;
  bool wrap;
  explicit SegmentReduce(Prepare& p)
      : n(num_elements(p.inputs[1])),
        segments(p.outputs[0].shape[0]),
        dtype(p.inputs[0].dtype),
        index_type(p.inputs[1].dtype),
        wrap(attr_has(*p.attrs, "wrap") && attr_int(*p.attrs, "wrap")) {
    const char* name = attr_str(*p.attrs, "reduction");
    join = strcmp(name, "mul") == 0   ? Join::Mul
           : strcmp(name, "max") == 0 ? Join::Max
           : strcmp(name, "min") == 0 ? Join::Min
                                      : Join::Add;
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
  template <Join kJoin, class T, class I>
  void start(const Call& c) const {
    const int64_t per_block = (segments + 1023) / 1024;
    T* y = static_cast<T*>(c.outputs[0]);
    launch(blocks_for(segments, int(per_block)), dim3(kThreads), c.stream,
           add_segments<kJoin, T, I>, y, static_cast<Compute<T>*>(is_half() ? c.scratch : y),
           static_cast<const T*>(c.inputs[0]), static_cast<const I*>(c.inputs[1]), n, inner,
           segments, per_block, wrap);
  }
  template <class T, class I>
  void run_as(const Call& c) const {
    switch (join) {
      case Join::Add:
        return start<Join::Add, T, I>(c);
      case Join::Mul:
        return start<Join::Mul, T, I>(c);
      case Join::Max:
        return start<Join::Max, T, I>(c);
      case Join::Min:
        return start<Join::Min, T, I>(c);
    }
  }
  void run(const Call& c) const {
    if (segments * inner == 0) return;
    with_type(dtype, [&]<class T>() {
      if constexpr (!std::is_same_v<T, Bool>) {
        if (index_type == DType::I32)
          run_as<T, int32_t>(c);
        else
          run_as<T, int64_t>(c);
      }
    });
  }
};
HB_CUDA_KERNEL_IF(segment_reduce, SegmentReduce, kAllDTypes & ~kBool, 0u, SegmentReduce::supports)

}  // namespace
}  // namespace hb::cuda
