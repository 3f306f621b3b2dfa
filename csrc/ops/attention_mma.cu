// Attention on tensor cores, for float16 and bfloat16: the kernels of attention.cu with mma.sync.
//
// A block of four warps has 64 rows (queries; in the gradient of keys and values: keys), a warp 16
// of them, and goes through the other side in tiles that cp.async brings to shared memory. Scores
// stay in registers, in the layout in which the instruction leaves them; rounded to 16 bits it is
// the layout of the left operand of the next product. Rows in shared memory are 16 bytes longer
// than their features, so that the eight rows of an ldmatrix lie in different banks.
//
// Forward: the values of a tile arrive while its scores are computed, the keys of the next one
// during softmax and the second product. Sums are float32.
#include "cuda/mma.cuh"
#include "ops/attention.cuh"

namespace hb::cuda {
namespace {

constexpr int kWarps = 4, kBlockThreads = 32 * kWarps;
constexpr int kRows = 16 * kWarps;  // of a block
constexpr float kLog2e = 1.44269504f;

template <int kD>
constexpr int kLine = kD + 8;  // elements of a row in shared memory

// Rows [0, rows) of a matrix, zeros where it ends.
template <int kD, class T>
__device__ void fetch(T* to, const T* from, int64_t stride, int64_t count, int64_t width,
                      int rows) {
  constexpr int kPieces = kD / 8;
  for (int i = threadIdx.x; i < rows * kPieces; i += kBlockThreads) {
    const int r = i / kPieces, c = i % kPieces * 8;
    const bool there = r < count && c < width;
    copy_async<16>(to + r * kLine<kD> + c, there ? from + r * stride + c : from, there ? 16 : 0);
  }
}

// s[j] [16 x 8] = a b^T: rows of a, 8 rows of b from 8 j on.
template <int kD, int kColumns, class T>
__device__ void multiply_rows(float (&s)[kColumns / 8][4], const T* a, const T* b) {
  const int lane = threadIdx.x % 32;
  HB_UNROLL
  for (int j = 0; j < kColumns / 8; ++j)
    for (int i = 0; i < 4; ++i) s[j][i] = 0;
  HB_UNROLL
  for (int k = 0; k < kD; k += 16) {
    uint32_t x[4];
    load_matrices<false>(x, a + lane % 16 * kLine<kD> + k + lane / 16 * 8);
    HB_UNROLL
    for (int j = 0; j < kColumns; j += 16) {
      uint32_t y[4];
      load_matrices<false>(y,
                           b + (j + lane % 8 + lane / 16 * 8) * kLine<kD> + k + lane / 8 % 2 * 8);
      mma(T(), s[j / 8], x, y);
      mma(T(), s[j / 8 + 1], x, y + 2);
    }
  }
}
template <class T>
__device__ __forceinline__ uint32_t pair_of(float low, float high) {
  return narrowed<T>(low).bits | uint32_t(narrowed<T>(high).bits) << 16;
}
// acc [16 x kD] += p b, where b has kColumns rows.
template <int kD, int kColumns, class T>
__device__ void multiply_scores(float (&acc)[kD / 8][4], const float (&p)[kColumns / 8][4],
                                const T* b) {
  const int lane = threadIdx.x % 32;
  HB_UNROLL
  for (int k = 0; k < kColumns; k += 16) {
    const float (&low)[4] = p[k / 8], (&high)[4] = p[k / 8 + 1];
    const uint32_t x[4] = {pair_of<T>(low[0], low[1]), pair_of<T>(low[2], low[3]),
                           pair_of<T>(high[0], high[1]), pair_of<T>(high[2], high[3])};
    HB_UNROLL
    for (int j = 0; j < kD; j += 16) {
      uint32_t y[4];
      load_matrices<true>(y, b + (k + lane % 16) * kLine<kD> + j + lane / 16 * 8);
      mma(T(), acc[j / 8], x, y);
      mma(T(), acc[j / 8 + 1], x, y + 2);
    }
  }
}
// Rows g and g + 8 of the warp's, from row 0 of the block; factor[i] for each.
template <int kD, class T>
__device__ void write_rows(T* y, int64_t stride, int64_t count, int64_t width,
                           const float (&acc)[kD / 8][4], float low, float high) {
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
  HB_UNROLL
  for (int j = 0; j < kD / 8; ++j) {
    const int c = 8 * j + lane % 4 * 2;
    if (c >= width) continue;
    if (row < count)
      *reinterpret_cast<uint32_t*>(y + row * stride + c) =
          pair_of<T>(acc[j][0] * low, acc[j][1] * low);
    if (row + 8 < count)
      *reinterpret_cast<uint32_t*>(y + (row + 8) * stride + c) =
          pair_of<T>(acc[j][2] * high, acc[j][3] * high);
  }
}
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// Where the rows of a tensor [batch, length, heads, width] of a batch and head begin, from `first`.
template <class T>
__device__ T* row_at(T* p, int64_t length, int64_t heads, int64_t width, int64_t b, int64_t n,
                     int64_t first) {
  return p + ((b * length + first) * heads + n) * width;
}

template <class T, int kD>
__global__ void __launch_bounds__(kBlockThreads)
    attend(T* y, float* stats, const AttentionOperands<T> o, const AttentionSizes z) {
  constexpr int kKeys = 64;
  HB_DYNAMIC_SHARED(memory);
  T *q = reinterpret_cast<T*>(memory), *k = q + kRows * kLine<kD>, *v = k + kKeys * kLine<kD>;
  __shared__ int blind;  // some query has seen no key yet
  const int64_t tiles = (z.queries + kRows - 1) / kRows, u = blockIdx.x;
  const int64_t q0 = (tiles - 1 - u % tiles) * kRows, n = u / tiles % z.heads,
                b = u / tiles / z.heads, kv = n / z.group;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const auto fetch_side = [&](T* to, const T* p, int64_t width, int64_t s) {
    fetch<kD>(to, row_at(p, z.keys, z.key_heads, width, b, kv, s), z.key_heads * width, z.keys - s,
              width, kKeys);
  };
  fetch<kD>(q, row_at(o.q, z.queries, z.heads, z.h, b, n, q0), z.heads * z.h, z.queries - q0, z.h,
            kRows);
  fetch_side(k, o.k, z.h, 0);
  copy_commit();
  const int64_t row[2] = {q0 + warp * 16 + lane / 4, q0 + warp * 16 + lane / 4 + 8};
  float top[2] = {kLowestScore, kLowestScore}, total[2] = {0, 0}, acc[kD / 8][4] = {};
  int64_t end = z.causal && q0 + kRows < z.keys ? q0 + kRows : z.keys;
  for (int64_t s0 = 0; s0 < end; s0 += kKeys) {
    copy_wait<0>();
    __syncthreads();
    fetch_side(v, o.v, z.e, s0);
    copy_commit();
    float s[kKeys / 8][4];
    multiply_rows<kD, kKeys>(s, q + warp * 16 * kLine<kD>, k);
    copy_wait<0>();
    __syncthreads();
    if (s0 + kKeys < end) fetch_side(k, o.k, z.h, s0 + kKeys);
    copy_commit();
    const bool plain =
        !o.bias && !o.mask && s0 + kKeys <= z.keys && (!z.causal || s0 + kKeys - 1 <= q0);
    float most[2] = {kLowestScore, kLowestScore};
    HB_UNROLL
    for (int j = 0; j < kKeys / 8; ++j) HB_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int64_t key = s0 + 8 * j + lane % 4 * 2 + i % 2;
      if (plain)
        s[j][i] *= z.scale;
      else
        s[j][i] = row[i / 2] < z.queries && key < z.keys
                      ? attention_score(z, o, s[j][i], b, n, row[i / 2], key)
                      : -HUGE_VALF;
      most[i / 2] = fmaxf(most[i / 2], s[j][i]);  // a NaN is lost here, but not in the sum
    }
    float factor[2], sum[2] = {0, 0};
    for (int i = 0; i < 2; ++i) {
      most[i] = fmaxf(top[i], quad_max(most[i]));
      factor[i] = exp2f((top[i] - most[i]) * kLog2e);
      top[i] = most[i];
    }
    HB_UNROLL
    for (int j = 0; j < kKeys / 8; ++j) HB_UNROLL
    for (int i = 0; i < 4; ++i) {
      s[j][i] = exp2f((s[j][i] - top[i / 2]) * kLog2e);
      sum[i / 2] += s[j][i];
    }
    for (int i = 0; i < 2; ++i) total[i] = total[i] * factor[i] + quad_sum(sum[i]);
    HB_UNROLL
    for (int j = 0; j < kD / 8; ++j) HB_UNROLL
    for (int i = 0; i < 4; ++i) acc[j][i] *= factor[i / 2];
    multiply_scores<kD, kKeys>(acc, s, v);
    if (s0 + kKeys >= end && end < z.keys && o.mask) {  // those that see nothing see all alike
      __syncthreads();
      if (threadIdx.x == 0) blind = 0;
      __syncthreads();
      for (int i = 0; i < 2; ++i)
        if (top[i] <= kMaskedScore && row[i] < z.queries) blind = 1;
      __syncthreads();
      if (blind) {
        end = z.keys;
        fetch_side(k, o.k, z.h, s0 + kKeys);
        copy_commit();
      }
    }
  }
  const float inverse[2] = {1 / total[0], 1 / total[1]};
  for (int i = 0; i < 2; ++i)
    if (lane % 4 == 0 && row[i] < z.queries) {
      float* to = stats + ((b * z.heads + n) * z.queries + row[i]) * 2;
      to[0] = top[i];
      to[1] = inverse[i];
    }
  write_rows<kD>(row_at(y, z.queries, z.heads, z.e, b, n, q0), z.heads * z.e, z.queries - q0, z.e,
                 acc, inverse[0], inverse[1]);
}

// p and ds in place of the dot products with keys and values.
template <class T>
__device__ __forceinline__ void to_slopes(float& s, float& dp, const AttentionSizes& z,
                                          const AttentionOperands<T>& o, float m, float inverse,
                                          float d, int64_t b, int64_t n, int64_t q, int64_t key) {
  if (q >= z.queries || key >= z.keys) {
    s = dp = 0;
    return;
  }
  const float v = attention_score(z, o, s, b, n, q, key);
  s = exp2f((v - m) * kLog2e) * inverse;
  dp = v == kMaskedScore ? 0.0f : s * (dp - d) * z.scale;
}

template <class T, int kD>
__global__ void __launch_bounds__(kBlockThreads)
    attend_back_query(T* dq, const AttentionOperands<T> o, const float* stats, const float* d,
                      const T* gradient, const AttentionSizes z) {
  constexpr int kKeys = kD > 64 ? 32 : 64;
  HB_DYNAMIC_SHARED(memory);
  T *q = reinterpret_cast<T*>(memory), *dy = q + kRows * kLine<kD>;
  T *k = dy + kRows * kLine<kD>, *v = k + kKeys * kLine<kD>;
  const int64_t tiles = (z.queries + kRows - 1) / kRows, u = blockIdx.x;
  const int64_t q0 = (tiles - 1 - u % tiles) * kRows, n = u / tiles % z.heads,
                b = u / tiles / z.heads, kv = n / z.group;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  fetch<kD>(q, row_at(o.q, z.queries, z.heads, z.h, b, n, q0), z.heads * z.h, z.queries - q0, z.h,
            kRows);
  fetch<kD>(dy, row_at(gradient, z.queries, z.heads, z.e, b, n, q0), z.heads * z.e, z.queries - q0,
            z.e, kRows);
  int64_t row[2];
  float m[2], inverse[2], dot[2];
  for (int i = 0; i < 2; ++i) {
    row[i] = q0 + warp * 16 + lane / 4 + 8 * i;
    const bool there = row[i] < z.queries;
    const int64_t at = (b * z.heads + n) * z.queries + (there ? row[i] : 0);
    m[i] = stats[2 * at];
    inverse[i] = stats[2 * at + 1];
    dot[i] = d[at];
  }
  float acc[kD / 8][4] = {};
  // no gradient reaches scores that are masked, so the causal order is the end for all
  for (int64_t s0 = 0; s0 < z.keys && !(z.causal && s0 >= q0 + kRows); s0 += kKeys) {
    __syncthreads();
    fetch<kD>(k, row_at(o.k, z.keys, z.key_heads, z.h, b, kv, s0), z.key_heads * z.h, z.keys - s0,
              z.h, kKeys);
    fetch<kD>(v, row_at(o.v, z.keys, z.key_heads, z.e, b, kv, s0), z.key_heads * z.e, z.keys - s0,
              z.e, kKeys);
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    float s[kKeys / 8][4], dp[kKeys / 8][4];
    multiply_rows<kD, kKeys>(s, q + warp * 16 * kLine<kD>, k);
    multiply_rows<kD, kKeys>(dp, dy + warp * 16 * kLine<kD>, v);
    HB_UNROLL
    for (int j = 0; j < kKeys / 8; ++j) HB_UNROLL
    for (int i = 0; i < 4; ++i)
      to_slopes(s[j][i], dp[j][i], z, o, m[i / 2], inverse[i / 2], dot[i / 2], b, n, row[i / 2],
                s0 + 8 * j + lane % 4 * 2 + i % 2);
    multiply_scores<kD, kKeys>(acc, dp, k);
  }
  write_rows<kD>(row_at(dq, z.queries, z.heads, z.h, b, n, q0), z.heads * z.h, z.queries - q0, z.h,
                 acc, 1.0f, 1.0f);
}

template <class T, int kD>
__global__ void __launch_bounds__(kBlockThreads)
    attend_back_key(T* dk, T* dv, const AttentionOperands<T> o, const float* stats, const float* d,
                    const T* gradient, const AttentionSizes z) {
  constexpr int kQueries = kD > 64 ? 32 : 64;
  HB_DYNAMIC_SHARED(memory);
  T *k = reinterpret_cast<T*>(memory), *v = k + kRows * kLine<kD>;
  T *q = v + kRows * kLine<kD>, *dy = q + kQueries * kLine<kD>;
  __shared__ float m[kQueries], inverse[kQueries], dot[kQueries];
  __shared__ int blind;
  const int64_t tiles = (z.keys + kRows - 1) / kRows, u = blockIdx.x;
  const int64_t s0 = u % tiles * kRows, kv = u / tiles % z.key_heads, b = u / tiles / z.key_heads;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  fetch<kD>(k, row_at(o.k, z.keys, z.key_heads, z.h, b, kv, s0), z.key_heads * z.h, z.keys - s0,
            z.h, kRows);
  fetch<kD>(v, row_at(o.v, z.keys, z.key_heads, z.e, b, kv, s0), z.key_heads * z.e, z.keys - s0,
            z.e, kRows);
  float to_k[kD / 8][4] = {}, to_v[kD / 8][4] = {};
  for (int64_t n = kv * z.group; n < (kv + 1) * z.group; ++n) {
    for (int64_t q0 = 0; q0 < z.queries; q0 += kQueries) {
      const bool hidden = z.causal && s0 >= q0 + kQueries;
      if (hidden && !o.mask) continue;
      __syncthreads();
      if (threadIdx.x == 0) blind = 0;
      __syncthreads();
      if (threadIdx.x < kQueries) {
        const bool there = q0 + threadIdx.x < z.queries;
        const int64_t at = (b * z.heads + n) * z.queries + (there ? q0 + threadIdx.x : 0);
        m[threadIdx.x] = stats[2 * at];
        inverse[threadIdx.x] = stats[2 * at + 1];
        dot[threadIdx.x] = d[at];
        if (there && stats[2 * at] <= kMaskedScore) blind = 1;
      }
      __syncthreads();
      if (hidden && !blind) continue;
      fetch<kD>(q, row_at(o.q, z.queries, z.heads, z.h, b, n, q0), z.heads * z.h, z.queries - q0,
                z.h, kQueries);
      fetch<kD>(dy, row_at(gradient, z.queries, z.heads, z.e, b, n, q0), z.heads * z.e,
                z.queries - q0, z.e, kQueries);
      copy_commit();
      copy_wait<0>();
      __syncthreads();
      float s[kQueries / 8][4], dp[kQueries / 8][4];
      multiply_rows<kD, kQueries>(s, k + warp * 16 * kLine<kD>, q);
      multiply_rows<kD, kQueries>(dp, v + warp * 16 * kLine<kD>, dy);
      HB_UNROLL
      for (int j = 0; j < kQueries / 8; ++j) HB_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int c = 8 * j + lane % 4 * 2 + i % 2;
        to_slopes(s[j][i], dp[j][i], z, o, m[c], inverse[c], dot[c], b, n, q0 + c,
                  s0 + warp * 16 + lane / 4 + i / 2 * 8);
      }
      multiply_scores<kD, kQueries>(to_v, s, dy);
      multiply_scores<kD, kQueries>(to_k, dp, q);
    }
  }
  write_rows<kD>(row_at(dk, z.keys, z.key_heads, z.h, b, kv, s0), z.key_heads * z.h, z.keys - s0,
                 z.h, to_k, 1.0f, 1.0f);
  write_rows<kD>(row_at(dv, z.keys, z.key_heads, z.e, b, kv, s0), z.key_heads * z.e, z.keys - s0,
                 z.e, to_v, 1.0f, 1.0f);
}

template <class... P>
bool aligned(const P*... p) {
  return ((uintptr_t(p) % 16 == 0) && ...);
}
dim3 blocks(int64_t rows, int64_t heads, int64_t batch) {
  const int64_t n = (rows + kRows - 1) / kRows * heads * batch;
  if (n > kMaxBlocks) fail("too many tiles: %lld", (long long)n);
  return dim3(unsigned(n));
}
// f.operator()<features in shared memory>()
template <class F>
bool with_features(const AttentionSizes& z, const F& f) {
  const int64_t width = z.h > z.e ? z.h : z.e;
  if (z.h % 8 != 0 || z.e % 8 != 0 || width > 128) return false;
  if (width <= 64)
    f.template operator()<64>();
  else
    f.template operator()<128>();
  return true;
}

}  // namespace

template <class T>
bool attend_on_tensor_cores(const AttentionSizes& z, const AttentionOperands<T>& o, T* y,
                            float* stats, void* stream) {
  if (!aligned(o.q, o.k, o.v, y)) return false;
  return with_features(z, [&]<int kD>() {
    launch_shared(blocks(z.queries, z.heads, z.batch), dim3(kBlockThreads),
                  size_t(kRows + 128) * kLine<kD> * sizeof(T), stream, attend<T, kD>, y, stats, o,
                  z);
  });
}
template <class T>
bool attend_back_on_tensor_cores(const AttentionSizes& z, const AttentionOperands<T>& o,
                                 const float* stats, const float* d, const T* dy, T* dq, T* dk,
                                 T* dv, void* stream) {
  if (!aligned(o.q, o.k, o.v, dy, dq, dk, dv)) return false;
  return with_features(z, [&]<int kD>() {
    const size_t shared = size_t(2 * kRows + 2 * (kD > 64 ? 32 : 64)) * kLine<kD> * sizeof(T);
    launch_shared(blocks(z.queries, z.heads, z.batch), dim3(kBlockThreads), shared, stream,
                  attend_back_query<T, kD>, dq, o, stats, d, dy, z);
    launch_shared(blocks(z.keys, z.key_heads, z.batch), dim3(kBlockThreads), shared, stream,
                  attend_back_key<T, kD>, dk, dv, o, stats, d, dy, z);
  });
}

#define HB_ATTENTION(T)                                                                         \
  template bool attend_on_tensor_cores(const AttentionSizes&, const AttentionOperands<T>&, T*,  \
                                       float*, void*);                                          \
  template bool attend_back_on_tensor_cores(const AttentionSizes&, const AttentionOperands<T>&, \
                                            const float*, const float*, const T*, T*, T*, T*,   \
                                            void*);
HB_ATTENTION(Half)
HB_ATTENTION(BHalf)

}  // namespace hb::cuda
