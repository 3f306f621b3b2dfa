// conv_grad_filter by Winograd's algorithm (winograd.h): float32, 3x3 filters, stride 1.
//
//   for a part of the tiles, for channels and filters whose sums of one pair fit L2:     one task
//     for a group of tiles (of which x and dy stay in cache), for a pair of rows of the transforms:
//       for a block of tiles:
//         x -> V [2 rows][N][tiles][c], dy -> W [2 rows][N][tiles][o]                    (L2)
//         M [2 rows][N][c][o] += V^T W, by the register kernel, which reads both as they lie
//   the sum of the parts of M, transformed -> dw
//
// All rows of the transforms at once would not leave room for M in L2. Parts, blocks and groups
// are cut by size only, and parts are added in order: the same bits for any number of threads.
//
// Errors (see conv_winograd.h) as multiples of those of a running sum, normal and positive images:
//   positions   direct   F(2, 3)   4 x 2 outputs   F(4, 3)
//     1024        0.5      0.5      0.8 to 1.1    1.1 to 1.6
//     4096        0.25     0.25                   0.55 to 0.7
//    16384        0.13     0.15                   0.4 to 0.5
// so that larger tiles are taken for longer sums, and short ones are done directly.
#pragma once
#include "ops/winograd.h"

namespace hb::HB_ISA {
namespace {

template <int MY, int MX>
class FilterWinograd final : public ConvKernel {
 public:
  FilterWinograd(const ConvShape& s, Prepare& p)
      : s_(s), tiles_(s_.n, s_.out[1], s_.out[2], MY, MX), o_(round_up(s.o, L)) {
    zeros_.allocate(round_up(max64(s.c, s.o), L));
    x_ = {nullptr, s_.n, s.in[1], s.in[2], s.c, zeros_.get(), nullptr};
    dy_ = {nullptr, s_.n, s.out[1], s.out[2], s.o, zeros_.get(), nullptr};
    // A task's part of the sums of a pair stays in L2.
    wide_ = min64(o_, kNr * max64(2, kSums / (kPair * kNr * min64(s.c, kMaxChannels))));
    wide_ = min64(o_, round_up(ceil_div(o_, ceil_div(o_, wide_)), kNr));
    deep_ = max64(kMaxRows, kSums / (kPair * wide_));
    deep_ = min64(s.c, round_up(ceil_div(s.c, ceil_div(s.c, deep_)), L));
    o_tasks_ = ceil_div(o_, wide_), c_tasks_ = ceil_div(s.c, deep_);
    mr_ = int(ceil_div(deep_, ceil_div(deep_, kMaxRows)));
    kernel_[0] = find_winograd_kernel(mr_, 1, false);
    kernel_[1] = find_winograd_kernel(mr_, kTileVecs, false);
    ldv_ = round_up(deep_, L) + L;  // vectors of tiles fall on different cache sets
    ldw_ = wide_ + L;
    block_ = min64(64, max64(24, kTiles / (kPair * (ldv_ + ldw_)) / 8 * 8));
    block_ = min64(block_, tiles_.total);
    sums_ = round_up(kPairs * kPair * s.c * o_, 16);
    const int64_t tasks = c_tasks_ * o_tasks_;
    parts_ = max64(ceil_div(8, tasks), kPartSums / max64(1, sums_));
    parts_ = max64(1, min64(min64(16, parts_), tiles_.total / (2 * block_)));
    // Few tasks should come out even for any usual number of threads.
    if (parts_ * tasks < 32) parts_ -= parts_ % (parts_ >= 8 ? 4 : parts_ >= 4 ? 2 : 1);
    // Pixels of so many tiles are in cache when the next pair reads them again.
    const int64_t pixels = MY * MX * (deep_ + wide_);
    group_ = max64(4, kPixels / pixels / block_) * block_;
    // V is read a little past its end, where channels do not fill the last panel.
    worker_ = round_up(kPair * block_ * (ldv_ + ldw_) + 64, 16);
    tail_ = TileImage::scratch_elements(s.c);
    places_ = round_up(tail_ + TileImage::scratch_elements(s.o), 16);
    p.scratch_bytes = size_t(places_ + parts_ * sums_ + num_threads() * worker_) * sizeof(float);
  }

  void run(const Call& call) const override {
    float* scratch = static_cast<float*>(call.scratch);
    TileImage x = x_, dy = dy_;
    x.at(static_cast<const float*>(call.inputs[0]), scratch);
    dy.at(static_cast<const float*>(call.inputs[1]), scratch + tail_);
    float* sums = scratch + places_;
    float* workers = sums + parts_ * sums_;
    const int64_t tasks = c_tasks_ * o_tasks_;
    parallel_for(parts_ * tasks, [&](int64_t task, int worker) {
      const int64_t q = task / tasks, c0 = task % tasks / o_tasks_ * deep_;
      Block b{x, dy, workers + worker * worker_, sums + q * sums_, c0, min64(s_.c, c0 + deep_)};
      b.o0 = task % o_tasks_ * wide_, b.o1 = min64(o_, b.o0 + wide_);
      const int64_t end = tiles_.total * (q + 1) / parts_;
      const int64_t begin = tiles_.total * q / parts_;
      for (int64_t first = begin; first < end; first += group_) {
        const int64_t last = min64(end, first + group_);
        b.add = first > begin;
        add_pair<0>(b, first, last);
        add_pair<1>(b, first, last);
        if constexpr (kPairs > 2) add_pair<2>(b, first, last);
      }
    });
    parallel_for(s_.c, [&](int64_t c, int) {
      store_filters(sums + c * o_, static_cast<float*>(call.outputs[0]) + c * s_.o);
    });
  }

 private:
  static constexpr int L = kLanes<float>, NY = MY + 2, NX = MX + 2;
  static constexpr int kPairs = NY / 2, kPair = 2 * NX;
  static constexpr int64_t kNr = kTileCols<float>;
  static constexpr int64_t kMaxChannels = 128;
  static constexpr int64_t kSums = 104 << 10;    // elements of M of one pair and one task
  static constexpr int64_t kTiles = 88 << 10;    // elements of V and W of one pair
  static constexpr int64_t kPixels = 512 << 10;  // elements of x and dy
  static constexpr int64_t kPartSums = 1 << 21;  // elements of M of all parts
  using V = Vec<float>;

  struct Block {
    const TileImage &x, &dy;
    float *own, *sums;
    int64_t c0, c1, o0 = 0, o1 = 0;
    bool add = false;  // whether there are sums already
  };

  // Tiles [first, last) for pair P of the rows of the transforms.
  template <int P>
  void add_pair(const Block& b, int64_t first, int64_t last) const {
    float *v = b.own, *w = b.own + kPair * block_ * ldv_;
    WinogradTile t{};
    t.lda = ldv_, t.ldb = ldw_, t.ldc = o_, t.add = b.add;
    for (; first < last; first += t.k, t.add = true) {
      t.k = t.chunk = ceil_div(last - first, ceil_div(last - first, block_));
      for (int64_t i = 0; i < t.k; ++i) transform<P>(b, first + i, v + i * ldv_, w + i * ldw_);
      for (int64_t q = 0; q < kPair; ++q)
        for (int64_t j = b.o0; j < b.o1; j += kNr) {
          t.b = w + q * block_ * ldw_ + (j - b.o0);
          const WinogradKernel kernel = kernel_[b.o1 - j > L];
          for (int64_t c = b.c0; c < b.c1; c += mr_) {
            t.a = v + q * block_ * ldv_ + (c - b.c0);
            t.c = b.sums + ((P * kPair + q) * s_.c + c) * o_ + j;
            t.m = int(min64(mr_, b.c1 - c));
            kernel(t);
          }
        }
    }
  }

  template <int P>
  HB_INLINE void transform(const Block& b, int64_t tile, float* v, float* w) const {
    int64_t n, row, col;
    tiles_.at(tile, &n, &row, &col);
    const int64_t y0 = row * MY, x0 = col * MX;
    b.x.template rectangle<NY, NX>(n, y0 - s_.lo[1], x0 - s_.lo[2], NX, [&](const auto& pixel) {
      for (int64_t c = b.c0; c < b.c1; c += L)
        pair_of_rows<P, ImageAxis<MY>, ImageAxis<MX>>(
            [&](int i, int j) { return pixel(i, j, c); },
            [&](int i, int j, V t) { store(v + (i * NX + j) * block_ * ldv_ + (c - b.c0), t); });
    });
    b.dy.template rectangle<MY, MX>(n, y0, x0, MX, [&](const auto& pixel) {
      for (int64_t o = b.o0; o < b.o1; o += L)
        pair_of_rows<P, GradientAxis<MY>, GradientAxis<MX>>(
            [&](int i, int j) { return pixel(i, j, o); },
            [&](int i, int j, V t) { store(w + (i * NX + j) * block_ * ldw_ + (o - b.o0), t); });
    });
  }

  // All filters of one channel.
  void store_filters(const float* sums, float* dw) const {
    for (int64_t o = 0; o < s_.o; o += L)
      both_axes<TapsAxis<MY>, TapsAxis<MX>>(
          [&](int a, int b) {
            const float* from = sums + (place_in_pairs<NY>(a) * NX + b) * s_.c * o_ + o;
            V sum = load(from);
            for (int64_t q = 1; q < parts_; ++q) sum += load(from + q * sums_);
            return sum;
          },
          [&](int a, int b, V t) { store_part(dw + (a * 3 + b) * s_.c * s_.o + o, t, s_.o - o); });
  }

  ConvShape s_;
  TileGrid tiles_;
  TileImage x_, dy_;
  Zeros<float> zeros_;
  int mr_;                                           // channels of a panel
  int64_t o_, ldv_, ldw_;                            // widths of M, V and W
  int64_t deep_, wide_, c_tasks_, o_tasks_, parts_;  // channels and filters of a task
  int64_t block_, group_;                            // tiles of a block, and of blocks in cache
  int64_t sums_, worker_, tail_, places_;            // in elements
  WinogradKernel kernel_[2];
};

// Multiply-adds per channel and filter, fitted to measurements. Direct: the border is left out.
inline double direct_filter_cost(const ConvShape& s) {
  const double h = double(s.out[1]), w = double(s.out[2]);
  return 1.12 * double(s.n) * (3 * h - 2) * (3 * w - 2);
}
template <int MY, int MX>
double winograd_filter_cost(const ConvShape& s) {
  const double tiles = double(TileGrid(s.n, s.out[1], s.out[2], MY, MX).total),
               square = (MY + 2) * (MX + 2);
  return tiles * square * (1.4 + 24 / double(min64(s.c, s.o))) + 7 * square;
}

// The kernel for a gradient to a filter, or null where the direct one is faster, or so exact as
// precision "highest" asks. Only with AVX-512, where it was measured.
inline ConvKernel* make_filter_winograd([[maybe_unused]] DType dtype,
                                        [[maybe_unused]] const ConvShape& s,
                                        [[maybe_unused]] Prepare& p) {
#if HB_VEC_BYTES == 64
  // Positions; shorter sums are more exact directly.
  constexpr int64_t kLongSum = 1024;
  if (dtype != DType::F32 || !serves_winograd(s)) return nullptr;
  const bool highest = matmul_precision() == Precision::Highest;
  const int64_t positions = s.n * s.out_size();
  if (s.out[1] < 4 || s.out[2] < 4 || positions < kLongSum) return nullptr;
  double least = direct_filter_cost(s) / 1.1;
  ConvKernel* (*make)(const ConvShape&, Prepare&) = nullptr;
  const auto consider = [&](double cost, auto tiles) {
    if (cost >= least) return;
    least = cost;
    make = [](const ConvShape& s, Prepare& p) -> ConvKernel* {
      return new typename decltype(tiles)::type(s, p);
    };
  };
  // The longer the sum, the larger the error of a running one, and the tiles it allows.
  const int64_t allowed = highest ? positions : 2 * positions;
  consider(winograd_filter_cost<2, 2>(s), KernelType<FilterWinograd<2, 2>>());
  if (allowed >= 2 * kLongSum)
    consider(winograd_filter_cost<4, 2>(s), KernelType<FilterWinograd<4, 2>>());
  if (allowed >= 4 * kLongSum)
    consider(winograd_filter_cost<4, 4>(s), KernelType<FilterWinograd<4, 4>>());
  return make ? make(s, p) : nullptr;
#else
  return nullptr;
#endif
}

}  // namespace
}  // namespace hb::HB_ISA
