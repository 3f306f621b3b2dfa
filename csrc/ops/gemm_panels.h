// What the tile loops of the matrix-multiply core (gemm.h) walk over: panels of A and of B, which
// are packed when their turn comes or were before, and tiles of C. Each fills in its part of the
// `Tile` that a register kernel gets.
#pragma once
#include "ops/gemm_plan.h"

namespace hb::HB_ISA {
namespace {

// A piece of C that one worker computes: panels [p0, p1) of A by columns [j0, j1), summed over k in
// [k0, k1).
struct Block {
  int64_t p0, p1, j0, j1, k0, k1;
  bool begins, ends;  // no k before, none after: those add to what C holds, and leave it unfinished
};

// ---- A ----------------------------------------------------------------------------------------
// Tile registers want rows of A, 16 of k long: [16][rows] becomes [rows][16], piece by piece. Up to
// 16 elements after the panel are read.
template <class T>
void panel_to_tiles(T* panel, int rows, int64_t kc) {
  constexpr int L = kLanes<T>;
  static_assert(L == 16 && kMaxRows <= L);
  for (; kc > 0; kc -= L, panel += L * rows) {
    const int n = int(min64(L, kc));
    Vec<T> v[L];
#pragma GCC unroll 16
    for (int q = 0; q < L; ++q) v[q] = q < n ? load(panel + q * rows) : Vec<T>{};
    transpose(v);
    for (int i = 0; i < rows; ++i)
      if (n == L)
        store(panel + i * L, v[i]);
      else
        memcpy(static_cast<void*>(panel + i * n), &v[i], size_t(n) * sizeof(T));
  }
}

// Panels [p0, p1) of A, one after another: panel p starts (row_at(p) - row_at(p0)) * kc behind dst.
template <class T, class A>
void pack_a(const GemmPlan<T>& plan, const A& a, T* dst, int64_t p0, int64_t p1, int64_t k,
            int64_t kc) {
  const int64_t i0 = plan.row_at(p0), i1 = plan.row_at(p1);
  const int64_t i = plan.row_at(max64(p0, min64(p1, plan.tall)));  // from here on a row less each
  if (i > i0) pack_panels<T>(a, dst, plan.mr, i0, i, k, kc);
  if (i1 > i) pack_panels<T>(a, dst + (i - i0) * kc, plan.mr - 1, i, i1, k, kc);
  if constexpr (kOnTiles<T>)
    for (int64_t p = p0; p < p1 && plan.on_tiles; ++p)
      panel_to_tiles(dst + (plan.row_at(p) - i0) * kc, plan.rows_of(p), kc);
}

template <class T, class A>
class PanelsOfA {
 public:
  // memory: of the worker; `kept`: it holds all of A, packed.
  PanelsOfA(const GemmPlan<T>& plan, const A& a, T* memory, bool kept, const Block& block)
      : plan_(plan), a_(a), memory_(memory), kept_(kept), block_(block) {}

  void begin_k(int64_t k, int64_t kc) {
    k_ = k, kc_ = kc;
    if constexpr (kHasRuns)
      if (plan_.read_a == Plan::ReadA::kRuns && kc > 0)
        for (int64_t p = block_.p0; p < block_.p1; ++p) find_runs(p);
    packed_ = kept_ ? memory_ + k * plan_.m : memory_;
    first_row_ = 0;
  }
  // Panels [p, p1) are next.
  void begin_group(int64_t p, int64_t p1) {
    if (kept_ || plan_.read_a != Plan::ReadA::kPacked) return;
    first_row_ = plan_.row_at(p);
    if (kc_ > 0) pack_a(plan_, a_, memory_, p, p1, k_, kc_);
  }
  HB_INLINE void place(Tile<T>& t, int64_t p) {
    p_ = p;
    t.m = plan_.rows_of(p);
    const int64_t i = plan_.row_at(p);
    switch (plan_.read_a) {
      case Plan::ReadA::kPacked:
        t.a = packed_ + (i - first_row_) * kc_, t.lda = 0;
        break;
      case Plan::ReadA::kRuns: {
        if (kc_ == 0) break;
        const int64_t* words = runs_of(p);
        t.runs = words[0], t.length = words + 1;
        t.in_place = reinterpret_cast<const T* const*>(words + 1 + plan_.max_runs);
        break;
      }
      case Plan::ReadA::kColumns:
        if constexpr (requires { a_.in_place(i, k_), a_.ld; })
          t.a = a_.in_place(i, k_), t.lda = a_.ld;
    }
  }
  // One of `parts` parts of what is packed after the panel that was placed: the next panel, or the
  // first one of the next kc, or of the next block.
  HB_INLINE Lines<T> next(int64_t part, int64_t parts) const {
    int64_t p = p_ + 1, k = k_;
    if (p == block_.p1) {
      k += kc_;
      k < plan_.k ? p = block_.p0 : k = 0;
    }
    if (p >= plan_.a_panels) return {};
    return lines_of<T>(a_, plan_.row_at(p), plan_.rows_of(p), k, min64(plan_.kc, plan_.k - k), part,
                       parts);
  }

 private:
  typedef GemmPlan<T> Plan;
  static constexpr bool kHasRuns = requires(const A& a, const T** rows, int64_t* length) {
    a.read(rows, length, 1, 0, 1, 0, 1);
  };
  int64_t* runs_of(int64_t p) const {
    return reinterpret_cast<int64_t*>(memory_) + (p - block_.p0) * plan_.words_of_runs();
  }
  void find_runs(int64_t p) const {
    int64_t* words = runs_of(p);
    const T** rows = reinterpret_cast<const T**>(words + 1 + plan_.max_runs);
    const int n = plan_.rows_of(p);
    words[0] = a_.read(rows, words + 1, n, plan_.row_at(p), n, k_, kc_);
  }

  const Plan& plan_;
  const A& a_;
  T* const memory_;
  const bool kept_;
  const Block& block_;
  int64_t p_ = 0, k_ = 0, kc_ = 0;
  const T* packed_ = nullptr;  // from this row of A on
  int64_t first_row_ = 0;
};

// ---- B ----------------------------------------------------------------------------------------
// Columns [j0, j1), elements [k0, k1) of B: for each kc, for each panel, [kc][NR]. By all threads,
// unless a task asks for it.
template <class T, class B>
void pack_b(const GemmPlan<T>& plan, const B& b, T* dst, int64_t j0, int64_t j1, int64_t k0,
            int64_t k1) {
  constexpr int64_t kNr = kTileCols<T>, kGroup = 4;  // panels of one task
  const int64_t panels = ceil_div(j1 - j0, kNr), groups = ceil_div(panels, kGroup);
  parallel_unless(plan.serial, ceil_div(k1 - k0, plan.kc) * groups, [&](int64_t task, int) {
    const int64_t k = k0 + task / groups * plan.kc, kc = min64(plan.kc, k1 - k);
    const int64_t first = task % groups * kGroup;
    pack_panels(b, dst + (k - k0) * panels * kNr + first * kNr * kc, int(kNr), j0 + first * kNr,
                min64(j1, j0 + (first + kGroup) * kNr), k, kc);
  });
}

enum class SourceOfB {
  kPacked,    // before
  kInPlace,   // not at all, but for the last panel if it is not full: before
  kCopied,    // by the kernel that reads a panel first; the last, if it is not full, here
  kStreamed,  // here, a few panels at a time, which the next ones overwrite
};

template <class T, class B>
class PanelsOfB {
 public:
  // before: what is packed of columns [j0, j1), elements from k0 on; here: place for the others.
  PanelsOfB(const GemmPlan<T>& plan, const B& b, SourceOfB source, const T* before, T* here,
            const Block& block, int64_t j0, int64_t j1, int64_t k0)
      : plan_(plan),
        b_(b),
        source_(source),
        before_(before),
        here_(here),
        block_(block),
        j0_(j0),
        width_(round_up(j1 - j0, kNr)),
        k0_(k0) {}

  // `first`: no panel of A has met it.
  HB_INLINE void place(Tile<T>& t, int64_t j, int64_t k, int64_t kc, bool first) {
    j_ = j, k_ = k, kc_ = kc;
    t.n = int(min64(kNr, block_.j1 - j));
    const bool full = plan_.n - j >= kNr;
    switch (source_) {
      case SourceOfB::kPacked:
        return set_packed(t, before_ + (k - k0_) * width_ + (j - j0_) * kc);
      case SourceOfB::kInPlace:
        return full ? in_place(t) : set_packed(t, before_ + (k - k0_) * kNr);
      case SourceOfB::kCopied: {
        // A kept B stays; beside a kept A there is room for one panel.
        T* own = here_;
        if (plan_.schedule == GemmPlan<T>::kKeepB) own += k * width_ + j * kc;
        if (first && full) {
          t.b_copy = own;
          return in_place(t);
        }
        if (first) pack_panels(b_, own, int(kNr), j, plan_.n, k, kc);
        return set_packed(t, own);
      }
      case SourceOfB::kStreamed: {
        const int64_t q = turn();
        if (q == 0)
          pack_panels(b_, here_, int(kNr), j, min64(block_.j1, j + kStreamed * kNr), k, kc);
        return set_packed(t, here_ + q * kNr * kc);
      }
    }
  }
  bool packed() const { return source_ == SourceOfB::kPacked; }
  // One of `parts` parts of what is read from the operand after the panel that was placed. Panels
  // that are packed together are fetched together.
  HB_INLINE Lines<T> next(int64_t part, int64_t parts) const {
    if (packed()) return {};
    const int64_t group = source_ == SourceOfB::kStreamed ? kStreamed : 1, q = turn() % group;
    int64_t j = j_ + (group - q) * kNr, k = k_;
    if (j >= block_.j1) j = block_.j0, k += kc_;
    if (k >= plan_.k) return {};
    return lines_of<T>(b_, j, min64(group * kNr, block_.j1 - j), k, min64(plan_.kc, plan_.k - k),
                       q * parts + part, group * parts);
  }

 private:
  static constexpr int64_t kNr = kTileCols<T>, kStreamed = GemmPlan<T>::kStreamed;

  HB_INLINE int64_t turn() const { return (j_ - block_.j0) / kNr % kStreamed; }
  HB_INLINE static void set_packed(Tile<T>& t, const T* panel) { t.b = panel, t.ldb = kNr; }
  HB_INLINE void in_place(Tile<T>& t) const {
    if constexpr (requires { b_.in_place(j_, k_), b_.ld; })
      t.b = b_.in_place(j_, k_), t.ldb = b_.ld;
  }

  const GemmPlan<T>& plan_;
  const B& b_;
  const SourceOfB source_;
  const T* const before_;
  T* const here_;
  const Block& block_;
  const int64_t j0_, width_, k0_;
  int64_t j_ = 0, k_ = 0, kc_ = 0;
};

// ---- C ----------------------------------------------------------------------------------------
// c[j] = x[j] and the epilogue, j < n.
template <class X, class S>
__attribute__((noinline)) void convert_row(const X* x, S* c, const Epilogue<S>& e, int64_t n) {
  constexpr int L = kLanes<X>;
  int64_t j = 0;
  for (; j + L <= n; j += L) store_as(c + j, e.template vector<X>(load(x + j), j, j));
  for (; j < n; ++j) narrow(e.template scalar<X>(x[j], j, j), c[j]);
}

// Sums go to C as they are (S is Sum<T>), or are converted with the last kc; before that they wait
// in `waiting` [m][n], which is null if there is but one kc.
template <class T, class S>
class TilesOfC {
 public:
  // offsets: of the block's rows from c.
  TilesOfC(const GemmPlan<T>& plan, S* c, const Epilogue<S>* epilogue, Sum<T>* waiting,
           const int64_t* offsets, const Block& block)
      : c_(c),
        epilogue_(epilogue),
        waiting_(waiting),
        n_(plan.n),
        offsets_(offsets),
        first_row_(plan.row_at(block.p0)),
        block_(block) {
    if constexpr (kConverts)
      for (int64_t r = 0; r < kMaxRows; ++r) plain_[r] = r * ld();
  }

  HB_INLINE void begin_k(Tile<T>& t, int64_t k, int64_t kc) {
    t.kc = kc;
    t.add = k > block_.k0 || !block_.begins;
    last_ = k + kc == block_.k1 && block_.ends;
    now_ = last_ ? epilogue_ : nullptr;
    if constexpr (!kConverts) {
      t.relu = now_ && now_->relu;
      t.epilogue = now_ && !now_->simple() ? now_ : nullptr;
    }
  }
  HB_INLINE void begin_column(Tile<T>& t, int64_t j) {
    j_ = j;
    if constexpr (!kConverts) {
      t.bias = now_ && now_->bias ? now_->bias + j : nullptr;
      t.column = j;
      t.c = c_ + j;
    }
  }
  HB_INLINE void place(Tile<T>& t, int64_t i) {
    const int64_t* rows = offsets_ + (i - first_row_);
    if constexpr (!kConverts) {
      t.row = rows;
    } else {
      t.c = waiting_ ? waiting_ + i * n_ + j_ : fresh_;
      t.row = plain_;
    }
    if constexpr (kRounds) {
      const bool whole = now_ && now_->simple() && t.n % kLanes<T> == 0;
      t.half = whole ? reinterpret_cast<uint16_t*>(c_ + j_) : nullptr;
      t.half_row = rows;
      t.half_bias =
          whole && now_->bias ? reinterpret_cast<const uint16_t*>(now_->bias + j_) : nullptr;
      t.relu = whole && now_->relu;
    }
  }
  // The kernel has run.
  HB_INLINE void finish(const Tile<T>& t, int64_t i) const {
    if constexpr (kConverts) {
      if (!last_ || t.half) return;
      const int64_t* rows = offsets_ + (i - first_row_);
      for (int r = 0; r < t.m; ++r)
        convert_row(t.c + r * ld(), c_ + rows[r] + j_, now_->columns(j_).elements(rows[r]), t.n);
    }
  }

 private:
  static constexpr bool kConverts = sizeof(S) != sizeof(Sum<T>);
  // The register kernels round sums themselves.
  static constexpr bool kRounds = kSame<T, S> && kConverts && kPerElement<T> == 2;

  int64_t ld() const { return waiting_ ? n_ : kTileCols<T>; }

  S* const c_;
  const Epilogue<S>* const epilogue_;  // or null
  Sum<T>* const waiting_;
  const int64_t n_;
  const int64_t* const offsets_;
  const int64_t first_row_;
  const Block& block_;
  int64_t j_ = 0;
  bool last_ = false;
  const Epilogue<S>* now_ = nullptr;
  Sum<T> fresh_[kConverts ? kMaxRows * kTileCols<T> : 1];
  int64_t plain_[kConverts ? kMaxRows : 1];
};

}  // namespace
}  // namespace hb::HB_ISA
