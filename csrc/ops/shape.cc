// Ops that move elements without computing (and iota): transpose, concat, split, slice
// and its gradient, pad, dynamic_slice and dynamic_slice_update. All of them are memory
// bound; the work is in strided_copy.h.
#include "ops/element.h"
#include "ops/parameters.h"
#include "ops/strided_copy.h"

HB_KERNELS_BEGIN

struct Iota : IotaParameters {
  using IotaParameters::IotaParameters;
  void run(const Call& c) const {
    with_type(dtype, [&]<class T>(T) {
      T* y = static_cast<T*>(c.outputs[0]);
      if (integers) {
        for (int64_t i = 0; i < n; ++i) y[i] = narrowed<T>(Compute<T>(start_int + i * step_int));
      } else {
        for (int64_t i = 0; i < n; ++i) {
          y[i] = narrowed<T>(Compute<T>(start + double(i) * step));
        }
      }
    });
  }
};
HB_CPU_KERNEL(iota, Iota, kAllDTypes)

// y = x with its dimensions in the order `axes`.
struct Transpose {
  StridedCopy copy;
  explicit Transpose(Prepare& p) {
    const TensorSpec &x = p.inputs[0], &y = p.outputs[0];
    IntList axes = attr_ints(*p.attrs, "axes");
    if (axes.size != x.rank) fail("transpose: %d axes for rank %d", int(axes.size), x.rank);
    int64_t sx[kMaxRank], sy[kMaxRank], src[kMaxRank];
    dense_strides(x, sx);
    dense_strides(y, sy);
    for (int i = 0; i < x.rank; ++i) src[i] = sx[axes.data[i]];
    copy = StridedCopy(y.rank, y.shape, sy, src, item_bytes(x.dtype));
  }
  void run(const Call& c) const { copy.run(c.outputs[0], c.inputs[0]); }
};
HB_CPU_KERNEL(transpose, Transpose, kAllDTypes)

// A part of a tensor as rows: `axis` and what is below it make a row of `bytes`.
struct Part {
  StridedCopy copy;
  int64_t offset;
};

// Copies between a whole [outer, sum of sizes, inner] and its parts along `axis`.
struct Parts {
  Part* parts;
  int count;
  Parts(const TensorSpec& whole, const TensorSpec* specs, int n, int64_t axis, bool to_whole)
      : parts(new Part[n]), count(n) {
    int64_t outer = 1, inner = int64_t(item_bytes(whole.dtype));
    for (int i = 0; i < int(axis); ++i) outer *= whole.shape[i];
    for (int i = int(axis) + 1; i < whole.rank; ++i) inner *= whole.shape[i];
    int64_t offset = 0, item = int64_t(item_bytes(whole.dtype));
    for (int i = 0; i < n; ++i) {
      int64_t row = specs[i].shape[axis] * inner;
      int64_t shape[2] = {outer, row / item};
      int64_t in_whole[2] = {whole.shape[axis] * inner, item}, in_part[2] = {row, item};
      parts[i].copy = to_whole ? StridedCopy(2, shape, in_whole, in_part, size_t(item))
                               : StridedCopy(2, shape, in_part, in_whole, size_t(item));
      parts[i].offset = offset;
      offset += row;
    }
    if (offset != whole.shape[axis] * inner) fail("parts do not add up along axis %d", int(axis));
  }
  Parts(const Parts&) = delete;
  ~Parts() { delete[] parts; }
};

struct Concat {
  Parts parts;
  explicit Concat(Prepare& p)
      : parts(p.outputs[0], p.inputs, p.num_inputs, attr_int(*p.attrs, "axis"), true) {}
  void run(const Call& c) const {
    for (int i = 0; i < parts.count; ++i) {
      const Part& part = parts.parts[i];
      part.copy.run(static_cast<char*>(c.outputs[0]) + part.offset, c.inputs[i]);
    }
  }
};
HB_CPU_KERNEL(concat, Concat, kAllDTypes)

struct Split {
  Parts parts;
  explicit Split(Prepare& p)
      : parts(p.inputs[0], p.outputs, p.num_outputs, attr_int(*p.attrs, "axis"), false) {}
  void run(const Call& c) const {
    for (int i = 0; i < parts.count; ++i) {
      const Part& part = parts.parts[i];
      part.copy.run(c.outputs[i], static_cast<const char*>(c.inputs[0]) + part.offset);
    }
  }
};
HB_CPU_KERNEL(split, Split, kAllDTypes)

// The view of `whole` that `part` is: element i stands at begin + i * strides.
struct Window {
  int64_t strides[kMaxRank];
  int64_t offset = 0;
  Window(const TensorSpec& whole, const TensorSpec& part, const Attrs& attrs) {
    IntList begin = attr_ints(attrs, "begin"), step = attr_ints(attrs, "strides");
    if (begin.size != whole.rank || step.size != whole.rank) {
      fail("slice: %d begins and %d strides for rank %d", int(begin.size), int(step.size),
           whole.rank);
    }
    dense_strides(whole, strides);
    for (int i = 0; i < whole.rank; ++i) {
      int64_t n = part.shape[i], last = begin.data[i] + (n - 1) * step.data[i];
      if (n > 0 && (begin.data[i] < 0 || begin.data[i] >= whole.shape[i] || last < 0 ||
                    last >= whole.shape[i])) {
        fail("slice: elements %lld to %lld of axis %d of size %lld", (long long)begin.data[i],
             (long long)last, i, (long long)whole.shape[i]);
      }
      offset += begin.data[i] * strides[i];
      strides[i] *= step.data[i];
    }
  }
};

struct Slice {
  StridedCopy copy;
  int64_t offset;
  explicit Slice(Prepare& p) {
    const TensorSpec &x = p.inputs[0], &y = p.outputs[0];
    Window window(x, y, *p.attrs);
    int64_t sy[kMaxRank];
    dense_strides(y, sy);
    offset = window.offset;
    copy = StridedCopy(y.rank, y.shape, sy, window.strides, item_bytes(x.dtype));
  }
  void run(const Call& c) const {
    copy.run(c.outputs[0], static_cast<const char*>(c.inputs[0]) + offset);
  }
};
HB_CPU_KERNEL(slice, Slice, kAllDTypes)

// Zeros, with the input in the places that `slice` would read.
struct SliceGrad {
  StridedCopy copy;
  int64_t offset, bytes;
  explicit SliceGrad(Prepare& p) {
    const TensorSpec &dy = p.inputs[0], &dx = p.outputs[0];
    Window window(dx, dy, *p.attrs);
    int64_t sy[kMaxRank];
    dense_strides(dy, sy);
    offset = window.offset;
    bytes = num_elements(dx) * int64_t(item_bytes(dx.dtype));
    copy = StridedCopy(dy.rank, dy.shape, window.strides, sy, item_bytes(dx.dtype));
  }
  void run(const Call& c) const {
    zero_fill(c.outputs[0], bytes);
    copy.run(static_cast<char*>(c.outputs[0]) + offset, c.inputs[0]);
  }
};
HB_CPU_KERNEL(slice_grad, SliceGrad, kAllDTypes)

// Start indices known only at run time: clamped so that the window lies inside.
struct DynamicWindow {
  TensorSpec whole, part;
  int64_t strides[kMaxRank];
  DType index_type;
  void init(const TensorSpec& w, const TensorSpec& p, const TensorSpec& starts) {
    whole = w;
    part = p;
    index_type = starts.dtype;
    dense_strides(whole, strides);
    if (starts.rank != 1 || starts.shape[0] != whole.rank) fail("one start index per axis");
    if (index_type != DType::I32 && index_type != DType::I64) {
      fail("start indices must be int32 or int64, got %s", dtype_name(index_type));
    }
  }
  int64_t offset(const void* starts) const {
    int64_t offset = 0;
    for (int i = 0; i < whole.rank; ++i) {
      int64_t start = index_type == DType::I32 ? static_cast<const int32_t*>(starts)[i]
                                               : static_cast<const int64_t*>(starts)[i];
      int64_t last = whole.shape[i] - part.shape[i];
      if (start > last) start = last;
      if (start < 0) start = 0;
      offset += start * strides[i];
    }
    return offset;
  }
};

// inputs: x, starts [rank]; output: the window of the output's shape.
struct DynamicSlice {
  DynamicWindow window;
  StridedCopy copy;
  explicit DynamicSlice(Prepare& p) {
    const TensorSpec &x = p.inputs[0], &y = p.outputs[0];
    window.init(x, y, p.inputs[1]);
    int64_t sy[kMaxRank];
    dense_strides(y, sy);
    copy = StridedCopy(y.rank, y.shape, sy, window.strides, item_bytes(x.dtype));
  }
  void run(const Call& c) const {
    copy.run(c.outputs[0], static_cast<const char*>(c.inputs[0]) + window.offset(c.inputs[1]));
  }
};
HB_CPU_KERNEL(dynamic_slice, DynamicSlice, kAllDTypes)

// inputs: x, updates, starts [rank]. May write over x: then only the window is touched.
struct DynamicSliceUpdate {
  DynamicWindow window;
  StridedCopy copy, whole;
  explicit DynamicSliceUpdate(Prepare& p) {
    const TensorSpec &x = p.inputs[0], &updates = p.inputs[1];
    window.init(x, updates, p.inputs[2]);
    int64_t su[kMaxRank];
    dense_strides(updates, su);
    size_t item = item_bytes(x.dtype);
    copy = StridedCopy(updates.rank, updates.shape, window.strides, su, item);
    int64_t n = num_elements(x), one = int64_t(item);
    whole = StridedCopy(1, &n, &one, &one, item);
  }
  void run(const Call& c) const {
    if (c.outputs[0] != c.inputs[0]) whole.run(c.outputs[0], c.inputs[0]);
    copy.run(static_cast<char*>(c.outputs[0]) + window.offset(c.inputs[2]), c.inputs[1]);
  }
};
HB_CPU_KERNEL_INPLACE(dynamic_slice_update, DynamicSliceUpdate, kAllDTypes)

// inputs: x, value (scalar); attrs lo, hi: how many elements of `value` before and after each axis.
struct Pad {
  TensorSpec x, y;
  int64_t lo[kMaxRank];
  int64_t rows, rows_per_task;
  explicit Pad(Prepare& p) : x(p.inputs[0]), y(p.outputs[0]) {
    IntList l = attr_ints(*p.attrs, "lo");
    if (l.size != x.rank || p.inputs[1].dtype != x.dtype) fail("pad: one width per axis");
    for (int i = 0; i < x.rank; ++i) lo[i] = l.data[i];
    if (x.rank == 0) {  // nothing to pad: a row of one element
      x.rank = y.rank = 1;
      x.shape[0] = y.shape[0] = 1;
      lo[0] = 0;
    }
    int64_t row = y.shape[y.rank - 1];
    rows = row == 0 ? 0 : num_elements(y) / row;
    rows_per_task = (64 << 10) / (row * int64_t(item_bytes(y.dtype)) + 1) + 1;
  }
  void run(const Call& c) const {
    switch (item_bytes(x.dtype)) {
      case 1:
        return fill<uint8_t>(c);
      case 2:
        return fill<uint16_t>(c);
      case 4:
        return fill<uint32_t>(c);
      default:
        return fill<uint64_t>(c);
    }
  }

 private:
  template <class T>
  static void splat_n(T* dst, T value, int64_t n) {
    for (int64_t i = 0; i < n; ++i) dst[i] = value;
  }
  template <class T>
  void fill(const Call& c) const {
    const T* src = static_cast<const T*>(c.inputs[0]);
    T* dst = static_cast<T*>(c.outputs[0]);
    const T value = *static_cast<const T*>(c.inputs[1]);
    const int last = y.rank - 1;
    const int64_t n = y.shape[last], m = x.shape[last], before = lo[last];
    parallel_for((rows + rows_per_task - 1) / rows_per_task, [&](int64_t task, int) {
      int64_t end = (task + 1) * rows_per_task;
      if (end > rows) end = rows;
      for (int64_t r = task * rows_per_task; r < end; ++r) {
        int64_t rest = r, from = 0, step = 1;
        bool inside = true;
        for (int i = last - 1; i >= 0; --i) {
          int64_t at = rest % y.shape[i] - lo[i];
          rest /= y.shape[i];
          inside = inside && at >= 0 && at < x.shape[i];
          from += at * step;
          step *= x.shape[i];
        }
        T* row = dst + r * n;
        if (!inside) {
          splat_n(row, value, n);
          continue;
        }
        splat_n(row, value, before);
        memcpy(row + before, src + from * m, size_t(m) * sizeof(T));
        splat_n(row + before + m, value, n - before - m);
      }
    });
  }
};
HB_CPU_KERNEL(pad, Pad, kAllDTypes)

HB_KERNELS_END
