// Products on tensor cores for matmul.cu and conv.cu: what a product is (gemm_plan.cuh starts one).
//
// out[i, j] = sum_k a(i, k) b(k, j), for every batch. An operand lies in lines: `by k` if the
// numbers of a line differ in k (then line i or j of the operand), else line k. A convolution's
// patches are lines too, found number by number of channels as they are copied: nothing is unfolded
// in memory.
#pragma once
#include "ops/epilogue.cuh"

namespace hb::cuda {

// x / d and x % d for 0 <= x < 2^31 without a division.
struct FastDivide {
  uint32_t divisor = 1, factor = 1, shift = 0;
  FastDivide() = default;
  explicit FastDivide(int64_t d) : divisor(d > 0 ? uint32_t(d) : 1) {
    while ((uint64_t(1) << shift) < divisor) ++shift;
    factor = uint32_t((((uint64_t(1) << shift) - divisor) << 32) / divisor + 1);
  }
  __device__ __forceinline__ int quotient(int x) const {
    return int((__umulhi(uint32_t(x), factor) + uint32_t(x)) >> shift);
  }
  __device__ __forceinline__ int split(int x, int* rest) const {
    const int q = quotient(x);
    *rest = x - q * int(divisor);
    return q;
  }
};

enum class Lines : int {
  Matrix,   // number c of line l at l * stride + c
  Patches,  // line: position in a grid; number: tap * channels + channel of the pixel it reads so
  Filter,   // line: channel; number: tap * channels + filter
};

struct Operand {
  const void* data = nullptr;
  Lines lines = Lines::Matrix;
  bool by_k = false;
  int width = 16;            // bytes to copy at once: neighbours in a line, aligned
  int64_t stride = 0;        // of lines; Patches: of pixels
  int64_t step_in_line = 1;  // Matrix: other than 1 only with the width of one number
  // of a convolution, axes as in conv.cu: tap t of place x is pixel x * step - lo + t * dilation,
  // if it is in [0, limit)
  FastDivide place[3], kernel[3], channels;
  int limit[3], step[3], dilation[3], lo[3];
  int64_t tap_stride[3];  // Filter

  // Number `at` of line `line` and those behind it within `width`; null: they are zeros. `p`: data,
  // for a batch.
  template <class T>
  __device__ __forceinline__ const T* find(const T* p, int line, int at) const {
    if (lines == Lines::Matrix) return p + line * stride + at * step_in_line;
    int channel;
    int tap = channels.split(at, &channel), t;
    int64_t pixel = 0;
    if (lines == Lines::Filter) {
      for (int a = 2; a >= 0; --a) {
        tap = kernel[a].split(tap, &t);
        pixel += t * tap_stride[a];
      }
      return p + pixel + line * stride + channel;
    }
    int pixels = 1;
    for (int a = 2; a >= 0; --a) {
      int x;
      line = place[a].split(line, &x);
      tap = kernel[a].split(tap, &t);
      x = x * step[a] - lo[a] + t * dilation[a];
      if (x < 0 || x >= limit[a]) return nullptr;
      pixel += int64_t(x) * pixels;
      pixels *= limit[a];
    }
    return p + (int64_t(line) * pixels + pixel) * stride + channel;
  }
};

struct MmaProduct {
  Operand a, b;
  int m, n, k;
  // Batches, innermost axis first; strides in elements. Those of out and of columns are of the
  // index.
  int64_t batch = 1;
  int axes = 0;
  int64_t extent[kMaxRank], a_stride[kMaxRank], b_stride[kMaxRank];
  int64_t out_batch = 0, column_batch = 0;
  void* out = nullptr;
  int64_t out_stride = 0;  // of rows
  // Rows that are the places of a grid: out_stride of samples, and of each axis.
  bool grid = false;
  FastDivide grid_extent[3];
  int64_t grid_stride[3];
  __device__ __forceinline__ int64_t row(int i) const {
    int64_t at = 0;
    if (grid)
      for (int a = 2; a >= 0; --a) {
        int x;
        i = grid_extent[a].split(i, &x);
        at += x * grid_stride[a];
      }
    return at + i * out_stride;
  }
  Epilogue epilogue;
  // The sum over k is cut into parts of `part_k`, added in order afterwards: partial is
  // [parts, batch, m, n], or null.
  int parts = 1, part_k = 0;
  void* partial = nullptr;
};

// How exactly float32 is multiplied: bfloat16 parts (3: as exact as multiply-adds; 2: 16 bits of
// mantissa), or tf32.
enum class Float32Products : int { Parts3, Parts2, Tf32 };

// Bytes that can be copied at once (16, 8, 4 or less) where neighbours lie at multiples of `unit`
// numbers from an aligned base.
inline int copy_width(DType t, int64_t unit) {
  const int64_t bytes = unit * int64_t(item_bytes(t));
  return bytes % 16 == 0 ? 16 : bytes % 8 == 0 ? 8 : bytes % 4 == 0 ? 4 : 2;
}

// Compute capability of the current device, 80 for 8.0. HORNBEAM_EMULATE_ARCHITECTURE says what the
// emulated device is (80 if it is not set; less: products without tensor cores).
int architecture();
inline bool has_mma() { return architecture() >= 80; }

}  // namespace hb::cuda
