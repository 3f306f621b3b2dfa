// Index of the first largest (smallest) element along an axis on CUDA, as int32; a NaN counts as
// the extreme. x: [outer, length, inner]. A warp makes a result where the axis is the last one,
// else a thread.
#include "cuda/kernel.cuh"

namespace hb::cuda {
namespace {

template <class C>
struct Found {
  C value;
  int32_t index;  // < 0: nothing yet
};
// Is b, rather than a, the result?
template <class C>
__device__ bool better(bool largest, const Found<C>& b, const Found<C>& a) {
  if (b.index < 0 || a.index < 0) return a.index < 0 && b.index >= 0;
  const bool nan_a = a.value != a.value, nan_b = b.value != b.value;
  if (nan_a || nan_b) return nan_b && (!nan_a || b.index < a.index);
  if (b.value == a.value) return b.index < a.index;
  return largest ? b.value > a.value : b.value < a.value;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    arg_rows(int32_t* y, const T* x, int64_t rows, int64_t length, bool largest) {
  typedef Compute<T> C;
  const int lane = threadIdx.x % 32;
  const int64_t warps = int64_t(gridDim.x) * (kThreads / 32);
  for (int64_t r = int64_t(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32; r < rows; r += warps) {
    Found<C> best{C(0), -1};
    for (int64_t i = lane; i < length; i += 32) {
      const Found<C> next{widened(x[r * length + i]), int32_t(i)};
      if (better(largest, next, best)) best = next;
    }
    for (int by = 16; by > 0; by /= 2) {
      const Found<C> other{shuffle_down(best.value, by), shuffle_down(best.index, by)};
      if (better(largest, other, best)) best = other;
    }
    if (lane == 0) y[r] = best.index;
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    arg_columns(int32_t* y, const T* x, int64_t outer, int64_t length, int64_t inner,
                bool largest) {
  typedef Compute<T> C;
  HB_EACH(e, outer * inner) {
    const T* from = x + e / inner * length * inner + e % inner;
    Found<C> best{C(0), -1};
    for (int64_t i = 0; i < length; ++i) {
      const Found<C> next{widened(from[i * inner]), int32_t(i)};
      if (better(largest, next, best)) best = next;
    }
    y[e] = best.index;
  }
}

template <bool kLargest>
struct ArgReduce {
  int64_t outer = 1, length = 1, inner = 1;
  DType dtype;
  explicit ArgReduce(Prepare& p) : dtype(p.inputs[0].dtype) {
    const TensorSpec& x = p.inputs[0];
    const int64_t axis = attr_int(*p.attrs, "axis");
    for (int d = 0; d < x.rank; ++d) (d < axis ? outer : d == axis ? length : inner) *= x.shape[d];
    if (length == 0 && outer * inner > 0) fail("arg reduction over no elements");
  }
  void run(const Call& c) const {
    if (outer * inner == 0) return;
    with_type(dtype, [&]<class T>() {
      int32_t* y = static_cast<int32_t*>(c.outputs[0]);
      const T* x = static_cast<const T*>(c.inputs[0]);
      if (inner == 1)
        launch(blocks_for(outer, kThreads / 32), dim3(kThreads), c.stream, arg_rows<T>, y, x, outer,
               length, kLargest);
      else
        launch(blocks_for(outer * inner), dim3(kThreads), c.stream, arg_columns<T>, y, x, outer,
               length, inner, kLargest);
    });
  }
};
typedef ArgReduce<true> ArgMax;
typedef ArgReduce<false> ArgMin;
HB_CUDA_KERNEL(reduce_argmax, ArgMax, kAllDTypes)
HB_CUDA_KERNEL(reduce_argmin, ArgMin, kAllDTypes)

}  // namespace
}  // namespace hb::cuda
