// conv_grad_filter by Winograd's algorithm (winograd.h): float32, 3x3 filters, stride 1.
//
//   a block of tiles of x -> V [N * N][tiles][C], of dy -> W [N * N][tiles][O]
//   M [N * N][C][O] += V^T W, by the register kernel, which reads both as they lie
//   the sum of the parts of M, transformed -> dw
//
// The tiles are cut into parts, by size only, each with sums of its own, and these are added in
// order: the same bits for any number of threads. Where M is large, there is one part: threads
// share out the tiles, then the N * N products, block by block.
//
// Errors as in conv_winograd.h, from 1024 positions on: F(2, 3) 0.4 to 0.9, F(4, 3) 0.5 to 2.2
// times that of the direct sum; with 64 positions 1.9 and 6 times, so short sums are done directly.
// Measured on one Zen 5 core (AVX-512, batch 64, GFLOP/s of the direct algorithm):
//                     direct   F(2, 3)   F(4, 3)
//   32x32,  64 to  64   234      311       351
//   16x16, 128 to 128   243      363       533
//    4x4,  512 to 512   314      342       461
#pragma once
#include "ops/winograd.h"

namespace hb::HB_ISA {
namespace {

template <int M>
class FilterWinograd final : public ConvKernel {
 public:
  FilterWinograd(const ConvShape& s, Prepare& p)
      : s_(s), tiles_(s.n, s.out[1], s.out[2], M), o_(round_up(s.o, L)) {
    zeros_.allocate(round_up(max64(s.c, s.o), L));
    x_ = {nullptr, s.n, s.in[1], s.in[2], s.c, zeros_.get(), nullptr};
    dy_ = {nullptr, s.n, s.out[1], s.out[2], s.o, zeros_.get(), nullptr};
    mr_ = int(ceil_div(s.c, ceil_div(s.c, kMaxRows)));
    kernel_[0] = find_winograd_kernel(mr_, 1, false);
    kernel_[1] = find_winograd_kernel(mr_, kTileVecs, false);
    c_ = round_up(s.c, L) + L;  // vectors of tiles fall on different cache sets
    ldo_ = o_ + L;
    sums_ = kSquare * s.c * o_;
    if (sums_ <= kSmallSums) {
      block_ = 64;
      parts_ = max64(
          1, min64(min64(16, ceil_div(tiles_.total, 4 * block_)), kPartSums / max64(1, sums_)));
    } else {
      block_ = 128;
    }
    block_ = min64(block_, ceil_div(tiles_.total, parts_));
    blocks_ = ceil_div(tiles_.total, block_);
    // V is read a little past its end, where channels do not fill the last panel.
    block_elements_ = round_up(kSquare * block_ * (c_ + ldo_) + 64, 16);
    tail_ = TileImage::scratch_elements(s.c);
    places_ = round_up(tail_ + TileImage::scratch_elements(s.o), 16);
    const int64_t blocks = parts_ > 1 ? num_threads() : 1;
    p.scratch_bytes =
        size_t(places_ + parts_ * round_up(sums_, 16) + blocks * block_elements_) * sizeof(float);
  }

  void run(const Call& call) const override {
    float* scratch = static_cast<float*>(call.scratch);
    TileImage x = x_, dy = dy_;
    x.at(static_cast<const float*>(call.inputs[0]), scratch);
    dy.at(static_cast<const float*>(call.inputs[1]), scratch + tail_);
    float* sums = scratch + places_;
    float* blocks = sums + parts_ * round_up(sums_, 16);
    const auto part = [&](int64_t q, float* own) {
      const int64_t end = blocks_ * (q + 1) / parts_;
      float* to = sums + q * round_up(sums_, 16);
      bool add = false;
      for (int64_t b = blocks_ * q / parts_; b < end; ++b, add = true)
        add_block(x, dy, b * block_, own, to, add);
    };
    if (parts_ > 1)
      parallel_for(parts_, [&](int64_t q, int w) { part(q, blocks + w * block_elements_); });
    else
      part(0, blocks);
    parallel_for(s_.c, [&](int64_t c, int) {
      store_filters(sums + c * o_, static_cast<float*>(call.outputs[0]) + c * s_.o);
    });
  }

 private:
  static constexpr int L = kLanes<float>, N = M + 2, kSquare = N * N;
  static constexpr int64_t kNr = kTileCols<float>;
  static constexpr int64_t kSmallSums = 1 << 18;  // elements of M of which there may be parts
  static constexpr int64_t kPartSums = 1 << 21;   // elements of all parts
  using V = Vec<float>;

  // Inside a part of several these parallel loops run at once, by one thread.
  void add_block(const TileImage& x, const TileImage& dy, int64_t first, float* own, float* sums,
                 bool add) const {
    const int64_t count = min64(block_, tiles_.total - first);
    float *v = own, *w = own + kSquare * block_ * c_;
    constexpr int64_t kGroup = 8;  // tiles of one task
    parallel_for(ceil_div(count, kGroup), [&](int64_t group, int) {
      for (int64_t i = group * kGroup; i < min64(count, (group + 1) * kGroup); ++i)
        transform(x, dy, first + i, v + i * c_, w + i * ldo_);
    });
    parallel_for(kSquare, [&](int64_t q, int) {
      WinogradTile t{};
      t.lda = c_, t.ldb = ldo_, t.ldc = o_, t.k = count, t.add = add;
      for (int64_t j = 0; j < s_.o; j += kNr) {
        t.b = w + q * block_ * ldo_ + j;
        const WinogradKernel kernel = kernel_[o_ - j > L];
        for (int64_t i = 0; i < s_.c; i += mr_) {
          t.a = v + q * block_ * c_ + i;
          t.c = sums + (q * s_.c + i) * o_ + j;
          t.m = int(min64(mr_, s_.c - i));
          kernel(t);
        }
      }
    });
  }

  HB_INLINE void transform(const TileImage& x, const TileImage& dy, int64_t tile, float* v,
                           float* w) const {
    int64_t n, row, col;
    tiles_.at(tile, &n, &row, &col);
    const float* pixel[N][N];
    x.square<N>(n, row * M - s_.lo[1], col * M - s_.lo[2], pixel);
    for (int64_t c = 0; c < s_.c; c += L)
      both_axes<N, N>([](const V(&d)[N], V(&t)[N]) { Winograd<M>::image(d, t); },
                      [&](int a, int b) { return load(pixel[a][b] + c); },
                      [&](int a, int b, V t) { store(v + (a * N + b) * block_ * c_ + c, t); });
    const float* e[M][M];
    dy.square<M>(n, row * M, col * M, e);
    for (int64_t o = 0; o < s_.o; o += L)
      both_axes<M, N>([](const V(&d)[M], V(&t)[N]) { Winograd<M>::gradient(d, t); },
                      [&](int a, int b) { return load(e[a][b] + o); },
                      [&](int a, int b, V t) { store(w + (a * N + b) * block_ * ldo_ + o, t); });
  }

  // All filters of one channel.
  void store_filters(const float* sums, float* dw) const {
    for (int64_t o = 0; o < s_.o; o += L)
      both_axes<N, 3>(
          [](const V(&m)[N], V(&t)[3]) { Winograd<M>::taps(m, t); },
          [&](int a, int b) {
            const float* from = sums + (a * N + b) * s_.c * o_ + o;
            V sum = load(from);
            for (int64_t q = 1; q < parts_; ++q) sum += load(from + q * round_up(sums_, 16));
            return sum;
          },
          [&](int a, int b, V t) { store_part(dw + (a * 3 + b) * s_.c * s_.o + o, t, s_.o - o); });
  }

  ConvShape s_;
  TileGrid tiles_;
  TileImage x_, dy_;
  Zeros<float> zeros_;
  int mr_;                                         // channels of a panel
  int64_t o_, c_, ldo_;                            // widths of M, V and W
  int64_t block_, blocks_, parts_ = 1;             // tiles of a block
  int64_t sums_, block_elements_, tail_, places_;  // in elements
  WinogradKernel kernel_[2];
};

// Multiply-adds per channel and filter, fitted to measurements. Direct: the border is left out.
inline double direct_filter_cost(const ConvShape& s) {
  const double h = double(s.out[1]), w = double(s.out[2]);
  return 1.12 * double(s.n) * (3 * h - 2) * (3 * w - 2);
}
template <int M>
double winograd_filter_cost(const ConvShape& s) {
  const double tiles = double(TileGrid(s.n, s.out[1], s.out[2], M).total),
               square = (M + 2) * (M + 2);
  const double transforms = (M == 2 ? 45. : 95.) / double(min64(s.c, s.o));
  return tiles * square * (1.5 + transforms) + 7 * square;
}

// The kernel for a gradient to a filter, or null where the direct one is faster, or so exact as
// precision "highest" asks. Only with AVX-512, where it was measured.
inline ConvKernel* make_filter_winograd([[maybe_unused]] DType dtype,
                                        [[maybe_unused]] const ConvShape& s,
                                        [[maybe_unused]] Prepare& p) {
#if HB_VEC_BYTES == 64
  constexpr int64_t kLongSum = 1024;  // positions; shorter sums are more exact directly
  if (dtype != DType::F32 || !serves_winograd(s)) return nullptr;
  const bool highest = matmul_precision() == Precision::Highest;
  if (s.out[1] < 4 || s.out[2] < 4 || s.n * s.out_size() < kLongSum) return nullptr;
  const double two = winograd_filter_cost<2>(s), four = winograd_filter_cost<4>(s);
  const bool larger = !highest && four < two;
  if (1.1 * (larger ? four : two) > direct_filter_cost(s)) return nullptr;
  if (larger) return new FilterWinograd<4>(s, p);
  return new FilterWinograd<2>(s, p);
#else
  return nullptr;
#endif
}

}  // namespace
}  // namespace hb::HB_ISA
