// Copy between two strided views of the same shape: the one engine behind transpose, slice, flip,
// broadcast_to, concat, split and their gradients.
//
// The plan drops unit dimensions and merges what lies contiguously on both sides. What is left runs
// in one of three ways, split over threads by pieces of about 64 KiB of the destination:
//   rows       both sides contiguous in the last dimension: memcpy
//   transpose  the source is contiguous along another dimension: square blocks through registers
//   strided    anything else (a step, a flip, a splat): one element after the other
#pragma once
#include <stdint.h>
#include <string.h>

#include "core/kernel.h"
#include "simd/vec.h"

namespace hb::HB_ISA {
namespace {

constexpr int64_t kCopyTaskBytes = 64 << 10;

// Transposes a square block held in 16-byte registers: log2(N) rounds of interleaving.
// dst[i * ds + j] = src[j * ss + i] for i, j < N (strides in bytes), N = 16 / sizeof(T).
template <class T>
struct BlockTranspose {
  static constexpr int kSize = 16 / int(sizeof(T));
  typedef T V __attribute__((vector_size(16)));
  template <int kHalf>
  static HB_INLINE V interleave(V a, V b) {
    constexpr int o = kHalf * kSize / 2, n = kSize;
    if constexpr (n == 2) {
      return __builtin_shufflevector(a, b, o, o + n);
    } else if constexpr (n == 4) {
      return __builtin_shufflevector(a, b, o, o + n, o + 1, o + 1 + n);
    } else if constexpr (n == 8) {
      return __builtin_shufflevector(a, b, o, o + n, o + 1, o + 1 + n, o + 2, o + 2 + n, o + 3,
                                     o + 3 + n);
    } else {
      return __builtin_shufflevector(a, b, o, o + n, o + 1, o + 1 + n, o + 2, o + 2 + n, o + 3,
                                     o + 3 + n, o + 4, o + 4 + n, o + 5, o + 5 + n, o + 6,
                                     o + 6 + n, o + 7, o + 7 + n);
    }
  }
  static HB_INLINE void run(char* dst, int64_t ds, const char* src, int64_t ss) {
    V a[kSize], b[kSize];
    for (int i = 0; i < kSize; ++i) memcpy(&a[i], src + i * ss, 16);
    for (int round = 1; round < kSize; round *= 2) {
      for (int i = 0; i < kSize / 2; ++i) {
        b[2 * i] = interleave<0>(a[i], a[i + kSize / 2]);
        b[2 * i + 1] = interleave<1>(a[i], a[i + kSize / 2]);
      }
      for (int i = 0; i < kSize; ++i) a[i] = b[i];
    }
    for (int i = 0; i < kSize; ++i) memcpy(dst + i * ds, &a[i], 16);
  }
};

// Strides are in bytes and may be zero (source) or negative (both).
class StridedCopy {
 public:
  StridedCopy() = default;
  StridedCopy(int rank, const int64_t* shape, const int64_t* dst_strides,
              const int64_t* src_strides, size_t item)
      : item_(int64_t(item)) {
    for (int i = 0; i < rank; ++i) {
      if (shape[i] == 0) empty_ = true;
      if (shape[i] == 1) continue;
      if (rank_ > 0 && dst_[rank_ - 1] == dst_strides[i] * shape[i] &&
          src_[rank_ - 1] == src_strides[i] * shape[i]) {
        shape_[rank_ - 1] *= shape[i];
      } else {
        shape_[rank_++] = shape[i];
      }
      dst_[rank_ - 1] = dst_strides[i];
      src_[rank_ - 1] = src_strides[i];
    }
    if (rank_ == 0) {
      shape_[0] = 1;
      dst_[0] = src_[0] = item_;
      rank_ = 1;
    }
    int inner = rank_ - 1;
    bool dense = dst_[inner] == item_;
    rows_ = dense && src_[inner] == item_;
    if (dense && !rows_ && src_[inner] != 0) {
      for (int i = inner - 1; i >= 0 && !transpose_; --i) {
        if (src_[i] != item_) continue;
        transpose_ = true;  // dimension i becomes the last but one
        int64_t n = shape_[i], d = dst_[i];
        for (int j = i; j < inner - 1; ++j) {
          shape_[j] = shape_[j + 1];
          dst_[j] = dst_[j + 1];
          src_[j] = src_[j + 1];
        }
        shape_[inner - 1] = n;
        dst_[inner - 1] = d;
        src_[inner - 1] = item_;
      }
    }
    // A unit is the part below the outer dimensions, cut along `cut_` where it is large.
    cut_ = transpose_ ? inner - 1 : inner;
    int64_t below = transpose_ ? shape_[inner] * item_ : item_;
    unit_ = kCopyTaskBytes / (below > 0 ? below : 1);
    unit_ = unit_ < 16 ? 16 : (unit_ + 15) / 16 * 16;
    if (unit_ > shape_[cut_]) unit_ = shape_[cut_];
    if (empty_) return;
    cuts_ = (shape_[cut_] + unit_ - 1) / unit_;
    units_ = cuts_;
    for (int i = 0; i < cut_; ++i) units_ *= shape_[i];
    units_per_task_ = kCopyTaskBytes / (below * unit_);
    if (units_per_task_ < 1) units_per_task_ = 1;
  }

  void run(void* dst, const void* src) const {
    if (empty_) return;
    char* d = static_cast<char*>(dst);
    const char* s = static_cast<const char*>(src);
    parallel_for((units_ + units_per_task_ - 1) / units_per_task_, [&](int64_t task, int) {
      int64_t first = task * units_per_task_, last = first + units_per_task_;
      if (last > units_) last = units_;
      switch (item_) {
        case 1:
          return run_units<uint8_t>(d, s, first, last);
        case 2:
          return run_units<uint16_t>(d, s, first, last);
        case 4:
          return run_units<uint32_t>(d, s, first, last);
        default:
          return run_units<uint64_t>(d, s, first, last);
      }
    });
  }

 private:
  template <class T>
  void run_units(char* dst, const char* src, int64_t first, int64_t last) const {
    int64_t at[kMaxRank];
    int64_t rest = first / cuts_, piece = first % cuts_;
    for (int i = cut_ - 1; i >= 0; --i) {
      at[i] = rest % shape_[i];
      rest /= shape_[i];
      dst += at[i] * dst_[i];
      src += at[i] * src_[i];
    }
    for (int64_t u = first; u < last; ++u) {
      int64_t begin = piece * unit_, n = shape_[cut_] - begin;
      if (n > unit_) n = unit_;
      char* d = dst + begin * dst_[cut_];
      const char* s = src + begin * src_[cut_];
      if (rows_) {
        memcpy(d, s, size_t(n) * sizeof(T));
      } else if (transpose_) {
        transpose<T>(d, dst_[cut_], s, src_[cut_ + 1], n, shape_[cut_ + 1]);
      } else {
        strided<T>(d, dst_[cut_], s, src_[cut_], n);
      }
      if (++piece < cuts_) continue;
      piece = 0;
      for (int i = cut_ - 1; i >= 0; --i) {
        dst += dst_[i];
        src += src_[i];
        if (++at[i] < shape_[i]) break;
        dst -= shape_[i] * dst_[i];
        src -= shape_[i] * src_[i];
        at[i] = 0;
      }
    }
  }

  template <class T>
  static void strided(char* dst, int64_t ds, const char* src, int64_t ss, int64_t n) {
    if (ds == int64_t(sizeof(T)) && ss == 0) {
      T x;
      memcpy(&x, src, sizeof x);
      T* d = reinterpret_cast<T*>(dst);
      for (int64_t i = 0; i < n; ++i) d[i] = x;
      return;
    }
    for (int64_t i = 0; i < n; ++i) memcpy(dst + i * ds, src + i * ss, sizeof(T));
  }

  // dst[i * ds + j] = src[i + j * ss], i < rows, j < cols (T-sized steps along i in src and j in
  // dst). Columns are walked in strips of 64 bytes, so that the lines written stay in L1.
  template <class T>
  static void transpose(char* dst, int64_t ds, const char* src, int64_t ss, int64_t rows,
                        int64_t cols) {
    constexpr int64_t b = BlockTranspose<T>::kSize, t = sizeof(T), strip = 64 / t;
    for (int64_t j0 = 0; j0 < cols; j0 += strip) {
      int64_t j1 = j0 + strip < cols ? j0 + strip : cols;
      int64_t i = 0;
      for (; i + b <= rows; i += b) {
        int64_t j = j0;
        for (; j + b <= j1; j += b) {
          BlockTranspose<T>::run(dst + i * ds + j * t, ds, src + i * t + j * ss, ss);
        }
        for (; j < j1; ++j) {
          for (int64_t k = i; k < i + b; ++k) memcpy(dst + k * ds + j * t, src + k * t + j * ss, t);
        }
      }
      for (; i < rows; ++i) {
        for (int64_t j = j0; j < j1; ++j) memcpy(dst + i * ds + j * t, src + i * t + j * ss, t);
      }
    }
  }

  int rank_ = 0;
  int cut_ = 0;
  bool empty_ = false, rows_ = false, transpose_ = false;
  int64_t item_ = 1, unit_ = 1, cuts_ = 1, units_ = 0, units_per_task_ = 1;
  int64_t shape_[kMaxRank] = {}, dst_[kMaxRank] = {}, src_[kMaxRank] = {};
};

// Byte strides of a dense row-major tensor.
static inline void dense_strides(const TensorSpec& s, int64_t* strides) {
  int64_t step = int64_t(item_bytes(s.dtype));
  for (int i = s.rank - 1; i >= 0; --i) {
    strides[i] = step;
    step *= s.shape[i];
  }
}

// Sets n bytes to zero, in parallel where it pays.
static inline void zero_fill(void* dst, int64_t n) {
  constexpr int64_t kPiece = 256 << 10;
  parallel_for((n + kPiece - 1) / kPiece, [&](int64_t task, int) {
    int64_t begin = task * kPiece;
    memset(static_cast<char*>(dst) + begin, 0, size_t(n - begin < kPiece ? n - begin : kPiece));
  });
}

}  // namespace
}  // namespace hb::HB_ISA
