// The gradient to the filter of a convolution, without a copy of patches.
//
// dw[tap, c, o] = sum_p x[p * stride - lo + tap * dilation, c] * dy[p, o]. At a position the
// channels of one tap lie side by side in x, so a register tile of rows (tap, c) and columns o
// reads them where they are: position by position one broadcast per row and one vector of dy per
// column. What lies outside of the image is left out, not multiplied by zero.
//
//   for a part of the positions, for columns of dw (sums in L2):         one task
//     for a block of positions, for two vectors of columns:              pack dy (L1)
//       for the rows of a tile, for the taps:                            register tile, x from L2
//
// Positions are cut into parts and blocks by size only; every part sums apart, and the parts are
// added in order: the same bits for any number of threads.
#pragma once
#include "ops/conv.h"
#include "simd/multiply_add.h"

namespace hb::HB_ISA {

// Positions side by side along w: elements of x from the image's start, rows of packed dy.
struct FilterRun {
  int64_t x, dy, count;
};

template <class T>
struct FilterTile {
  const T* x;             // at row 0 of the tile
  const int64_t* spread;  // places of the rows, if they do not lie side by side
  int64_t step;           // of x from one position to the next
  const T* dy;            // [positions][vectors * lanes]
  const FilterRun* runs;
  int64_t num_runs;
  Sum<T>* c;
  int64_t ldc;
  int n;  // columns to store
  bool add;
  const T* ahead;  // to be fetched: an address for each position
  int64_t ahead_step;
};
template <class T>
using FilterKernel = void (*)(const FilterTile<T>&);

// Only for processors that have them (has_bf16_pairs); conv_filter_pairs.cc.
FilterKernel<Pair> find_pair_filter_kernel(int rows, int vecs, bool spread);

namespace {

// Operands of E; sums of T.
template <class E, int MR, int NV, bool kSpread>
void filter_kernel(const FilterTile<E>& t) {
  using T = Sum<E>;
  constexpr int L = kLanes<T>;
  Vec<T> acc[MR][NV];
  const E* rows[MR];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
    if (kSpread) rows[i] = t.x + t.spread[i];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) acc[i][j] = Vec<T>{};
  }
  const int64_t step = t.step, ahead_step = t.ahead_step;
  const E* ahead = t.ahead;
  for (int64_t run = 0; run < t.num_runs; ++run) {
    int64_t at = t.runs[run].x;
    const E* x = t.x + at;
    const E* dy = t.dy + t.runs[run].dy * (NV * L);
    for (int64_t k = t.runs[run].count; k > 0; --k) {
      Vec<E> v[NV];
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) v[j] = load(dy + j * L);
#pragma GCC unroll 16
      for (int i = 0; i < MR; ++i) {
        const E a = kSpread ? rows[i][at] : x[i];
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) multiply_add(acc[i][j], a, v[j]);
      }
      __builtin_prefetch(ahead);
      ahead += ahead_step;
      x += step, at += step, dy += NV * L;
    }
  }
  if (t.n == NV * L) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) {
        T* c = t.c + i * t.ldc + j * L;
        store(c, t.add ? load(c) + acc[i][j] : acc[i][j]);
      }
    return;
  }
  T tmp[MR][NV * L];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) store(&tmp[i][j * L], acc[i][j]);
  for (int i = 0; i < MR; ++i) {
    T* c = t.c + i * t.ldc;
    for (int j = 0; j < t.n; ++j) c[j] = t.add ? c[j] + tmp[i][j] : tmp[i][j];
  }
}

template <class T, bool kSpread, int MR = kMaxRows>
FilterKernel<T> find_filter_kernel(int rows, int vecs) {
  if (rows == MR)
    return vecs == 1 ? &filter_kernel<T, MR, 1, kSpread>
                     : &filter_kernel<T, MR, kTileVecs, kSpread>;
  if constexpr (MR > 1)
    return find_filter_kernel<T, kSpread, MR - 1>(rows, vecs);
  else
    return nullptr;
}

template <class T>
FilterKernel<T> filter_kernel_of(int rows, int vecs, bool spread) {
  if constexpr (kPerElement<T> == 2)
    return find_pair_filter_kernel(rows, vecs, spread);
  else
    return spread ? find_filter_kernel<T, true>(rows, vecs)
                  : find_filter_kernel<T, false>(rows, vecs);
}

// T: what is multiplied. S: what dw is stored as.
template <class T, class S = T>
class FilterGradient {
 public:
  // Whether the sum is long enough, and the rows of dw have vectors.
  static bool serves(const ConvShape& s) {
    return s.n * s.out_size() >= kBlock / 4 && s.og >= kLanes<T> / 2;
  }

  // `q`: the images as patches (only their places are looked at).
  void plan(const ConvShape& s, const Patches<T>& q) {
    m_ = s.taps() * s.cg, n_ = s.og, ldy_ = s.o;
    step_ = q.grid.stride[2] * q.c;
    positions_ = s.n * s.out_size();
    length_ = q.merged * q.cg;
    spread_ = q.inside && length_ < kShortRun;
    if (spread_) {
      length_ = m_;
      int64_t* at = offsets_.allocate(m_);
      for (int64_t i = 0; i < m_; ++i) at[i] = q.offset(q.taps[i / q.cg].at) + i % q.cg;
    }
    const int64_t tiles = ceil_div(length_, kMaxRows);
    low_ = int(length_ / tiles), high_tiles_ = length_ - low_ * tiles;
    for (int more = 0; more < 2; ++more)
      for (int vecs = 1; vecs <= kTileVecs; ++vecs) {
        const int rows = int(min64(low_ + more, kMaxRows));
        kernel_[more][vecs - 1] = filter_kernel_of<T>(rows, vecs, spread_);
      }
    // Columns of a task: their sums stay in L2.
    const int64_t fit = int64_t(l2_bytes()) / 2 / int64_t(sizeof(T)) / m_ / kNr * kNr;
    columns_ = min64(max64(kNr, fit), round_up(n_, kNr));
    if (positions_ < 8 * kBlock) columns_ = kNr;
    column_tasks_ = ceil_div(n_, columns_);
    // Enough parts for 32 tasks, each of a few blocks; their sums within 16 MiB.
    parts_ = min64(ceil_div(positions_, 4 * kBlock), ceil_div(32, column_tasks_));
    parts_ = min64(parts_, max64(1, (4 << 20) / (m_ * n_)));
    part_ = round_up(ceil_div(positions_, parts_), kBlock);
    parts_ = ceil_div(positions_, part_);
    max_runs_ = min64(kBlock, ceil_div(kBlock, q.grid.extent[2]) + 1);
  }

  size_t scratch_bytes() const { return sums_bytes() + size_t(num_threads()) * worker_bytes(); }

  void run(const Patches<T>& q, const T* dy, S* dw, int64_t ldw, void* scratch) const {
    Sum<T>* sums = static_cast<Sum<T>*>(scratch);
    char* workers = static_cast<char*>(scratch) + sums_bytes();
    parallel_for(parts_ * column_tasks_, [&](int64_t task, int worker) {
      const int64_t part = task / column_tasks_, j = task % column_tasks_ * columns_;
      char* own = workers + size_t(worker) * worker_bytes();
      Work w;
      w.panel = reinterpret_cast<T*>(own), own += panel_bytes();
      w.num_runs = reinterpret_cast<int64_t*>(own), own += round_up(taps() * 8, 64);
      w.runs = reinterpret_cast<FilterRun*>(own);
      w.c = sums + part * m_ * n_, w.ldc = n_;
      if constexpr (!kConverts)
        if (parts_ == 1) w.c = dw, w.ldc = ldw;
      w.j0 = j, w.j1 = min64(n_, j + columns_);
      const int64_t end = min64(positions_, (part + 1) * part_);
      for (int64_t p = part * part_; p < end; p += kBlock) {
        w.p = p, w.count = min64(kBlock, end - p);
        w.add = p > part * part_, w.more = p + 2 * kBlock <= end;
        block(q, dy, w);
      }
    });
    if (parts_ == 1 && !kConverts) return;
    const int64_t rows = max64(1, 16384 / (n_ * parts_));
    parallel_for(ceil_div(m_, rows), [&](int64_t task, int) {
      for (int64_t i = task * rows; i < min64(m_, (task + 1) * rows); ++i) {
        const Sum<T>* from = sums + i * n_;
        for (int64_t j = 0; j < n_; ++j) {
          Sum<T> v = from[j];
          for (int64_t part = 1; part < parts_; ++part) v += from[part * m_ * n_ + j];
          narrow(v, dw[i * ldw + j]);
        }
      }
    });
  }

 private:
  static constexpr int64_t kBlock = 256;   // positions: a panel of dy stays in L1
  static constexpr int64_t kShortRun = 7;  // rows
  static constexpr int64_t kNr = kTileCols<T>;
  static constexpr bool kConverts = sizeof(S) != sizeof(Sum<T>);

  struct Work {
    T* panel;  // of dy
    int64_t* num_runs;
    FilterRun* runs;  // [taps][max_runs_]
    Sum<T>* c;
    int64_t ldc, j0, j1;
    int64_t p, count;
    bool add, more;  // whether there are sums already; whether another block follows
  };
  int64_t taps() const { return m_ / length_; }  // rows that lie apart
  size_t sums_bytes() const {
    return parts_ > 1 || kConverts ? size_t(round_up(parts_ * m_ * n_ * int64_t(sizeof(T)), 64))
                                   : 0;
  }
  static size_t panel_bytes() { return size_t(kBlock * kNr) * sizeof(T); }
  size_t worker_bytes() const {
    return panel_bytes() + size_t(round_up(taps() * 8, 64)) +
           size_t(round_up(taps() * max_runs_ * int64_t(sizeof(FilterRun)), 64));
  }

  void block(const Patches<T>& q, const T* dy, const Work& w) const {
    FilterTile<T> t{};
    t.step = step_, t.dy = w.panel, t.ldc = w.ldc, t.add = w.add;
    const int64_t taps_of_run = length_ / q.cg;
    for (int64_t f = 0; f < taps(); ++f)
      w.num_runs[f] = find_runs(q, q.taps + f * taps_of_run, w.p, w.count, w.runs + f * max_runs_);
    for (int64_t j = w.j0; j < w.j1; j += kNr) {
      t.n = int(min64(kNr, w.j1 - j));
      const int vecs = int(ceil_div(t.n, kLanes<T>));
      const T* from = dy + w.p * ldy_ + j;
      pack_cols<T, T>(w.panel, vecs * kLanes<T>, from, ldy_, t.n, w.count);
      // The first tiles fetch what the next block packs.
      int64_t lines = w.more ? vecs : 0;
      for (int64_t i = 0, tile = 0; i < length_; ++tile) {
        const bool more = tile < high_tiles_;
        for (int64_t f = 0; f < taps(); ++f) {
          t.ahead_step = lines > 0 ? ldy_ : 0;
          t.ahead = lines > 0 ? from + kBlock * ldy_ + --lines * kLanes<T> : w.panel;
          t.num_runs = w.num_runs[f], t.runs = w.runs + f * max_runs_;
          t.x = q.data + (spread_ ? 0 : i + q.offset(q.taps[f * taps_of_run].at));
          t.spread = offsets_.get() + i;
          t.c = w.c + (f * length_ + i) * w.ldc + j;
          kernel_[more][vecs - 1](t);
        }
        i += low_ + more;
      }
    }
  }

  // The positions of a block at which a tap lies in the image.
  int64_t find_runs(const Patches<T>& q, const Tap* tap, int64_t p, int64_t count,
                    FilterRun* runs) const {
    const int64_t stride = q.grid.stride[2], w0 = q.grid.base[2] + tap->at[2];
    const int64_t first = q.inside || w0 >= 0 ? 0 : ceil_div(-w0, stride);
    const int64_t last = q.inside       ? q.grid.extent[2]
                         : w0 < q.in[2] ? ceil_div(q.in[2] - w0, stride)
                                        : 0;
    GridCursor cursor(q.grid, p);
    int64_t num = 0;
    for (int64_t done = 0; done < count;) {
      const int64_t from = cursor.p[2], length = min64(count - done, q.grid.extent[2] - from);
      const int64_t d = cursor.at(0), h = cursor.at(1);
      if (q.inside || (uint64_t(d + tap->at[0]) < uint64_t(q.in[0]) &&
                       uint64_t(h + tap->at[1]) < uint64_t(q.in[1]))) {
        const int64_t begin = max64(from, first), end = min64(from + length, last);
        if (begin < end)
          runs[num++] = {(((cursor.n * q.in[0] + d) * q.in[1] + h) * q.in[2] + begin * stride +
                          q.grid.base[2]) *
                             q.c,
                         done + begin - from, end - begin};
      }
      done += length;
      cursor.p[2] += length - 1;
      cursor.next();
    }
    return num;
  }

  int64_t m_ = 0, n_ = 0, ldy_ = 0, step_ = 0, positions_ = 0;
  int64_t length_ = 1;  // rows side by side in memory (all rows, if spread)
  bool spread_ = false;
  int low_ = 1;  // rows of a tile; the first `high_tiles_` of a run have one more
  int64_t high_tiles_ = 0, columns_ = 1, column_tasks_ = 1, parts_ = 1, part_ = 1, max_runs_ = 1;
  FilterKernel<T> kernel_[2][kTileVecs] = {};
  Zeros<int64_t> offsets_;
};

}  // namespace
}  // namespace hb::HB_ISA
