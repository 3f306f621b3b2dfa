// Sums, products, extrema, any and all on CUDA, over any axes.
//
// If the innermost axis is reduced, a result is made by a block, or by a warp or a part of one
// where rows are short: each thread takes 16 bytes at a time, then warps and at last the block join
// theirs, in a fixed order. If it is kept, a thread makes one
// result and neighbours read neighbours. Few results of many elements are split into chunks, joined
// by a second kernel. The split depends on sizes alone and nothing is added atomically: same bits,
// run after run. float16 and bfloat16 accumulate in float32; integers wrap. Floor: one read of
// memory.
#include "ops/pack.cuh"

namespace hb::cuda {
namespace {

// A place in a tensor from the number of a result, or of an element of one: merged axes.
struct Walk {
  int axes = 0;
  int64_t size[kMaxRank], stride[kMaxRank] = {};  // innermost first
  __device__ __forceinline__ int64_t offset(int64_t i) const {
    return axes > 1 ? divided(i) : i * stride[0];
  }
  __device__ __noinline__ int64_t divided(int64_t i) const {
    int64_t at = 0;
    HB_UNROLL_NOT
    for (int d = 0; d + 1 < axes; ++d) {
      at += i % size[d] * stride[d];
      i /= size[d];
    }
    return at + i * stride[axes - 1];
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
    if constexpr (sizeof(A) < 4)
      return A(unsigned(a) * unsigned(b));  // int would not wrap
    else
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

struct Plan {
  Walk kept, reduced;
  int64_t results, elements, chunks, chunk_size;  // elements: of each result
  int lanes = 1;                                  // threads of a chunk, where rows are reduced
  // Elements of chunk k.
  __device__ __forceinline__ int64_t begin(int64_t k) const { return k * chunk_size; }
  __device__ __forceinline__ int64_t end(int64_t k) const {
    const int64_t end = (k + 1) * chunk_size;
    return end < elements ? end : elements;
  }
};

// y: the results [results] as T, or partial ones [chunks, results] as A. `whole`: 16 bytes at a
// time.
template <class T, class A, class Op>
__global__ void __launch_bounds__(kThreads)
    reduce_rows(T* y, A* partial, const T* x, const __grid_constant__ Plan p, bool whole) {
  __shared__ A shared[kThreads / 32];
  const int lane = int(threadIdx.x) % p.lanes, group = int(threadIdx.x) / p.lanes;
  const int64_t tasks = p.results * p.chunks, groups = kThreads / p.lanes;
  for (int64_t first = blockIdx.x * groups; first < tasks; first += gridDim.x * groups) {
    const int64_t task = first + group, result = task / p.chunks, chunk = task - result * p.chunks;
    A sum = Op::template start<A>();
    if (task < tasks) {
      const T* from = x + p.kept.offset(result);
      const int64_t begin = p.begin(chunk), end = p.end(chunk);
      if (whole) {
        HB_UNROLL_BY(4)
        for (int64_t i = begin + lane * kPack<T>; i < end; i += p.lanes * kPack<T>) {
          A pack[kPack<T>];
          load_pack(pack, from + i, true, 0);
          HB_UNROLL
          for (int e = 0; e < kPack<T>; ++e) sum = Op::join(sum, pack[e]);
        }
      } else {
        HB_UNROLL_NOT
        for (int64_t i = begin + lane; i < end; i += p.lanes)
          sum = Op::join(sum, A(widened(from[p.reduced.offset(i)])));
      }
    }
    for (int by = (p.lanes < 32 ? p.lanes : 32) / 2; by > 0; by /= 2)
      sum = Op::join(sum, shuffle_down(sum, by));
    if (p.lanes == kThreads) {
      if (lane % 32 == 0) shared[lane / 32] = sum;
      __syncthreads();
      if (lane == 0)
        for (int w = 1; w < kThreads / 32; ++w) sum = Op::join(sum, shared[w]);
      __syncthreads();
    }
    if (lane == 0 && task < tasks) {
      if (p.chunks == 1)
        y[result] = narrowed<T>(sum);
      else
        partial[chunk * p.results + result] = sum;
    }
  }
}

template <class T, class A, class Op>
__global__ void __launch_bounds__(kThreads)
    reduce_columns(T* y, A* partial, const T* x, const __grid_constant__ Plan p) {
  HB_EACH(task, p.results * p.chunks) {
    const int64_t result = task % p.results, chunk = task / p.results;
    const T* from = x + p.kept.offset(result);
    const int64_t end = p.end(chunk);
    A sum = Op::template start<A>();
    HB_UNROLL_BY(4)
    for (int64_t i = p.begin(chunk); i < end; ++i)
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
    plan.chunk_size = (plan.elements + plan.chunks - 1) / plan.chunks;
    if (plan.chunks > 1) plan.chunk_size = (plan.chunk_size + 15) / 16 * 16;
    const int64_t count = 16 / int64_t(item_bytes(dtype)), tasks = plan.results * plan.chunks;
    while (plan.lanes < 32 && plan.lanes * count < plan.chunk_size) plan.lanes *= 2;
    if (plan.chunk_size > 512 * count || (tasks < 2048 && plan.chunk_size > 64 * count))
      plan.lanes = kThreads;
    if (plan.chunks > 1) p.scratch_bytes = size_t(plan.chunks * plan.results) * 8;
  }
  template <class T>
  void run_as(const Call& c) const {
    typedef Compute<T> A;
    T* y = static_cast<T*>(c.outputs[0]);
    const T* x = static_cast<const T*>(c.inputs[0]);
    A* partial = static_cast<A*>(c.scratch);
    const int64_t tasks = plan.results * plan.chunks;
    const bool whole = plan.reduced.axes == 1 && plan.reduced.stride[0] == 1 &&
                       plan.elements % kPack<T> == 0 && is_aligned(x);
    if (inner_reduced)
      launch(blocks_for(tasks, kThreads / plan.lanes), dim3(kThreads), c.stream,
             reduce_rows<T, A, Op>, y, partial, x, plan, whole);
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
      with_type(dtype, [&]<class T>() {
        // Sums and products of integers are the same bits with and without a sign.
        constexpr bool kOrder = std::is_same_v<Op, Maximum> || std::is_same_v<Op, Minimum>;
        if constexpr (std::is_integral_v<T> && !kOrder)
          run_as<std::make_unsigned_t<T>>(c);
        else if constexpr (!std::is_same_v<T, Bool>)
          run_as<T>(c);
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
