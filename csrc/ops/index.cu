// Reading at computed places on CUDA: gather and take_along_axis.
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

}  // namespace
}  // namespace hb::cuda
