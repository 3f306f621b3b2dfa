// Scaled dot-product attention and its gradient on CUDA without the matrix of scores in memory:
// the ops of attention.cc, which says what is computed.
//
// A block has kTile rows (queries; in the gradient of keys and values: keys) and goes through the
// other side kTile at a time. Its 256 threads are a square of 16 x 16: thread (tx, ty) has the
// scores of rows ty + 16 i and columns tx + 16 j, so that maxima and sums of a row are shuffles of
// 16 lanes, and the results' columns tx + 16 j. Scores meet in shared memory; operands pass through
// it in pieces, as float.
//
// Forward: online softmax. Gradient: p again from the kept maxima and sums; one kernel owns dQ (and
// goes over the keys), another dK and dV (and goes over queries and the heads of a group): two more
// products than a single one, but neither atomics nor partial sums, so the bits are the same run
// after run. Where causal, tiles that no query sees are left out, except for queries that see no
// key at all, which attend to all alike.
//
// Floor: 2 T S (H + E) operations forward and 2 T S (5 H + 3 E) backward at the rate of
// multiply-adds (half where causal). 16-bit operands go to tensor cores where their layout allows
// (attention_mma.cu).
#include "cuda/block.cuh"
#include "ops/attention.cuh"

namespace hb::cuda {
namespace {

constexpr int kTile = 64;   // rows and columns of a tile of scores
constexpr int kDepth = 32;  // features of a piece of both operands of scores
constexpr int kEdge = kTile / 16;
constexpr float kMasked = kMaskedScore, kLowest = kLowestScore;
static_assert(kThreads == 256);

typedef AttentionSizes Shape;
template <class T>
using Operands = AttentionOperands<T>;

// Rows of a matrix with a distance of `stride`; zeros outside of [0, count) x [0, width).
template <class T>
struct Rows {
  const T* p;
  int64_t stride, count, width;
  __device__ float at(int64_t row, int64_t column) const {
    return row < count && column < width ? float(widened(p[row * stride + column])) : 0.0f;
  }
};
template <class T>
__device__ Rows<T> rows_of(const T* p, int64_t length, int64_t heads, int64_t width, int64_t b,
                           int64_t n, int64_t first) {
  return {p + ((b * length + first) * heads + n) * width, heads * width, length - first, width};
}

struct Shared {
  float scores[kTile][kTile + 1];
  union {
    struct {
      float a[kTile][kDepth + 1], b[kTile][kDepth + 1];
    } in;
    float piece[kTile][kTile];
  };
};

__device__ __forceinline__ int tile_x() { return threadIdx.x % 16; }
__device__ __forceinline__ int tile_y() { return threadIdx.x / 16; }

// s[i][j] = a[ty + 16 i] . b[tx + 16 j]
template <class T>
__device__ void multiply_rows(Shared& m, const Rows<T> a, const Rows<T> b,
                              float (&s)[kEdge][kEdge]) {
  const int tx = tile_x(), ty = tile_y();
  for (int i = 0; i < kEdge; ++i)
    for (int j = 0; j < kEdge; ++j) s[i][j] = 0;
  for (int64_t d0 = 0; d0 < a.width; d0 += kDepth) {
    __syncthreads();
    for (int t = threadIdx.x; t < kTile * kDepth; t += kThreads) {
      m.in.a[t / kDepth][t % kDepth] = a.at(t / kDepth, d0 + t % kDepth);
      m.in.b[t / kDepth][t % kDepth] = b.at(t / kDepth, d0 + t % kDepth);
    }
    __syncthreads();
    HB_UNROLL_BY(8)
    for (int d = 0; d < kDepth; ++d) {
      float x[kEdge], y[kEdge];
      for (int i = 0; i < kEdge; ++i) x[i] = m.in.a[ty + 16 * i][d];
      for (int j = 0; j < kEdge; ++j) y[j] = m.in.b[tx + 16 * j][d];
      for (int i = 0; i < kEdge; ++i)
        for (int j = 0; j < kEdge; ++j) s[i][j] += x[i] * y[j];
    }
  }
}
// acc[i][j] += sum_k scores[ty + 16 i][k] x[k][tx + 16 j]
template <int kPieces, class T>
__device__ void multiply_scores(Shared& m, const Rows<T> x, float (&acc)[kEdge][kEdge * kPieces]) {
  const int tx = tile_x(), ty = tile_y();
  HB_UNROLL_BY(4)
  for (int c = 0; c < kPieces; ++c) {
    if (c * kTile >= x.width) break;
    __syncthreads();
    for (int t = threadIdx.x; t < kTile * kTile; t += kThreads)
      m.piece[t / kTile][t % kTile] = x.at(t / kTile, c * kTile + t % kTile);
    __syncthreads();
    HB_UNROLL_BY(8)
    for (int k = 0; k < kTile; ++k) {
      float p[kEdge], y[kEdge];
      for (int i = 0; i < kEdge; ++i) p[i] = m.scores[ty + 16 * i][k];
      for (int j = 0; j < kEdge; ++j) y[j] = m.piece[k][tx + 16 * j];
      for (int i = 0; i < kEdge; ++i)
        for (int j = 0; j < kEdge; ++j) acc[i][c * kEdge + j] += p[i] * y[j];
    }
  }
}
// All threads have done with the scores before they are written, and have written them after.
__device__ void share_scores(Shared& m, const float (&s)[kEdge][kEdge]) {
  __syncthreads();
  for (int i = 0; i < kEdge; ++i)
    for (int j = 0; j < kEdge; ++j) m.scores[tile_y() + 16 * i][tile_x() + 16 * j] = s[i][j];
  __syncthreads();
}
template <class T, int kColumns>
__device__ void write_rows(T* y, int64_t stride, int64_t count, int64_t width,
                           const float (&acc)[kEdge][kColumns]) {
  for (int i = 0; i < kEdge; ++i) {
    const int64_t r = tile_y() + 16 * i;
    if (r >= count) continue;
    for (int j = 0; j < kColumns; ++j)
      if (tile_x() + 16 * j < width) y[r * stride + tile_x() + 16 * j] = narrowed<T>(acc[i][j]);
  }
}

__device__ __forceinline__ float max_of_16(float x) {
  for (int by = 8; by > 0; by /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, by));
  return x;
}
__device__ __forceinline__ float sum_of_16(float x) {
  for (int by = 8; by > 0; by /= 2) x += __shfl_xor_sync(0xffffffffu, x, by);
  return x;
}

// A block for (query tile, head, batch).
template <class T, int kPieces>
__global__ void __launch_bounds__(kThreads)
    attend(T* y, float* stats, const Operands<T> o, const Shape z) {
  __shared__ Shared m;
  __shared__ int blind;  // some query has seen no key yet
  const int64_t tiles = (z.queries + kTile - 1) / kTile, u = blockIdx.x;
  // tiles with the most keys first
  const int64_t q0 = (tiles - 1 - u % tiles) * kTile, n = u / tiles % z.heads,
                b = u / tiles / z.heads;
  const Rows<T> q = rows_of(o.q, z.queries, z.heads, z.h, b, n, q0);
  float top[kEdge], total[kEdge], acc[kEdge][kEdge * kPieces] = {};
  for (int i = 0; i < kEdge; ++i) top[i] = kLowest, total[i] = 0;
  for (int64_t s0 = 0; s0 < z.keys; s0 += kTile) {
    if (z.causal && s0 >= q0 + kTile) {
      if (!o.mask) break;
      if (threadIdx.x == 0) blind = 0;
      __syncthreads();
      for (int i = 0; i < kEdge; ++i)
        if (top[i] <= kMasked && tile_y() + 16 * i < q.count) blind = 1;
      __syncthreads();
      const bool done = !blind;
      __syncthreads();
      if (done) break;
    }
    float s[kEdge][kEdge];
    multiply_rows(m, q, rows_of(o.k, z.keys, z.key_heads, z.h, b, n / z.group, s0), s);
    for (int i = 0; i < kEdge; ++i) {
      const int64_t row = q0 + tile_y() + 16 * i;
      float most = kLowest, sum = 0;
      for (int j = 0; j < kEdge; ++j) {
        const int64_t key = s0 + tile_x() + 16 * j;
        s[i][j] = row < z.queries && key < z.keys ? attention_score(z, o, s[i][j], b, n, row, key)
                                                  : -HUGE_VALF;
        most = fmaxf(most, s[i][j]);  // a NaN is lost here, but not in the sum
      }
      most = fmaxf(top[i], max_of_16(most));
      for (int j = 0; j < kEdge; ++j) {
        s[i][j] = expf(s[i][j] - most);
        sum += s[i][j];
      }
      const float factor = expf(top[i] - most);
      total[i] = total[i] * factor + sum_of_16(sum);
      top[i] = most;
      for (int j = 0; j < kEdge * kPieces; ++j) acc[i][j] *= factor;
    }
    share_scores(m, s);
    multiply_scores<kPieces>(m, rows_of(o.v, z.keys, z.key_heads, z.e, b, n / z.group, s0), acc);
  }
  for (int i = 0; i < kEdge; ++i) {
    const float inverse = 1 / total[i];
    for (int j = 0; j < kEdge * kPieces; ++j) acc[i][j] *= inverse;
    const int64_t row = q0 + tile_y() + 16 * i;
    if (tile_x() == 0 && row < z.queries) {
      float* to = stats + ((b * z.heads + n) * z.queries + row) * 2;
      to[0] = top[i];
      to[1] = inverse;
    }
  }
  write_rows(y + ((b * z.queries + q0) * z.heads + n) * z.e, z.heads * z.e, q.count, z.e, acc);
}

// D[b, n, q] = dy . y; a warp for each.
template <class T>
__global__ void __launch_bounds__(kThreads)
    dot_rows(float* d, const T* y, const T* dy, const Shape z) {
  const int64_t warps = int64_t(gridDim.x) * (kThreads / 32), all = z.batch * z.heads * z.queries;
  for (int64_t r = int64_t(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32; r < all; r += warps) {
    const int64_t q = r % z.queries, n = r / z.queries % z.heads, b = r / z.queries / z.heads;
    const int64_t at = ((b * z.queries + q) * z.heads + n) * z.e;
    float sum = 0;
    for (int64_t i = threadIdx.x % 32; i < z.e; i += 32)
      sum += float(widened(y[at + i])) * float(widened(dy[at + i]));
    for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, by);
    if (threadIdx.x % 32 == 0) d[r] = sum;
  }
}

template <class T>
struct Backward {
  const float *stats, *d;
  const T* dy;
};
// p and ds of a query and a key, from the dot products of both.
struct Slopes {
  float p, ds;
};
template <class T>
__device__ Slopes slopes(const Shape& z, const Operands<T>& o, const Backward<T>& g, float dot,
                         float dp, int64_t b, int64_t n, int64_t q, int64_t s) {
  if (q >= z.queries || s >= z.keys) return {0, 0};
  const int64_t at = (b * z.heads + n) * z.queries + q;
  const float v = attention_score(z, o, dot, b, n, q, s);
  const float p = expf(v - g.stats[2 * at]) * g.stats[2 * at + 1];
  return {p, v == kMasked ? 0.0f : p * (dp - g.d[at]) * z.scale};
}

// A block for (query tile, head, batch).
template <class T, int kPieces>
__global__ void __launch_bounds__(kThreads)
    attend_grad_query(T* dq, const Operands<T> o, const Backward<T> g, const Shape z) {
  __shared__ Shared m;
  const int64_t tiles = (z.queries + kTile - 1) / kTile, u = blockIdx.x;
  const int64_t q0 = (tiles - 1 - u % tiles) * kTile, n = u / tiles % z.heads,
                b = u / tiles / z.heads;
  const Rows<T> q = rows_of(o.q, z.queries, z.heads, z.h, b, n, q0);
  const Rows<T> dy = rows_of(g.dy, z.queries, z.heads, z.e, b, n, q0);
  float acc[kEdge][kEdge * kPieces] = {};
  // no gradient reaches scores that are masked, so the causal order is the end for all
  for (int64_t s0 = 0; s0 < z.keys && !(z.causal && s0 >= q0 + kTile); s0 += kTile) {
    const Rows<T> k = rows_of(o.k, z.keys, z.key_heads, z.h, b, n / z.group, s0);
    float s[kEdge][kEdge], dp[kEdge][kEdge];
    multiply_rows(m, q, k, s);
    multiply_rows(m, dy, rows_of(o.v, z.keys, z.key_heads, z.e, b, n / z.group, s0), dp);
    for (int i = 0; i < kEdge; ++i)
      for (int j = 0; j < kEdge; ++j)
        s[i][j] =
            slopes(z, o, g, s[i][j], dp[i][j], b, n, q0 + tile_y() + 16 * i, s0 + tile_x() + 16 * j)
                .ds;
    share_scores(m, s);
    multiply_scores<kPieces>(m, k, acc);
  }
  write_rows(dq + ((b * z.queries + q0) * z.heads + n) * z.h, z.heads * z.h, q.count, z.h, acc);
}

// A block for (key tile, key head, batch); rows of scores are keys here.
template <class T, int kPieces>
__global__ void __launch_bounds__(kThreads)
    attend_grad_key(T* dk, T* dv, const Operands<T> o, const Backward<T> g, const Shape z) {
  __shared__ Shared m;
  __shared__ int blind;
  const int64_t tiles = (z.keys + kTile - 1) / kTile, u = blockIdx.x;
  const int64_t s0 = u % tiles * kTile, kv = u / tiles % z.key_heads, b = u / tiles / z.key_heads;
  const Rows<T> k = rows_of(o.k, z.keys, z.key_heads, z.h, b, kv, s0);
  const Rows<T> v = rows_of(o.v, z.keys, z.key_heads, z.e, b, kv, s0);
  float to_k[kEdge][kEdge * kPieces] = {}, to_v[kEdge][kEdge * kPieces] = {};
  for (int64_t n = kv * z.group; n < (kv + 1) * z.group; ++n) {
    for (int64_t q0 = 0; q0 < z.queries; q0 += kTile) {
      if (z.causal && s0 >= q0 + kTile) {
        if (!o.mask) continue;
        if (threadIdx.x == 0) blind = 0;
        __syncthreads();
        const int64_t row = q0 + threadIdx.x;
        if (threadIdx.x < kTile && row < z.queries &&
            g.stats[((b * z.heads + n) * z.queries + row) * 2] <= kMasked)
          blind = 1;
        __syncthreads();
        const bool none = !blind;
        __syncthreads();
        if (none) continue;
      }
      const Rows<T> q = rows_of(o.q, z.queries, z.heads, z.h, b, n, q0);
      const Rows<T> dy = rows_of(g.dy, z.queries, z.heads, z.e, b, n, q0);
      float s[kEdge][kEdge], dp[kEdge][kEdge];
      multiply_rows(m, k, q, s);
      multiply_rows(m, v, dy, dp);
      for (int i = 0; i < kEdge; ++i)
        for (int j = 0; j < kEdge; ++j) {
          const Slopes x = slopes(z, o, g, s[i][j], dp[i][j], b, n, q0 + tile_x() + 16 * j,
                                  s0 + tile_y() + 16 * i);
          s[i][j] = x.p;
          dp[i][j] = x.ds;
        }
      share_scores(m, s);
      multiply_scores<kPieces>(m, dy, to_v);
      share_scores(m, dp);
      multiply_scores<kPieces>(m, q, to_k);
    }
  }
  const int64_t row = (b * z.keys + s0) * z.key_heads + kv;
  write_rows(dk + row * z.h, z.key_heads * z.h, k.count, z.h, to_k);
  write_rows(dv + row * z.e, z.key_heads * z.e, k.count, z.e, to_v);
}

// ---------------------------------------------------------------------- the ops

struct AttentionShape {
  Shape z;
  DType dtype;
  int bias = -1, mask = -1;  // inputs
  AttentionShape(const Prepare& p, int first, int last) : dtype(p.inputs[0].dtype) {
    const TensorSpec &q = p.inputs[0], &k = p.inputs[1], &v = p.inputs[2];
    z.batch = q.shape[0], z.queries = q.shape[1], z.heads = q.shape[2], z.h = q.shape[3];
    z.keys = k.shape[1], z.key_heads = k.shape[2], z.e = v.shape[3];
    if (k.shape[0] != z.batch || v.shape[0] != z.batch || v.shape[1] != z.keys ||
        v.shape[2] != z.key_heads || k.shape[3] != z.h || z.key_heads < 1 ||
        z.heads % z.key_heads || k.dtype != dtype || v.dtype != dtype)
      fail("query, key and value that fit together");
    if (!(z.batch && z.queries && z.keys && z.h && z.e)) fail("no empty operands");
    z.group = z.heads / z.key_heads;
    z.scale = float(attr_float(*p.attrs, "scale"));
    z.causal = attr_int(*p.attrs, "causal") != 0;
    for (int i = first; i < last; ++i) {
      const TensorSpec& x = p.inputs[i];
      const bool is_mask = x.dtype == DType::Bool;
      if (!is_mask && x.dtype != dtype) fail("a bias of the query's dtype, a boolean mask");
      if (x.rank != 4) fail("bias and mask of rank 4");
      AttentionExtra& extra = is_mask ? z.mask : z.bias;
      const int64_t full[] = {z.batch, z.heads, z.queries, z.keys};
      int64_t* strides[] = {&extra.batch, &extra.head, &extra.query, &extra.key};
      int64_t stride = 1;
      for (int d = 3; d >= 0; --d) {
        if (x.shape[d] != 1 && x.shape[d] != full[d]) fail("bias and mask that can be broadcast");
        *strides[d] = x.shape[d] == 1 ? 0 : stride;
        stride *= x.shape[d];
      }
      (is_mask ? mask : bias) = i;
    }
  }
  static bool supports(const Prepare& p) {
    for (int i = 0; i < 3; ++i)
      if (p.inputs[i].rank == 4 && p.inputs[i].shape[3] > 2 * kTile) return false;
    return true;
  }
  template <class T>
  Operands<T> operands(const Call& c) const {
    const auto in = [&](int i) { return i < 0 ? nullptr : static_cast<const T*>(c.inputs[i]); };
    return {in(0), in(1), in(2), in(bias),
            mask < 0 ? nullptr : static_cast<const uint8_t*>(c.inputs[mask])};
  }
  // f.operator()<type, pieces of kTile features>()
  template <class F>
  void with(const F& f) const {
    const int64_t width = z.h > z.e ? z.h : z.e;
    with_float_type(dtype, [&]<class T>() {
      if constexpr (!std::is_same_v<T, double>) {
        if constexpr (sizeof(T) == 4)
          if (width <= kTile) return f.template operator()<T, 1>();
        f.template operator()<T, 2>();  // of 16 bits: what tensor cores do not take
      }
    });
  }
  static dim3 blocks(int64_t rows, int64_t heads, int64_t batch) {
    const int64_t n = (rows + kTile - 1) / kTile * heads * batch;
    if (n > kMaxBlocks) fail("too many tiles: %lld", (long long)n);
    return dim3(unsigned(n));
  }
};
constexpr uint32_t kTypes = kF16 | kBF16 | kF32;

// inputs: query, key, value, bias?, mask?; outputs: y, (m, 1 / l).
struct Attention : AttentionShape {
  explicit Attention(Prepare& p) : AttentionShape(p, 3, p.num_inputs) {}
  void run(const Call& c) const {
    with([&]<class T, int kPieces>() {
      T* y = static_cast<T*>(c.outputs[0]);
      float* stats = static_cast<float*>(c.outputs[1]);
      if constexpr (sizeof(T) == 2)
        if (attend_on_tensor_cores(z, operands<T>(c), y, stats, c.stream)) return;
      launch(blocks(z.queries, z.heads, z.batch), dim3(kThreads), c.stream, attend<T, kPieces>, y,
             stats, operands<T>(c), z);
    });
  }
};
HB_CUDA_KERNEL_IF(attention, Attention, kTypes, 0u, Attention::supports)

// inputs: query, key, value, bias?, mask?, y, (m, 1 / l), dy; outputs: dQ, dK, dV.
struct AttentionGrad : AttentionShape {
  int at_y;
  explicit AttentionGrad(Prepare& p)
      : AttentionShape(p, 3, p.num_inputs - 3), at_y(p.num_inputs - 3) {
    p.scratch_bytes = size_t(z.batch * z.heads * z.queries) * sizeof(float);
  }
  void run(const Call& c) const {
    with([&]<class T, int kPieces>() {
      const T *y = static_cast<const T*>(c.inputs[at_y]),
              *dy = static_cast<const T*>(c.inputs[at_y + 2]);
      float* d = static_cast<float*>(c.scratch);
      launch(blocks_for(z.batch * z.heads * z.queries, kThreads / 32), dim3(kThreads), c.stream,
             dot_rows<T>, d, y, dy, z);
      const Backward<T> g{static_cast<const float*>(c.inputs[at_y + 1]), d, dy};
      if constexpr (sizeof(T) == 2)
        if (attend_back_on_tensor_cores(
                z, operands<T>(c), g.stats, d, dy, static_cast<T*>(c.outputs[0]),
                static_cast<T*>(c.outputs[1]), static_cast<T*>(c.outputs[2]), c.stream))
          return;
      launch(blocks(z.queries, z.heads, z.batch), dim3(kThreads), c.stream,
             attend_grad_query<T, kPieces>, static_cast<T*>(c.outputs[0]), operands<T>(c), g, z);
      launch(blocks(z.keys, z.key_heads, z.batch), dim3(kThreads), c.stream,
             attend_grad_key<T, kPieces>, static_cast<T*>(c.outputs[1]),
             static_cast<T*>(c.outputs[2]), operands<T>(c), g, z);
    });
  }
};
HB_CUDA_KERNEL_IF(attention_grad, AttentionGrad, kTypes, 0u, AttentionGrad::supports)

}  // namespace
}  // namespace hb::cuda
