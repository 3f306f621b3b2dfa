// The kernel of products on tensor cores (gemm_mma.cuh), for sm_80 on.
//
// A block makes a tile of 128 x 128 (8 warps) or 64 x 64 (4 warps), a warp 64 x 32 or 32 x 32 of
// it. 64 bytes of k of both operands are a stage; four stages are under way (cp.async), one barrier
// each. In shared memory a line of an operand has its 16-byte chunks exchanged (`place`) so that
// ldmatrix, and single loads for operands that are not by k, meet every bank once.
//
// float32 as parts: x = h + m + l in bfloat16, exactly (24 bits; 2 parts: 16 bits). Six products
// (three) of parts are kept, the small ones first; what is left out is below 2^-24 of the product.
// Tensor cores round sums toward zero, so every 16 values of k start a sum of their own, which is
// added to the tile's by an ordinary addition. A tile with a sum that is not finite (infinities
// have no parts) is computed again by multiply-adds. Numbers below 2^-109 lose bits of their parts.
#pragma once
#include "cuda/mma.cuh"
#include "ops/gemm_mma.cuh"

namespace hb::cuda {

constexpr int kMmaStages = 4, kMmaLine = 64;  // bytes of k of a stage

// Where number (row, k) of a stage lies, in bytes; row: of m or n.
template <int kItem, int kRows, bool kByK>
__device__ __forceinline__ int place(int row, int k) {
  if constexpr (kByK) {
    const int byte = k * kItem, mix = kItem == 8 ? row & 2 : row >> 1 & 3;
    return row * kMmaLine + ((byte >> 4 ^ mix) << 4) + (byte & 15);
  } else {
    const int byte = row * kItem;
    const int mix = kItem == 2                 ? k & 7
                    : kItem > 2                ? (k & 3) << 1
                    : kRows * kItem % 128 == 0 ? (k & 1) | (k >> 1 & 6)
                                               : k >> 2 & 3;
    return k * (kRows * kItem) + ((byte >> 4 ^ mix) << 4) + (byte & 15);
  }
}

// Fragments of 16 rows for 16 (16 bits) or 8 (32 bits) values of k from (row, k) on, in the order
// of mma's registers of a; for b: {0, 2} of the first 8 columns, {1, 3} of the second.
template <class T, int kRows, bool kByK>
__device__ __forceinline__ void load_fragment(uint32_t* r, const unsigned char* tile, int row,
                                              int k) {
  constexpr int kItem = sizeof(T), kChunk = 16 / kItem;
  const int lane = threadIdx.x % 32, j = lane / 8, l = lane % 8;
  if constexpr (kByK) {
    load_matrices<false>(
        r, tile + place<kItem, kRows, true>(row + (j & 1) * 8 + l, k + (j >> 1) * kChunk));
  } else if constexpr (kItem == 2) {
    load_matrices<true>(r,
                        tile + place<kItem, kRows, false>(row + (j & 1) * 8, k + (j >> 1) * 8 + l));
  } else {
    for (int i = 0; i < 4; ++i)
      r[i] = *reinterpret_cast<const uint32_t*>(
          tile +
          place<kItem, kRows, false>(row + (i & 1) * 8 + lane / 4, k + (i >> 1) * 4 + lane % 4));
  }
}

// An engine: kStep values of k at a time, Fragment of 16 rows for them, and
// sums[2][4] (two tiles of 16 x 8, side by side) += a b.
template <class T>
struct HalfEngine {
  typedef T Stored, Out;
  typedef float Sum;
  static constexpr int kStep = 16;
  static constexpr bool kCheckFinite = false, kTwoBlocks = true;
  struct Fragment {
    uint32_t r[4];
  };
  template <int kRows, bool kByK>
  static __device__ __forceinline__ Fragment load(const unsigned char* tile, int row, int k) {
    Fragment f;
    load_fragment<T, kRows, kByK>(f.r, tile, row, k);
    return f;
  }
  static __device__ __forceinline__ void multiply(float (*sums)[4], const Fragment& a,
                                                  const Fragment& b) {
    for (int n = 0; n < 2; ++n) {
      const uint32_t y[2] = {b.r[n], b.r[n + 2]};
      mma(T(), sums[n], a.r, y);
    }
  }
};

struct Tf32Engine {
  typedef float Stored, Out;
  typedef float Sum;
  static constexpr int kStep = 8;
  static constexpr bool kCheckFinite = false, kTwoBlocks = false;
  typedef HalfEngine<Half>::Fragment Fragment;
  template <int kRows, bool kByK>
  static __device__ __forceinline__ Fragment load(const unsigned char* tile, int row, int k) {
    Fragment f;
    load_fragment<float, kRows, kByK>(f.r, tile, row, k);
    for (int i = 0; i < 4; ++i) f.r[i] = to_tf32(f.r[i]);
    return f;
  }
  static __device__ __forceinline__ void multiply(float (*sums)[4], const Fragment& a,
                                                  const Fragment& b) {
    for (int n = 0; n < 2; ++n) {
      const uint32_t y[2] = {b.r[n], b.r[n + 2]};
      mma(0.0f, sums[n], a.r, y);
    }
  }
};

template <int kParts>
struct PartsEngine {
  typedef float Stored, Out;
  typedef float Sum;
  static constexpr int kStep = 16;
  static constexpr bool kCheckFinite = true, kTwoBlocks = false;
  struct Fragment {
    uint32_t r[kParts][4];  // largest part first
  };
  // The order of k within a step is that of the loads, for both operands alike.
  template <int kRows, bool kByK>
  static __device__ __forceinline__ Fragment load(const unsigned char* tile, int row, int k) {
    Fragment f;
    for (int half = 0; half < 2; ++half) {
      uint32_t x[4];
      load_fragment<float, kRows, kByK>(x, tile, row, k + half * 8);
      for (int i = 0; i < 2; ++i) {
        float low = bits_to_float(x[i]), high = bits_to_float(x[i + 2]);
        for (int p = 0; p < kParts; ++p) {
          const uint32_t pair = to_bf16_pair(low, high);
          f.r[p][half * 2 + i] = pair;
          low -= bits_to_float(pair << 16);
          high -= bits_to_float(pair & 0xffff0000u);
        }
      }
    }
    return f;
  }
  static __device__ __forceinline__ void multiply(float (*sums)[4], const Fragment& a,
                                                  const Fragment& b) {
    float part[2][4] = {};
    for (int rank = kParts - 1; rank >= 0; --rank)  // of smallness
      for (int p = 0; p <= rank; ++p)
        for (int n = 0; n < 2; ++n) {
          const uint32_t y[2] = {b.r[rank - p][n], b.r[rank - p][n + 2]};
          mma(BHalf(), part[n], a.r[p], y);
        }
    for (int n = 0; n < 2; ++n)
      for (int i = 0; i < 4; ++i) sums[n][i] += part[n][i];
  }
};

struct DoubleEngine {
  typedef double Stored, Out;
  typedef double Sum;
  static constexpr int kStep = 4;
  static constexpr bool kCheckFinite = false, kTwoBlocks = false;
  struct Fragment {
    double x[2];  // of rows g and g + 8
  };
  template <int kRows, bool kByK>
  static __device__ __forceinline__ Fragment load(const unsigned char* tile, int row, int k) {
    const int lane = threadIdx.x % 32;
    Fragment f;
    for (int i = 0; i < 2; ++i)
      f.x[i] = *reinterpret_cast<const double*>(
          tile + place<8, kRows, kByK>(row + i * 8 + lane / 4, k + lane % 4));
    return f;
  }
  static __device__ __forceinline__ void multiply(double (*sums)[4], const Fragment& a,
                                                  const Fragment& b) {
    for (int n = 0; n < 2; ++n)
      for (int i = 0; i < 2; ++i) mma(0.0, sums[n] + 2 * i, a.x[i], b.x[n]);
  }
};

// int8, exact in 32 bits (which wrap). What is not by k is read as pairs of 8-bit neighbours of
// four lines of k, which a permutation of bytes makes registers of mma: the first 8 rows of a
// fragment are then the even ones, the second 8 the odd ones.
struct BytesEngine {
  typedef int8_t Stored;
  typedef uint32_t Sum, Out;
  static constexpr int kStep = 32;
  static constexpr bool kCheckFinite = false, kTwoBlocks = true;
  typedef HalfEngine<Half>::Fragment Fragment;
  template <int kRows, bool kByK>
  static __device__ __forceinline__ Fragment load(const unsigned char* tile, int row, int k) {
    Fragment f;
    if constexpr (kByK) {
      load_fragment<int8_t, kRows, true>(f.r, tile, row, k);
    } else {
      const int lane = threadIdx.x % 32, j = lane / 8, l = lane % 8;
      const int line = k + (j >> 1) * 16 + l / 2 * 4 + (j & 1) * 2 + l % 2;
      uint32_t x[4];
      load_matrices<true>(x, tile + place<1, kRows, false>(row, line));
      HB_UNROLL
      for (int half = 0; half < 2; ++half) {
        f.r[half * 2] = permute_bytes(x[half * 2], x[half * 2 + 1], 0x6420);
        f.r[half * 2 + 1] = permute_bytes(x[half * 2], x[half * 2 + 1], 0x7531);
      }
    }
    return f;
  }
  static __device__ __forceinline__ void multiply(uint32_t (*sums)[4], const Fragment& a,
                                                  const Fragment& b) {
    for (int n = 0; n < 2; ++n) {
      const uint32_t y[2] = {b.r[n], b.r[n + 2]};
      mma(int8_t(), sums[n], a.r, y);
    }
  }
};

// 16 bytes of a line to shared memory; lines and numbers from the ends on are zeros.
template <class T, int kWidth>
__device__ __forceinline__ void copy_parts(unsigned char* to, const Operand& o, const T* data,
                                           int line, int at, int at_end) {
  constexpr int kItem = sizeof(T), kCount = 16 / kItem;
  HB_UNROLL_NOT
  for (int i = 0; i < kCount; i += kWidth / kItem) {
    const int left = (at_end - at - i) * kItem;
    const T* from = left > 0 ? o.find<T>(data, line, at + i) : nullptr;
    copy_async<kWidth>(to + i * kItem, from ? from : data,
                       !from           ? 0
                       : left < kWidth ? left
                                       : kWidth);
  }
}
// Neighbours that cannot be copied 16 bytes at a time.
template <class T>
__device__ __forceinline__ void copy_narrow(unsigned char* to, const Operand& o, const T* data,
                                            int line, int at, int at_end) {
  constexpr int kItem = sizeof(T), kCount = 16 / kItem;
  if constexpr (kItem >= 4) {
    copy_parts<T, kItem>(to, o, data, line, at, at_end);
  } else if (o.width >= 4) {
    copy_parts<T, 4>(to, o, data, line, at, at_end);
  } else {
    HB_UNROLL_NOT
    for (int i = 0; i < kCount; ++i) {
      const T* from = at + i < at_end ? o.find<T>(data, line, at + i) : nullptr;
      reinterpret_cast<T*>(to)[i] = from ? *from : T{};
    }
  }
}
template <class T>
__device__ __forceinline__ void copy_chunk(unsigned char* to, const Operand& o, const T* data,
                                           int line, int at, int line_end, int at_end) {
  if (line >= line_end || at >= at_end)
    copy_async<16>(to, reinterpret_cast<const void*>(uintptr_t(data) & ~uintptr_t(15)), 0);
  else if (o.width == 16)
    copy_parts<T, 16>(to, o, data, line, at, at_end);
  else
    copy_narrow(to, o, data, line, at, at_end);
}

// This thread's share of a stage: two chunks.
template <class T, int kRows, int kThreads, bool kByK>
__device__ __forceinline__ void copy_stage(unsigned char* tile, const Operand& o, const T* data,
                                           int row0, int k0, int row_end, int k_end) {
  constexpr int kItem = sizeof(T), kCount = 16 / kItem;
  constexpr int kChunks = kByK ? kMmaLine / 16 : kRows / kCount;  // of a line
  static_assert(kThreads == 2 * kRows);
  const int chunk = threadIdx.x % kChunks * kCount;
  HB_UNROLL_NOT
  for (int pass = 0; pass < 2; ++pass) {
    const int line = threadIdx.x / kChunks + pass * (kThreads / kChunks);
    const int row = kByK ? line : chunk, k = kByK ? chunk : line;
    unsigned char* to = tile + place<kItem, kRows, kByK>(row, k);
    if constexpr (kByK)
      copy_chunk<T>(to, o, data, row0 + row, k0 + k, row_end, k_end);
    else
      copy_chunk<T>(to, o, data, k0 + k, row0 + row, k_end, row_end);
  }
}

template <class T>
__device__ __forceinline__ Compute<T> number_at(const Operand& o, const T* data, int row, int k) {
  const T* p = o.by_k ? o.find<T>(data, row, k) : o.find<T>(data, k, row);
  return p ? widened(*p) : Compute<T>(0);
}

// By multiply-adds, as gemm.cuh.
template <class T>
__device__ __noinline__ float plain_sum(const MmaProduct& p, const T* a, const T* b, int i, int j,
                                        int k_begin, int k_end) {
  float sum = 0;
  for (int k = k_begin; k < k_end; ++k)
    sum += number_at<T>(p.a, a, i, k) * number_at<T>(p.b, b, j, k);
  return sum;
}

__host__ __device__ __forceinline__ int smaller(int a, int b) { return a < b ? a : b; }

__device__ __forceinline__ bool is_finite(float x) { return fabsf(x) <= 3.402823466e38f; }

// Where the sum at row i and column j of a batch goes.
struct ResultPlace {
  int64_t at, column;
  __device__ __forceinline__ ResultPlace(const MmaProduct& p, int batch, int i, int j)
      : at(batch * p.out_batch + p.row(i) + j), column(batch * p.column_batch + j) {}
};
template <class T, class Sum>
__device__ __forceinline__ void store_sum(const MmaProduct& p, int batch, int z, int i, int j,
                                          Sum sum) {
  if (p.partial) {
    static_cast<Sum*>(p.partial)[(int64_t(z) * p.m + i) * p.n + j] = sum;
    return;
  }
  const ResultPlace place(p, batch, i, j);
  p.epilogue.apply<T, 1>(&sum, place.column, place.at);
  static_cast<T*>(p.out)[place.at] = narrowed<T>(sum);
}

// 16 rows of 32 sums of a warp, on their way from the registers of mma to 16 bytes of a row for
// each thread: chunks of 16 bytes are exchanged so that neither side meets a bank twice.
constexpr int kPartRows = 16, kPartColumns = 32, kPartSums = kPartRows * kPartColumns;
template <class Sum>
__device__ __forceinline__ Sum* place_in_part(Sum* part, int row, int column) {
  constexpr int kOfChunk = 16 / int(sizeof(Sum));
  const int mix = sizeof(Sum) == 8 ? (row & 1) << 2 : (row & 3) << 1;
  return part + row * kPartColumns + (column / kOfChunk ^ mix) * kOfChunk + column % kOfChunk;
}
template <class Sum>
__device__ __forceinline__ void put_pair(Sum* part, int row, int column, Sum x, Sum y) {
  *reinterpret_cast<Pack<Sum, 2>*>(place_in_part(part, row, column)) = {{x, y}};
}
// Stores parts of a warp, one below the other. The whole warp comes, before and after.
template <class T, class Sum>
__device__ __forceinline__ void store_parts(const MmaProduct& p, int batch, int z, int i0, int j0,
                                            Sum* parts, int num) {
  constexpr int kCount = kPack<T>, kOfChunk = 16 / int(sizeof(Sum));
  typedef Pack<T, kCount> Whole;
  __syncwarp();
  HB_UNROLL_NOT
  for (int e = threadIdx.x % 32 * kCount; e < num * kPartSums; e += 32 * kCount) {
    const int row = e / kPartColumns, first = e % kPartColumns, i = i0 + row, j = j0 + first;
    const int left = smaller(p.n - j, kCount);
    if (i >= p.m || left <= 0) continue;
    const ResultPlace place(p, batch, i, j);
    T* to = static_cast<T*>(p.out) + place.at;
    if (!p.partial && left == kCount && uintptr_t(to) % sizeof(Whole) == 0 &&
        p.epilogue.is_aligned<T, kCount>(place.column, place.at)) {
      Sum sums[kCount];
      HB_UNROLL
      for (int chunk = 0; chunk < kCount; chunk += kOfChunk) {
        const auto from =
            *reinterpret_cast<const Pack<Sum, kOfChunk>*>(place_in_part(parts, row, first + chunk));
        HB_UNROLL
        for (int c = 0; c < kOfChunk; ++c) sums[chunk + c] = from.x[c];
      }
      p.epilogue.apply<T, kCount>(sums, place.column, place.at);
      Whole whole;
      HB_UNROLL
      for (int c = 0; c < kCount; ++c) whole.x[c] = narrowed<T>(sums[c]);
      store_whole(to, whole);
    } else {
      HB_UNROLL_NOT
      for (int c = 0; c < left; ++c)
        store_sum<T>(p, batch, z, i, j + c, *place_in_part(parts, row, first + c));
    }
  }
  __syncwarp();
}

template <int kTile>
constexpr int kMmaShared = kMmaStages * 2 * kTile * kMmaLine;

template <class Engine, int kTile, bool kAByK, bool kBByK>
__global__ void __launch_bounds__(2 * kTile, kTile == 128 && Engine::kTwoBlocks ? 2 : 1)
    mma_tiles(const __grid_constant__ MmaProduct whole) {
  typedef typename Engine::Stored T;
  typedef typename Engine::Sum Sum;
  // Bytes that are not by k come in pairs of rows or columns (BytesEngine).
  constexpr bool kPairedRows = sizeof(T) == 1 && !kAByK, kPairedColumns = sizeof(T) == 1 && !kBByK;
  constexpr int kThreads = 2 * kTile, kDepth = kMmaLine / int(sizeof(T));
  constexpr int kWarpRows = kTile / 2, kWarpColumns = 32;
  constexpr int kI = kWarpRows / 16, kJ = kWarpColumns / 16;
  HB_DYNAMIC_SHARED(shared);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_row = warp % 2 * kWarpRows, warp_column = warp / 2 * kWarpColumns;

  // Eight tiles of rows stay together while the columns go by: both operands stay in the L2 cache.
  const int row_tiles = (whole.m + kTile - 1) / kTile;
  const int column_tiles = (whole.n + kTile - 1) / kTile;
  const int z = int(blockIdx.x / unsigned(row_tiles * column_tiles));
  const int tile_of_z = int(blockIdx.x) - z * row_tiles * column_tiles;
  constexpr int kTogether = 8;
  const int band = tile_of_z / (kTogether * column_tiles);
  const int in_band = tile_of_z - band * kTogether * column_tiles;
  const int rows_of_band = smaller(row_tiles - band * kTogether, kTogether);
  const int i0 = (band * kTogether + in_band % rows_of_band) * kTile;
  const int j0 = in_band / rows_of_band * kTile;

  const int batches = int(whole.batch), part = z / batches, batch = z - part * batches;
  const int k_begin = part * whole.part_k;
  const int k_end = smaller(whole.k, k_begin + whole.part_k);
  const T* a = static_cast<const T*>(whole.a.data);
  const T* b = static_cast<const T*>(whole.b.data);
  for (int d = 0, rest = batch; d < whole.axes; ++d) {
    const int extent = int(whole.extent[d]), x = rest % extent;
    rest /= extent;
    a += x * whole.a_stride[d];
    b += x * whole.b_stride[d];
  }

  Sum sums[kI][kJ][2][4] = {};
  const int stages = (k_end - k_begin + kDepth - 1) / kDepth;
  for (int s = 0; s < stages + kMmaStages - 1; ++s) {
    const int ready = s - (kMmaStages - 1);
    copy_wait<kMmaStages - 2>();
    __syncthreads();  // the stage is there for all; nobody reads the one to be overwritten
    if (s < stages) {
      unsigned char* tile = shared + s % kMmaStages * (2 * kTile * kMmaLine);
      const int k0 = k_begin + s * kDepth;
      copy_stage<T, kTile, kThreads, kAByK>(tile, whole.a, a, i0, k0, whole.m, k_end);
      copy_stage<T, kTile, kThreads, kBByK>(tile + kTile * kMmaLine, whole.b, b, j0, k0, whole.n,
                                            k_end);
    }
    copy_commit();
    if (ready < 0) continue;
    const unsigned char* a_tile = shared + ready % kMmaStages * (2 * kTile * kMmaLine);
    const unsigned char* b_tile = a_tile + kTile * kMmaLine;
    HB_UNROLL
    for (int k = 0; k < kDepth; k += Engine::kStep) {
      typename Engine::Fragment y[kJ];
      HB_UNROLL
      for (int j = 0; j < kJ; ++j)
        y[j] = Engine::template load<kTile, kBByK>(b_tile, warp_column + j * 16, k);
      HB_UNROLL
      for (int i = 0; i < kI; ++i) {
        const auto x = Engine::template load<kTile, kAByK>(a_tile, warp_row + i * 16, k);
        HB_UNROLL
        for (int j = 0; j < kJ; ++j) Engine::multiply(sums[i][j], x, y[j]);
      }
    }
  }

  [[maybe_unused]] bool again = false;  // what is not finite may be so for want of parts
  if constexpr (Engine::kCheckFinite) {
    bool finite = true;
    HB_UNROLL
    for (int i = 0; i < kI; ++i) HB_UNROLL
    for (int j = 0; j < kJ; ++j) HB_UNROLL
    for (int e = 0; e < 8; ++e) finite = finite && is_finite(sums[i][j][e / 4][e % 4]);
    again = !__all_sync(0xffffffffu, finite);
  }
  static_assert(kWarpColumns == kPartColumns && kTile * kTile * sizeof(Sum) <= kMmaShared<kTile>);
  __syncthreads();  // all stages are read
  Sum* parts = reinterpret_cast<Sum*>(shared) + warp * (kI * kPartSums);
  HB_UNROLL
  for (int i = 0; i < kI; ++i) {
    HB_UNROLL
    for (int j = 0; j < kJ; ++j) HB_UNROLL
    for (int e = 0; e < 4; ++e) {
      const int half = e % 2, right = e / 2;
      const int row = kPairedRows ? lane / 4 * 2 + half : lane / 4 + half * 8;
      const int column =
          j * 16 + (kPairedColumns ? lane % 4 * 4 + right * 2 : lane % 4 * 2 + right * 8);
      Sum x = sums[i][j][right][half * 2], y = sums[i][j][right][half * 2 + 1];
      if constexpr (kPairedColumns) {
        x = sums[i][j][0][half * 2 + right];
        y = sums[i][j][1][half * 2 + right];
      }
      if constexpr (Engine::kCheckFinite)
        if (again) {
          const int at_i = i0 + warp_row + i * 16 + row, at_j = j0 + warp_column + column;
          if (at_i < whole.m && at_j < whole.n)
            x = plain_sum<T>(whole, a, b, at_i, at_j, k_begin, k_end);
          if (at_i < whole.m && at_j + 1 < whole.n)
            y = plain_sum<T>(whole, a, b, at_i, at_j + 1, k_begin, k_end);
        }
      put_pair(parts, i * kPartRows + row, column, x, y);
    }
  }
  store_parts<typename Engine::Out>(whole, batch, z, i0 + warp_row, j0 + warp_column, parts, kI);
}

template <class Engine, int kTile>
void run_mma(const MmaProduct& p, void* stream) {
  const int64_t tiles = int64_t((p.m + kTile - 1) / kTile) * ((p.n + kTile - 1) / kTile);
  const dim3 grid(unsigned(tiles * p.batch * p.parts));
  const auto start = [&](void (*kernel)(MmaProduct)) {
    launch_shared(grid, dim3(2 * kTile), size_t(kMmaShared<kTile>), stream, kernel, p);
  };
  if (p.a.by_k)
    p.b.by_k ? start(mma_tiles<Engine, kTile, true, true>)
             : start(mma_tiles<Engine, kTile, true, false>);
  else  // both otherwise: `a` is read number by number (matmul.cu)
    start(mma_tiles<Engine, kTile, false, false>);
}
// Both tiles.
template <class Engine>
void run_mma_engine(const MmaProduct& p, bool large, void* stream) {
  large ? run_mma<Engine, 128>(p, stream) : run_mma<Engine, 64>(p, stream);
}

}  // namespace hb::cuda
