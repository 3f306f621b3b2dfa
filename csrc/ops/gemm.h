// The matrix-multiply core: C[M, N] = A[M, K] * B[K, N], for matmul and for every convolution, with
// an epilogue (epilogue.h) applied while a tile of C is in registers or L1. This file runs a
// product: tasks and tile loops. Its parts:
//   gemm_operands.h  what A, B and C are: packers of matrices; those of image patches: conv.h
//   gemm_plan.h      what is decided once, from sizes
//   gemm_panels.h    what the loops walk over: panels of A and of B, tiles of C
//   gemm_kernel.h    the register kernel: one panel of A by one of B
//
// The plan says which operand every thread packs whole for itself, once per run: the smaller one.
// Tasks are tiles of C, several for each thread, claimed as they come; there is no barrier, and no
// thread reads what another core has just written (that costs more than to pack twice).
//
//   kKeepA (few rows): for a tile of columns (a task):  for kc of K:  for a panel of B: pack it,
//                        for a panel of A (L2): register kernel
//   kKeepB:            for a tile of rows (a task):     for kc of K:  pack A [mc x kc] (in L2);
//                                                       for a panel of B: for a panel of A: kernel
//                      or, where B [kc x N] fits L2:    for a panel of A: pack it (in L1) or point
//                                              at its rows in place;  for a panel of B: kernel
//   kShareB (both too large): as kKeepB, but all threads pack one B, a slab at a time
//
// The floor is the rate of multiply-adds: the register kernel alone reaches 97 to 99 % of it with
// its panels in L1, 95 % with A in L2. What else costs time, and what is done about it:
//   * packing: an element of A takes part in N multiply-adds, one of B in M, and packing it costs
//     the time of 15 to 30, most of it waiting for memory. A row-major B is packed by the kernel
//     that uses it first, in place (two more stores for each k); packers fetch ahead, and kernels
//     fetch what will be packed next: a panel from L3 would slow the first tile that uses it.
//   * visits to C, one for each kc: rows a power of two apart meet in a few sets of the caches, so
//     a tile never stays. The kernel fetches it while it sums; kc is as long as L2 allows.
//   * rows that fill no panel: the panels of A share M evenly.
#pragma once
#include "ops/gemm_panels.h"

namespace hb::HB_ISA {
namespace {

// A product of given size, planned once. `batch` products of that size run together.
template <class T>
class Gemm {
 public:
  Gemm() = default;
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  void plan(int64_t m, int64_t n, int64_t k, int64_t batch, const GemmOperands& operands) {
    plan_.make(m, n, k, batch, operands);
  }

  // Packs a B that never changes, operand 1 of the kernel (the same for the whole batch), once,
  // after plan(); returns whether it did, as some products read B as it is.
  template <class B>
  bool pack_constant_b(const Prepare& p, const B& b) {
    if (plan_.empty() || !plan_.shares_tiles() || plan_.k == 0) return false;
    plan_.b_is_constant();
    int64_t layout[16] = {'g', HB_ISA_LEVEL, sizeof(T), kPerElement<T>, plan_.n, plan_.k, plan_.kc};
    int64_t words = 0;
    if constexpr (requires { b.layout(p.constants[1], layout); })
      b.layout(p.constants[1], layout + 8), words = 16;
    packed_b_ = pack_once<T>(p, 1, {layout, words}, size_t(plan_.k * plan_.slab_n) * sizeof(T),
                             [&](T* to) { pack_b(plan_, b, to, 0, plan_.n, 0, plan_.k); });
    return true;
  }

  size_t scratch_bytes() const { return plan_.scratch_bytes(); }

  // make(i) gives product i of the batch. b_shared: they have one B.
  template <class Make>
  void run(const Make& make, bool b_shared, void* scratch) const {
    if (plan_.empty()) return;
    if (plan_.schedule == Plan::kAlone) {
      parallel_for(plan_.batch, [&](int64_t i, int worker) {
        run_alone(make(i), plan_.worker_at(scratch, worker));
      });
      return;
    }
    for (int64_t i = 0; i < plan_.batch; ++i) {
      const auto p = make(i);
      const bool b_ready = b_shared && i > 0;
      if (plan_.schedule == Plan::kSplitK)
        run_split(p, scratch);
      else if (plan_.schedule == Plan::kShareB)
        run_shared(p, scratch, b_ready);
      else
        run_kept(p, scratch, b_ready);
    }
  }

 private:
  typedef GemmPlan<T> Plan;
  typedef typename Plan::Worker Worker;
  static constexpr int64_t kNr = kTileCols<T>;
  static constexpr int64_t kFetchK = 64;  // shorter tiles fetch nothing: not worth finding out

  // Tile registers are configured for as long as a worker computes.
  struct OpenTiles {
    const bool open;
    explicit OpenTiles(bool on) : open(on) {
      if constexpr (kOnTiles<T>)
        if (open) open_tiles();
    }
    ~OpenTiles() {
      if constexpr (kOnTiles<T>)
        if (open) close_tiles();
    }
  };

  // The tile loops. All panels of A meet a panel of B in turn, or (one by one) all panels of B a
  // panel of A. The kernels fetch what is packed or read next meanwhile, a part each: of B, and
  // where panels of A come one by one, of A once B is packed.
  template <class A, class B, class C>
  void compute(const Block& block, A a, B b, C c) const {
    const OpenTiles tiles(plan_.on_tiles);
    const int64_t group = plan_.one_by_one ? 1 : max64(1, block.p1 - block.p0);
    const int64_t b_panels = ceil_div(block.j1 - block.j0, kNr);
    int64_t k = block.k0;
    do {  // once if there is no k: the result is the epilogue's
      const int64_t kc = min64(plan_.kc, block.k1 - k);
      Tile<T> t{};
      a.begin_k(k, kc);
      c.begin_k(t, k, kc);
      for (int64_t p0 = block.p0; p0 < block.p1; p0 += group) {
        const int64_t p1 = min64(block.p1, p0 + group);
        const bool first = p0 == block.p0;
        a.begin_group(p0, p1);
        for (int64_t j = block.j0; j < block.j1; j += kNr) {
          b.place(t, j, k, kc, first);
          c.begin_column(t, j);
          for (int64_t p = p0; p < p1; ++p) {
            a.place(t, p);
            c.place(t, plan_.row_at(p));
            if (kc >= kFetchK)
              t.next = plan_.one_by_one && (!first || b.packed())
                           ? a.next((j - block.j0) / kNr, b_panels)
                           : b.next(p - p0, p1 - p0);
            if (t.b_copy) {
              plan_.copy_kernel(t.m)(t);
              t.b = t.b_copy, t.ldb = kNr, t.b_copy = nullptr;
            } else {
              plan_.kernel(t.m, t.n)(t);
            }
            c.finish(t, plan_.row_at(p));
          }
        }
      }
      k += kc;
    } while (k < block.k1);
  }

  template <class P>
  PanelsOfA<T, decltype(P::a)> panels_of_a(const P& p, const Worker& w, const Block& block) const {
    return {plan_, p.a, w.a, plan_.schedule == Plan::kKeepA, block};
  }
  template <class P>
  auto tiles_of_c(const P& p, Sum<T>* sums, const Worker& w, const Block& block) const {
    p.rows.rows(plan_.row_at(block.p0), plan_.row_at(block.p1) - plan_.row_at(block.p0), w.offsets);
    return TilesOfC<T, Elem<decltype(p.c)>>(plan_, p.c, &p.epilogue,
                                            plan_.k > plan_.kc ? sums : nullptr, w.offsets, block);
  }
  // The tile of C of a task, within columns [j0, j1); empty for the last ones, perhaps.
  Block tile_of(int64_t task, int64_t j0, int64_t j1, int64_t k0, int64_t k1) const {
    const int64_t r = task / plan_.col_tiles, c = task % plan_.col_tiles;
    const int64_t b_panels = ceil_div(j1 - j0, kNr);
    const auto row = [&](int64_t i) { return Plan::share(plan_.a_panels, plan_.row_tiles, i); };
    const auto column = [&](int64_t i) {
      return min64(j1, j0 + Plan::share(b_panels, plan_.col_tiles, i) * kNr);
    };
    return {row(r), row(r + 1), column(c), column(c + 1), k0, k1, k0 == 0, k1 == plan_.k};
  }

  // One task per tile of C; tasks of one worker follow each other along the operand that is not
  // kept. A worker that gets its first task packs the kept operand for itself: reading what another
  // core has just written costs more than packing twice.
  template <class P>
  void run_kept(const P& p, void* scratch, bool b_ready) const {
    const bool keep_a = plan_.schedule == Plan::kKeepA;
    if (keep_a || !b_ready)
      for (int i = 0; i < (plan_.serial ? 1 : num_threads()); ++i)
        *plan_.worker_at(scratch, i).kept = 0;
    parallel_unless(plan_.serial, plan_.row_tiles * plan_.col_tiles, [&](int64_t task, int worker) {
      const Worker w = plan_.worker_at(scratch, worker);
      const Block block = tile_of(task, 0, plan_.n, 0, plan_.k);
      if (block.p0 >= block.p1 || block.j0 >= block.j1) return;
      const bool ready = *w.kept;
      *w.kept = 1;
      if (keep_a && !ready)
        for (int64_t k = 0; k < plan_.k; k += plan_.kc)
          pack_a(plan_, p.a, w.a + k * plan_.m, 0, plan_.a_panels, k, min64(plan_.kc, plan_.k - k));
      SourceOfB source = stored_b();
      if (plan_.read_b == Plan::ReadB::kCopied && (keep_a || !ready))
        source = SourceOfB::kCopied;
      else if (source == SourceOfB::kPacked && keep_a && !packed_b_)
        source = SourceOfB::kStreamed;
      if (!packed_b_ && !ready) pack_before(source, p.b, w.b, 0, plan_.n, 0, plan_.k);
      compute(block, panels_of_a(p, w, block),
              PanelsOfB(plan_, p.b, source, packed_b_ ? packed_b_ : w.b, w.b, block, 0, plan_.n, 0),
              tiles_of_c(p, plan_.sums(scratch), w, block));
    });
  }

  template <class P>
  void run_shared(const P& p, void* scratch, bool b_ready) const {
    const SourceOfB source = stored_b();
    const bool one_slab = plan_.k <= plan_.slab_k && plan_.n <= plan_.slab_n;
    T* shared = plan_.shared_b(scratch);
    for (int64_t j0 = 0; j0 < plan_.n; j0 += plan_.slab_n) {
      const int64_t j1 = min64(plan_.n, j0 + plan_.slab_n);
      int64_t k0 = 0;
      do {
        const int64_t k1 = min64(plan_.k, k0 + plan_.slab_k);
        if (!packed_b_ && !(b_ready && one_slab)) pack_before(source, p.b, shared, j0, j1, k0, k1);
        parallel_unless(plan_.serial, plan_.row_tiles * plan_.col_tiles,
                        [&](int64_t task, int worker) {
                          const Worker w = plan_.worker_at(scratch, worker);
                          const Block block = tile_of(task, j0, j1, k0, k1);
                          if (block.j0 >= block.j1) return;
                          compute(block, panels_of_a(p, w, block),
                                  PanelsOfB(plan_, p.b, source, packed_b_ ? packed_b_ : shared, w.b,
                                            block, j0, j1, k0),
                                  tiles_of_c(p, plan_.sums(scratch), w, block));
                        });
        k0 += plan_.slab_k;
      } while (k0 < plan_.k);
    }
  }

  // A whole small product by one worker.
  template <class P>
  void run_alone(const P& p, const Worker& w) const {
    const SourceOfB source = stored_b();
    pack_before(source, p.b, w.b, 0, plan_.n, 0, plan_.k);
    for (int64_t p0 = 0; p0 < plan_.a_panels; p0 += plan_.block) {
      const int64_t p1 = min64(plan_.a_panels, p0 + plan_.block);
      const Block block{p0, p1, 0, plan_.n, 0, plan_.k, true, true};
      compute(block, panels_of_a(p, w, block),
              PanelsOfB(plan_, p.b, source, w.b, w.b, block, 0, plan_.n, 0),
              tiles_of_c(p, w.sums, w, block));
    }
  }

  // One task per part of K; each packs its own pieces of A and B, and leaves its own sums.
  template <class P>
  void run_split(const P& p, void* scratch) const {
    const SourceOfB source = stored_b();
    const int64_t m = plan_.m, n = plan_.n;
    Sum<T>* sums = plan_.sums(scratch);
    parallel_unless(plan_.serial, plan_.parts, [&](int64_t part, int worker) {
      const Worker w = plan_.worker_at(scratch, worker);
      const int64_t k0 = part * plan_.part_k, k1 = min64(plan_.k, k0 + plan_.part_k);
      for (int64_t k = k0; k < k1; k += plan_.kc) {
        const int64_t end = min64(k1, k + plan_.kc);
        pack_before(source, p.b, w.b, 0, n, k, end);
        for (int64_t p0 = 0; p0 < plan_.a_panels; p0 += plan_.block) {
          const int64_t p1 = min64(plan_.a_panels, p0 + plan_.block);
          const Block block{p0, p1, 0, n, k, end, k == k0, end == k1};
          const int64_t i = plan_.row_at(p0);
          PlainRows{n}.rows(i, plan_.row_at(p1) - i, w.offsets);
          compute(
              block, panels_of_a(p, w, block),
              PanelsOfB(plan_, p.b, source, w.b, w.b, block, 0, n, k),
              TilesOfC<T, Sum<T>>(plan_, sums + part * m * n, nullptr, nullptr, w.offsets, block));
        }
      }
    });
    const int64_t rows = max64(1, 16384 / (n * plan_.parts));
    parallel_unless(plan_.serial, ceil_div(m, rows), [&](int64_t task, int) {
      for (int64_t i = task * rows; i < min64(m, (task + 1) * rows); ++i) {
        Sum<T>* x = sums + i * n;
        for (int64_t q = 1; q < plan_.parts; ++q)
          for (int64_t j = 0; j < n; ++j) x[j] += x[q * m * n + j];
        int64_t offset;
        p.rows.rows(i, 1, &offset);
        convert_row(x, p.c + offset, p.epilogue.elements(offset), n);
      }
    });
  }

  // How B is read where it is packed, if at all, before any tile.
  SourceOfB stored_b() const {
    return plan_.read_b == Plan::ReadB::kInPlace ? SourceOfB::kInPlace : SourceOfB::kPacked;
  }
  template <class B>
  void pack_before(SourceOfB source, const B& b, T* memory, int64_t j0, int64_t j1, int64_t k0,
                   int64_t k1) const {
    if (source == SourceOfB::kInPlace)
      j0 += (j1 - j0) / kNr * kNr;
    else if (source != SourceOfB::kPacked)
      return;
    if (j0 < j1 && k0 < k1) pack_b(plan_, b, memory, j0, j1, k0, k1);
  }

  Plan plan_;
  const T* packed_b_ = nullptr;
};

}  // namespace
}  // namespace hb::HB_ISA
