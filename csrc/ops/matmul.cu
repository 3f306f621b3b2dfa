// matmul on CUDA: c[.., i, j] = epilogue(sum_k a[.., i, k] b[.., k, j]) (epilogue.cuh).
//
// The contract is that of matmul.cc. Floats go to tensor cores (gemm_mma.cuh); integers, sizes
// beyond 2^31 and devices before sm_80 to the plain product of gemm.cuh.
#include <algorithm>
#include <optional>

#include "ops/gemm.cuh"
#include "ops/gemm_plan.cuh"

namespace hb::cuda {
namespace {

struct Shape {
  int64_t m, n, k, batch;
  int64_t a_row, a_column, b_row, b_column;  // strides of a[i, k] and b[k, j]
  int axes;                                  // of the batch, innermost first
  int64_t extent[kMaxRank], a_stride[kMaxRank], b_stride[kMaxRank];
};

template <class In, class T>
struct Product {
  const In *a_data, *b_data;
  T* c_data;
  Shape s;
  Epilogue epilogue;
  int64_t c_at;  // of the batch
  typedef Compute<T> C;
  __device__ C a(int64_t i, int64_t k) const {
    return C(widened(a_data[i * s.a_row + k * s.a_column]));
  }
  __device__ C b(int64_t k, int64_t j) const {
    return C(widened(b_data[k * s.b_row + j * s.b_column]));
  }
  // In which order memory has them.
  __device__ bool a_by_k() const { return s.a_column == 1; }
  __device__ bool b_by_k() const { return s.b_column != 1; }
  __device__ void store(int64_t i, int64_t j, C sum) const {
    const int64_t at = c_at + i * s.n + j;
    epilogue.apply<T, 1>(&sum, j, at);
    c_data[at] = narrowed<T>(sum);
  }
};

template <class In, class T>
__global__ void __launch_bounds__(kThreads) matmul_tiles(const Product<In, T> whole) {
  const Shape& s = whole.s;
  for (int64_t batch = blockIdx.z; batch < s.batch; batch += gridDim.z) {
    Product<In, T> p = whole;
    int64_t rest = batch;
    for (int d = 0; d < s.axes; ++d) {
      const int64_t x = rest % s.extent[d];
      rest /= s.extent[d];
      p.a_data += x * s.a_stride[d];
      p.b_data += x * s.b_stride[d];
    }
    p.c_at = batch * s.m * s.n;
    gemm_tile<Compute<T>>(p, s.m, s.n, 0, s.k);
  }
}

struct Matmul {
  Shape s;
  DType dtype;
  EpilogueOperands epilogue;
  std::optional<MmaPlan> plan;
  explicit Matmul(Prepare& p) : dtype(p.inputs[0].dtype), epilogue(p, 2) {
    const TensorSpec &a = p.inputs[0], &b = p.inputs[1], &c = p.outputs[0];
    if (a.rank < 2 || b.rank < 2) fail("expected operands of rank 2 or more");
    const bool ta = flag(*p.attrs, "transpose_a"), tb = flag(*p.attrs, "transpose_b");
    s.m = c.shape[c.rank - 2];
    s.n = c.shape[c.rank - 1];
    s.k = a.shape[a.rank - (ta ? 2 : 1)];
    if (b.shape[b.rank - (tb ? 1 : 2)] != s.k || a.shape[a.rank - (ta ? 1 : 2)] != s.m ||
        b.shape[b.rank - (tb ? 2 : 1)] != s.n)
      fail("inner or outer sizes of the operands do not match");
    s.a_row = ta ? 1 : s.k;
    s.a_column = ta ? s.m : 1;
    s.b_row = tb ? 1 : s.n;
    s.b_column = tb ? s.k : 1;
    s.axes = c.rank - 2;
    s.batch = 1;
    int64_t sa = s.m * s.k, sb = s.k * s.n;
    for (int d = 0; d < s.axes; ++d) {
      const int at = s.axes - 1 - d, ia = at - (c.rank - a.rank), ib = at - (c.rank - b.rank);
      const int64_t na = ia >= 0 ? a.shape[ia] : 1, nb = ib >= 0 ? b.shape[ib] : 1;
      s.extent[d] = c.shape[at];
      s.a_stride[d] = na == 1 ? 0 : sa;
      s.b_stride[d] = nb == 1 ? 0 : sb;
      sa *= na;
      sb *= nb;
      s.batch *= c.shape[at];
    }
    if (s.axes > 0 && !ta && sb == s.k * s.n &&
        sa == s.batch * s.m * s.k) {  // more rows of one product
      s.m *= s.batch;
      s.batch = 1;
      s.axes = 0;
    }
    plan.emplace(dtype, s.m, s.n, s.k, s.batch, true);
    p.scratch_bytes = plan->partial_bytes();
  }
  static bool flag(const Attrs& attrs, const char* name) {
    return attr_has(attrs, name) && attr_int(attrs, name) != 0;
  }
  template <class In, class T = In>
  void run_as(const Call& c) const {
    const Product<In, T> product{static_cast<const In*>(c.inputs[0]),
                                 static_cast<const In*>(c.inputs[1]),
                                 static_cast<T*>(c.outputs[0]),
                                 s,
                                 Epilogue(epilogue, c),
                                 0};
    launch(gemm_grid(s.m, s.n, s.batch), dim3(kThreads), c.stream, matmul_tiles<In, T>, product);
  }
  // A line for every i or j, or for every k, as memory has them.
  static Operand operand(const void* data, DType t, int64_t step_k, int64_t step_other, bool by_k) {
    Operand o;
    o.data = data;
    o.by_k = by_k;
    o.stride = by_k ? step_other : step_k;
    o.step_in_line = by_k ? step_k : step_other;
    o.width = o.step_in_line == 1 ? copy_width(t, o.stride) : 2;
    return o;
  }
  MmaProduct product(const Call& c) const {
    MmaProduct p;
    // A column of k only is both; of (not by k, by k) there is no kernel: `a` is gathered.
    const bool b_by_k = s.b_row == 1 && s.b_column != 1;
    p.a = operand(c.inputs[0], dtype, s.a_column, s.a_row, s.a_column == 1 || b_by_k);
    p.b = operand(c.inputs[1], dtype, s.b_row, s.b_column, b_by_k);
    p.m = int(s.m);
    p.n = int(s.n);
    p.k = int(s.k);
    p.batch = s.batch;
    p.axes = s.axes;
    for (int d = 0; d < s.axes; ++d) {
      p.extent[d] = s.extent[d];
      p.a_stride[d] = s.a_stride[d];
      p.b_stride[d] = s.b_stride[d];
      p.a.width = std::min(p.a.width, copy_width(dtype, s.a_stride[d]));
      p.b.width = std::min(p.b.width, copy_width(dtype, s.b_stride[d]));
    }
    p.out = c.outputs[0];
    p.out_batch = s.m * s.n;
    p.out_stride = s.n;
    p.epilogue = Epilogue(epilogue, c);
    p.partial = c.scratch;
    return p;
  }
  void run(const Call& c) const {
    if (s.batch == 0 || s.m == 0 || s.n == 0) return;
    if (plan->possible() && has_mma()) return plan->run(product(c), c.stream);
    if (dtype == DType::I32)
      run_as<uint32_t>(c);  // wraps
    else if (dtype == DType::I8)
      run_as<int8_t, uint32_t>(c);
    else if (dtype == DType::I64)
      run_as<uint64_t>(c);
    else
      with_float_type(dtype, [&]<class T>() { run_as<T>(c); });
  }
};
HB_CUDA_KERNEL(matmul, Matmul, kAllFloat | kI8 | kI32 | kI64)

}  // namespace
}  // namespace hb::cuda
