// matmul on CUDA without tensor cores: c[.., i, j] = activation(sum_k a[.., i, k] b[.., k, j] +
// bias[j]).
//
// The contract is that of matmul.cc. A block makes a 64 x 64 tile of c: 16 values of k at a time,
// tiles of a and b lie in shared memory, each of 256 threads keeps 4 x 4 sums in registers. Any
// dtype, any strides, transposes, broadcast batches, bias and ReLU: the path for what tensor cores
// do not take (float64, integers, small shapes) and the reference for kernels that do. One thread
// adds a sum in the order of k. float16 and bfloat16 are widened and summed in float32.
#include "cuda/kernel.cuh"

namespace hb::cuda {
namespace {

constexpr int kTile = 64, kDepth = 16, kPerThread = 4;

struct Shape {
  int64_t m, n, k, batch;
  int64_t a_row, a_column, b_row, b_column;  // strides of a[i, k] and b[k, j]
  int axes;                                  // of the batch, innermost first
  int64_t extent[kMaxRank], a_stride[kMaxRank], b_stride[kMaxRank];
  bool relu;
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    matmul_tiles(T* c, const T* a, const T* b, const T* bias, const Shape s) {
  typedef Compute<T> C;
  __shared__ C a_tile[kDepth][kTile + 4];
  __shared__ C b_tile[kDepth][kTile + 4];
  const int thread = threadIdx.x, row = thread / 16 * kPerThread, column = thread % 16 * kPerThread;
  const int64_t i0 = int64_t(blockIdx.x) * kTile, j0 = int64_t(blockIdx.y) * kTile;
  for (int64_t batch = blockIdx.z; batch < s.batch; batch += gridDim.z) {
    const T *a_at = a, *b_at = b;
    int64_t rest = batch;
    for (int d = 0; d < s.axes; ++d) {
      const int64_t x = rest % s.extent[d];
      rest /= s.extent[d];
      a_at += x * s.a_stride[d];
      b_at += x * s.b_stride[d];
    }
    C sums[kPerThread][kPerThread] = {};
    for (int64_t k0 = 0; k0 < s.k; k0 += kDepth) {
      // The tiles, in the order in which memory has them; 0 beyond the edges.
      for (int t = thread; t < kTile * kDepth; t += kThreads) {
        const int i = s.a_column == 1 ? t / kDepth : t % kTile;
        const int k = s.a_column == 1 ? t % kDepth : t / kTile;
        a_tile[k][i] = i0 + i < s.m && k0 + k < s.k
                           ? C(widened(a_at[(i0 + i) * s.a_row + (k0 + k) * s.a_column]))
                           : C(0);
      }
      for (int t = thread; t < kTile * kDepth; t += kThreads) {
        const int j = s.b_column == 1 ? t % kTile : t / kDepth;
        const int k = s.b_column == 1 ? t / kTile : t % kDepth;
        b_tile[k][j] = j0 + j < s.n && k0 + k < s.k
                           ? C(widened(b_at[(k0 + k) * s.b_row + (j0 + j) * s.b_column]))
                           : C(0);
      }
      __syncthreads();
      for (int k = 0; k < kDepth; ++k) {
        C x[kPerThread], y[kPerThread];
        for (int i = 0; i < kPerThread; ++i) x[i] = a_tile[k][row + i];
        for (int j = 0; j < kPerThread; ++j) y[j] = b_tile[k][column + j];
        for (int i = 0; i < kPerThread; ++i)
          for (int j = 0; j < kPerThread; ++j) sums[i][j] += x[i] * y[j];
      }
      __syncthreads();
    }
    T* to = c + batch * s.m * s.n;
    for (int i = 0; i < kPerThread; ++i)
      for (int j = 0; j < kPerThread; ++j) {
        const int64_t at_row = i0 + row + i, at_column = j0 + column + j;
        if (at_row >= s.m || at_column >= s.n) continue;
        C sum = sums[i][j];
        if (bias) sum += C(widened(bias[at_column]));
        if (s.relu) sum = sum < C(0) ? C(0) : sum;  // NaN stays
        to[at_row * s.n + at_column] = narrowed<T>(sum);
      }
  }
}

struct Matmul {
  Shape s;
  DType dtype;
  bool has_bias;
  explicit Matmul(Prepare& p) : dtype(p.inputs[0].dtype), has_bias(p.num_inputs > 2) {
    const TensorSpec &a = p.inputs[0], &b = p.inputs[1], &c = p.outputs[0];
    if (a.rank < 2 || b.rank < 2) fail("expected operands of rank 2 or more");
    const bool ta = flag(*p.attrs, "transpose_a"), tb = flag(*p.attrs, "transpose_b");
    s.m = c.shape[c.rank - 2];
    s.n = c.shape[c.rank - 1];
    s.k = a.shape[a.rank - (ta ? 2 : 1)];
    if (b.shape[b.rank - (tb ? 1 : 2)] != s.k || a.shape[a.rank - (ta ? 1 : 2)] != s.m ||
        b.shape[b.rank - (tb ? 2 : 1)] != s.n)
      fail("inner or outer sizes of the operands do not match");
    if (has_bias && num_elements(p.inputs[2]) != s.n)
      fail("expected a bias of %lld", (long long)s.n);
    s.a_row = ta ? 1 : s.k;
    s.a_column = ta ? s.m : 1;
    s.b_row = tb ? 1 : s.n;
    s.b_column = tb ? s.k : 1;
    s.relu =
        attr_has(*p.attrs, "activation") && strcmp(attr_str(*p.attrs, "activation"), "relu") == 0;
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
  }
  static bool flag(const Attrs& attrs, const char* name) {
    return attr_has(attrs, name) && attr_int(attrs, name) != 0;
  }
  static bool supports(const Prepare& p) {
    if (!attr_has(*p.attrs, "activation")) return true;
    const char* name = attr_str(*p.attrs, "activation");
    return strcmp(name, "linear") == 0 || strcmp(name, "relu") == 0;
  }
  template <class T>
  void run_as(const Call& c) const {
    const dim3 grid(unsigned((s.m + kTile - 1) / kTile), unsigned((s.n + kTile - 1) / kTile),
                    unsigned(s.batch < 65535 ? s.batch : 65535));
    if (grid.y > 65535) fail("matmul: %lld columns are too many", (long long)s.n);
    launch(grid, dim3(kThreads), c.stream, matmul_tiles<T>, static_cast<T*>(c.outputs[0]),
           static_cast<const T*>(c.inputs[0]), static_cast<const T*>(c.inputs[1]),
           has_bias ? static_cast<const T*>(c.inputs[2]) : nullptr, s);
  }
  void run(const Call& c) const {
    if (s.batch == 0 || s.m == 0 || s.n == 0) return;
    if (dtype == DType::I32)
      run_as<uint32_t>(c);  // wraps
    else if (dtype == DType::I64)
      run_as<uint64_t>(c);
    else
      with_float_type(dtype, [&]<class T>() { run_as<T>(c); });
  }
};
HB_CUDA_KERNEL_IF(matmul, Matmul, kAllFloat | kI32 | kI64, 0u, Matmul::supports)

}  // namespace
}  // namespace hb::cuda
