// Rows that belong to segments by an id each: sorted by segment, so that a segment's rows stand
// together, in their order.
#pragma once
#include <stdint.h>
#include <string.h>

#include "core/kernel.h"
#include "ops/parameters.h"
#include "simd/vec.h"

namespace hb::HB_ISA {
namespace {

// Indices of either type.
struct Indices {
  const void* data;
  bool wide;
  HB_INLINE int64_t operator[](int64_t i) const {
    return wide ? static_cast<const int64_t*>(data)[i] : static_cast<const int32_t*>(data)[i];
  }
};

// The first place of `keys` (ascending) whose key is not below `key`.
static inline int64_t lower_bound(const int32_t* keys, int64_t n, int64_t key) {
  int64_t first = 0;
  while (n > 0) {
    const int64_t half = n / 2;
    const bool below = keys[first + half] < key;
    first = below ? first + half + 1 : first;
    n = below ? n - half - 1 : half;
  }
  return first;
}

// Sorts rows by segment. The work goes with the number of rows, not of segments.
class SegmentOrder {
 public:
  SegmentOrder() = default;
  SegmentOrder(int64_t n, int64_t segments, bool wide, bool wrap)
      : n_(n), segments_(segments), wide_(wide), wrap_(wrap) {
    if (n >= INT32_MAX || segments >= INT32_MAX) {
      fail("at most 2^31 - 2 ids and segments, got %lld and %lld", (long long)n,
           (long long)segments);
    }
    while (segments >> bits_ != 0) ++bits_;
  }
  size_t scratch_bytes() const { return size_t(2 * n_) * sizeof(int32_t); }

  // keys[k]: segments in ascending order; order[k]: the row. Ids out of range (below zero too, if
  // they do not count from the end) come last with the key `segments`. scratch: see above.
  void run(const void* ids, int32_t* keys, int32_t* order, void* scratch) const {
    const Indices id{ids, wide_};
    const int radix = n_ < 4096 ? 8 : 11, passes = (bits_ + radix - 1) / radix;
    int32_t* from[2] = {keys, order};
    int32_t* to[2] = {static_cast<int32_t*>(scratch), static_cast<int32_t*>(scratch) + n_};
    if (passes % 2 == 1) swap(from, to);  // the last pass ends in keys and order
    for (int64_t j = 0; j < n_; ++j) {
      int64_t s = id[j];
      if (wrap_ && s < 0) s += segments_;
      from[0][j] = int32_t(uint64_t(s) < uint64_t(segments_) ? s : segments_);
      from[1][j] = int32_t(j);
    }
    int32_t starts[1 << 11];
    for (int pass = 0; pass < passes; ++pass) {
      const int shift = pass * radix, bins = 1 << radix, mask = bins - 1;
      memset(starts, 0, size_t(bins) * sizeof(int32_t));
      for (int64_t j = 0; j < n_; ++j) ++starts[from[0][j] >> shift & mask];
      for (int32_t b = 0, sum = 0; b < bins; ++b) {
        const int32_t count = starts[b];
        starts[b] = sum;
        sum += count;
      }
      for (int64_t j = 0; j < n_; ++j) {
        const int32_t at = starts[from[0][j] >> shift & mask]++;
        to[0][at] = from[0][j];
        to[1][at] = from[1][j];
      }
      swap(from, to);
    }
  }

 private:
  static void swap(int32_t** a, int32_t** b) {
    for (int i = 0; i < 2; ++i) {
      int32_t* const t = a[i];
      a[i] = b[i];
      b[i] = t;
    }
  }

  int64_t n_ = 0, segments_ = 0;
  int bits_ = 0;
  bool wide_ = false, wrap_ = false;
};

}  // namespace
}  // namespace hb::HB_ISA
