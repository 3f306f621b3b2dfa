// The matrix-multiply core: C[M, N] = A[M, K] * B[K, N], for matmul and for every convolution,
// with an epilogue (epilogue.h) applied while a tile of C is in registers or L1. What the operands
// are is the business of *packers*, functors that copy a piece of an operand into packed panels: a
// matrix, its transpose, or image patches read in place.
//
// `Keep` says which operand every thread packs whole for itself, once per run: the smaller one. Its
// tasks are tiles of C, several for each thread, claimed as they come; there is no barrier, and no
// thread reads what another core has just written (that costs more than to pack twice).
//
//   A kept (few rows): for a tile of columns (a task):  for kc of K:  for a panel of B: pack it,
//                        for a panel of A (L2): register kernel
//   B kept:            for a tile of rows (a task):     for kc of K:  pack A [mc x kc] (in L2), or
//                        point at its rows in place;    for a panel of B: for a panel of A: kernel
//                      or, where B [kc x N] fits L2:    for a panel of A: pack it (in L1),
//                                                         for a panel of B: kernel
//   neither (too large): as B kept, but all threads pack one B, a slab of `kSlabBytes` at a time
//
// K is cut by size only (into kc; into `parts_` where M x N is small and K long, as in a filter
// gradient, with partial sums added in the order of the parts), so the result has the same bits
// for every number of threads.
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
#include <stdlib.h>

#include "core/kernel.h"
#include "ops/epilogue.h"
#include "ops/gemm_kernel.h"

namespace hb::HB_ISA {
namespace {

HB_INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
HB_INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
HB_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
HB_INLINE int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// ---- packers of matrices --------------------------------------------------------------------
// pack(dst, width, i, n, k, kc): dst[kk * width + r] = operand(i + r, k + kk), where i counts rows
// of A or columns of B, and r >= n is zero.

template <class T, class S>
struct PackMatrix {
  const S* data;
  int64_t ld;
  bool along_k;  // k runs along memory: A row-major, or B given as [N, K]; else across it
  HB_INLINE void pack(T* dst, int width, int64_t i, int n, int64_t k, int64_t kc) const {
    if (!along_k) return pack_cols<T, S>(dst, width, data + k * ld + i, ld, n, kc);
    const S* rows[kMaxPanel<T>];
    for (int r = 0; r < n; ++r) rows[r] = data + (i + r) * ld + k;
    pack_rows<T, S>(dst, width, rows, n, kc, kc, width * ld);
  }
  // Full panels i, i + width, ..., one after another.
  HB_INLINE void pack_panels(T* dst, int width, int64_t panels, int64_t i, int64_t k,
                             int64_t kc) const {
    // A few lines of every row at a time: more would have to wait in too many places.
    const int64_t most = along_k ? 1 : max64(1, 512 / (width * int64_t(sizeof(S))));
    for (int64_t q = 0; q < panels; q += most) {
      if (along_k)
        pack(dst + q * width * kc, width, i + q * width, width, k, kc);
      else
        pack_cols_wide<T, S>(dst + q * width * kc, width, data + k * ld + i + q * width, ld,
                             min64(most, panels - q), kc);
    }
  }
  // One of `parts` parts of rows or columns i .. i + n, elements k .. k + kc, to be fetched.
  Lines<S> lines(int64_t i, int64_t n, int64_t k, int64_t kc, int64_t part, int64_t parts) const {
    const int64_t first = kc * part / parts, count = kc * (part + 1) / parts - first;
    if (!along_k) return {data + (k + first) * ld + i, ld, count};
    int log_rows = 0;
    while (int64_t(1) << log_rows < n) ++log_rows;
    return {data + i * ld + k + first, ld, ceil_div(count, kTileCols<T>) << log_rows, log_rows};
  }
  // Element (i, k) of an operand whose vectors along i can be read unpacked, ld apart; else null.
  const T* in_place(int64_t i, int64_t k) const {
    if constexpr (sizeof(T) == sizeof(S))
      if (!along_k) return data + k * ld + i;
    return nullptr;
  }
  // What a packed copy depends on besides the plan (keep_packed).
  void layout(const void* operand, int64_t* words) const {
    words[0] = reinterpret_cast<const char*>(data) - static_cast<const char*>(operand);
    words[1] = ld, words[2] = along_k;
  }
  // See Gemm::read_panel.
  int64_t read(const T** rows, int64_t* length, int width, int64_t i, int n, int64_t k,
               int64_t kc) const
    requires(sizeof(T) == sizeof(S))
  {
    for (int r = 0; r < width; ++r) rows[r] = data + (i + (r < n ? r : 0)) * ld + k;
    *length = kc;
    return 1;
  }
};

// ---- where C goes ---------------------------------------------------------------------------
// rows(i, n, offset): element offsets of rows i .. i + n of C from its base.
struct PlainRows {
  int64_t ld;
  HB_INLINE void rows(int64_t i, int64_t n, int64_t* offset) const {
    for (int64_t r = 0; r < n; ++r) offset[r] = (i + r) * ld;
  }
};

// One product: operands, and the output with its epilogue. T computes, S is stored.
template <class S, class A, class B, class Rows>
struct Product {
  A a;
  B b;
  S* c;
  Rows rows;
  Epilogue<S> epilogue;
};
template <class S, class A, class B, class Rows>
HB_INLINE Product<S, A, B, Rows> product(A a, B b, S* c, Rows rows,
                                         const Epilogue<S>& epilogue = {}) {
  return {a, b, c, rows, epilogue};
}

template <class P>
struct ElemOf;
template <class S>
struct ElemOf<S*> {
  typedef S type;
};
template <class P>
using Elem = typename ElemOf<P>::type;

constexpr int64_t kSlabBytes = 32 << 20;  // packed B at a time
constexpr int64_t kMaxKc = 256;           // panels of A and B fit L1 together
// The kernels of AVX-512 ask so little of L2 that a panel of B may be longer than L1: half as many
// visits to C are worth more. Products of several neighbours are faster still.
template <class T>
constexpr int64_t kMaxKcOf = kPerElement<T> > 1   ? 1024
                             : HB_VEC_BYTES == 64 ? 512
                                                  : kMaxKc;
constexpr double kTaskFlops = 5e5;  // least work worth a task of its own

// The plan of a product of given size, made once. `batch` products of that size run together.
template <class T>
class Gemm {
 public:
  Gemm() = default;
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  // `converts`: C is not stored as T. `read_b`: B can be read in place (row-major, as T).
  // `a_run`: the rows of A can be read in place (as T), in runs of at least so many elements.
  // `a_columns`: the columns of A can be (they lie along memory).
  void plan(int64_t m, int64_t n, int64_t k, int64_t batch, bool converts, bool read_b,
            int64_t a_run = 0, bool a_columns = false) {
    m_ = m, n_ = n, k_ = k, batch_ = batch, converts_ = converts;
    if (m == 0 || n == 0 || batch == 0) return;  // nothing will run
    constexpr int64_t kNr = kTileCols<T>;
    panels_ = ceil_div(m, kMaxRows), mr_ = int(ceil_div(m, panels_));
    tall_ = m - panels_ * (mr_ - 1);
    tiles_ = kOnTiles<T> && has_tiles();
    const auto cut = [&](int64_t most) { return k > 0 ? ceil_div(k, ceil_div(k, most)) : 1; };
    kc_ = cut(kMaxKc);
    const bool split = k >= 8 * kc_ && k >= 16 * max64(m, n) && m * n <= kSplitC;
    if (!split) kc_ = cut(tiles_ ? kTilesKc : kMaxKcOf<T>);
    if (tiles_ && kc_ < k) kc_ = round_up(kc_, kTilesK);
    // As for B: a copy of A that serves few panels of B costs more than it saves.
    max_runs_ = a_run > 0 && !tiles_ && n <= kInPlacePanels * kNr ? ceil_div(kc_, a_run) + 1 : 0;
    direct_a_ = a_columns && n <= kDirectPanels * kNr;
    for (int shorter = 0; shorter < (mr_ > 1 ? 2 : 1); ++shorter)
      for (int full = 0; full < 2; ++full)
        kernel_[shorter][full] =
            tiles_ ? amx_kernel()
                   : find_tile_kernel(T(0), mr_ - shorter, full ? kTileVecs : 1, max_runs_ > 0);
    // Panels of B that are used by one or two panels of A only are not worth a copy.
    read_b_ = read_b && m <= 2 * kMaxRows;

    const int64_t panels = panels_;
    const int64_t l2_panels =
        max64(1, int64_t(l2_bytes()) * 5 / 8 / (kc_ * mr_ * int64_t(sizeof(T))));
    const double work = 2.0 * double(m) * double(round_up(n, kLanes<T>)) * double(k);
    const int64_t threads = num_threads();

    parts_ = 1;
    serial_ = work < 2 * kTaskFlops;
    mode_ = kShared;
    if (batch > 1 && k * round_up(n, kNr) <= kPrivateB && (batch >= 2 * threads || serial_)) {
      mode_ = kPrivate;
      tile_panels_ = min64(panels, l2_panels);
      nc_ = n, slab_k_ = k;
    } else if (split) {
      mode_ = kSplit;
      // As many parts as keep their sums within 16 MiB, each of a few kc.
      parts_ = min64(min64(ceil_div(k, 4 * kc_), 32), max64(4, (4 << 20) / max64(1, m * n)));
      part_k_ = round_up(ceil_div(k, parts_), kc_);
      parts_ = ceil_div(k, part_k_);
      // Where few panels of B use a panel of A, it is used at once, while it is in L1.
      tile_panels_ = n <= kInPlacePanels * kNr ? 1 : min64(panels, l2_panels);
      nc_ = n, slab_k_ = k;
    } else {
      const int64_t slab = kSlabBytes / int64_t(sizeof(T));
      const int64_t wanted =
          threads == 1 ? 1 : max64(1, min64(4 * threads, int64_t(work / kTaskFlops)));
      // Beside a kept A every tile of rows would pack B anew: there is one.
      // A slice of B stays in L2: a panel of A is packed when its turn comes, and read from L1.
      const bool slice = max_runs_ == 0 && !direct_a_ && panels >= 8 &&
                         kc_ * round_up(n, kNr) * int64_t(sizeof(T)) <= int64_t(l2_bytes()) / 2;
      const bool keep_a = max_runs_ == 0 && !direct_a_ && m <= n && panels <= l2_panels &&
                          !(slice && read_b && k > kc_);
      const int64_t kept = k * (keep_a ? m : n);
      keep_ = kept > kKept || threads * kept > 4 * kKept ? kNone : keep_a ? kA : kB;
      if (keep_ == kA) {
        nc_ = round_up(n, kNr), slab_k_ = k;
        row_tiles_ = 1;
        // A tile of C that waits for the next kc should wait in L2.
        const int64_t l2_tiles =
            k > kc_ ? m * nc_ * 4 * int64_t(sizeof(T)) / int64_t(l2_bytes()) : 1;
        col_tiles_ = max64(1, min64(max64(wanted, l2_tiles), nc_ / (2 * kNr)));
      } else {
        nc_ = round_up(n, kNr), slab_k_ = k;
        if (keep_ == kNone) {
          nc_ = min64(nc_, max64(kNr, slab / max64(k, 1) / kNr * kNr));
          nc_ = max64(nc_, min64(round_up(n, kNr), 256));
          slab_k_ = max64(kc_, min64(round_up(k, kc_), slab / max64(nc_, 1) / kc_ * kc_));
        }
        // A tile of rows reads all slices of B anew: not for a few panels.
        const int64_t most = slice ? min64(panels, max64(threads, panels / 8)) : panels;
        row_tiles_ = min64(most, max64(wanted, ceil_div(panels, l2_panels)));
        if (row_tiles_ > threads) row_tiles_ = min64(round_up(row_tiles_, threads), panels);
        // Columns are shared out only where rows do not suffice: every column tile packs A again.
        col_tiles_ = max64(1, min64(wanted / row_tiles_, nc_ / (4 * kNr)));
      }
      tile_panels_ = ceil_div(panels, row_tiles_);
      one_panel_ = slice && keep_ == kB;
    }
    // The first panel of A that meets a panel of B packs it on its way.
    if constexpr (kPerElement<T> == 1) {
      copy_b_ = read_b && !read_b_ && max_runs_ == 0 && !direct_a_ && mode_ == kShared &&
                (keep_ == kA || (keep_ == kB && col_tiles_ == 1));
      for (int shorter = 0; shorter < (mr_ > 1 ? 2 : 1) && copy_b_; ++shorter)
        copy_kernel_[shorter] = find_copy_kernel(T(0), mr_ - shorter);
    }
    const int64_t b_panels_k = min64(slab_k_, k);
    a_elems_ = keep_ == kA     ? m * k
               : max_runs_ > 0 ? tile_panels_ * panel_words() * 8 / int64_t(sizeof(T))
                               : tile_panels_ * mr_ * kc_;
    a_elems_ += tiles_ ? 16 * kMaxRows : 64;
    const int64_t b_elems = b_panels_k * (read_b_ ? kNr : round_up(nc_, kNr));
    private_b_elems_ = mode_ == kPrivate ? b_elems
                       : mode_ == kSplit ? kc_ * round_up(n, kNr)
                       : keep_ == kA     ? kc_ * kNr * kStreamed
                       : keep_ == kB     ? b_elems
                                         : 0;
    shared_elems_ = mode_ == kShared && keep_ == kNone ? b_elems : 0;
    // Sums that do not fit in one kc wait in float until the last.
    const bool waits = converts && k > kc_;
    acc_elems_ = mode_ == kSplit ? parts_ * m * n : mode_ == kShared && waits ? m * n : 0;
    private_acc_elems_ = mode_ == kPrivate && waits ? m * n : 0;
  }

  // Packs a B that never changes, operand 1 of the kernel (the same for the whole batch), once,
  // after plan(); returns whether it did, as some products read B as it is.
  template <class B>
  bool pack_constant_b(const Prepare& p, const B& b) {
    if (mode_ != kShared || m_ == 0 || n_ == 0 || k_ == 0) return false;
    nc_ = round_up(n_, kTileCols<T>), slab_k_ = round_up(k_, kc_);
    read_b_ = copy_b_ = false, shared_elems_ = private_b_elems_ = 0;
    int64_t layout[16] = {'g', HB_ISA_LEVEL, sizeof(T), kPerElement<T>, n_, k_, kc_};
    int64_t words = 0;
    if constexpr (requires { b.layout(p.constants[1], layout); })
      b.layout(p.constants[1], layout + 8), words = 16;
    packed_b_ = pack_once<T>(p, 1, {layout, words}, size_t(k_ * nc_) * sizeof(T),
                             [&](T* to) { pack_b(b, to, 0, k_, 0, n_); });
    return true;
  }

  size_t scratch_bytes() const {
    return bytes(shared_elems_) + bytes(acc_elems_) + size_t(num_threads()) * worker_bytes();
  }

  // make(i) gives product i of the batch. b_shared: they have one B.
  template <class Make>
  void run(const Make& make, bool b_shared, void* scratch) const {
    if (m_ == 0 || n_ == 0 || batch_ == 0) return;
    char* s = static_cast<char*>(scratch);
    T* b = reinterpret_cast<T*>(s);
    Sum<T>* acc = reinterpret_cast<Sum<T>*>(s + bytes(shared_elems_));
    char* workers = s + bytes(shared_elems_) + bytes(acc_elems_);
    if (mode_ == kPrivate) {
      parallel_for(
          batch_, [&](int64_t i, int worker) { run_private(make(i), worker_at(workers, worker)); });
      return;
    }
    for (int64_t i = 0; i < batch_; ++i) {
      const auto p = make(i);
      if (mode_ == kSplit)
        run_split(p, acc, workers);
      else if (keep_ == kNone)
        run_shared(p, b, acc, workers, b_shared && i > 0);
      else
        run_kept(p, acc, workers, b_shared && i > 0);
    }
  }

 private:
  enum Mode { kShared, kPrivate, kSplit };
  enum Keep { kNone, kA, kB };                   // operand that every worker packs whole for itself
  static constexpr int64_t kKept = 2 << 20;      // elements of a kept operand
  static constexpr int64_t kStreamed = 4;        // panels of B packed at a time beside a kept A
  static constexpr int64_t kPrivateB = 1 << 18;  // elements of B packed by one worker
  static constexpr int64_t kSplitC = 1 << 19;    // elements of C of one part
  static constexpr int64_t kFetchK = 64;       // shorter tiles fetch nothing: not worth finding out
  static constexpr int64_t kDirectPanels = 1;  // the same, where the columns of A are read
  static constexpr int64_t kInPlacePanels = 2;  // most panels of B for which A is not packed

  // Elements of k on tile registers: their panel of B stays in L1; whole pieces of a split float32
  // (gemm_parts.h) at a time.
  static constexpr int64_t kTilesKc = 288, kTilesK = 96;
  static TileKernel<T> amx_kernel() {
    if constexpr (kOnTiles<T>) return find_amx_kernel(T(0));
    return nullptr;
  }
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

  struct Worker {
    int64_t* kept;  // whether the kept operand of this run is packed
    int64_t* rows;
    T *a, *b;
    Sum<T>* acc;
  };
  static size_t bytes(int64_t elems) { return size_t(round_up(elems * int64_t(sizeof(T)), 64)); }
  size_t row_bytes() const { return size_t(round_up(tile_panels_ * mr_ * 8, 64)); }
  size_t worker_bytes() const {
    return 64 + row_bytes() + bytes(a_elems_) + bytes(private_b_elems_) + bytes(private_acc_elems_);
  }
  Worker worker_at(char* workers, int worker) const {
    char* s = workers + size_t(worker) * worker_bytes();
    Worker w;
    w.kept = reinterpret_cast<int64_t*>(s), s += 64;
    w.rows = reinterpret_cast<int64_t*>(s), s += row_bytes();
    w.a = reinterpret_cast<T*>(s), s += bytes(a_elems_);
    w.b = reinterpret_cast<T*>(s), s += bytes(private_b_elems_);
    w.acc = reinterpret_cast<Sum<T>*>(s);
    return w;
  }

  // A piece [j0, j1) x [k0, k1) of B as the register kernel reads it. Packed: for each kc, for each
  // panel, [kc][NR], where the first kc starts at k0. In place: only the last panel, if it is not
  // full, is packed (the kernel reads whole vectors).
  struct Piece {
    const T* packed;
    const T* in_place;  // or null
    int64_t ld, j0, j1, k0;
  };
  HB_INLINE const T* panel_at(const Piece& b, int64_t j, int64_t k, int64_t kc, int64_t* ld) const {
    constexpr int64_t kNr = kTileCols<T>;
    *ld = kNr;
    if (!b.in_place) return b.packed + (k - b.k0) * round_up(b.j1 - b.j0, kNr) + (j - b.j0) * kc;
    if (b.j1 - j < kNr) return b.packed + (k - b.k0) * kNr;
    *ld = b.ld;
    return b.in_place + (k - b.k0) * b.ld + (j - b.j0);
  }

  static constexpr auto kNoLines = [](auto...) { return Lines<T>{}; };
  template <class O>
  HB_INLINE static Lines<T> lines_of(const O& o, int64_t i, int64_t n, int64_t k, int64_t kc,
                                     int64_t part, int64_t parts) {
    if constexpr (requires { Lines<T>{o.lines(i, n, k, kc, part, parts)}; })
      return o.lines(i, n, k, kc, part, parts);
    return {};
  }

  // Part of panel p of A for this k; after [p0, p1) of the first for the next k, or next task.
  template <class A>
  HB_INLINE Lines<T> next_panel(const A& a, int64_t p, int64_t p0, int64_t p1, int64_t k,
                                int64_t kc, int64_t part, int64_t parts) const {
    if (p == p1) {
      k += kc;
      k < k_ ? p = p0 : k = 0;
      kc = min64(kc_, k_ - k);
    }
    return p < panels_ ? lines_of(a, row_at(p), rows_of(p), k, kc, part, parts) : Lines<T>{};
  }

  HB_INLINE auto panels_of(const Piece& b) const {
    return [this, &b](int64_t j, int64_t k, int64_t kc, Tile<T>& t, bool) {
      t.b = panel_at(b, j, k, kc, &t.ldb);
    };
  }

  // Where part i of `parts` parts of n things starts. The larger parts come first: threads that
  // claim them in turn then end together.
  HB_INLINE static int64_t share(int64_t n, int64_t parts, int64_t i) {
    return n / parts * i + min64(i, n % parts);
  }

  // Runs f(task, worker) for all tasks; a small product does not wake other threads.
  template <class F>
  HB_INLINE void for_tasks(int64_t num_tasks, const F& f) const {
    if (serial_)
      for (int64_t task = 0; task < num_tasks; ++task) f(task, 0);
    else
      parallel_for(num_tasks, f);
  }

  // Packs the panels of rows or columns [i, end) of an operand.
  template <class O>
  static void pack_panels(const O& o, T* dst, int width, int64_t i, int64_t end, int64_t k,
                          int64_t kc) {
    if constexpr (requires { o.pack_panels(dst, width, i, i, k, kc); }) {
      const int64_t full = (end - i) / width;
      o.pack_panels(dst, width, full, i, k, kc);
      i += full * width, dst += full * width * kc;
    }
    for (; i < end; i += width, dst += width * kc)
      o.pack(dst, width, i, int(min64(width, end - i)), k, kc);
  }

  // Packs [j0, j1) x [k0, k1) of B, all threads.
  template <class B>
  void pack_b(const B& b, T* dst, int64_t k0, int64_t k1, int64_t j0, int64_t j1) const {
    constexpr int64_t kNr = kTileCols<T>, kGroup = 4;  // panels of one task
    const int64_t panels = ceil_div(j1 - j0, kNr), groups = ceil_div(panels, kGroup);
    for_tasks(ceil_div(k1 - k0, kc_) * groups, [&](int64_t task, int) {
      const int64_t k = k0 + task / groups * kc_, kc = min64(kc_, k1 - k);
      const int64_t first = task % groups * kGroup;
      pack_panels(b, dst + (k - k0) * panels * kNr + first * kNr * kc, int(kNr), j0 + first * kNr,
                  min64(j1, j0 + (first + kGroup) * kNr), k, kc);
    });
  }

  // Packs columns from j0 on of the whole B, this thread alone.
  template <class B>
  void pack_b_here(const B& b, T* dst, int64_t j0) const {
    constexpr int64_t kNr = kTileCols<T>;
    const int64_t width = round_up(n_ - j0, kNr);
    for (int64_t k = 0; k < k_; k += kc_) {
      const int64_t kc = min64(kc_, k_ - k);
      pack_panels(b, dst + k * width, int(kNr), j0, n_, k, kc);
    }
  }

  // Panels of A differ by a row at most: the first `tall_` have mr_, the others one less. So a
  // packed panel holds no row that is not one of A, and starts at `first row * kc`.
  HB_INLINE int64_t row_at(int64_t panel) const { return panel * mr_ - max64(0, panel - tall_); }
  HB_INLINE int rows_of(int64_t panel) const { return panel < tall_ ? mr_ : mr_ - 1; }
  template <class A>
  void pack_a(const A& a, T* dst, int64_t p0, int64_t p1, int64_t k, int64_t kc) const {
    const int64_t i0 = row_at(p0), i = row_at(max64(p0, min64(p1, tall_))), i1 = row_at(p1);
    if (i > i0) pack_panels(a, dst, mr_, i0, i, k, kc);
    if (i1 > i) pack_panels(a, dst + (i - i0) * kc, mr_ - 1, i, i1, k, kc);
    if constexpr (kOnTiles<T>)
      for (int64_t p = p0; p < p1 && tiles_; ++p)
        to_tiles(dst + (row_at(p) - i0) * kc, rows_of(p), kc);
  }
  // Tile registers want rows of A, 16 of k long: [16][rows] becomes [rows][16], piece by piece.
  // Up to 16 elements after the panel are read.
  static void to_tiles(T* panel, int rows, int64_t kc) {
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

  // A panel of A that is not packed: the number of runs, their lengths, places [runs][mr].
  int64_t panel_words() const { return 1 + max_runs_ * (1 + mr_); }
  // a.read(rows, length, width, i, n, k, kc) fills in places and lengths for rows i .. i + width
  // (those from n on may lie anywhere), elements k .. k + kc; it returns the number of runs.
  template <class A>
  void read_panel(const A& a, int64_t* words, int64_t panel, int64_t k, int64_t kc) const {
    const T** rows = reinterpret_cast<const T**>(words + 1 + max_runs_);
    const int n = rows_of(panel);
    words[0] = a.read(rows, words + 1, n, row_at(panel), n, k, kc);
  }

  template <class A>
  HB_INLINE static const T* a_column(const A& a, int64_t i, int64_t k, int64_t* ld) {
    if constexpr (requires { a.in_place(i, k), a.ld; }) {
      *ld = a.ld;
      return a.in_place(i, k);
    }
    return nullptr;
  }

  // Sums go to c as they are (S is Sum<T>), or are converted on their way, with the last kc; then
  // they wait in `acc` [m][n] before, which is null if there is but one kc.
  template <class S>
  struct Sink {
    S* c;
    Sum<T>* acc;
    const Epilogue<S>* epilogue;  // or null
  };
  template <class S>
  static constexpr bool kConverts = sizeof(S) != sizeof(Sum<T>);

  // The register kernels round sums themselves.
  template <class S>
  static constexpr bool kRounds = kSame<T, S> && kConverts<S> && kPerElement<T> == 2;

  template <class A>
  static constexpr bool kReadable = requires(const A& a, const T** rows, int64_t* length) {
    a.read(rows, length, 1, 0, 1, 0, 1);
  };

  // Panels [p0, p1) of A, columns [j0, j1), k in [k0, k1) of a product, by one worker. All panels
  // of A meet a panel of B in turn, or (one_panel_) all panels of B a panel of A.
  // k_first, k_last: where the sum of an element starts and ends (adds to C; epilogue).
  // b_at(j, k, kc, tile, first) gives a panel of B; first: to the first panel of A. shared_a: all
  // panels of A for [k0, k1), or null. next(j, k, kc, part, parts): one of `parts` parts of what
  // the next panel of B is made of.
  template <class A, class BAt, class S, class Next>
  void tile(const A& a, const T* shared_a, const BAt& b_at, const Sink<S>& out, const Worker& w,
            int64_t p0, int64_t p1, int64_t j0, int64_t j1, int64_t k0, int64_t k1, int64_t k_first,
            int64_t k_last, const Next& next) const {
    constexpr int64_t kNr = kTileCols<T>;
    const OpenTiles tiles(tiles_);
    Sum<T> fresh[kConverts<S> ? kMaxRows * kNr : 1];
    int64_t plain[kMaxRows];
    const int64_t ld = out.acc ? n_ : kNr, i0 = row_at(p0);
    for (int64_t r = 0; r < kMaxRows; ++r) plain[r] = r * ld;
    const int64_t step = one_panel_ ? 1 : max64(1, p1 - p0);
    int64_t k = k0;
    do {
      const int64_t kc = min64(kc_, k1 - k);
      const bool packed = !max_runs_;
      const T* panels_a = shared_a ? shared_a + (k - k0) * m_ + i0 * kc : w.a;
      int64_t* places = reinterpret_cast<int64_t*>(w.a);
      if constexpr (kReadable<A>)
        for (int64_t p = p0; p < p1 && kc > 0 && !packed; ++p)
          read_panel(a, places + (p - p0) * panel_words(), p, k, kc);
      Tile<T> t{};
      t.kc = kc;
      t.add = k > k_first;
      const bool last = k + kc == k_last;
      const Epilogue<S>* e = last ? out.epilogue : nullptr;
      if constexpr (!kConverts<S>) {
        t.relu = e && e->relu;
        t.epilogue = e && !e->simple() ? e : nullptr;
      }
      for (int64_t q = p0; q < p1; q += step) {
        const int64_t q1 = min64(p1, q + step), from = shared_a ? i0 : row_at(q);
        if (packed && !direct_a_ && !shared_a && kc > 0) pack_a(a, w.a, q, q1, k, kc);
        for (int64_t j = j0; j < j1; j += kNr) {
          b_at(j, k, kc, t, q == p0);
          t.n = int(min64(kNr, j1 - j));
          if constexpr (!kConverts<S>) {
            t.bias = e && e->bias ? e->bias + j : nullptr;
            t.column = j;
            t.c = out.c + j;
          }
          for (int64_t p = q; p < q1; ++p) {
            const int64_t i = row_at(p);
            t.m = rows_of(p);
            if (direct_a_) {
              t.a = a_column(a, i, k, &t.lda);
            } else if (packed) {
              t.a = panels_a + (i - from) * kc, t.lda = 0;
            } else if (kc > 0) {
              const int64_t* words = places + (p - p0) * panel_words();
              t.runs = words[0], t.length = words + 1;
              t.in_place = reinterpret_cast<const T* const*>(words + 1 + max_runs_);
            }
            t.row = w.rows + (i - i0);
            if (kc >= kFetchK)
              t.next = one_panel_ && q > p0 ? next_panel(a, p + 1, p0, p1, k, kc, (j - j0) / kNr,
                                                         ceil_div(j1 - j0, kNr))
                                            : next(j, k, kc, p - q, q1 - q);
            if constexpr (kConverts<S>) {
              t.c = out.acc ? out.acc + i * n_ + j : fresh;
              t.row = plain;
            }
            if constexpr (kRounds<S>) {
              const bool whole = e && e->simple() && t.n % kLanes<T> == 0;
              t.half = whole ? reinterpret_cast<uint16_t*>(out.c + j) : nullptr;
              t.half_row = w.rows + (i - i0);
              t.half_bias =
                  whole && e->bias ? reinterpret_cast<const uint16_t*>(e->bias + j) : nullptr;
              t.relu = whole && e->relu;
            }
            if (t.b_copy) {
              copy_kernel_[t.m < mr_](t);
              t.b = t.b_copy, t.ldb = kNr, t.b_copy = nullptr;
            } else {
              kernel_[t.m < mr_][t.n > kLanes<T>](t);
            }
            if (kConverts<S> && last && !t.half)
              store_tile(out, t.c, ld, w.rows + (i - i0), j, t.m, t.n);
          }
        }
      }
      k += kc;
    } while (k < k1);
  }

  template <class S>
  HB_INLINE void store_tile(const Sink<S>& out, const Sum<T>* sums, int64_t ld, const int64_t* rows,
                            int64_t j, int m, int n) const {
    for (int r = 0; r < m; ++r)
      convert_row(sums + r * ld, out.c + rows[r] + j, out.epilogue->columns(j).elements(rows[r]),
                  n);
  }
  // c[j] = x[j] and the epilogue, j < n.
  template <class S>
  __attribute__((noinline)) static void convert_row(const Sum<T>* x, S* c, const Epilogue<S>& e,
                                                    int64_t n) {
    constexpr int L = kLanes<Sum<T>>;
    int64_t j = 0;
    for (; j + L <= n; j += L) store_as(c + j, e.template vector<Sum<T>>(load(x + j), j, j));
    for (; j < n; ++j) narrow(e.template scalar<Sum<T>>(x[j], j, j), c[j]);
  }

  template <class P>
  HB_INLINE auto sink(const P& p, Sum<T>* acc) const {
    return Sink<Elem<decltype(p.c)>>{p.c, k_ > kc_ ? acc : nullptr, &p.epilogue};
  }
  // c[i, :] = sum of the parts of acc, and the epilogue; rows [i0, i1). Adds into the first part.
  template <class P>
  void store_rows(const P& p, Sum<T>* acc, int64_t i0, int64_t i1) const {
    for (int64_t i = i0; i < i1; ++i) {
      int64_t offset;
      p.rows.rows(i, 1, &offset);
      Sum<T>* x = acc + i * n_;
      for (int64_t q = 1; q < parts_; ++q)
        for (int64_t j = 0; j < n_; ++j) x[j] += x[q * m_ * n_ + j];
      convert_row(x, p.c + offset, p.epilogue.elements(offset), n_);
    }
  }
  template <class P>
  void store_all(const P& p, Sum<T>* acc) const {
    const int64_t rows = max64(1, 16384 / (n_ * parts_));
    for_tasks(ceil_div(m_, rows), [&](int64_t task, int) {
      store_rows(p, acc, task * rows, min64(m_, (task + 1) * rows));
    });
  }

  // One task per tile of C. A worker that gets its first task packs the kept operand for itself:
  // reading what another core has just written costs more than packing twice.
  template <class P>
  void run_kept(const P& p, Sum<T>* acc, char* workers, bool b_ready) const {
    constexpr int64_t kNr = kTileCols<T>;
    const auto out = sink(p, acc);
    const int64_t panels = panels_, b_panels = ceil_div(n_, kNr);
    if (!(b_ready && keep_ == kB))
      for (int64_t i = 0; i < (serial_ ? 1 : num_threads()); ++i)
        *worker_at(workers, int(i)).kept = 0;
    for_tasks(row_tiles_ * col_tiles_, [&](int64_t task, int worker) {
      const Worker w = worker_at(workers, worker);
      // Tasks of one worker follow each other along the operand that is not kept.
      const int64_t r = task / col_tiles_, c = task % col_tiles_;
      const int64_t p0 = share(panels, row_tiles_, r), p1 = share(panels, row_tiles_, r + 1);
      const int64_t j0 = share(b_panels, col_tiles_, c) * kNr;
      const int64_t j1 = min64(n_, share(b_panels, col_tiles_, c + 1) * kNr);
      if (p0 >= p1 || j0 >= j1) return;
      Piece b{packed_b_ ? packed_b_ : w.b, nullptr, 0, 0, n_, 0};
      if (read_b_) b.in_place = p.b.in_place(0, 0), b.ld = p.b.ld;
      // Panels of B that the first panel of A packs on its way.
      const bool copies = copy_b_ && p.b.in_place(0, 0) && (keep_ == kA || !*w.kept);
      if (!*w.kept) {
        if (keep_ == kA) {
          for (int64_t k = 0; k < k_; k += kc_)
            pack_a(p.a, w.a + k * m_, 0, panels, k, min64(kc_, k_ - k));
        } else if (!packed_b_ && !copies) {
          pack_b_here(p.b, w.b, b.in_place ? n_ / kNr * kNr : 0);
        }
        *w.kept = 1;
      }
      p.rows.rows(row_at(p0), row_at(p1) - row_at(p0), w.rows);
      const auto b_at = [&](int64_t j, int64_t k, int64_t kc, Tile<T>& t, bool first) {
        const bool full = n_ - j >= kNr;
        if (copies && full && first) {
          t.b = p.b.in_place(j, k), t.ldb = p.b.ld;
          t.b_copy = w.b + (keep_ == kB ? k * round_up(n_, kNr) + j * kc : 0);
          return;
        }
        if ((keep_ == kB && !(copies && first)) || packed_b_ || (b.in_place && full)) {
          t.b = panel_at(b, j, k, kc, &t.ldb);
          return;
        }
        t.ldb = kNr;
        T* place = w.b;
        if (keep_ == kB) place += k * round_up(n_, kNr) + j * kc;
        if (b.in_place || copies) {
          pack_panels(p.b, place, int(kNr), j, n_, k, kc);
        } else {
          const int64_t q = (j - j0) / kNr % kStreamed;
          if (q == 0) pack_panels(p.b, w.b, int(kNr), j, min64(j1, j + kStreamed * kNr), k, kc);
          place += q * kNr * kc;
        }
        t.b = place;
      };
      const auto next = [&](int64_t j, int64_t k, int64_t kc, int64_t part, int64_t parts) {
        // Panels that are packed together are fetched together.
        const int64_t group = copies ? 1 : kStreamed, q = (j - j0) / kNr % group;
        j += (group - q) * kNr;
        if (j >= j1) j = j0, k += kc, kc = min64(kc, k_ - k);
        if (packed_b_ || !(copies || keep_ == kA) || kc <= 0) return Lines<T>{};
        return lines_of(p.b, j, min64(group * kNr, j1 - j), k, kc, q * parts + part, group * parts);
      };
      tile(p.a, keep_ == kA ? w.a : nullptr, b_at, out, w, p0, p1, j0, j1, 0, k_, 0, k_, next);
    });
  }

  template <class P>
  void run_shared(const P& p, T* b, Sum<T>* acc, char* workers, bool b_ready) const {
    constexpr int64_t kNr = kTileCols<T>;
    const auto out = sink(p, acc);
    const int64_t panels = panels_, row_tiles = row_tiles_;
    const bool one_slab = k_ <= slab_k_ && n_ <= nc_;
    for (int64_t j0 = 0; j0 < n_; j0 += nc_) {
      const int64_t j1 = min64(n_, j0 + nc_), b_panels = ceil_div(j1 - j0, kNr);
      int64_t k0 = 0;
      do {
        const int64_t k1 = min64(k_, k0 + slab_k_);
        Piece piece{b, nullptr, 0, j0, j1, k0};
        if (packed_b_) {
          piece.packed = packed_b_;
        } else {
          if (read_b_) piece.in_place = p.b.in_place(j0, k0), piece.ld = p.b.ld;
          const int64_t from = piece.in_place ? j0 + (j1 - j0) / kNr * kNr : j0;
          if (from < j1 && k1 > k0 && !(b_ready && one_slab)) pack_b(p.b, b, k0, k1, from, j1);
        }
        for_tasks(row_tiles * col_tiles_, [&](int64_t task, int worker) {
          const Worker w = worker_at(workers, worker);
          const int64_t r = task / col_tiles_, c = task % col_tiles_;
          const int64_t p0 = share(panels, row_tiles, r), p1 = share(panels, row_tiles, r + 1);
          const int64_t c0 = j0 + share(b_panels, col_tiles_, c) * kNr;
          const int64_t c1 = min64(j1, j0 + share(b_panels, col_tiles_, c + 1) * kNr);
          if (c0 >= c1) return;
          p.rows.rows(row_at(p0), row_at(p1) - row_at(p0), w.rows);
          tile(p.a, nullptr, panels_of(piece), out, w, p0, p1, c0, c1, k0, k1, 0, k_, kNoLines);
        });
        k0 += slab_k_;
      } while (k0 < k_);
    }
  }

  // A whole small product by one worker.
  template <class P>
  void run_private(const P& p, const Worker& w) const {
    constexpr int64_t kNr = kTileCols<T>;
    Piece piece{w.b, nullptr, 0, 0, n_, 0};
    if (read_b_) piece.in_place = p.b.in_place(0, 0), piece.ld = p.b.ld;
    const int64_t from = piece.in_place ? n_ / kNr * kNr : 0;
    pack_b_here(p.b, w.b, from);
    const auto out = sink(p, w.acc);
    for (int64_t p0 = 0; p0 < panels_; p0 += tile_panels_) {
      const int64_t p1 = min64(panels_, p0 + tile_panels_);
      p.rows.rows(row_at(p0), row_at(p1) - row_at(p0), w.rows);
      tile(p.a, nullptr, panels_of(piece), out, w, p0, p1, 0, n_, 0, k_, 0, k_, kNoLines);
    }
  }

  // One task per part of K; each packs its own pieces of A and B.
  template <class P>
  void run_split(const P& p, Sum<T>* acc, char* workers) const {
    constexpr int64_t kNr = kTileCols<T>;
    for_tasks(parts_, [&](int64_t part, int worker) {
      const Worker w = worker_at(workers, worker);
      const int64_t k0 = part * part_k_, k1 = min64(k_, k0 + part_k_);
      const Sink<Sum<T>> out{acc + part * m_ * n_, nullptr, nullptr};
      for (int64_t k = k0; k < k1; k += kc_) {
        const int64_t kc = min64(kc_, k1 - k);
        Piece piece{w.b, nullptr, 0, 0, n_, k};
        if (read_b_) piece.in_place = p.b.in_place(0, k), piece.ld = p.b.ld;
        const int64_t from = piece.in_place ? n_ / kNr * kNr : 0;
        pack_panels(p.b, w.b, int(kNr), from, n_, k, kc);
        for (int64_t p0 = 0; p0 < panels_; p0 += tile_panels_) {
          const int64_t p1 = min64(panels_, p0 + tile_panels_);
          PlainRows{n_}.rows(row_at(p0), row_at(p1) - row_at(p0), w.rows);
          tile(p.a, nullptr, panels_of(piece), out, w, p0, p1, 0, n_, k, k + kc, k0, k1, kNoLines);
        }
      }
    });
    store_all(p, acc);
  }

  int64_t m_ = 0, n_ = 0, k_ = 0, batch_ = 0;
  bool tiles_ = false, converts_ = false, one_panel_ = false, read_b_ = false, copy_b_ = false,
       direct_a_ = false, serial_ = false;
  Mode mode_ = kShared;
  Keep keep_ = kNone;
  int mr_ = 1;                     // rows of a panel of A
  int64_t panels_ = 0, tall_ = 0;  // of A: all, and those of mr_ rows
  int64_t max_runs_ = 0;           // of a panel of A in place; 0: A is packed
  int64_t kc_ = 1, tile_panels_ = 1, row_tiles_ = 1, col_tiles_ = 1;
  int64_t nc_ = 1, slab_k_ = 1;     // slab of B
  int64_t parts_ = 1, part_k_ = 0;  // split of K
  int64_t a_elems_ = 0, shared_elems_ = 0, private_b_elems_ = 0, acc_elems_ = 0;
  int64_t private_acc_elems_ = 0;
  const T* packed_b_ = nullptr;
  TileKernel<T> copy_kernel_[2] = {};  // as kernel_, for full panels of B that are packed meanwhile
  TileKernel<T> kernel_[2][2] = {};    // for mr_ rows, for one less; one vector, kTileVecs
};

}  // namespace
}  // namespace hb::HB_ISA
