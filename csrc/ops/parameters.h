// What ops read from their operands and attributes, for the kernels of the CPU (.cc) and those of
// CUDA (.cu). Every file has a copy of its own: nothing compiled for one instruction set may be
// taken for another when the library is linked.
#pragma once
#include <stdint.h>
#include <string.h>

#include "core/kernel.h"

namespace hb {
namespace {

inline bool is_wide(const TensorSpec& indices) {
  if (indices.dtype != DType::I32 && indices.dtype != DType::I64)
    fail("indices must be int32 or int64, got %s", dtype_name(indices.dtype));
  return indices.dtype == DType::I64;
}

// What is done with an element that meets another at its place.
enum class Reduction { kUpdate, kAdd, kMul, kMax, kMin };
inline Reduction reduction_of(const Attrs& attrs) {
  constexpr const char* kNames[] = {"update", "add", "mul", "max", "min"};
  const char* name = attr_str(attrs, "reduction");
  for (int i = 0; i < 5; ++i)
    if (strcmp(name, kNames[i]) == 0) return Reduction(i);
  fail("reduction must be update, add, mul, max or min, got %s", name);
}

// The rows of a tensor whose first `depth` axes are indexed by the last axis of `indices`.
struct IndexedShape {
  int depth;
  int64_t dims[kMaxRank], rows = 1, inner = 1, count = 1;
  IndexedShape(const TensorSpec& x, const TensorSpec& indices)
      : depth(int(indices.shape[indices.rank - 1])) {
    if (depth > x.rank) fail("%d indices per place for rank %d", depth, x.rank);
    for (int i = 0; i < x.rank; ++i) {
      dims[i] = x.shape[i];
      (i < depth ? rows : inner) *= x.shape[i];
    }
    for (int i = 0; i < indices.rank - 1; ++i) count *= indices.shape[i];
  }
  void expect_updates(const TensorSpec& updates) const {
    if (num_elements(updates) == count * inner) return;
    fail("scatter_nd: %lld updates for %lld places of %lld elements",
         (long long)num_elements(updates), (long long)count, (long long)inner);
  }
};

// y[i] = start + i step, computed in float64 or 64-bit integers.
struct IotaParameters {
  int64_t n, start_int = 0, step_int = 0;
  DType dtype;
  double start, step;
  bool integers;
  explicit IotaParameters(const Prepare& p)
      : n(num_elements(p.outputs[0])),
        dtype(p.outputs[0].dtype),
        start(attr_float(*p.attrs, "start")),
        step(attr_float(*p.attrs, "step")),
        integers(attr_int(*p.attrs, "integers") != 0) {
    if (!integers) return;
    start_int = attr_int(*p.attrs, "start");
    step_int = attr_int(*p.attrs, "step");
  }
};

// inputs: sorted [n], values [m] of the same dtype; attribute right: after equal elements.
// output: int32 or int64 places.
struct SearchParameters {
  int64_t n, m;
  DType dtype;
  bool right, wide;
  explicit SearchParameters(const Prepare& p)
      : n(num_elements(p.inputs[0])),
        m(num_elements(p.inputs[1])),
        dtype(p.inputs[0].dtype),
        right(attr_int(*p.attrs, "right") != 0),
        wide(p.outputs[0].dtype == DType::I64) {
    if (p.inputs[1].dtype != dtype) fail("searchsorted: two dtypes");
  }
};

}  // namespace
}  // namespace hb
