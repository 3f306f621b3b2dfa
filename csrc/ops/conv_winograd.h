// conv and conv_grad_input by Winograd's algorithm (winograd.h): float32, 3x3 filters, stride 1.
// The gradient to the input is the convolution of dy with the filter turned round.
//
//   tiles of the image -> V [panel of MR tiles][N * N][channels / L][MR][L]   (a task, or all)
//   filters            -> U [panel of 2 L columns][N * N][channels][2 L]      (a run, or prepare)
//   per panel of U, per block of tiles: N * N products V U -> sums in L2 -> transformed,
//   epilogue -> y
//
// Two orders. Many tiles, small U: U of the whole filter first; a task is a block of tiles whose V
// stays in L2. Few tiles, large U (deep layers): V of all tiles first; a task is a panel of
// columns, whose U it transforms itself, some channels at a time, so that U never leaves L2.
// Every element is the same sum in both, whatever the number of threads.
//
// Errors, of normal, positive, cancelling and ill-scaled images and channels, as multiples of those
// of the direct sum (root of the mean square; 16 to 256 channels, outputs from 4 x 4 on):
//   F(2, 3)  0.6 to 1.2      F(4, 3)  2.0 to 2.8, 0.5 where the direct sum cancels
//   4 x 2    0.6 to 1.3 from 48 channels on, 1.5 for small outputs, 0.3 to 0.6 where it cancels
// The direct sum here is blocked, which makes it two to four times as exact as the running sums of
// other libraries. From 128 channels on, the errors of F(4, 3) are those of a running sum (0.9 to
// 1.3 times; 0.7 to 1.1 times those of PyTorch's convolutions, which are oneDNN's; 128 to 512
// channels, normal and positive images), and tiles of 4 x 4 are taken. Those of 4 x 2 outputs are
// so (0.5 to 1.25 times) from 64 channels on, and from 32 on (1 to 1.4 times) where outputs are not
// small. With fewer, they are for precisions below "highest" only; with 8 channels, or 2 x 2
// outputs of which the border leaves four taps, the direct sum is more exact than both. With
// F(2, 3) an output whose window is all zeros is exactly zero, with larger tiles it may be rounding
// noise where other windows of its tile are not. The error of an output is of the scale of the
// pixels of its whole tile, not only of its window. Likewise, a pixel that is not finite makes
// outputs of its tiles NaN: those whose window holds it are never finite. |x| must stay below 1e37
// (transforms add up to 16 or 25 pixels).
//
// Measured on one Zen 5 core (AVX-512, batch 64; GFLOP/s of the direct algorithm; the peak is 272):
//                     direct   F(2, 3)   F(4, 3)
//   32x32,  64 to  64   223      410       545
//   16x16, 128 to 128   235      483       674
//    8x8,  256 to 256   240      500       690
//    4x4,  512 to 512   231      461       762
// Tiles of 4 x 2 have 1.2 times the rate of F(2, 3) with 64 channels.
// The floor of 64 to 64 channels with F(2, 3), per tile: 65536 multiply-adds (482 ns), 24 vector
// operations and 32 vectors moved within L2 for each 16 channels and filters (about 110 ns).
#pragma once
#include "ops/conv.h"
#include "ops/winograd.h"

namespace hb::HB_ISA {
namespace {

struct WinogradShape {
  int64_t n, h, w, c;  // image
  int64_t oh, ow, o;   // output
  int64_t lo[2];
  WinogradShape(const ConvShape& s, bool gradient) : n(s.n) {
    h = gradient ? s.out[1] : s.in[1], w = gradient ? s.out[2] : s.in[2];
    oh = gradient ? s.in[1] : s.out[1], ow = gradient ? s.in[2] : s.out[2];
    c = gradient ? s.o : s.c, o = gradient ? s.c : s.o;
    for (int a = 0; a < 2; ++a) lo[a] = gradient ? 2 - s.lo[1 + a] : s.lo[1 + a];
  }
  // Whether every output's window holds a pixel: else it is to be exactly zero.
  bool windows_meet() const {
    return lo[0] <= 2 && oh - lo[0] <= h && lo[1] <= 2 && ow - lo[1] <= w;
  }
};

template <int MY, int MX>
class ConvWinograd final : public ConvKernel {
 public:
  ConvWinograd(const ConvShape& shape, Prepare& p, bool gradient)
      : s_(shape, gradient),
        tiles_(s_.n, s_.oh, s_.ow, MY, MX),
        epilogue_(p, 2),
        gradient_(gradient) {
    zeros_.allocate(round_up(s_.c, L));
    image_ = {nullptr, s_.n, s_.h, s_.w, s_.c, zeros_.get(), nullptr};
    mr_ = int(ceil_div(tiles_.total, ceil_div(tiles_.total, kMaxRows)));
    panels_ = ceil_div(tiles_.total, mr_);
    columns_ = ceil_div(s_.o, kNr);
    kernel_[0] = find_winograd_kernel(mr_, 1, true);
    kernel_[1] = find_winograd_kernel(mr_, kTileVecs, true);

    slice_ = round_up(s_.c, L) * mr_ + L;  // a vector more than needed, as in u_slice
    u_slice_ = u_slice(s_);
    by_columns_ = filter_bytes(s_) > kLargeFilter && panels_ * kSquare * slice_ <= kLargeImage;
    // What should stay in L2 of a panel: V, which all columns read, and its sums.
    const int64_t elements_of_panel = kSquare * ((by_columns_ ? 0 : slice_) + mr_ * kNr);
    block_ = int64_t(l2_bytes()) * 5 / 8 / (elements_of_panel * int64_t(sizeof(float)));
    block_ = max64(kMinBlock, block_);
    if (by_columns_) {
      groups_ = min64(panels_, ceil_div(2 * num_threads(), columns_));
      if (num_threads() == 1) groups_ = 1;
      const int64_t most = ceil_div(panels_, groups_);
      block_ = ceil_div(most, ceil_div(most, block_));
      // As many channels of U as stay in L2 beside the sums; blocks share a whole panel.
      const int64_t room = int64_t(l2_bytes()) * 3 / 4 / int64_t(sizeof(float));
      depth_ = (room - block_ * elements_of_panel) / (kSquare * kNr) / kChunk * kChunk;
      depth_ = block_ < most ? s_.c : min64(s_.c, max64(kLeastDepth, depth_));
      u_slice_ = (depth_ + 1) * kNr;
    } else {
      block_ = min64(block_, max64(1, panels_ / (4 * num_threads())));
      block_ = ceil_div(panels_, ceil_div(panels_, block_));
    }
    if (packs_once(s_, p)) {
      const float* w = static_cast<const float*>(p.constants[1]);
      const int64_t layout[] = {'w', HB_ISA_LEVEL, MY, MX, s_.c, s_.o, gradient};
      constant_u_ = pack_once<float>(p, 1, {layout, sizeof(layout) / sizeof(layout[0])},
                                     size_t(filter_bytes(s_)),
                                     [&](float* u) { transform_all_filters(w, u); });
    }
    int64_t elements = round_up(TileImage::scratch_elements(s_.c), 16);
    shared_u_ = elements;
    if (!constant_u_ && !by_columns_) elements += u_panel() * columns_;
    shared_v_ = elements;
    if (by_columns_) elements += panels_ * kSquare * slice_;
    workers_ = elements = round_up(elements, 16);
    private_v_ = block_ * kSquare * mr_ * kNr;
    private_u_ = private_v_ + (by_columns_ ? 0 : round_up(block_ * kSquare * slice_, 16));
    worker_ = private_u_ + (by_columns_ ? u_panel() : 0);
    p.scratch_bytes = size_t(elements + num_threads() * worker_) * sizeof(float);
  }

  // Whether U is made while preparing. A large one is not: reading it from memory takes longer than
  // making it from the filter, which is a quarter of its size.
  static bool packs_once(const WinogradShape& s, const Prepare& p) {
    return p.constants[1] && filter_bytes(s) <= kLargeFilter;
  }

  void run(const Call& call) const override {
    float* scratch = static_cast<float*>(call.scratch);
    const float* w = static_cast<const float*>(call.inputs[1]);
    TileImage image = image_;
    image.at(static_cast<const float*>(call.inputs[0]), scratch);
    const Output out{static_cast<float*>(call.outputs[0]), epilogue_.of<float>(call)};
    if (by_columns_)
      run_by_columns(image, w, out, scratch);
    else
      run_by_tiles(image, w, out, scratch);
  }

 private:
  static constexpr int L = kLanes<float>, NX = MX + 2, kSquare = (MY + 2) * NX;
  static constexpr int64_t kNr = kTileCols<float>;
  static constexpr int64_t kChunk = 16;             // products summed in registers
  static constexpr int64_t kLeastDepth = 64;        // channels of U made at a time
  static constexpr int64_t kMinBlock = 3;           // panels of tiles that share a read of U
  static constexpr int64_t kLargeFilter = 4 << 20;  // bytes of U
  static constexpr int64_t kLargeImage = 8 << 20;   // elements of V
  using V = Vec<float>;

  // Where a vector of outputs goes, and what is done to it.
  struct Output {
    float* y;
    Epilogue<float> epilogue;
    HB_INLINE V scale_at(int64_t column, int64_t n) const {
      return epilogue.scale ? load_part(epilogue.scale + column, n) : splat(1.f);
    }
    HB_INLINE V bias_at(int64_t column, int64_t n) const {
      return epilogue.bias ? load_part(epilogue.bias + column, n) : V{};
    }
    // Column `column`, element `at` of the output; n of the lanes count. scale, bias: as above.
    HB_INLINE void put(int64_t at, int64_t column, V v, V scale, V bias, int64_t n) const {
      if (n < L) return put_part(at, column, v, n);
      v = v * scale + bias;
      if (epilogue.residual) v += load(epilogue.residual + at);
      if (epilogue.relu) v = v < V{} ? V{} : v;  // keeps NaN
      if (epilogue.mask) v = load(epilogue.mask + at) > V{} ? v : V{};
      store(y + at, v);
    }
    __attribute__((noinline)) void put_part(int64_t at, int64_t column, V v, int64_t n) const {
      for (int64_t i = 0; i < n; ++i) y[at + i] = epilogue.scalar<float>(v[i], column + i, at + i);
    }
  };

  // Elements of a slice of U: a row more than needed, so that slices fall on different cache sets.
  static int64_t u_slice(const WinogradShape& s) { return (s.c + 1) * kNr; }
  static int64_t filter_bytes(const WinogradShape& s) {
    return round_up(kSquare * u_slice(s) * ceil_div(s.o, kNr) * int64_t(sizeof(float)), 64);
  }
  int64_t u_panel() const { return kSquare * u_slice_; }

  void run_by_tiles(const TileImage& image, const float* w, const Output& out,
                    float* scratch) const {
    const float* u = constant_u_;
    if (!u) {
      transform_all_filters(w, scratch + shared_u_);
      u = scratch + shared_u_;
    }
    parallel_for(ceil_div(panels_, block_), [&](int64_t task, int worker) {
      float* own = scratch + workers_ + worker * worker_;
      const int64_t first = task * block_, last = min64(panels_, first + block_);
      for (int64_t p = first; p < last; ++p)
        transform_tiles(image, p, own + private_v_ + (p - first) * kSquare * slice_);
      for (int64_t j = 0; j < columns_; ++j) {
        multiply(own + private_v_, first, last, u + j * u_panel(), j, 0, s_.c, own);
        store_tiles(own, first, last, j, out);
      }
    });
  }

  void run_by_columns(const TileImage& image, const float* w, const Output& out,
                      float* scratch) const {
    float* v = scratch + shared_v_;
    parallel_for(panels_,
                 [&](int64_t p, int) { transform_tiles(image, p, v + p * kSquare * slice_); });
    parallel_for(columns_ * groups_, [&](int64_t task, int worker) {
      float* own = scratch + workers_ + worker * worker_;
      const int64_t j = task / groups_, group = task % groups_;
      float* u = own + private_u_;
      const int64_t first = panels_ * group / groups_, end = panels_ * (group + 1) / groups_;
      for (int64_t p = first; p < end; p += block_) {
        const int64_t last = min64(end, p + block_);
        for (int64_t k = 0; k < s_.c; k += depth_) {
          const int64_t k1 = min64(s_.c, k + depth_);
          if (depth_ < s_.c || p == first) transform_filters(w, j, k, k1, u);
          multiply(v + p * kSquare * slice_, p, last, u, j, k, k1, own);
        }
        store_tiles(own, p, last, j, out);
      }
    });
  }

  // One panel of tiles, a run of neighbours after another. The last panel is filled up with copies
  // of the last tile. The next run is fetched meanwhile.
  void transform_tiles(const TileImage& image, int64_t panel, float* v) const {
    for (int64_t i = 0, count; i < mr_; i += count, v += count * L) {
      const int64_t tile = min64(panel * mr_ + i, tiles_.total - 1);
      int64_t n, row, col;
      tiles_.at(tile, &n, &row, &col);
      count = min64(min64(mr_ - i, tiles_.cols - col), tiles_.total - tile);
      transform_run(image, n, row, col, count, origin(image, min64(tile + count, tiles_.total - 1)),
                    v);
    }
  }
  // Where a tile's first pixel is, or would be, outside of the image.
  uintptr_t origin(const TileImage& image, int64_t tile) const {
    int64_t n, row, col;
    tiles_.at(tile, &n, &row, &col);
    const int64_t pixel = (n * s_.h + row * MY - s_.lo[0]) * s_.w + col * MX - s_.lo[1];
    return uintptr_t(image.data) + uintptr_t(pixel * s_.c) * sizeof(float);
  }
  // `count` tiles side by side: the two columns that neighbours share are transformed once.
  void transform_run(const TileImage& image, int64_t n, int64_t row, int64_t col, int64_t count,
                     uintptr_t next, float* v) const {
    constexpr int NY = MY + 2;
    image.rectangle<NY, kMaxRows * MX + 2>(
        n, row * MY - s_.lo[0], col * MX - s_.lo[1], count * MX + 2, [&](const auto& pixel) {
          for (int64_t c = 0; c < s_.c; c += L) {
            V t[NY][NX];
            int64_t first = 0;  // column of the tile
            const auto at = [&](int y, int x) __attribute__((always_inline)) {
              __builtin_prefetch(
                  reinterpret_cast<const void*>(
                      next + uintptr_t((y * s_.w + first + x) * s_.c + c) * sizeof(float)),
                  0, 2);
              return pixel(y, first + x, c);
            };
            transform_columns<ImageAxis<MY>, 0, NX - MX>(t, at);
            for (int64_t k = 0; k < count; ++k, first += MX) {
              transform_columns<ImageAxis<MY>, NX - MX, NX>(t, at);
              float* to = v + c * mr_ + k * L;
              transform_rows<ImageAxis<MX>>(
                  t, [&](int y, int x, V out) { store(to + (y * NX + x) * slice_, out); });
#pragma GCC unroll 8
              for (int y = 0; y < NY; ++y)
                for (int x = 0; x < NX - MX; ++x) t[y][x] = t[y][MX + x];
            }
          }
        });
  }

  // Panel j of U for the image's channels [k0, k1), from the start of u.
  void transform_filters(const float* w, int64_t j, int64_t k0, int64_t k1, float* u) const {
    const int64_t end = min64(s_.o, (j + 1) * kNr);
    for (int64_t col = j * kNr; col < end; col += L) {
      float* to = u + (col - j * kNr) - k0 * kNr;
      if (!gradient_) {
        constexpr int64_t kAhead = 8;  // rows of the filter, which lie far apart

        for (int64_t k = k0; k < k1; ++k) {
          const float* from = w + k * s_.o + col;
          transform_filter(
              [&](int y, int x) {
                const float* tap = from + (y * 3 + x) * s_.c * s_.o;
                __builtin_prefetch(tap + kAhead * s_.o);
                return load_part(tap, end - col);
              },
              to + k * kNr);
        }
        continue;
      }
      for (int64_t k = k0; k < k1; k += L) {
        V square[9][L];
        for (int tap = 0; tap < 9; ++tap) {
          const float* from = w + ((8 - tap) * s_.o + col) * s_.c + k;
#pragma GCC unroll 16
          for (int i = 0; i < L; ++i)
            square[tap][i] = col + i < end ? load_part(from + i * s_.c, k1 - k) : V{};
          transpose(square[tap]);
        }
        for (int i = 0; i < min64(L, k1 - k); ++i)
          transform_filter([&](int y, int x) { return square[y * 3 + x][i]; }, to + (k + i) * kNr);
      }
    }
  }
  template <class Load>
  HB_INLINE void transform_filter(const Load& load, float* u) const {
    both_axes<FilterAxis<MY>, FilterAxis<MX>>(
        load, [&](int y, int x, V t) { store(u + (y * NX + x) * u_slice_, t); });
  }
  void transform_all_filters(const float* w, float* u) const {
    constexpr int64_t kGroup = 64;  // channels of one task
    const int64_t groups = ceil_div(s_.c, kGroup);
    parallel_for(columns_ * groups, [&](int64_t task, int) {
      const int64_t j = task / groups, k = task % groups * kGroup;
      transform_filters(w, j, k, min64(s_.c, k + kGroup), u + j * u_panel() + k * kNr);
    });
  }

  // Panels [first, last) of tiles times panel j of U, channels [k0, k1) (k0 is a multiple of what
  // is summed in registers): set or, from k0 > 0 on, added to the sums. v: of the first panel.
  void multiply(const float* v, int64_t first, int64_t last, const float* u, int64_t j, int64_t k0,
                int64_t k1, float* sums) const {
    const WinogradKernel kernel = kernel_[min64(kNr, s_.o - j * kNr) > L];
    WinogradTile t{};
    t.ldb = t.ldc = kNr, t.k = k1 - k0, t.m = mr_, t.chunk = kChunk, t.add = k0 > 0;
    for (int q = 0; q < kSquare; ++q) {
      t.b = u + q * u_slice_;
      for (int64_t p = 0; p < last - first; ++p) {
        t.a = v + (p * kSquare + q) * slice_ + k0 * mr_;
        t.c = sums + (p * kSquare + q) * mr_ * kNr;
        if (by_columns_) {
          // V comes from L3, a piece here and there: the next one.
          const float* next = t.a + kSquare * slice_;
          if (p + 1 == last - first) next = v + (q + 1) * slice_ + k0 * mr_;
          for (int64_t i = 0; i < (k1 - k0) * mr_; i += 16) __builtin_prefetch(next + i);
        }
        kernel(t);
      }
    }
  }
  // The outputs of panels [first, last) of tiles, columns of panel j of U.
  void store_tiles(const float* sums, int64_t first, int64_t last, int64_t j,
                   const Output& out) const {
    const int64_t col = j * kNr, width = min64(kNr, s_.o - col);
    for (int64_t c = 0; c < width; c += L) {
      const V scale = out.scale_at(col + c, width - c), bias = out.bias_at(col + c, width - c);
      for (int64_t p = first; p < last; ++p) {
        const float* from = sums + (p - first) * kSquare * mr_ * kNr + c;
        const int64_t count = min64(mr_, tiles_.total - p * mr_);
        for (int64_t i = 0; i < count; ++i)
          store_tile(from + i * kNr, p * mr_ + i, col + c, width - c, scale, bias, out);
      }
    }
  }
  HB_INLINE void store_tile(const float* sums, int64_t tile, int64_t column, int64_t width, V scale,
                            V bias, const Output& out) const {
    int64_t n, row, col;
    tiles_.at(tile, &n, &row, &col);
    const int64_t rows = s_.oh - row * MY, cols = s_.ow - col * MX;
    const int64_t first = ((n * s_.oh + row * MY) * s_.ow + col * MX) * s_.o + column;
    both_axes<OutputAxis<MY>, OutputAxis<MX>>(
        [&](int a, int b) { return load(sums + (a * NX + b) * mr_ * kNr); },
        [&](int a, int b, V t) {
          if (a < rows && b < cols)
            out.put(first + (a * s_.ow + b) * s_.o, column, t, scale, bias, width);
        });
  }

  WinogradShape s_;
  TileGrid tiles_;
  TileImage image_;
  EpilogueInputs epilogue_;
  bool gradient_, by_columns_;
  int mr_;                                         // tiles of a panel
  int64_t panels_, columns_, block_, groups_ = 1;  // panels of tiles, of U; panels of a block
  int64_t slice_, u_slice_;                        // elements of one of a panel's N * N matrices
  int64_t depth_ = 0;  // by columns: channels of U that are made at a time
  int64_t shared_u_, shared_v_, workers_, worker_, private_v_, private_u_;  // places in scratch
  WinogradKernel kernel_[2];
  Zeros<float> zeros_;
  const float* constant_u_ = nullptr;
};

// Work of a convolution, in multiply-adds per channel and filter, fitted to measurements: direct,
// and in tiles of M x M. Transforming an image costs so much per tile and channel or filter;
// transforming a filter so much for each. (A constant filter is transformed once, but its results
// are to be those of any other.)
inline double direct_cost(const WinogradShape& s) {
  return 9 / 0.85 * double(s.n * s.oh * s.ow) + 43;
}
template <int MY, int MX>
double winograd_cost(const WinogradShape& s) {
  const double tiles = double(TileGrid(s.n, s.oh, s.ow, MY, MX).total),
               square = (MY + 2) * (MX + 2);
  const double transforms = square * (5 / double(s.o) + 4 / double(s.c));
  return tiles * (1.12 * square + transforms) + 9 * square;
}

// The kernel for a convolution (or the gradient to its input), or null where the direct one is
// faster, or so exact as precision "highest" asks (see the head of this file).
inline ConvKernel* make_winograd(DType dtype, const ConvShape& shape, Prepare& p, bool gradient) {
  if (dtype != DType::F32 || !serves_winograd(shape)) return nullptr;
  const WinogradShape s(shape, gradient);
  constexpr int64_t kLongSum = 128;  // channels
  const int64_t medium_sum = min64(s.oh, s.ow) >= 8 ? 32 : 64;
  const bool highest = matmul_precision() == Precision::Highest;
  if (highest && (s.c < 16 || s.oh < 4 || s.ow < 4)) return nullptr;
  const double small = winograd_cost<2, 2>(s), tall = winograd_cost<4, 2>(s);
  const double large = winograd_cost<4, 4>(s);
  double least = direct_cost(s) / 1.1;
  ConvKernel* (*make)(const ConvShape&, Prepare&, bool) = nullptr;
  const auto consider = [&](double cost, auto tiles) {
    if (cost >= least) return;
    least = cost;
    make = [](const ConvShape& shape, Prepare& p, bool gradient) -> ConvKernel* {
      return new typename decltype(tiles)::type(shape, p, gradient);
    };
  };
  consider(small, KernelType<ConvWinograd<2, 2>>());
  if (!highest || (s.c >= medium_sum && s.windows_meet()))
    consider(tall, KernelType<ConvWinograd<4, 2>>());
  if (!highest || (s.c >= kLongSum && s.windows_meet()))
    consider(large, KernelType<ConvWinograd<4, 4>>());
  return make ? make(shape, p, gradient) : nullptr;
}

}  // namespace
}  // namespace hb::HB_ISA
