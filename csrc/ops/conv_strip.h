// conv of float32 images with few channels (pictures): register tiles of neighbouring outputs.
//
// A row of the filter over neighbouring pixels is one run of memory, and outputs side by side read
// runs a fixed step apart. So a tile needs one address for each row of the filter, where the
// product of patches keeps, and looks for, one for each output.
//
//   for lines of outputs (a task), for a strip of a line, for two vectors of filters:
//     for the rows of the filter, for their elements:  register tile
//
// Sums run in the order of taps and channels, as in the product. Images that need a border of zeros
// are copied into one first.
//
// Measured on one Zen 5 core (AVX-512): see conv.cc. With 9 products for each output, storing the
// result takes most of the time.
#pragma once
#include "ops/conv.h"

namespace hb::HB_ISA {
namespace {

template <class T>
struct Strip {
  const T* x;           // of the first output
  int64_t step;         // from one output to the next
  const int64_t* runs;  // [num_runs] places of the rows of the filter
  int64_t num_runs, length;
  const T* w;  // [num_runs * length] rows of NV vectors
  T* y;
  int64_t ldy;
  int n;  // columns to store
  const Epilogue<T>* epilogue;
  int64_t column, at;  // of y[0] in the result
};
template <class T>
using StripKernel = void (*)(const Strip<T>&);

template <class T, int MR, int NV>
void strip_kernel(const Strip<T>& t) {
  constexpr int L = kLanes<T>, kGroups = (MR + 2) / 3;
  Vec<T> acc[MR][NV];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) acc[i][j] = Vec<T>{};
  const int64_t step = t.step;
  const T* w = t.w;
  for (int64_t run = 0; run < t.num_runs; ++run) {
    // An address reaches three rows: x, x + step, x + 2 * step.
    const T* x[kGroups];
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) x[g] = t.x + t.runs[run] + 3 * g * step;
    for (int64_t k = t.length; k > 0; --k, w += NV * L) {
      Vec<T> wv[NV];
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) wv[j] = load(w + j * L);
#pragma GCC unroll 16
      for (int i = 0; i < MR; ++i) {
        const Vec<T> a = splat(x[i / 3][i % 3 * step]);
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) acc[i][j] += a * wv[j];
      }
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; ++g) ++x[g];
    }
  }
  const Epilogue<T>& e = *t.epilogue;
  if (t.n == NV * L && e.simple()) {
    Vec<T> bias[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) bias[j] = e.bias ? load(e.bias + t.column + j * L) : Vec<T>{};
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) {
        Vec<T> v = e.bias ? acc[i][j] + bias[j] : acc[i][j];
        if (e.relu) v = v < Vec<T>{} ? Vec<T>{} : v;  // keeps NaN
        store(t.y + i * t.ldy + j * L, v);
      }
    return;
  }
  T sums[MR][NV * L];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) store(&sums[i][j * L], acc[i][j]);
  for (int i = 0; i < MR; ++i) {
    T* y = t.y + i * t.ldy;
    const int64_t at = t.at + i * t.ldy;
    int j = 0;
    for (; j + L <= t.n; j += L)
      store(y + j, e.template vector<T>(load(&sums[i][j]), t.column + j, at + j));
    for (; j < t.n; ++j) y[j] = e.template scalar<T>(sums[i][j], t.column + j, at + j);
  }
}

template <class T, int MR = kMaxRows>
StripKernel<T> find_strip_kernel(int rows, int vecs) {
  if (rows == MR) return vecs == 1 ? &strip_kernel<T, MR, 1> : &strip_kernel<T, MR, kTileVecs>;
  if constexpr (MR > 1)
    return find_strip_kernel<T, MR - 1>(rows, vecs);
  else
    return nullptr;
}

class ConvStrip final : public ConvKernel {
 public:
  static bool serves(DType dtype, const ConvShape& s) {
    constexpr int64_t kFewChannels = 4;
    return dtype == DType::F32 && s.c <= kFewChannels && s.groups == 1 && s.taps() > 1 &&
           s.taps() * s.c <= kMaxKcOf<float> && s.dilation[2] == 1 && s.out[2] >= kMaxRows / 2 &&
           s.n * s.out_size() > 0;
  }
  ConvStrip(const ConvShape& shape, Prepare& p) : s_(shape), epilogue_(p, 2) {
    padded_.plan(s_);
    copies_ = false;
    for (int a = 0; a < 3; ++a)
      copies_ = copies_ || s_.lo[a] != 0 || padded_.extent()[a] > s_.in[a];
    for (int a = 0; a < 3; ++a) extent_[a] = copies_ ? padded_.extent()[a] : s_.in[a];
    int64_t* run = runs_.allocate(s_.kernel[0] * s_.kernel[1]);
    for (int64_t d = 0; d < s_.kernel[0]; ++d)
      for (int64_t h = 0; h < s_.kernel[1]; ++h)
        *run++ = (d * s_.dilation[0] * extent_[1] + h * s_.dilation[1]) * extent_[2] * s_.c;
    strips_ = ceil_div(s_.out[2], kMaxRows);
    rows_ = s_.out[2] / strips_, tall_ = s_.out[2] - rows_ * strips_;
    for (int more = 0; more < 2; ++more)
      for (int vecs = 1; vecs <= kTileVecs; ++vecs)
        kernel_[more][vecs - 1] =
            find_strip_kernel<float>(int(min64(rows_ + more, kMaxRows)), vecs);
    depth_ = s_.taps() * s_.c;
    image_ = round_up(depth_ * round_up(s_.o, kNr), 16);
    p.scratch_bytes = size_t(image_ + (copies_ ? padded_.elements() : 0)) * sizeof(float);
  }

  void run(const Call& call) const override {
    const float* x = static_cast<const float*>(call.inputs[0]);
    float* filters = static_cast<float*>(call.scratch);
    const float* w = static_cast<const float*>(call.inputs[1]);
    for (int64_t j = 0; j < s_.o; j += kNr) {
      const int64_t n = min64(kNr, s_.o - j), width = round_up(n, kLanes<float>);
      pack_cols<float, float>(filters + depth_ * j, int(width), w + j, s_.o, int(n), depth_);
    }
    if (copies_) {
      padded_.copy(x, filters + image_);
      x = filters + image_;
    }
    const Epilogue<float> epilogue = epilogue_.of<float>(call);
    float* y = static_cast<float*>(call.outputs[0]);
    const int64_t lines = s_.n * s_.out[0] * s_.out[1];
    const int64_t per_task = max64(1, kTask / (s_.out[2] * depth_ * s_.o));
    parallel_for(ceil_div(lines, per_task), [&](int64_t task, int) {
      for (int64_t i = task * per_task; i < min64(lines, (task + 1) * per_task); ++i)
        line(x, filters, y, i, epilogue);
    });
  }

 private:
  static constexpr int64_t kNr = kTileCols<float>;
  static constexpr int64_t kTask = 1 << 18;  // multiply-adds

  void line(const float* x, const float* filters, float* y, int64_t i,
            const Epilogue<float>& epilogue) const {
    const int64_t h = i % s_.out[1], d = i / s_.out[1] % s_.out[0], n = i / s_.out[1] / s_.out[0];
    const int64_t row = (n * extent_[0] + d * s_.stride[0]) * extent_[1] + h * s_.stride[1];
    Strip<float> t{};
    t.x = x + row * extent_[2] * s_.c;
    t.step = s_.stride[2] * s_.c;
    t.runs = runs_.get(), t.num_runs = s_.kernel[0] * s_.kernel[1], t.length = s_.kernel[2] * s_.c;
    t.ldy = s_.o, t.epilogue = &epilogue;
    int64_t first = i * s_.out[2] * s_.o;
    for (int64_t strip = 0; strip < strips_; ++strip) {
      const bool more = strip < tall_;
      for (int64_t j = 0; j < s_.o; j += kNr) {
        t.n = int(min64(kNr, s_.o - j));
        t.w = filters + depth_ * j, t.column = j, t.at = first + j, t.y = y + t.at;
        kernel_[more][t.n > kLanes<float>](t);
      }
      const int64_t rows = rows_ + more;
      t.x += rows * t.step, first += rows * s_.o;
    }
  }

  ConvShape s_;
  EpilogueInputs epilogue_;
  PaddedImage<float> padded_;
  bool copies_;                   // of the image, with a border
  int64_t extent_[3];             // of the image that is read
  int64_t strips_, rows_, tall_;  // of a line; the first `tall_` have a row more
  int64_t depth_, image_;         // products of an output; place in scratch
  Zeros<int64_t> runs_;
  StripKernel<float> kernel_[2][kTileVecs];
};

}  // namespace
}  // namespace hb::HB_ISA
