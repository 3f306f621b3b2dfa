// Running sums and products along an axis on CUDA: the ops of cumulative.cc.
//
// x: [outer, length, inner]. The axis is cut into chunks where outer and inner alone make few
// threads, by sizes alone: the totals of the chunks come first, then every chunk starts from the
// totals before it. A block scans the chunk of a line (few columns), or a thread walks along it
// (many, so that neighbours read neighbours). Running values are double for floats, so that the
// rounding of long sums stays below that of the results, as on the CPU.
#include "cuda/block.cuh"

namespace hb::cuda {
namespace {

template <class T>
struct RunningOf {
  typedef std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t> type;  // wraps around
};
template <>
struct RunningOf<float> {
  typedef double type;
};
template <>
struct RunningOf<double> {
  typedef double type;
};
template <>
struct RunningOf<Half> {
  typedef double type;
};
template <>
struct RunningOf<BHalf> {
  typedef double type;
};

struct Lines {
  int64_t outer = 1, length = 1, inner = 1, chunk = 1, chunks = 1;
  bool exclusive, reverse;
  // Element at a place of a line, counted from where the sum begins.
  __device__ int64_t at(int64_t line, int64_t place) const {
    const int64_t p = reverse ? length - 1 - place : place;
    return (line / inner * length + p) * inner + line % inner;
  }
};

constexpr int kItems = 4;  // of a thread in a row, in a block's scan

// totals[line, chunk] of all chunks.
template <class Op, class T>
__global__ void __launch_bounds__(kThreads)
    chunk_totals(typename RunningOf<T>::type* totals, const T* x, const Lines z) {
  typedef typename RunningOf<T>::type A;
  const int64_t lines = z.outer * z.inner;
  for (int64_t u = blockIdx.x; u < lines * z.chunks; u += gridDim.x) {
    const int64_t line = u / z.chunks, first = u % z.chunks * z.chunk;
    const int64_t last = first + z.chunk < z.length ? first + z.chunk : z.length;
    A sum = Op::template start<A>();
    for (int64_t p = first + threadIdx.x; p < last; p += kThreads)
      sum = Op::join(sum, A(widened(x[z.at(line, p)])));
    sum = over_block<Op>(sum);
    if (threadIdx.x == 0) totals[u] = sum;
  }
}

template <class Op, class T>
__global__ void __launch_bounds__(kThreads)
    scan_lines(T* y, const T* x, const typename RunningOf<T>::type* totals, const Lines z) {
  typedef typename RunningOf<T>::type A;
  const int64_t lines = z.outer * z.inner;
  for (int64_t u = blockIdx.x; u < lines * z.chunks; u += gridDim.x) {
    const int64_t line = u / z.chunks, k = u % z.chunks, first = k * z.chunk;
    const int64_t last = first + z.chunk < z.length ? first + z.chunk : z.length;
    A running = Op::template start<A>();
    if (z.chunks > 1)  // at most kThreads
      running = over_block<Op>(threadIdx.x < k ? totals[line * z.chunks + threadIdx.x] : running);
    for (int64_t p = first; p < last; p += kThreads * kItems) {
      const int64_t mine = p + int64_t(threadIdx.x) * kItems;
      A item[kItems], sum = Op::template start<A>();
      for (int i = 0; i < kItems; ++i) {
        item[i] = mine + i < last ? A(widened(x[z.at(line, mine + i)])) : Op::template start<A>();
        sum = Op::join(sum, item[i]);
      }
      A total, before = Op::join(running, scan_block<Op>(sum, &total));
      for (int i = 0; i < kItems; ++i) {
        const A after = Op::join(before, item[i]);
        if (mine + i < last)
          y[z.at(line, mine + i)] = narrowed<T>(Compute<T>(z.exclusive ? before : after));
        before = after;
      }
      running = Op::join(running, total);
    }
  }
}

template <class Op, class T>
__global__ void __launch_bounds__(kThreads) walk_lines(T* y, const T* x, const Lines z) {
  typedef typename RunningOf<T>::type A;
  HB_EACH(line, z.outer * z.inner) {
    A running = Op::template start<A>();
    for (int64_t p = 0; p < z.length; ++p) {
      const int64_t at = z.at(line, p);
      const A after = Op::join(running, A(widened(x[at])));
      y[at] = narrowed<T>(Compute<T>(z.exclusive ? running : after));
      running = after;
    }
  }
}

template <class Op>
struct Cumulative {
  Lines z;
  DType dtype;
  bool walk;
  explicit Cumulative(Prepare& p) : dtype(p.inputs[0].dtype) {
    const TensorSpec& x = p.inputs[0];
    const int64_t axis = attr_int(*p.attrs, "axis");
    for (int d = 0; d < x.rank; ++d)
      (d < axis ? z.outer : d == axis ? z.length : z.inner) *= x.shape[d];
    z.exclusive = attr_int(*p.attrs, "exclusive") != 0;
    z.reverse = attr_int(*p.attrs, "reverse") != 0;
    const int64_t lines = z.outer * z.inner;
    walk = z.inner >= 32 && (lines >= 16384 || z.length <= 64);
    z.chunk = z.length;
    if (walk || lines == 0) return;
    const int64_t wanted = 1024 / lines, most = z.length / (kThreads * kItems * 2);
    z.chunks = wanted < most ? wanted : most;
    if (z.chunks > kThreads) z.chunks = kThreads;
    if (z.chunks < 1) z.chunks = 1;
    z.chunk = (z.length + z.chunks - 1) / z.chunks;
    if (z.chunks > 1) p.scratch_bytes = size_t(lines * z.chunks) * sizeof(double);
  }
  void run(const Call& c) const {
    if (z.outer * z.inner * z.length == 0) return;
    if (dtype >= DType::F16)
      with_float_type(dtype, [&]<class T>() { run_as<T>(c); });
    else  // integers wrap around, so their sign does not matter
      with_bits(dtype, [&]<class T>() { run_as<T>(c); });
  }
  template <class T>
  void run_as(const Call& c) const {
    typedef typename RunningOf<T>::type A;
    T* y = static_cast<T*>(c.outputs[0]);
    const T* x = static_cast<const T*>(c.inputs[0]);
    A* totals = static_cast<A*>(c.scratch);
    const int64_t lines = z.outer * z.inner;
    const dim3 blocks = blocks_for(lines * z.chunks, 1);
    if (walk) {
      launch(blocks_for(lines), dim3(kThreads), c.stream, walk_lines<Op, T>, y, x, z);
      return;
    }
    if (z.chunks > 1) launch(blocks, dim3(kThreads), c.stream, chunk_totals<Op, T>, totals, x, z);
    launch(blocks, dim3(kThreads), c.stream, scan_lines<Op, T>, y, x, totals, z);
  }
};
typedef Cumulative<Add> CumulativeSum;
typedef Cumulative<Multiply> CumulativeProd;
HB_CUDA_KERNEL(cumulative_sum, CumulativeSum, kAllDTypes & ~kBool)
HB_CUDA_KERNEL(cumulative_prod, CumulativeProd, kAllDTypes & ~kBool)

}  // namespace
}  // namespace hb::cuda
