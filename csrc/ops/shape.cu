// Ops that move elements without computing, and iota, on CUDA: transpose, concat, split, slice and
// its gradient, pad. One thread moves one element; neighbouring threads write neighbouring
// elements. A transposition of the innermost axes goes through tiles in shared memory, so that its
// reads are rows too.
#include "cuda/kernel.cuh"
#include "ops/parameters.h"
#include "ops/transpose.cuh"

namespace hb::cuda {
namespace {

// dst[sum i_d dst_stride_d] = src[sum i_d src_stride_d] over a box; innermost axis first.
struct Box {
  int axes;
  int64_t total, size[kMaxRank], to[kMaxRank], from[kMaxRank];
};

template <class T>
__global__ void __launch_bounds__(kThreads) move_box(T* dst, const T* src, const Box b) {
  HB_EACH(i, b.total) {
    int64_t rest = i, to = 0, from = 0;
    for (int d = 0; d < b.axes; ++d) {
      const int64_t k = rest % b.size[d];
      rest /= b.size[d];
      to += k * b.to[d];
      from += k * b.from[d];
    }
    dst[to] = src[from];
  }
}

constexpr int kTile = 32, kTileRows = 8;
// y[b, c, r] = x[b, r, c], tile by tile.
template <class T>
__global__ void __launch_bounds__(kTile* kTileRows)
    transpose_tiles(T* y, const T* x, int64_t batch, int64_t rows, int64_t columns) {
  __shared__ T tile[kTile][kTile + 1];  // the odd row length spreads a column over the banks
  const int64_t row_tiles = (rows + kTile - 1) / kTile;
  const int64_t c0 = int64_t(blockIdx.x) * kTile;
  for (int64_t z = blockIdx.y; z < batch * row_tiles; z += gridDim.y) {
    const int64_t b = z / row_tiles, r0 = (z - b * row_tiles) * kTile;
    const T* from = x + b * rows * columns;
    T* to = y + b * rows * columns;
    for (int k = threadIdx.y; k < kTile; k += kTileRows)
      if (r0 + k < rows && c0 + threadIdx.x < columns)
        tile[k][threadIdx.x] = from[(r0 + k) * columns + c0 + threadIdx.x];
    __syncthreads();
    for (int k = threadIdx.y; k < kTile; k += kTileRows)
      if (c0 + k < columns && r0 + threadIdx.x < rows)
        to[(c0 + k) * rows + r0 + threadIdx.x] = tile[threadIdx.x][k];
    __syncthreads();
  }
}

void dense_strides(const TensorSpec& s, int64_t* strides) {
  int64_t step = 1;
  for (int d = s.rank - 1; d >= 0; --d) {
    strides[d] = step;
    step *= s.shape[d];
  }
}

// Axes as they are written (outermost first); those that continue one another are merged.
Box make_box(int rank, const int64_t* shape, const int64_t* to, const int64_t* from) {
  Box b;
  b.axes = 0;
  b.total = 1;
  for (int d = rank - 1; d >= 0; --d) {
    b.total *= shape[d];
    if (shape[d] == 1) continue;
    const int k = b.axes - 1;
    if (k >= 0 && to[d] == b.to[k] * b.size[k] && from[d] == b.from[k] * b.size[k]) {
      b.size[k] *= shape[d];
      continue;
    }
    b.size[b.axes] = shape[d];
    b.to[b.axes] = to[d];
    b.from[b.axes++] = from[d];
  }
  return b;
}

void run_box(const Call& c, const Box& b, DType dtype, void* dst, int64_t to, const void* src,
             int64_t from) {
  if (b.total == 0) return;
  with_bits(dtype, [&]<class T>() {
    launch(blocks_for(b.total), dim3(kThreads), c.stream, move_box<T>, static_cast<T*>(dst) + to,
           static_cast<const T*>(src) + from, b);
  });
}

struct Transpose {
  Box box;
  DType dtype;
  explicit Transpose(Prepare& p) : dtype(p.inputs[0].dtype) {
    const TensorSpec &x = p.inputs[0], &y = p.outputs[0];
    const IntList axes = attr_ints(*p.attrs, "axes");
    if (axes.size != x.rank) fail("transpose: %d axes for rank %d", int(axes.size), x.rank);
    int64_t sx[kMaxRank], sy[kMaxRank], from[kMaxRank];
    dense_strides(x, sx);
    dense_strides(y, sy);
    for (int i = 0; i < x.rank; ++i) from[i] = sx[axes.data[i]];
    box = make_box(y.rank, y.shape, sy, from);
  }
  // [batch, rows, columns] to [batch, columns, rows], and large enough for whole tiles?
  bool in_tiles() const {
    const bool matrix = box.axes == 2 || (box.axes == 3 && box.from[2] == box.to[2]);
    return matrix && box.from[1] == 1 && box.from[0] == box.size[1] && box.size[0] >= kTile / 2 &&
           box.size[1] >= kTile / 2;
  }
  void run(const Call& c) const {
    if (box.total == 0 || !in_tiles())
      return run_box(c, box, dtype, c.outputs[0], 0, c.inputs[0], 0);
    const int64_t rows = box.size[0], columns = box.size[1],
                  batch = box.axes == 3 ? box.size[2] : 1;
    transpose_matrices(c.outputs[0], c.inputs[0], dtype, batch, rows, columns, c.stream);
  }
};
HB_CUDA_KERNEL(transpose, Transpose, kAllDTypes)

// Between a whole [outer, n, inner] and its parts along the axis.
struct Parts {
  static constexpr int kMax = 64;
  int count;
  DType dtype;
  Box boxes[kMax];
  int64_t offsets[kMax];
  Parts(const TensorSpec& whole, const TensorSpec* parts, int n, const Attrs& attrs, bool to_whole)
      : count(n), dtype(whole.dtype) {
    const int64_t axis = attr_int(attrs, "axis");
    int64_t strides[kMaxRank], own[kMaxRank], start = 0;
    dense_strides(whole, strides);
    for (int i = 0; i < n; ++i) {
      dense_strides(parts[i], own);
      boxes[i] =
          make_box(whole.rank, parts[i].shape, to_whole ? strides : own, to_whole ? own : strides);
      offsets[i] = start * strides[axis];
      start += parts[i].shape[axis];
    }
    if (start != whole.shape[axis]) fail("parts do not add up along axis %d", int(axis));
  }
};
struct Concat {
  Parts parts;
  explicit Concat(Prepare& p) : parts(p.outputs[0], p.inputs, p.num_inputs, *p.attrs, true) {}
  static bool supports(const Prepare& p) { return p.num_inputs <= Parts::kMax; }
  void run(const Call& c) const {
    for (int i = 0; i < parts.count; ++i)
      run_box(c, parts.boxes[i], parts.dtype, c.outputs[0], parts.offsets[i], c.inputs[i], 0);
  }
};
HB_CUDA_KERNEL_IF(concat, Concat, kAllDTypes, 0u, Concat::supports)
struct Split {
  Parts parts;
  explicit Split(Prepare& p) : parts(p.inputs[0], p.outputs, p.num_outputs, *p.attrs, false) {}
  static bool supports(const Prepare& p) { return p.num_outputs <= Parts::kMax; }
  void run(const Call& c) const {
    for (int i = 0; i < parts.count; ++i)
      run_box(c, parts.boxes[i], parts.dtype, c.outputs[i], 0, c.inputs[0], parts.offsets[i]);
  }
};
HB_CUDA_KERNEL_IF(split, Split, kAllDTypes, 0u, Split::supports)

// The view of `whole` that `part` is: element i stands at begin + i * strides.
struct Window {
  int64_t strides[kMaxRank], offset = 0;
  Window(const TensorSpec& whole, const TensorSpec& part, const Attrs& attrs) {
    const IntList begin = attr_ints(attrs, "begin"), step = attr_ints(attrs, "strides");
    if (begin.size != whole.rank || step.size != whole.rank)
      fail("slice: %d begins for rank %d", int(begin.size), whole.rank);
    dense_strides(whole, strides);
    for (int i = 0; i < whole.rank; ++i) {
      const int64_t n = part.shape[i], last = begin.data[i] + (n - 1) * step.data[i];
      if (n > 0 && (begin.data[i] < 0 || begin.data[i] >= whole.shape[i] || last < 0 ||
                    last >= whole.shape[i]))
        fail("slice: elements %lld to %lld of axis %d of size %lld", (long long)begin.data[i],
             (long long)last, i, (long long)whole.shape[i]);
      offset += begin.data[i] * strides[i];
      strides[i] *= step.data[i];
    }
  }
};
struct Slice {
  Box box;
  int64_t offset;
  DType dtype;
  explicit Slice(Prepare& p) : dtype(p.inputs[0].dtype) {
    const TensorSpec& y = p.outputs[0];
    const Window window(p.inputs[0], y, *p.attrs);
    int64_t own[kMaxRank];
    dense_strides(y, own);
    offset = window.offset;
    box = make_box(y.rank, y.shape, own, window.strides);
  }
  void run(const Call& c) const { run_box(c, box, dtype, c.outputs[0], 0, c.inputs[0], offset); }
};
HB_CUDA_KERNEL(slice, Slice, kAllDTypes)

// Zeros, with the input in the places that `slice` would read.
struct SliceGrad {
  Box box;
  int64_t offset;
  size_t bytes;
  DType dtype;
  explicit SliceGrad(Prepare& p) : dtype(p.inputs[0].dtype) {
    const TensorSpec &dy = p.inputs[0], &dx = p.outputs[0];
    const Window window(dx, dy, *p.attrs);
    int64_t own[kMaxRank];
    dense_strides(dy, own);
    offset = window.offset;
    bytes = size_t(num_elements(dx)) * item_bytes(dtype);
    box = make_box(dy.rank, dy.shape, window.strides, own);
  }
  void run(const Call& c) const {
    fill_zero(c.outputs[0], bytes, c.stream);
    run_box(c, box, dtype, c.outputs[0], offset, c.inputs[0], 0);
  }
};
HB_CUDA_KERNEL(slice_grad, SliceGrad, kAllDTypes)

// A window whose start is known on the device only: clamped so that it lies inside.
struct DynamicWindow {
  int rank;
  int64_t total, strides[kMaxRank], whole[kMaxRank], part[kMaxRank];
  DType index_type, dtype;
  DynamicWindow(const TensorSpec& w, const TensorSpec& p, const TensorSpec& starts)
      : rank(w.rank), total(num_elements(p)), index_type(starts.dtype), dtype(w.dtype) {
    dense_strides(w, strides);
    for (int i = 0; i < rank; ++i) whole[i] = w.shape[i], part[i] = p.shape[i];
    if (starts.rank != 1 || starts.shape[0] != rank) fail("one start index per axis");
    if (index_type != DType::I32 && index_type != DType::I64)
      fail("start indices must be int32 or int64, got %s", dtype_name(index_type));
  }
  __device__ int64_t at(const void* starts, int64_t i) const {  // of element i of the window
    int64_t to = 0;
    for (int d = rank - 1; d >= 0; --d) {
      int64_t start = index_type == DType::I32 ? static_cast<const int32_t*>(starts)[d]
                                               : static_cast<const int64_t*>(starts)[d];
      if (start > whole[d] - part[d]) start = whole[d] - part[d];
      if (start < 0) start = 0;
      to += (start + i % part[d]) * strides[d];
      i /= part[d];
    }
    return to;
  }
};
template <class T>
__global__ void __launch_bounds__(kThreads)
    read_window(T* y, const T* x, const void* starts, const DynamicWindow w) {
  HB_EACH(i, w.total) y[i] = x[w.at(starts, i)];
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    write_window(T* y, const T* updates, const void* starts, const DynamicWindow w) {
  HB_EACH(i, w.total) y[w.at(starts, i)] = updates[i];
}
struct DynamicSlice {
  DynamicWindow w;
  explicit DynamicSlice(Prepare& p) : w(p.inputs[0], p.outputs[0], p.inputs[1]) {}
  void run(const Call& c) const {
    if (w.total == 0) return;
    with_bits(w.dtype, [&]<class T>() {
      launch(blocks_for(w.total), dim3(kThreads), c.stream, read_window<T>,
             static_cast<T*>(c.outputs[0]), static_cast<const T*>(c.inputs[0]), c.inputs[1], w);
    });
  }
};
HB_CUDA_KERNEL(dynamic_slice, DynamicSlice, kAllDTypes)
struct DynamicSliceUpdate {
  DynamicWindow w;
  Box whole;
  explicit DynamicSliceUpdate(Prepare& p) : w(p.inputs[0], p.inputs[1], p.inputs[2]) {
    const int64_t n = num_elements(p.inputs[0]), one = 1;
    whole = make_box(1, &n, &one, &one);
  }
  void run(const Call& c) const {
    if (c.outputs[0] != c.inputs[0]) run_box(c, whole, w.dtype, c.outputs[0], 0, c.inputs[0], 0);
    if (w.total == 0) return;
    with_bits(w.dtype, [&]<class T>() {
      launch(blocks_for(w.total), dim3(kThreads), c.stream, write_window<T>,
             static_cast<T*>(c.outputs[0]), static_cast<const T*>(c.inputs[1]), c.inputs[2], w);
    });
  }
};
HB_CUDA_KERNEL_INPLACE(dynamic_slice_update, DynamicSliceUpdate, kAllDTypes)

struct PadShape {
  int rank;
  int64_t total, lo[kMaxRank], x[kMaxRank], y[kMaxRank];
};
template <class T>
__global__ void __launch_bounds__(kThreads)
    pad_elements(T* y, const T* x, const T* value, const PadShape s) {
  HB_EACH(i, s.total) {
    int64_t rest = i, from = 0, step = 1;
    bool inside = true;
    for (int d = s.rank - 1; d >= 0; --d) {
      const int64_t at = rest % s.y[d] - s.lo[d];
      rest /= s.y[d];
      inside = inside && at >= 0 && at < s.x[d];
      from += at * step;
      step *= s.x[d];
    }
    y[i] = inside ? x[from] : *value;
  }
}
struct Pad {
  PadShape shape;
  DType dtype;
  explicit Pad(Prepare& p) : dtype(p.inputs[0].dtype) {
    const TensorSpec &x = p.inputs[0], &y = p.outputs[0];
    const IntList lo = attr_ints(*p.attrs, "lo");
    if (lo.size != x.rank || p.inputs[1].dtype != x.dtype) fail("pad: one width per axis");
    shape.rank = x.rank;
    shape.total = num_elements(y);
    for (int d = 0; d < x.rank; ++d) {
      shape.lo[d] = lo.data[d];
      shape.x[d] = x.shape[d];
      shape.y[d] = y.shape[d];
    }
  }
  void run(const Call& c) const {
    if (shape.total == 0) return;
    with_bits(dtype, [&]<class T>() {
      launch(blocks_for(shape.total), dim3(kThreads), c.stream, pad_elements<T>,
             static_cast<T*>(c.outputs[0]), static_cast<const T*>(c.inputs[0]),
             static_cast<const T*>(c.inputs[1]), shape);
    });
  }
};
HB_CUDA_KERNEL(pad, Pad, kAllDTypes)

// y[i] = start + i step, computed in 64-bit integers or float64.
template <class T>
__global__ void __launch_bounds__(kThreads)
    count_int(T* y, int64_t n, int64_t start, int64_t step) {
  HB_EACH(i, n) { y[i] = narrowed<T>(Compute<T>(start + i * step)); }
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    count_float(T* y, int64_t n, double start, double step) {
  HB_EACH(i, n) { y[i] = narrowed<T>(Compute<T>(start + double(i) * step)); }
}
struct Iota : IotaParameters {
  using IotaParameters::IotaParameters;
  void run(const Call& c) const {
    if (n == 0) return;
    with_type(dtype, [&]<class T>() {
      T* y = static_cast<T*>(c.outputs[0]);
      if (integers)
        launch(blocks_for(n), dim3(kThreads), c.stream, count_int<T>, y, n, start_int, step_int);
      else
        launch(blocks_for(n), dim3(kThreads), c.stream, count_float<T>, y, n, start, step);
    });
  }
};
HB_CUDA_KERNEL(iota, Iota, kAllDTypes)

}  // namespace

void transpose_matrices(void* y, const void* x, DType dtype, int64_t batch, int64_t rows,
                        int64_t columns, void* stream) {
  const int64_t row_tiles = batch * ((rows + kTile - 1) / kTile);
  const dim3 grid(unsigned((columns + kTile - 1) / kTile),
                  unsigned(row_tiles < 65535 ? row_tiles : 65535));
  with_bits(dtype, [&]<class T>() {
    launch(grid, dim3(kTile, kTileRows), stream, transpose_tiles<T>, static_cast<T*>(y),
           static_cast<const T*>(x), batch, rows, columns);
  });
}

}  // namespace hb::cuda
