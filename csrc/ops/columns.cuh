// Work by columns of [rows, n], for batch_norm.cu and the parameters' gradients of normalize.cu.
//
// A thread owns 16 bytes of neighbouring columns and takes rows at distance `down` from each other,
// four at a time; a block joins what its threads found, in a fixed order, and a second kernel what
// the blocks found. The division into blocks depends on the shape only.
#pragma once
#include "ops/pack.cuh"

namespace hb::cuda {

constexpr int kRowsTogether = 4;

struct Columns {
  int64_t rows, n;
  int across, down;           // threads of a block
  int64_t strips;             // blocks across
  int64_t chunks, per_chunk;  // blocks down, and rows of each
  bool aligned;               // rows are multiples of 16 bytes
  Columns(int64_t r, int64_t columns, DType t) : rows(r), n(columns) {
    const int64_t count = 16 / int64_t(item_bytes(t)), packs = (n + count - 1) / count;
    aligned = n % count == 0;
    across = packs < 1 ? 1 : packs < kThreads ? int(packs) : kThreads;
    down = kThreads / across;
    strips = (packs + across - 1) / across;
    // About as many blocks as a large device runs at once, each thread with two groups or more.
    const int64_t least = int64_t(down) * 2 * kRowsTogether, most = (rows + least - 1) / least;
    int64_t count_of = strips > 0 ? 1024 / strips : 1;
    if (count_of > most) count_of = most;
    if (count_of < 1) count_of = 1;
    per_chunk = (rows + count_of - 1) / count_of;
    if (per_chunk < 1) per_chunk = 1;
    chunks = rows > 0 ? (rows + per_chunk - 1) / per_chunk : 1;
  }
  dim3 grid() const { return dim3(unsigned(strips * chunks)); }
  __device__ int64_t rows_of(int64_t chunk) const {
    const int64_t left = rows - chunk * per_chunk;
    return left < per_chunk ? left : per_chunk;
  }
};

// A thread's place.
template <class T>
struct ColumnThread {
  int64_t chunk, column, begin, end;  // rows from begin on, by `down`
  int x, y, left;                     // columns that are there
  bool whole;
  __device__ ColumnThread(const Columns& c, bool aligned, bool backwards = false) {
    const int64_t block = backwards ? int64_t(gridDim.x) - 1 - blockIdx.x : blockIdx.x;
    chunk = block / c.strips;
    x = int(threadIdx.x) % c.across;
    y = int(threadIdx.x) / c.across;
    column = ((block - chunk * c.strips) * c.across + x) * kPack<T>;
    const int64_t rest = c.n - column;
    left = rest < kPack<T> ? int(rest) : kPack<T>;
    begin = chunk * c.per_chunk + y;
    end = chunk * c.per_chunk + c.rows_of(chunk);
    if (y >= c.down || left <= 0) begin = end;
    whole = aligned && c.aligned && left == kPack<T>;
  }
  // This thread's numbers of rows r, r + down, …
  template <int kRows>
  __device__ __forceinline__ void load_rows(Compute<T> (&to)[kRows][kPack<T>], const T* x,
                                            const Columns& c, int64_t r) const {
    HB_UNROLL
    for (int i = 0; i < kRows; ++i)
      load_pack(to[i], x + (r + i * c.down) * c.n + column, whole, left);
  }
  // f.template operator()<number of rows>(first row): rows `down` apart.
  template <class F>
  __device__ __forceinline__ void each_rows(const Columns& c, const F& f) const {
    int64_t r = begin;
    for (; r + (kRowsTogether - 1) * c.down < end; r += kRowsTogether * c.down)
      f.template operator()<kRowsTogether>(r);
    for (; r < end; r += c.down) f.template operator()<1>(r);
  }
};

// Joins kNum numbers per column of the threads that own the same columns: join(mine, other) for
// each column, with a stride of 1 between the numbers. All of the block must come; the result is
// that of y == 0.
template <int kNum, class C, int kCount, class F>
__device__ void join_down(C (&mine)[kCount][kNum], const Columns& c, int y, const F& join) {
  __shared__ C shared[kThreads * kNum];
  for (int e = 0; e < kCount; ++e) {
    for (int step = 1; step < c.down; step *= 2) {
      for (int i = 0; i < kNum; ++i) shared[i * kThreads + threadIdx.x] = mine[e][i];
      __syncthreads();
      if (y % (2 * step) == 0 && y + step < c.down) {
        C other[kNum];
        for (int i = 0; i < kNum; ++i)
          other[i] = shared[i * kThreads + threadIdx.x + step * c.across];
        join(mine[e], other);
      }
      __syncthreads();
    }
  }
}

// For kernels that join what blocks found: 32 columns, with slices of the chunks.
constexpr int kSlices = kThreads / 32;
template <int kNum, class C, class F>
__device__ void join_slices(C (&mine)[kNum], const F& join) {
  __shared__ C shared[kNum][kThreads];
  for (int i = 0; i < kNum; ++i) shared[i][threadIdx.x] = mine[i];
  __syncthreads();
  if (threadIdx.x < 32)
    for (int slice = 1; slice < kSlices; ++slice) {
      C other[kNum];
      for (int i = 0; i < kNum; ++i) other[i] = shared[i][slice * 32 + threadIdx.x];
      join(mine, other);
    }
}
inline dim3 slices_grid(int64_t n) { return dim3(unsigned((n + 31) / 32)); }

// Plain sums of two numbers per column.
struct AddTwo {
  template <class C>
  __device__ void operator()(C* mine, const C* other) const {
    mine[0] += other[0];
    mine[1] += other[1];
  }
};
// partial [chunks, 2, n] = what the block's threads bring.
template <class T>
__device__ void put_sums(Compute<T>* partial, Compute<T> (&sums)[kPack<T>][2], const Columns& c,
                         const ColumnThread<T>& t) {
  join_down<2>(sums, c, t.y, AddTwo());
  if (t.y == 0)
    for (int e = 0; e < t.left; ++e)
      for (int i = 0; i < 2; ++i) partial[(2 * t.chunk + i) * c.n + t.column + e] = sums[e][i];
}
// The sums of this thread's column (of 32) over all chunks; of the first warp only.
template <class C>
__device__ void get_sums(C (&sums)[2], const C* partial, int64_t column, const Columns& c) {
  sums[0] = sums[1] = 0;
  if (column < c.n)
    for (int64_t k = threadIdx.x / 32; k < c.chunks; k += kSlices) {
      sums[0] += partial[2 * k * c.n + column];
      sums[1] += partial[(2 * k + 1) * c.n + column];
    }
  join_slices(sums, AddTwo());
}

}  // namespace hb::cuda
