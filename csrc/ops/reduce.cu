// Sums, products, extrema, any and all on CUDA, over any axes.
//
// If the innermost axis is reduced, a block makes one result: its threads take every 256th element,
// then warps and at last the block join theirs, in a fixed order. If it is kept, a thread makes one
// result and neighbours read neighbours. Few results of many elements are split into chunks, joined
// by a second kernel. The split depends on sizes alone and nothing is added atomically: same bits,
// run after run. float16 and bfloat16 accumulate in float32; integers wrap. Floor: one read of
// memory.
#include "cuda/kernel.cuh"

namespace hb::cuda {
namespace {

// A place in a tensor from the number of a result, or of an element of one: merged axes.
struct Walk {
  int axes = 0;
  int64_t size[kMaxRank], stride[kMaxRank];  // innermost first
  __device__ int64_t offset(int64_t i) const {
    int64_t at = 0;
    for (int d = 0; d + 1 < axes; ++d) {
      at += i % size[d] * stride[d];
      i /= size[d];
    }
    return axes > 0 ? at + i * stride[axes - 1] : 0;
  }
};

struct Sum {
  template <class A>
  static __device__ A start() {
    return A(0);
  }
  template <class A>
  static __device__ A join(A a, A b) {
    return A(a + b);
  }
};
struct Product {
  template <class A>
  static __device__ A start() {
    return A(1);
  }
  template <class A>
  static __device__ A join(A a, A b) {
    return A(a * b);
  }
};
struct Maximum {  // NaN wins
  template <class A>
  static __device__ A start() {
    return lowest<A>();
  }
  template <class A>
  static __device__ A join(A a, A b) {
    return a > b || a != a ? a : b;
  }
};
struct Minimum {
  template <class A>
  static __device__ A start() {
    return highest<A>();
  }
  template <class A>
  static __device__ A join(A a, A b) {
    return a < b || a != a ? a : b;
  }
};
struct Any {
  template <class A>
  static __device__ A start() {
    return A(0);
  }
  template <class A>
  static __device__ A join(A a, A b) {
    return A(a | b);
  }
};
struct All {
  template <class A>
  static __device__ A start() {
    return A(1);
  }
  template <class A>
  static __device__ A join(A a, A b) {
    return A(a & b);
  }
};

// Chunk k of the n elements of a result.
struct Range {
  int64_t begin, end;
  __device__ Range(int64_t n, int64_t chunks, int64_t k) {
    const int64_t size = (n + chunks - 1) / chunks;
    begin = k * size;
    end = begin + size < n ? begin + size : n;
  }
};

struct Plan {
  Walk kept, reduced;
  int64_t results, elements, chunks;  // elements: of each result
};

// y: the results [results] as T, or partial ones [chunks, results] as A.
template <class T, class A, class Op>
__global__ void __launch_bounds__(kThreads)
    reduce_rows(T* y, A* partial, const T* x, const Plan p) {
  __shared__ A shared[kThreads / 32];
  for (int64_t task = blockIdx.x; task < p.results * p.chunks; task += gridDim.x) {
    const int64_t result = task / p.chunks, chunk = task % p.chunks;
    const Range range(p.elements, p.chunks, chunk);
    const T* from = x + p.kept.offset(result);
    A sum = Op::template start<A>();
    for (int64_t i = range.begin + threadIdx.x; i < range.end; i += kThreads)
      sum = Op::join(sum, A(widened(from[p.reduced.offset(i)])));
    for (int by = 16; by > 0; by /= 2) sum = Op::join(sum, shuffle_down(sum, by));
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int w = 1; w < kThreads / 32; ++w) sum = Op::join(sum, shared[w]);
      if (p.chunks == 1)
        y[result] = narrowed<T>(sum);
      else
        partial[chunk * p.results + result] = sum;
    }
    __syncthreads();
  }
}

template <class T, class A, class Op>
__global__ void __launch_bounds__(kThreads)
    reduce_columns(T* y, A* partial, const T* x, const Plan p) {
  HB_EACH(task, p.results * p.chunks) {
    const int64_t result = task % p.results, chunk = task / p.results;
    const Range range(p.elements, p.chunks, chunk);
    const T* from = x + p.kept.offset(result);
    A sum = Op::template start<A>();
    for (int64_t i = range.begin; i < range.end; ++i)
      sum = Op::join(sum, A(widened(from[p.reduced.offset(i)])));
    if (p.chunks == 1)
      y[result] = narrowed<T>(sum);
    else
      partial[chunk * p.results + result] = sum;
  }
}

template <class T, class A, class Op>
__global__ void __launch_bounds__(kThreads)
    join_chunks(T* y, const A* partial, int64_t results, int64_t chunks) {
  HB_EACH(result, results) {
    A sum = partial[result];
    for (int64_t k = 1; k < chunks; ++k) sum = Op::join(sum, partial[k * results + result]);
    y[result] = narrowed<T>(sum);
  }
}

template <class Op>
struct Reduce {
  Plan plan;
  DType dtype;
  bool inner_reduced;
  explicit Reduce(Prepare& p) : dtype(p.inputs[0].dtype) {
    const TensorSpec& x = p.inputs[0];
    const IntList axes = attr_ints(*p.attrs, "axes");
    bool reduced[kMaxRank] = {};
    for (int64_t i = 0; i < axes.size; ++i) reduced[axes.data[i]] = true;
    int64_t stride = 1;
    int last = -1;  // kind of the last axis that was taken
    for (int d = x.rank - 1; d >= 0; --d) {
      const int64_t n = x.shape[d];
      if (n != 1) {
        Walk& w = reduced[d] ? plan.reduced : plan.kept;
        if (last == int(reduced[d])) {
          w.size[w.axes - 1] *= n;
        } else {
          w.size[w.axes] = n;
          w.stride[w.axes++] = stride;
          if (last < 0) inner_reduced = reduced[d];
          last = reduced[d];
        }
      }
      stride *= n;
    }
    if (last < 0) inner_reduced = true;
    plan.results = num_elements(p.outputs[0]);
    plan.elements = plan.results == 0 ? 0 : num_elements(x) / plan.results;
    // Enough tasks for a large device, of at least this many elements each.
    const int64_t wanted = inner_reduced ? 1024 : 256 * 1024, least = inner_reduced ? 8192 : 64;
    plan.chunks = 1;
    if (plan.results > 0 && plan.results < wanted) {
      const int64_t most = plan.elements / least, need = wanted / plan.results;
      plan.chunks = most < 1 ? 1 : most < need ? most : need;
    }
    if (plan.chunks > 1) p.scratch_bytes = size_t(plan.chunks * plan.results) * 8;
  }
  template <class T>
  void run_as(const Call& c) const {
    typedef Compute<T> A;
    T* y = static_cast<T*>(c.outputs[0]);
    const T* x = static_cast<const T*>(c.inputs[0]);
    A* partial = static_cast<A*>(c.scratch);
    const int64_t tasks = plan.results * plan.chunks;
    if (inner_reduced)
      launch(blocks_for(tasks, 1), dim3(kThreads), c.stream, reduce_rows<T, A, Op>, y, partial, x,
             plan);
    else
      launch(blocks_for(tasks), dim3(kThreads), c.stream, reduce_columns<T, A, Op>, y, partial, x,
             plan);
    if (plan.chunks > 1)
      launch(blocks_for(plan.results), dim3(kThreads), c.stream, join_chunks<T, A, Op>, y,
             static_cast<const A*>(partial), plan.results, plan.chunks);
  }
  void run(const Call& c) const {
    if (plan.results == 0) return;
    constexpr bool kTruth = std::is_same_v<Op, Any> || std::is_same_v<Op, All>;
    if constexpr (kTruth)
      run_as<Bool>(c);
    else if (dtype == DType::Bool)  // extrema of truth values
      run_as<uint8_t>(c);
    else
      with_number(dtype, [&]<class T>() { run_as<T>(c); });
  }
  template <class F>
  static void with_number(DType t, const F& f) {
    if (t == DType::Bool) fail("expected numbers");
    with_type(t, [&]<class T>() {
      if constexpr (!std::is_same_v<T, Bool>) f.template operator()<T>();
    });
  }
};

typedef Reduce<Sum> ReduceSum;
typedef Reduce<Product> ReduceProd;
typedef Reduce<Maximum> ReduceMax;
typedef Reduce<Minimum> ReduceMin;
typedef Reduce<Any> ReduceAny;
typedef Reduce<All> ReduceAll;
HB_CUDA_KERNEL(reduce_sum, ReduceSum, kAllDTypes & ~kBool)
HB_CUDA_KERNEL(reduce_prod, ReduceProd, kAllDTypes & ~kBool)
HB_CUDA_KERNEL(reduce_max, ReduceMax, kAllDTypes)
HB_CUDA_KERNEL(reduce_min, ReduceMin, kAllDTypes)
HB_CUDA_KERNEL(reduce_any, ReduceAny, kBool)
HB_CUDA_KERNEL(reduce_all, ReduceAll, kBool)

}  // namespace
}  // namespace hb::cuda
