// Order along the last axis on CUDA: sort, argsort, top_k, searchsorted and segment_order, as
// sort.cc and segments.h define them: stable, NaN last (first in top_k), -0 and 0 equal.
//
// Every element becomes an unsigned key that orders like it (of 32 bits, or 64 for wide types) and
// its place. Rows of up to kShort elements are sorted in the shared memory of a block by a bitonic
// network over (key, place), in which no two are equal, so that it is stable. Longer ones: by
// radix, 8 bits at a time, in chunks by size; counts of digits, their sums, then every chunk moves
// its elements in order. top_k of few from long rows: pieces of kShort, of which the best k go on.
#include "cuda/block.cuh"
#include "ops/parameters.h"

namespace hb::cuda {
namespace {

constexpr int kShort = 2048;           // elements that a block sorts
constexpr int64_t kRadixChunk = 4096;  // elements that a block counts and moves
constexpr int kBins = 256;

struct Keys {  // how elements become keys
  DType dtype;
  bool descending = false;
  int64_t segments = 0;  // > 0: ids of segments; those out of range are `segments`
  bool wrap = false;
};

template <class K, class B>
__device__ K float_key(B bits, B infinity) {
  const B sign = B(1) << (8 * sizeof(B) - 1);
  if (B(bits & B(~sign)) > infinity) return B(~B(0));
  if (B(bits << 1) == 0) bits = 0;
  return B(bits & sign ? B(~bits) : B(bits | sign));
}
template <class K>
__device__ K key_of(const void* x, int64_t i, const Keys z) {
  K key = 0;
  if (z.segments > 0) {
    int64_t id = z.dtype == DType::I32 ? static_cast<const int32_t*>(x)[i]
                                       : static_cast<const int64_t*>(x)[i];
    if (z.wrap && id < 0) id += z.segments;
    return K(id >= 0 && id < z.segments ? id : z.segments);
  }
  K all = ~K(0);  // of the bits of the dtype
  switch (z.dtype) {
    case DType::Bool:
    case DType::U8:
    case DType::I8:
      key = static_cast<const uint8_t*>(x)[i] ^ (z.dtype == DType::I8 ? 0x80u : 0u);
      all = 0xff;
      break;
    case DType::U16:
    case DType::I16:
      key = static_cast<const uint16_t*>(x)[i] ^ (z.dtype == DType::I16 ? 0x8000u : 0u);
      all = 0xffff;
      break;
    case DType::F16:
    case DType::BF16:
      key = float_key<K, uint16_t>(static_cast<const uint16_t*>(x)[i],
                                   z.dtype == DType::F16 ? 0x7c00 : 0x7f80);
      all = 0xffff;
      break;
    case DType::U32:
    case DType::I32:
      key = static_cast<const uint32_t*>(x)[i] ^ (z.dtype == DType::I32 ? 0x80000000u : 0u);
      break;
    case DType::F32:
      key = float_key<K, uint32_t>(static_cast<const uint32_t*>(x)[i], 0x7f800000u);
      break;
    default:
      if constexpr (sizeof(K) == 8) {
        const uint64_t bits = static_cast<const uint64_t*>(x)[i], sign = uint64_t(1) << 63;
        key = z.dtype == DType::F64   ? float_key<K, uint64_t>(bits, 0x7ff0000000000000u)
              : z.dtype == DType::I64 ? bits ^ sign
                                      : bits;
      }
  }
  return z.descending ? key ^ all : key;
}

__device__ void copy_item(void* to, int64_t i, const void* from, int64_t j, int bytes) {
  switch (bytes) {
    case 1:
      static_cast<uint8_t*>(to)[i] = static_cast<const uint8_t*>(from)[j];
      break;
    case 2:
      static_cast<uint16_t*>(to)[i] = static_cast<const uint16_t*>(from)[j];
      break;
    case 4:
      static_cast<uint32_t*>(to)[i] = static_cast<const uint32_t*>(from)[j];
      break;
    default:
      static_cast<uint64_t*>(to)[i] = static_cast<const uint64_t*>(from)[j];
  }
}
// What is written of a sorted row: the elements, their places or (of segments) the keys, each of
// which may be null.
struct Sorted {
  const void* x;
  void* values;
  int bytes;  // of an element
  int32_t *places, *keys;
  template <class K>
  __device__ void put(int64_t at, int64_t row_start, K key, int32_t place) const {
    if (values) copy_item(values, at, x, row_start + place, bytes);
    if (places) places[at] = place;
    if (keys) keys[at] = int32_t(key);
  }
};

// Sorts pieces of `width` (a power of two up to kShort) elements of every row, the first `keep` of
// which are written: to `out`, or (as places) to `next` where another round follows. `from`: the
// places of an earlier round, [rows, n], or null.
template <class K>
__global__ void __launch_bounds__(kThreads)
    sort_pieces(const Sorted out, int32_t* next, const int32_t* from, const Keys z, int64_t rows,
                int64_t n, int64_t row, int width, int keep) {
  __shared__ K key[kShort];
  __shared__ int32_t place[kShort];
  const int64_t pieces = (n + width - 1) / width;
  for (int64_t u = blockIdx.x; u < rows * pieces; u += gridDim.x) {
    const int64_t r = u / pieces, first = u % pieces * width;
    for (int i = threadIdx.x; i < width; i += kThreads) {
      const bool there = first + i < n;
      int32_t p = 0x7fffffff;
      if (there) p = from ? from[r * n + first + i] : int32_t(first + i);
      place[i] = p;
      // from an earlier round too: nothing was there
      key[i] = p != 0x7fffffff ? key_of<K>(out.x, r * row + p, z) : ~K(0);
    }
    __syncthreads();
    for (int size = 2; size <= width; size *= 2) {
      for (int by = size / 2; by > 0; by /= 2) {
        for (int t = threadIdx.x; t < width / 2; t += kThreads) {
          const int i = t / by * 2 * by + t % by, j = i + by;
          const bool above = key[i] > key[j] || (key[i] == key[j] && place[i] > place[j]);
          if (above != ((i & size) != 0)) {
            const K k = key[i];
            const int32_t p = place[i];
            key[i] = key[j];
            place[i] = place[j];
            key[j] = k;
            place[j] = p;
          }
        }
        __syncthreads();
      }
    }
    for (int i = threadIdx.x; i < keep; i += kThreads) {
      if (next)
        next[(r * pieces + u % pieces) * keep + i] = place[i];
      else if (first + i < n || from)
        out.put(r * keep + i, r * row, key[i], place[i]);
    }
    __syncthreads();
  }
}

template <class K>
__global__ void __launch_bounds__(kThreads)
    make_keys(K* key, int32_t* place, const void* x, const Keys z, int64_t rows, int64_t n) {
  HB_EACH(i, rows * n) {
    key[i] = key_of<K>(x, i, z);
    place[i] = int32_t(i % n);
  }
}
// counts[row][digit][chunk]
template <class K>
__global__ void __launch_bounds__(kThreads) count_digits(uint32_t* counts, const K* key, int64_t n,
                                                         int64_t chunks, int64_t units, int shift) {
  __shared__ uint32_t bins[kBins];
  for (int64_t u = blockIdx.x; u < units; u += gridDim.x) {
    const int64_t r = u / chunks, c = u % chunks, first = c * kRadixChunk;
    const int64_t last = first + kRadixChunk < n ? first + kRadixChunk : n;
    for (int b = threadIdx.x; b < kBins; b += kThreads) bins[b] = 0;
    __syncthreads();
    for (int64_t i = first + threadIdx.x; i < last; i += kThreads)
      atomicAdd(&bins[key[r * n + i] >> shift & (kBins - 1)], 1u);  // integers: any order
    __syncthreads();
    for (int b = threadIdx.x; b < kBins; b += kThreads)
      counts[(r * kBins + b) * chunks + c] = bins[b];
    __syncthreads();
  }
}
__global__ void __launch_bounds__(kThreads)
    sum_counts(uint32_t* counts, int64_t rows, int64_t length) {
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    uint32_t running = 0;
    for (int64_t first = 0; first < length; first += kThreads) {
      const int64_t i = first + threadIdx.x;
      const uint32_t mine = i < length ? counts[r * length + i] : 0;
      uint32_t total;
      const uint32_t before = scan_block<Add>(mine, &total);
      if (i < length) counts[r * length + i] = running + before;
      running += total;
    }
  }
}
// Moves the elements of a chunk to where the counts say, kThreads at a time, in order: equal digits
// of a warp are found by its votes, warps follow one another by their counts.
template <class K>
__global__ void __launch_bounds__(kThreads)
    move_digits(K* key_to, int32_t* place_to, const Sorted out, const K* key, const int32_t* place,
                const uint32_t* counts, int64_t n, int64_t chunks, int64_t units, int shift) {
  constexpr int kWarps = kThreads / 32;
  __shared__ uint32_t start[kBins], warps[kWarps][kBins];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int64_t u = blockIdx.x; u < units; u += gridDim.x) {
    const int64_t r = u / chunks, c = u % chunks, first = c * kRadixChunk;
    const int64_t last = first + kRadixChunk < n ? first + kRadixChunk : n;
    for (int b = threadIdx.x; b < kBins; b += kThreads)
      start[b] = counts[(r * kBins + b) * chunks + c];
    for (int64_t begin = first; begin < last; begin += kThreads) {
      const int64_t i = begin + threadIdx.x;
      const bool there = i < last;
      const K k = there ? key[r * n + i] : K(0);
      const int digit = int(k >> shift & (kBins - 1));
      for (int b = threadIdx.x; b < kBins; b += kThreads)
        for (int w = 0; w < kWarps; ++w) warps[w][b] = 0;
      unsigned same = __ballot_sync(0xffffffffu, there);
      for (int bit = 0; bit < 8; ++bit) {
        const bool set = digit >> bit & 1;
        const unsigned votes = __ballot_sync(0xffffffffu, set);
        same &= set ? votes : ~votes;
      }
      const int before = __popc(same & ((1u << lane) - 1));
      __syncthreads();
      if (there && before == 0) warps[warp][digit] = uint32_t(__popc(same));
      __syncthreads();
      for (int b = threadIdx.x; b < kBins; b += kThreads) {
        uint32_t running = start[b];
        for (int w = 0; w < kWarps; ++w) {
          const uint32_t here = warps[w][b];
          warps[w][b] = running;
          running += here;
        }
        start[b] = running;
      }
      __syncthreads();
      if (there) {
        const int64_t to = r * n + warps[warp][digit] + before;
        if (key_to) {
          key_to[to] = k;
          place_to[to] = place[r * n + i];
        } else {
          out.put(to, r * n, k, place[r * n + i]);
        }
      }
      __syncthreads();
    }
  }
}

// Sorts the rows of x; `keep` of each are written.
struct Order {
  int64_t rows, n, keep;
  Keys keys;
  int bits, width = 2;  // bits of the keys that differ; elements that a block takes
  bool few;             // of long rows: no full sort
  Order(const TensorSpec& x, const Keys& k, int64_t count)
      : rows(0), n(x.rank ? x.shape[x.rank - 1] : 1), keys(k) {
    if (x.rank < 1) fail("sort: at least one axis");
    if (n > INT32_MAX) fail("sort: at most 2^31 - 1 elements along the axis");
    rows = n == 0 ? 0 : num_elements(x) / n;
    keep = count < 0 ? n : count;
    bits = 8 * int(item_bytes(keys.dtype));
    if (keys.segments > 0)
      for (bits = 1; keys.segments >> bits != 0;) ++bits;
    few = keep <= kShort / 8 && n > kShort;
    while (width < kShort && width < n) width *= 2;
  }
  bool wide() const { return item_bytes(keys.dtype) == 8 && keys.segments == 0; }
  int64_t chunks() const { return (n + kRadixChunk - 1) / kRadixChunk; }
  int64_t pieces(int64_t m) const { return (m + width - 1) / width; }
  size_t scratch_bytes() const {
    if (n <= kShort) return 0;
    if (few) return size_t(rows * (pieces(n) + pieces(pieces(n) * keep)) * keep) * sizeof(int32_t);
    return size_t(rows) * (size_t(n) * 2 * ((wide() ? 8 : 4) + 4) + size_t(chunks() * kBins) * 4);
  }
  template <class K>
  void run_as(const Sorted& out, const Call& c) const {
    if (n <= kShort || few) {
      int32_t *next = static_cast<int32_t*>(c.scratch), *from = nullptr;
      int64_t m = n;
      for (;;) {
        const bool last = m <= width;
        launch(blocks_for(rows * pieces(m), 1), dim3(kThreads), c.stream, sort_pieces<K>, out,
               last ? nullptr : next, from, keys, rows, m, n, width, int(keep));
        if (last) return;
        from = next;
        m = pieces(m) * keep;
        next = next == c.scratch ? next + rows * m : static_cast<int32_t*>(c.scratch);
      }
    }
    const int64_t units = rows * chunks();
    K* key[2] = {static_cast<K*>(c.scratch), static_cast<K*>(c.scratch) + rows * n};
    int32_t* place[2] = {reinterpret_cast<int32_t*>(key[1] + rows * n), nullptr};
    place[1] = place[0] + rows * n;
    uint32_t* counts = reinterpret_cast<uint32_t*>(place[1] + rows * n);
    launch(blocks_for(rows * n), dim3(kThreads), c.stream, make_keys<K>, key[0], place[0], out.x,
           keys, rows, n);
    int from = 0;
    for (int shift = 0; shift < bits; shift += 8, from ^= 1) {
      const bool last = shift + 8 >= bits;
      launch(blocks_for(units, 1), dim3(kThreads), c.stream, count_digits<K>, counts, key[from], n,
             chunks(), units, shift);
      launch(blocks_for(rows, 1), dim3(kThreads), c.stream, sum_counts, counts, rows,
             chunks() * kBins);
      launch(blocks_for(units, 1), dim3(kThreads), c.stream, move_digits<K>,
             last ? nullptr : key[from ^ 1], place[from ^ 1], out, key[from], place[from], counts,
             n, chunks(), units, shift);
    }
  }
  void run(const Sorted& out, const Call& c) const {
    if (rows == 0 || keep == 0) return;
    if (wide())
      run_as<uint64_t>(out, c);
    else
      run_as<uint32_t>(out, c);
  }
};

struct Sorter : Order {
  Sorter(Prepare& p, bool descending, int64_t keep)
      : Order(p.inputs[0], Keys{p.inputs[0].dtype, descending}, keep) {
    p.scratch_bytes = scratch_bytes();
  }
  void run(const Call& c, void* values, void* places) const {
    Order::run(
        {c.inputs[0], values, int(item_bytes(keys.dtype)), static_cast<int32_t*>(places), nullptr},
        c);
  }
};
struct Sort : Sorter {
  explicit Sort(Prepare& p) : Sorter(p, false, -1) {}
  void run(const Call& c) const { Sorter::run(c, c.outputs[0], nullptr); }
};
HB_CUDA_KERNEL(sort, Sort, kAllDTypes)
struct Argsort : Sorter {
  explicit Argsort(Prepare& p) : Sorter(p, false, -1) {}
  void run(const Call& c) const { Sorter::run(c, nullptr, c.outputs[0]); }
};
HB_CUDA_KERNEL(argsort, Argsort, kAllDTypes)
struct TopK : Sorter {
  explicit TopK(Prepare& p) : Sorter(p, true, attr_int(*p.attrs, "k")) {
    if (keep > n) fail("top_k: k = %lld of %lld elements", (long long)keep, (long long)n);
    if (n <= kShort || few) return;  // all are sorted, then the first k copied
    p.scratch_bytes += size_t(rows * n) * sizeof(int32_t);
  }
  void run(const Call& c) const;
};

template <class I>
__global__ void __launch_bounds__(kThreads)
    first_places(const Sorted out, const I* all, int64_t rows, int64_t n, int64_t keep) {
  HB_EACH(i, rows * keep) out.put(i, i / keep * n, 0, all[i / keep * n + i % keep]);
}
void TopK::run(const Call& c) const {
  int32_t* places = static_cast<int32_t*>(c.outputs[1]);
  if (n <= kShort || few || keep == 0) return Sorter::run(c, c.outputs[0], places);
  int32_t* all = reinterpret_cast<int32_t*>(static_cast<char*>(c.scratch) + scratch_bytes());
  Sorter::run(c, nullptr, all);
  const Sorted out{c.inputs[0], c.outputs[0], int(item_bytes(keys.dtype)), places, nullptr};
  launch(blocks_for(rows * keep), dim3(kThreads), c.stream, first_places<int32_t>, out, all, rows,
         n, keep);
}
HB_CUDA_KERNEL(top_k, TopK, kAllDTypes)

// keys, order: the rows sorted by segment (segments.h).
struct SegmentOrder : Order {
  static TensorSpec flat(const TensorSpec& ids) { return {ids.dtype, 1, {num_elements(ids)}}; }
  static Keys keys_of(const Prepare& p) {
    const int64_t segments = attr_int(*p.attrs, "num_segments");
    if (segments < 1 || segments >= INT32_MAX) fail("1 to 2^31 - 2 segments");
    return {p.inputs[0].dtype, false, segments, attr_int(*p.attrs, "wrap") != 0};
  }
  explicit SegmentOrder(Prepare& p) : Order(flat(p.inputs[0]), keys_of(p), -1) {
    p.scratch_bytes = scratch_bytes();
  }
  void run(const Call& c) const {
    Order::run({c.inputs[0], nullptr, 0, static_cast<int32_t*>(c.outputs[1]),
                static_cast<int32_t*>(c.outputs[0])},
               c);
  }
};
HB_CUDA_KERNEL(segment_order, SegmentOrder, kI32 | kI64)

// inputs: sorted [n], values [m]; attribute right: after equal elements.
template <class I>
__global__ void __launch_bounds__(kThreads) search(I* y, const void* sorted, const void* values,
                                                   const Keys z, int64_t n, int64_t m, bool right) {
  HB_EACH(j, m) {
    const uint64_t v = key_of<uint64_t>(values, j, z);
    int64_t low = 0, high = n;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      const uint64_t s = key_of<uint64_t>(sorted, middle, z);
      if (right ? s <= v : s < v)
        low = middle + 1;
      else
        high = middle;
    }
    y[j] = I(low);
  }
}
struct SearchSorted : SearchParameters {
  using SearchParameters::SearchParameters;
  template <class I>
  void start(const Call& c) const {
    launch(blocks_for(m), dim3(kThreads), c.stream, search<I>, static_cast<I*>(c.outputs[0]),
           c.inputs[0], c.inputs[1], Keys{dtype}, n, m, right);
  }
  void run(const Call& c) const {
    if (m == 0) return;
    if (wide)
      start<int64_t>(c);
    else
      start<int32_t>(c);
  }
};
HB_CUDA_KERNEL(searchsorted, SearchSorted, kAllDTypes)

}  // namespace
}  // namespace hb::cuda
