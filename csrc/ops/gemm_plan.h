// The plan of a product: what the matrix-multiply core (gemm.h) decides once, from sizes alone. How
// rows and columns are cut into panels and K into pieces of kc, who packs which operand, which
// tasks there are, and what scratch a run needs.
//
// K is cut by size only (into kc; into parts where M x N is small and K long, as in a filter
// gradient, with partial sums added in the order of the parts), so the result has the same bits
// for every number of threads.
#pragma once
#include "core/kernel.h"
#include "ops/gemm_operands.h"

namespace hb::HB_ISA {
namespace {

// Longest piece of K: panels of A and B fit L1 together.
constexpr int64_t kMaxKc = 256;
// The kernels of AVX-512 ask so little of L2 that a panel of B may be longer than L1: half as many
// visits to C are worth more. Products of several neighbours are faster still.
template <class T>
constexpr int64_t kMaxKcOf = kPerElement<T> > 1   ? 1024
                             : HB_VEC_BYTES == 64 ? 512
                                                  : kMaxKc;

// What the caller knows of the operands.
struct GemmOperands {
  bool converts = false;   // C is not stored as sums are
  bool b_rows = false;     // the rows of B can be read in place (row-major, as T)
  int64_t a_run = 0;       // so can those of A, in runs of at least so many elements; 0: cannot
  bool a_columns = false;  // or the columns of A (they lie along memory)
};

template <class T>
struct GemmPlan {
  static constexpr int64_t kNr = kTileCols<T>;

  enum Schedule {
    kKeepA,   // every worker packs all of A for itself; a task is a tile of columns
    kKeepB,   // every worker packs all of B for itself; a task is a tile of rows
    kShareB,  // all pack one B, a slab at a time; a task is a tile of rows
    kSplitK,  // a task is a part of K
    kAlone,   // a task is a whole product of the batch
  };
  enum class ReadA { kPacked, kRuns, kColumns };    // runs of rows, or columns, in place
  enum class ReadB { kPacked, kInPlace, kCopied };  // copied: packed by the first kernel to read
  static constexpr int64_t kStreamed = 4;           // panels of B packed at a time beside a kept A

  int64_t m = 0, n = 0, k = 0, batch = 0;
  bool serial = false;    // too small to wake other threads
  bool on_tiles = false;  // on tile registers
  Schedule schedule = kShareB;
  ReadA read_a = ReadA::kPacked;
  ReadB read_b = ReadB::kPacked;
  // Panels of A differ by a row at most, so a packed one holds no row that is not one of A: the
  // first `tall` have `mr` rows, the others one less.
  int64_t a_panels = 0, tall = 0;
  int mr = 1;
  int64_t kc = 1;
  int64_t max_runs = 0;  // of a panel of A in place, within kc
  // The tasks of kKeepA, kKeepB, kShareB; `block` panels of A at most are computed together.
  int64_t row_tiles = 1, col_tiles = 1, block = 1;
  bool one_by_one = false;         // panels of A meet all of B (kc), in L2, one by one
  int64_t slab_n = 1, slab_k = 1;  // of a shared B
  int64_t parts = 1, part_k = 0;   // of K

  bool empty() const { return m == 0 || n == 0 || batch == 0; }
  bool shares_tiles() const { return schedule <= kShareB; }
  HB_INLINE int64_t row_at(int64_t panel) const { return panel * mr - max64(0, panel - tall); }
  HB_INLINE int rows_of(int64_t panel) const { return panel < tall ? mr : mr - 1; }
  // Where part i of `parts` parts of n things starts. The larger parts come first: threads that
  // claim them in turn then end together.
  HB_INLINE static int64_t share(int64_t n, int64_t parts, int64_t i) {
    return n / parts * i + min64(i, n % parts);
  }

  HB_INLINE TileKernel<T> kernel(int rows, int cols) const {
    return kernel_[rows < mr][cols > kLanes<T>];
  }
  // For full panels of B, which it packs meanwhile.
  HB_INLINE TileKernel<T> copy_kernel(int rows) const { return copy_kernel_[rows < mr]; }

  void make(int64_t rows, int64_t cols, int64_t depth, int64_t products, const GemmOperands& o) {
    m = rows, n = cols, k = depth, batch = products;
    if (empty()) return;  // nothing will run
    a_panels = ceil_div(m, kMaxRows), mr = int(ceil_div(m, a_panels));
    tall = m - a_panels * (mr - 1);
    on_tiles = kOnTiles<T> && has_tiles();
    const double work = 2.0 * double(m) * double(round_up(n, kLanes<T>)) * double(k);
    serial = work < 2 * kTaskFlops;
    const bool split = choose_kc();
    choose_reads(o);
    const int64_t threads = num_threads(), l2_panels = panels_in_l2();
    if (batch > 1 && k * round_up(n, kNr) <= kAloneB && (batch >= 2 * threads || serial)) {
      schedule = kAlone;
      block = min64(a_panels, l2_panels);
    } else if (split) {
      schedule = kSplitK;
      // As many parts as keep their sums within 16 MiB, each of a few kc.
      parts = min64(min64(ceil_div(k, 4 * kc), 32), max64(4, (4 << 20) / max64(1, m * n)));
      part_k = round_up(ceil_div(k, parts), kc);
      parts = ceil_div(k, part_k);
      // Where few panels of B use a panel of A, it is used at once, while it is in L1.
      block = n <= kRunsPanels * kNr ? 1 : min64(a_panels, l2_panels);
    } else {
      choose_tiles(threads == 1 ? 1 : max64(1, min64(4 * threads, int64_t(work / kTaskFlops))),
                   o.b_rows);
    }
    choose_kernels();
    choose_scratch(o.converts);
  }

  // B is packed before any run, and once.
  void b_is_constant() {
    slab_n = round_up(n, kNr), slab_k = round_up(k, kc);
    read_b = ReadB::kPacked;
    shared_b_ = own_b_ = 0;
  }

  // Scratch: a shared B, sums that wait, and what each worker has for itself.
  struct Worker {
    int64_t* kept;     // whether the kept operand of this run is packed
    int64_t* offsets;  // of rows of C, see PlainRows
    T *a, *b;
    Sum<T>* sums;
  };
  size_t scratch_bytes() const {
    return bytes(shared_b_) + bytes(sums_) + size_t(num_threads()) * worker_bytes();
  }
  T* shared_b(void* scratch) const { return static_cast<T*>(scratch); }
  Sum<T>* sums(void* scratch) const {
    return reinterpret_cast<Sum<T>*>(static_cast<char*>(scratch) + bytes(shared_b_));
  }
  Worker worker_at(void* scratch, int worker) const {
    char* s = static_cast<char*>(scratch) + bytes(shared_b_) + bytes(sums_) +
              size_t(worker) * worker_bytes();
    Worker w;
    w.kept = reinterpret_cast<int64_t*>(s), s += 64;
    w.offsets = reinterpret_cast<int64_t*>(s), s += offset_bytes();
    w.a = reinterpret_cast<T*>(s), s += bytes(own_a_);
    w.b = reinterpret_cast<T*>(s), s += bytes(own_b_);
    w.sums = reinterpret_cast<Sum<T>*>(s);
    return w;
  }
  // The places of a panel of A that is read in runs: their number, their lengths, their rows.
  int64_t words_of_runs() const { return 1 + max_runs * (1 + mr); }

 private:
  // Elements of k on tile registers: their panel of B stays in L1; whole pieces of a split float32
  // (gemm_parts.h) at a time.
  static constexpr int64_t kTilesKc = 288, kTilesK = 96;
  static constexpr double kTaskFlops = 5e5;        // least work worth a task of its own
  static constexpr int64_t kSlabBytes = 32 << 20;  // of a shared B
  static constexpr int64_t kKept = 2 << 20;        // elements of a kept operand
  static constexpr int64_t kAloneB = 1 << 18;      // elements of B packed by one worker
  static constexpr int64_t kSplitC = 1 << 19;      // elements of C of one part of K
  static constexpr int64_t kRunsPanels = 2;        // most panels of B for which A is not packed
  static constexpr int64_t kColumnsPanels = 1;     // the same, where the columns of A are read

  int64_t panels_in_l2() const {
    return max64(1, int64_t(l2_bytes()) * 5 / 8 / (kc * mr * int64_t(sizeof(T))));
  }

  // Returns whether K is split.
  bool choose_kc() {
    const auto cut = [&](int64_t most) { return k > 0 ? ceil_div(k, ceil_div(k, most)) : 1; };
    kc = cut(kMaxKc);
    const bool split = k >= 8 * kc && k >= 16 * max64(m, n) && m * n <= kSplitC;
    if (!split) kc = cut(on_tiles ? kTilesKc : kMaxKcOf<T>);
    if (on_tiles && kc < k) kc = round_up(kc, kTilesK);
    return split;
  }

  // A copy that serves few panels of the other operand costs more than it saves.
  void choose_reads(const GemmOperands& o) {
    if (o.a_columns && n <= kColumnsPanels * kNr) {
      read_a = ReadA::kColumns;
    } else if (o.a_run > 0 && !on_tiles && n <= kRunsPanels * kNr) {
      read_a = ReadA::kRuns;
      max_runs = ceil_div(kc, o.a_run) + 1;
    }
    if (o.b_rows && m <= 2 * kMaxRows) read_b = ReadB::kInPlace;
  }

  // kKeepA, kKeepB or kShareB, in about `wanted` tasks.
  void choose_tiles(int64_t wanted, bool b_rows) {
    const int64_t threads = num_threads(), l2 = int64_t(l2_bytes()), l2_panels = panels_in_l2();
    const bool packs_a = read_a == ReadA::kPacked, in_place_b = read_b == ReadB::kInPlace;
    // A slice of B stays in L2: a panel of A is packed when its turn comes, and read from L1.
    const bool slice =
        packs_a && a_panels >= 8 && kc * round_up(n, kNr) * int64_t(sizeof(T)) <= l2 / 2;
    const bool keep_a =
        packs_a && m <= n && a_panels <= l2_panels && !(slice && in_place_b && k > kc);
    const int64_t kept = k * (keep_a ? m : n);
    schedule = kept > kKept || threads * kept > 4 * kKept ? kShareB : keep_a ? kKeepA : kKeepB;
    slab_n = round_up(n, kNr), slab_k = k;
    if (schedule == kKeepA) {
      // Beside a kept A every tile of rows would pack B anew: there is one. A tile of C that waits
      // for the next kc should wait in L2.
      const int64_t l2_tiles = k > kc ? m * slab_n * 4 * int64_t(sizeof(T)) / l2 : 1;
      col_tiles = max64(1, min64(max64(wanted, l2_tiles), slab_n / (2 * kNr)));
    } else {
      if (schedule == kShareB) {
        const int64_t slab = kSlabBytes / int64_t(sizeof(T));
        slab_n = min64(slab_n, max64(kNr, slab / max64(k, 1) / kNr * kNr));
        slab_n = max64(slab_n, min64(round_up(n, kNr), 256));
        slab_k = max64(kc, min64(round_up(k, kc), slab / max64(slab_n, 1) / kc * kc));
      }
      // A tile of rows reads all slices of B anew: not for a few panels.
      const int64_t most = slice ? min64(a_panels, max64(threads, a_panels / 8)) : a_panels;
      row_tiles = min64(most, max64(wanted, ceil_div(a_panels, l2_panels)));
      if (row_tiles > threads) row_tiles = min64(round_up(row_tiles, threads), a_panels);
      // Columns are shared out only where rows do not suffice: every column tile packs A again.
      col_tiles = max64(1, min64(wanted / row_tiles, slab_n / (4 * kNr)));
    }
    block = ceil_div(a_panels, row_tiles);
    one_by_one = (slice || read_a == ReadA::kRuns) && schedule == kKeepB;
    // The first panel of A that meets a panel of B packs it on its way.
    if (kPerElement<T> == 1 && b_rows && !in_place_b && packs_a &&
        (schedule == kKeepA || (schedule == kKeepB && col_tiles == 1)))
      read_b = ReadB::kCopied;
  }

  void choose_kernels() {
    for (int shorter = 0; shorter < (mr > 1 ? 2 : 1); ++shorter) {
      for (int full = 0; full < 2; ++full) {
        if constexpr (kOnTiles<T>)
          if (on_tiles) {
            kernel_[shorter][full] = find_amx_kernel(T(0));
            continue;
          }
        kernel_[shorter][full] =
            find_tile_kernel(T(0), mr - shorter, full ? kTileVecs : 1, read_a == ReadA::kRuns);
      }
      if constexpr (kPerElement<T> == 1)
        if (read_b == ReadB::kCopied) copy_kernel_[shorter] = find_copy_kernel(T(0), mr - shorter);
    }
  }

  void choose_scratch(bool converts) {
    const int64_t width = read_b == ReadB::kInPlace ? kNr : round_up(n, kNr);
    own_a_ = schedule == kKeepA       ? m * k
             : read_a == ReadA::kRuns ? block * words_of_runs() * 8 / int64_t(sizeof(T))
                                      : block * mr * kc;
    own_a_ += on_tiles ? 16 * kMaxRows : 64;
    // Sums that do not fit in one kc wait until the last.
    const bool wait = converts && k > kc;
    switch (schedule) {
      case kKeepA:
        own_b_ = read_b == ReadB::kInPlace ? k * kNr : kc * kNr * kStreamed;
        break;
      case kKeepB:
      case kAlone:
        own_b_ = k * width;
        break;
      case kShareB:
        shared_b_ = min64(slab_k, k) * (read_b == ReadB::kInPlace ? kNr : round_up(slab_n, kNr));
        break;
      case kSplitK:
        own_b_ = kc * round_up(n, kNr);
    }
    if (schedule == kSplitK)
      sums_ = parts * m * n;
    else if (wait)
      (schedule == kAlone ? own_sums_ : sums_) = m * n;
  }

  static size_t bytes(int64_t elems) { return size_t(round_up(elems * int64_t(sizeof(T)), 64)); }
  size_t offset_bytes() const { return size_t(round_up(block * mr * 8, 64)); }
  size_t worker_bytes() const {
    return 64 + offset_bytes() + bytes(own_a_) + bytes(own_b_) + bytes(own_sums_);
  }

  TileKernel<T> kernel_[2][2] = {};    // for mr rows, for one less; one vector, kTileVecs
  TileKernel<T> copy_kernel_[2] = {};  // the same
  int64_t shared_b_ = 0, sums_ = 0;    // elements of scratch for all workers
  int64_t own_a_ = 0, own_b_ = 0, own_sums_ = 0;  // and of each
};

}  // namespace
}  // namespace hb::HB_ISA
