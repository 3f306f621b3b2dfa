// Geometry of convolutions, and the packers that let the matrix-multiply core read image patches in
// place (implicit GEMM: the matrix of patches never exists, only its packed blocks in cache do).
//
// Channels last: x [n, *in, c], w [*kernel, c / groups, o], y [n, *out, o]. One, two or three
// spatial axes; missing ones are leading axes of extent 1.
//   y[n, p, o] = sum_{tap, c} x[n, p * stride - lo + tap * dilation, c] * w[tap, c, o]
#pragma once
#include <stdlib.h>

#include "core/kernel.h"
#include "ops/gemm.h"
#include "ops/gemm_parts.h"

namespace hb::HB_ISA {
namespace {

struct ConvShape {
  int64_t n, c, o, groups, cg, og;  // cg, og: channels per group
  int64_t in[3], out[3], kernel[3], stride[3], dilation[3], lo[3];

  // x, w, y: specs of the forward convolution's tensors.
  ConvShape(const TensorSpec& x, const TensorSpec& w, const TensorSpec& y, const Attrs& attrs) {
    const int spatial = x.rank - 2, lead = 3 - spatial;
    if (spatial < 1 || spatial > 3 || w.rank != x.rank || y.rank != x.rank)
      fail("expected 1 to 3 spatial axes and operands of one rank");
    const IntList s = attr_ints(attrs, "strides"), pad = attr_ints(attrs, "padding"),
                  dil = attr_ints(attrs, "dilation");
    if (s.size != spatial || dil.size != spatial || pad.size != 2 * spatial)
      fail("expected strides and dilation for %d spatial axes and padding for both of their ends",
           spatial);
    for (int i = 0; i < 3; ++i) {
      const int a = i - lead;
      const bool given = a >= 0;
      in[i] = given ? x.shape[1 + a] : 1;
      out[i] = given ? y.shape[1 + a] : 1;
      kernel[i] = given ? w.shape[a] : 1;
      stride[i] = given ? s.data[a] : 1;
      dilation[i] = given ? dil.data[a] : 1;
      lo[i] = given ? pad.data[2 * a] : 0;
      if (stride[i] < 1 || dilation[i] < 1) fail("expected positive strides and dilation");
    }
    n = x.shape[0], c = x.shape[x.rank - 1], o = y.shape[y.rank - 1];
    groups = attr_int(attrs, "groups");
    if (groups < 1 || c % groups || o % groups || w.shape[w.rank - 2] != c / groups ||
        w.shape[w.rank - 1] != o || y.shape[0] != n)
      fail("channels, filters and groups do not match");
    cg = c / groups, og = o / groups;
  }

  int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  int64_t in_size() const { return in[0] * in[1] * in[2]; }
  int64_t out_size() const { return out[0] * out[1] * out[2]; }
  bool depthwise() const { return cg == 1 && groups > 1; }
  // Every output position reads one pixel, at the same place.
  bool pointwise() const {
    for (int i = 0; i < 3; ++i)
      if (kernel[i] != 1 || stride[i] != 1 || lo[i] != 0 || in[i] != out[i]) return false;
    return true;
  }
};

// What a product is told of patches in runs of `length` elements (GemmOperands::a_run): runs of
// less than a few are packed.
template <class T, class S>
int64_t run_length(int64_t length) {
  return sizeof(T) == sizeof(S) && length >= 3 ? length : 0;
}

// The image of x with its channels counted in elements of T, which may be pairs.
template <class T>
ConvShape channels_of(ConvShape s) {
  s.c /= kPerElement<T>, s.cg /= kPerElement<T>;
  return s;
}

// Memory that lives as long as a kernel: n elements, zero.
template <class T>
class Zeros {
 public:
  Zeros() = default;
  Zeros(const Zeros&) = delete;
  Zeros& operator=(const Zeros&) = delete;
  ~Zeros() { free(data_); }
  T* allocate(int64_t n) {
    data_ = static_cast<T*>(calloc(size_t(n > 0 ? n : 1), sizeof(T)));
    if (!data_) fail("out of memory");
    return data_;
  }
  T* get() const { return data_; }

 private:
  T* data_ = nullptr;
};

// A place (d, h, w) relative to a position, and the filter tap that goes with it.
struct Tap {
  int64_t at[3];
  int64_t filter;
};

// Positions (n, d, h, w) of a grid, in row-major order, each reading an image around
// position * stride + base.
struct Grid {
  int64_t extent[3], stride[3], base[3];
};

// Steps through the positions of a grid and keeps the image coordinates of each.
struct GridCursor {
  const Grid& grid;
  int64_t n, p[3];
  HB_INLINE GridCursor(const Grid& g, int64_t i) : grid(g) {
    for (int a = 2; a >= 0; --a) {
      p[a] = i % g.extent[a];
      i /= g.extent[a];
    }
    n = i;
  }
  HB_INLINE int64_t at(int a) const { return p[a] * grid.stride[a] + grid.base[a]; }
  HB_INLINE void next() {
    if (++p[2] < grid.extent[2]) return;
    p[2] = 0;
    if (++p[1] < grid.extent[1]) return;
    p[1] = 0;
    if (++p[0] < grid.extent[0]) return;
    p[0] = 0, ++n;
  }
};

// The image that patches are taken from, and the taps of a patch. The k of the product runs over
// (run, element): a run is `merged` taps side by side along w (1, or a whole filter row whose
// pixels lie next to each other in memory) times cg channels.
template <class S>
struct Patches {
  const S* data;  // at the group's first channel
  int64_t in[3], n, c, cg;
  Grid grid;
  const Tap* taps;  // of all runs, the taps of a run one after another
  int64_t merged;
  const S* zeros;    // [merged * cg + lanes]
  int64_t elements;  // from data to the image's end
  bool inside;       // no patch crosses the border

  HB_INLINE int64_t offset(const int64_t* at) const {
    return ((at[0] * in[1] + at[1]) * in[2] + at[2]) * c;
  }
};

// A copy of x with its border of zeros: where pixels have few channels, testing every pixel of a
// patch costs more than the copy, which is small beside the output.
template <class S>
class PaddedImage {
 public:
  void plan(const ConvShape& s) {
    n_ = s.n, c_ = s.c;
    for (int a = 0; a < 3; ++a) {
      in_[a] = s.in[a], lo_[a] = s.lo[a];
      extent_[a] = (s.out[a] - 1) * s.stride[a] + (s.kernel[a] - 1) * s.dilation[a] + 1;
    }
  }
  int64_t elements() const { return n_ * extent_[0] * extent_[1] * extent_[2] * c_; }
  const int64_t* extent() const { return extent_; }

  void copy(const S* x, S* y) const {
    const int64_t width = extent_[2] * c_;
    parallel_for(n_ * extent_[0], [&](int64_t plane, int) {
      const int64_t d = plane % extent_[0] - lo_[0], n = plane / extent_[0];
      // Columns [begin, end) of a row of y come from x.
      const int64_t begin = min64(extent_[2], max64(0, lo_[2]));
      const int64_t end = max64(begin, min64(extent_[2], in_[2] + lo_[2]));
      for (int64_t row = 0; row < extent_[1]; ++row) {
        const int64_t h = row - lo_[1];
        S* to = y + (plane * extent_[1] + row) * width;
        if (d < 0 || d >= in_[0] || h < 0 || h >= in_[1]) {
          memset(to, 0, size_t(width) * sizeof(S));
          continue;
        }
        const S* from = x + (((n * in_[0] + d) * in_[1] + h) * in_[2] + begin - lo_[2]) * c_;
        memset(to, 0, size_t(begin * c_) * sizeof(S));
        memcpy(to + begin * c_, from, size_t((end - begin) * c_) * sizeof(S));
        memset(to + end * c_, 0, size_t(width - end * c_) * sizeof(S));
      }
    });
  }

 private:
  int64_t n_ = 0, c_ = 0, in_[3] = {}, lo_[3] = {}, extent_[3] = {};
};

// The image of the forward pass and of the gradient to the filter, as patches.
template <class S>
class ImagePatches {
 public:
  // `rows`: a filter row over neighbouring pixels may be one run though it crosses the border.
  void plan(const ConvShape& s, bool rows) {
    s_ = &s;
    padded_ = s.c <= kFewChannels && s.groups == 1 && s.taps() > 1 && s.out_size() > 0;
    if (padded_) padded_image_.plan(s);
    merged_ = s.groups == 1 && s.dilation[2] == 1 && (rows || padded_) ? s.kernel[2] : 1;
    zeros_.allocate(merged_ * s.cg + 64);
    Tap* tap = taps_.allocate(s.taps());
    for (int64_t i = 0; i < s.taps(); ++i, ++tap) {
      tap->at[2] = i % s.kernel[2] * s.dilation[2];
      tap->at[1] = i / s.kernel[2] % s.kernel[1] * s.dilation[1];
      tap->at[0] = i / s.kernel[2] / s.kernel[1] * s.dilation[0];
      tap->filter = i;
    }
  }
  // The least length of a run that does not cross the border.
  int64_t run() const { return padded_ ? merged_ * s_->cg : s_->cg; }
  int64_t scratch_bytes() const {
    return padded_ ? padded_image_.elements() * int64_t(sizeof(S)) : 0;
  }

  // The patches of images yet to come.
  Patches<S> plain() const {
    const ConvShape& s = *s_;
    Patches<S> q;
    q.data = nullptr;
    q.n = s.n, q.c = s.c, q.cg = s.cg;
    for (int a = 0; a < 3; ++a) {
      q.in[a] = s.in[a];
      q.grid.extent[a] = s.out[a];
      q.grid.stride[a] = s.stride[a];
      q.grid.base[a] = -s.lo[a];
    }
    q.taps = taps_.get(), q.merged = merged_, q.zeros = zeros_.get();
    q.elements = s.n * s.in_size() * s.c;
    q.inside = padded_;
    if (padded_) {
      q.elements = padded_image_.elements();
      for (int a = 0; a < 3; ++a) q.in[a] = padded_image_.extent()[a], q.grid.base[a] = 0;
    }
    return q;
  }
  Patches<S> of(const S* x, int64_t group, void* scratch) const {
    Patches<S> q = plain();
    q.data = x + group * s_->cg;
    q.elements -= group * s_->cg;
    if (padded_) {
      S* image = static_cast<S*>(scratch);
      padded_image_.copy(x, image);
      q.data = image;
    }
    return q;
  }

 private:
  static constexpr int64_t kFewChannels = 4;

  const ConvShape* s_ = nullptr;
  bool padded_ = false;
  int64_t merged_ = 1;
  PaddedImage<S> padded_image_;
  Zeros<S> zeros_;
  Zeros<Tap> taps_;
};

// Rows are positions, k runs along memory: A of the forward pass and of the gradient to the input.
template <class T, class S>
struct PackPatches {
  const Patches<S>* p;
  static constexpr int64_t ld = 0;
  const T* in_place(int64_t, int64_t) const { return nullptr; }

  void pack(T* dst, int width, int64_t i, int n, int64_t k, int64_t kc) const {
    for_runs(i, n, k, kc, [&](const S* const* rows, int64_t count, int64_t readable) {
      pack_rows<T, S>(dst, width, rows, n, count, readable);
      dst += count * width;
    });
  }
  int64_t read(const T** places, int64_t* length, int width, int64_t i, int n, int64_t k,
               int64_t kc) const
    requires(sizeof(T) == sizeof(S))
  {
    const int64_t* first = length;
    for_runs(i, n, k, kc, [&](const S* const* rows, int64_t count, int64_t) {
      for (int r = 0; r < n; ++r) places[r] = rows[r];
      for (int r = n; r < width; ++r) places[r] = rows[0];
      places += width, *length++ = count;
    });
    return length - first;
  }

 private:
  // f(rows, count, readable) for the pieces of a panel that lie side by side in memory, in the
  // order of k: `count` elements from each of `rows`, of which `readable` may be read.
  template <class F>
  HB_INLINE void for_runs(int64_t i, int n, int64_t k, int64_t kc, const F& f) const {
    const Patches<S>& q = *p;
    int64_t d[kMaxPanel<T>], h[kMaxPanel<T>], w[kMaxPanel<T>], pixel[kMaxPanel<T>];
    GridCursor cursor(q.grid, i);
    for (int r = 0; r < n; ++r, cursor.next()) {
      d[r] = cursor.at(0), h[r] = cursor.at(1), w[r] = cursor.at(2);
      pixel[r] = (((cursor.n * q.in[0] + d[r]) * q.in[1] + h[r]) * q.in[2] + w[r]) * q.c;
    }
    const int64_t len = q.merged * q.cg;
    int64_t run = k / len, from = k - run * len;
    while (kc > 0) {
      const int64_t count = min64(len - from, kc);
      const Tap* tap = q.taps + run * q.merged;
      if (!one_run(tap, q.merged, d, h, w, pixel, n, from, count, f)) {
        // Some row's run lies across the border: tap by tap.
        int64_t done = 0;
        while (done < count) {
          const int64_t t = (from + done) / q.cg, c = (from + done) % q.cg;
          const int64_t part = min64(q.cg - c, count - done);
          one_run(tap + t, 1, d, h, w, pixel, n, c, part, f);
          done += part;
        }
      }
      kc -= count;
      from = 0, ++run;
    }
  }
  // Elements [from, from + count) of `merged` taps from `tap` on. False: neither inside nor
  // outside.
  template <class F>
  HB_INLINE bool one_run(const Tap* tap, int64_t merged, const int64_t* d, const int64_t* h,
                         const int64_t* w, const int64_t* pixel, int n, int64_t from, int64_t count,
                         const F& f) const {
    const Patches<S>& q = *p;
    const S* rows[kMaxPanel<T>];
    const int64_t step = q.offset(tap->at) + from;
    int64_t last = 0;
    if (q.inside) {
      for (int r = 0; r < n; ++r) rows[r] = q.data + pixel[r] + step;
      f(rows, count, q.elements - pixel[n - 1] - step);
      return true;
    }
    for (int r = 0; r < n; ++r) {
      const int64_t first_w = w[r] + tap->at[2];
      rows[r] = q.zeros;
      if (uint64_t(d[r] + tap->at[0]) >= uint64_t(q.in[0]) ||
          uint64_t(h[r] + tap->at[1]) >= uint64_t(q.in[1]) || first_w + merged <= 0 ||
          first_w >= q.in[2])
        continue;
      if (first_w < 0 || first_w + merged > q.in[2]) return false;
      last = pixel[r] + step;
      rows[r] = q.data + last;
    }
    f(rows, count, max64(count, q.elements - last));
    return true;
  }
};

// Rows are (run, element), k runs over positions: A of the gradient to the filter. The rows of a
// panel come from a few runs; each position of the panel is put together from one vector of each.
template <class T, class S>
struct PackPatchesAcross {
  const Patches<S>* p;

  void pack(T* dst, int width, int64_t i, int n, int64_t k, int64_t kc) const {
    const Patches<S>& q = *p;
    Piece pieces[kMaxPanel<T>];
    const int num = split(i, n, pieces);
    GridCursor cursor(q.grid, k);
    while (kc > 0) {
      // Positions that differ in w only.
      const int64_t first = cursor.p[2], count = min64(kc, q.grid.extent[2] - first);
      const int64_t d = cursor.at(0), h = cursor.at(1);
      const int64_t row = ((cursor.n * q.in[0] + d) * q.in[1] + h) * q.in[2] * q.c;
      for (int e = 0; e < num; ++e) {
        Piece& piece = pieces[e];
        piece.at = row + cursor.at(2) * q.c + piece.offset;
        piece.begin = 0, piece.end = count;
        if (q.inside) continue;
        const bool inside = uint64_t(d + piece.tap->at[0]) < uint64_t(q.in[0]) &&
                            uint64_t(h + piece.tap->at[1]) < uint64_t(q.in[1]);
        piece.begin = inside ? min64(count, max64(0, piece.first - first)) : count;
        piece.end = max64(piece.begin, min64(count, piece.last - first));
      }
      num == 1 ? copy_one(dst, width, pieces[0], count) : copy_all(dst, width, pieces, num, count);
      dst += count * width;
      kc -= count;
      cursor.p[2] += count - 1;
      cursor.next();
    }
  }

 private:
  static constexpr int L = kLanes<T>;
  // Lanes [lane, end_lane) of a panel come from one run: at position x of a row of positions from
  // the elements at + x * stride * c + lane on, for x in [begin, end); zero elsewhere.
  struct Piece {
    int lane, end_lane;
    const Tap* tap;
    int64_t offset;       // of lane 0, from the pixel of a position
    int64_t first, last;  // positions in w, of all, at which the tap lies in the image
    int64_t at, begin, end;
  };
  int split(int64_t i, int n, Piece* pieces) const {
    const Patches<S>& q = *p;
    const int64_t length = q.merged * q.cg, stride = q.grid.stride[2];
    int num = 0;
    int64_t run = i / length, from = i % length;
    for (int r = 0; r < n; ++run, ++num, from = 0) {
      Piece& e = pieces[num];
      e.tap = q.taps + run * q.merged;
      e.offset = q.offset(e.tap->at) + from - r;
      e.lane = r;
      r = int(min64(n, r + length - from));
      e.end_lane = r;
      const int64_t w0 = q.grid.base[2] + e.tap->at[2];
      e.first = w0 < 0 ? ceil_div(-w0, stride) : 0;
      e.last = w0 < q.in[2] ? ceil_div(q.in[2] - w0, stride) : 0;
    }
    return num;
  }

  // Whole vectors are stored: lanes past the panel's width fall on the next position, which is
  // written later.
  HB_INLINE void copy_one(T* dst, int width, const Piece& piece, int64_t count) const {
    const int64_t step = p->grid.stride[2] * p->c;
    const S* from = p->data + piece.at;
    int64_t x = 0;
    for (; x < piece.begin; ++x)
      for (int g = 0; g < width; g += L) store(dst + x * width + g, Vec<T>{});
    for (; x < piece.end && piece.at + x * step + round_up(width, L) <= p->elements; ++x)
      for (int g = 0; g < width; g += L)
        store(dst + x * width + g, load_as<T>(from + x * step + g));
    const Piece* const in[1] = {&piece};
    elements(dst, width, in, 1, x, piece.end);
    for (x = piece.end; x < count; ++x)
      for (int g = 0; g < width; g += L) store(dst + x * width + g, Vec<T>{});
  }
  // Between two of their begins and ends the pieces that lie in the image stay the same.
  void copy_all(T* dst, int width, const Piece* pieces, int num, int64_t count) const {
    for (int64_t x = 0; x < count;) {
      int64_t next = count;
      const Piece* in[kMaxPanel<T>];
      int live = 0;
      for (int e = 0; e < num; ++e) {
        const Piece& piece = pieces[e];
        if (piece.begin <= x && x < piece.end) in[live++] = &piece;
        if (piece.begin > x) next = min64(next, piece.begin);
        if (piece.end > x) next = min64(next, piece.end);
      }
      copy(dst, width, in, live, x, next);
      x = next;
    }
  }

  // Positions [x, end), where the pieces `in` lie in the image and no other.
  void copy(T* dst, int width, const Piece* const* in, int num, int64_t x, int64_t end) const {
    const int64_t step = p->grid.stride[2] * p->c;
    // Vectors may be read for the positions [safe, safe_end).
    int64_t safe = x, safe_end = num <= kMaxPieces ? end : x;
    for (int e = 0; e < num; ++e) {
      const int64_t last = round_up(width, L) - 1;
      while (safe < end && in[e]->at + safe * step < 0) ++safe;
      while (safe_end > x && in[e]->at + (safe_end - 1) * step + last >= p->elements) --safe_end;
    }
    safe = min64(safe, max64(x, safe_end));
    elements(dst, width, in, num, x, safe);
    if (num == 0) vectors<0>(dst, width, in, safe, safe_end);
    if (num == 1) vectors<1>(dst, width, in, safe, safe_end);
    if (num == 2) vectors<2>(dst, width, in, safe, safe_end);
    if (num == 3) vectors<3>(dst, width, in, safe, safe_end);
    if (num == 4) vectors<4>(dst, width, in, safe, safe_end);
    elements(dst, width, in, num, max64(safe, safe_end), end);
  }
  static constexpr int kMaxPieces = 4;

  template <int N>
  HB_INLINE void vectors(T* dst, int width, const Piece* const* in, int64_t x, int64_t end) const {
    const int64_t step = p->grid.stride[2] * p->c;
    T iota[L];
    for (int r = 0; r < L; ++r) iota[r] = T(r);
    const Vec<T> lane = load(iota);
    // The last vector of a panel first: it spills over the first one of the next position.
    for (int g = (width - 1) / L * L; g >= 0; g -= L) {
      decltype(lane < lane) own[N + 1];
      const S* from[N + 1];
#pragma GCC unroll 4
      for (int e = 0; e < N; ++e) {
        own[e] = (lane >= splat(T(in[e]->lane - g))) & (lane < splat(T(in[e]->end_lane - g)));
        from[e] = p->data + in[e]->at + g;
      }
      for (int64_t y = x; y < end; ++y) {
        Vec<T> v{};
#pragma GCC unroll 4
        for (int e = 0; e < N; ++e) v = own[e] ? load_as<T>(from[e] + y * step) : v;
        store(dst + y * width + g, v);
      }
    }
  }
  void elements(T* dst, int width, const Piece* const* in, int num, int64_t x, int64_t end) const {
    const int64_t step = p->grid.stride[2] * p->c;
    for (; x < end; ++x) {
      T* to = dst + x * width;
      for (int r = 0; r < width; ++r) to[r] = T(0);
      for (int e = 0; e < num; ++e)
        for (int r = in[e]->lane; r < in[e]->end_lane; ++r)
          to[r] = widen(p->data[in[e]->at + x * step + r]);
    }
  }
};

// B of the gradient to the input: rows are channels c, k runs over (tap, o) along o.
// w: [taps, cg, o], at the group's first filter.
template <class T, class S>
struct PackFilterTransposed {
  const S* data;
  const Tap* taps;
  int64_t cg, o, og;
  static constexpr int64_t ld = 0;
  const T* in_place(int64_t, int64_t) const { return nullptr; }

  void pack(T* dst, int width, int64_t i, int n, int64_t k, int64_t kc) const {
    const S* rows[kMaxPanel<T>];
    while (kc > 0) {
      const int64_t t = k / og, f = k % og, count = min64(og - f, kc);
      for (int r = 0; r < n; ++r) rows[r] = data + (taps[t].filter * cg + i + r) * o + f;
      pack_rows<T, S>(dst, width, rows, n, count, count);
      dst += count * width;
      k += count, kc -= count;
    }
  }
};

// Rows of C at positions of a strided sub-grid of an image with `ld` elements per pixel.
struct GridRows {
  const Grid* grid;
  const int64_t* in;
  int64_t ld;
  HB_INLINE void rows(int64_t i, int64_t n, int64_t* offset) const {
    GridCursor cursor(*grid, i);
    for (int64_t r = 0; r < n; ++r, cursor.next())
      offset[r] =
          (((cursor.n * in[0] + cursor.at(0)) * in[1] + cursor.at(1)) * in[2] + cursor.at(2)) * ld;
  }
};

struct ConvKernel {
  virtual ~ConvKernel() = default;
  virtual void run(const Call& call) const = 0;
};

// Whether groups that sum over `depth` channels into `wide` results run side by side in lanes: a
// matrix product would leave most of a vector empty.
template <class T>
bool side_by_side(const ConvShape& s, int64_t depth, int64_t wide) {
  return s.depthwise() || (s.groups > 1 && wide < kLanes<T> && depth <= 2 * kLanes<T> &&
                           s.groups * wide >= kLanes<T>);
}

// The kernel for a dtype: T computes, S is stored. `run`: how many neighbours of a patch lie side
// by side along k; an odd number cannot be multiplied in pairs of bfloat16.
template <template <class T, class S> class Packed, template <class T, class S> class Depthwise>
ConvKernel* make_conv_kernel(DType dtype, const ConvShape& s, Prepare& p, int64_t run,
                             int64_t depth, int64_t wide) {
  const auto make = [&](auto compute, auto stored) -> ConvKernel* {
    using T = decltype(compute);
    using S = decltype(stored);
    if (side_by_side<T>(s, depth, wide)) return new Depthwise<T, S>(s, p);
#if HB_VEC_BYTES == 64
    if constexpr (kPairsOf<S>)
      if (use_pairs<S>() && run % 2 == 0) return new Packed<Pair, S>(s, p);
#endif
    return new Packed<T, S>(s, p);
  };
  (void)run;
  switch (dtype) {
    case DType::F32:
      return make(float(), float());
    case DType::F64:
      return make(double(), double());
    case DType::F16:
      return make(float(), f16());
    default:
      return make(float(), bf16());
  }
}

}  // namespace
}  // namespace hb::HB_ISA
