// Simple recurrence, LSTM and GRU over a whole sequence, forward and backward, one call each: what
// the compositions in ops/recurrent.py compute, without an instruction of the runtime per step.
//
//   simple h = tanh(x[t] + h W)
//   LSTM   i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of x[t] + h W
//          c = f c + i g;  h = o tanh(c)
//   GRU    z, r = sigmoid of x[t] + h W + b;  n = tanh(x[t] + r (h W + b));  h = z h + (1 - z) n
//          or, reset before the product, n = tanh(x[t] + (r h) W): two products a step
//
// (or other functions whose slope follows from their value). x[t] is projected already, and the
// gradient of W is one product over all steps: both are large products of their own, outside.
// Within stays what a step must wait for: h W, or dz W^T.
//
// Optional inputs stand last: `drop` (float [batch, units]) scales h before it meets W; a mask
// (bool [time, batch]) holds the states of a row at steps where it is false: no gradient reaches
// these gates, and that of the states passes unchanged.
//
// Layout: [time, batch, ...] or, with the attribute batch_first, [batch, time, ...]; `reverse` runs
// from the last step. The order of the steps is an addressing rule here, so that nothing outside
// is transposed or turned around. x and the gates hold all units of a gate side by side. W is
// packed once per call into the panels of the register kernel, ordered by block of units, then
// gate. A step of the forward pass computes the gates of one block into a tile that stays in L1,
// from where the gates are activated and the states are stored. A step of the backward pass
// computes dz of all gates, then adds dz W^T panel by panel into the gradient of the state, which
// lives in the output for the first state.
//
// Split: rows of the batch never meet, so a task takes its rows through all steps, without waiting
// for another task. Every number of a row comes from the same operations in the same order however
// the rows are split, so results have the same bits for every number of threads.
//
// The floor of a step is its product at the rate of the register kernel and 5 (LSTM) or 3 (GRU)
// transcendental functions per unit; W is read from L2 once per step and task, which is why a task
// has up to kTaskRows rows.
//
// float16 and bfloat16: states and gates are stored so and computed in float, gradients of states
// stay float from step to step, and where pairs of bfloat16 are fast, the products are of pairs.
//
// Measured on one Zen 5 core, float32, AVX-512, batch 32 (share of the rate of the register kernel,
// counting the product only; without the functions a forward step would reach 82 and 80 %):
//   LSTM, 128 units   forward 71 %   backward 70 %
//   GRU, 64 units     forward 54 %   backward 61 %
#pragma once
#include <string.h>

#include "ops/gemm_pairs.h"
#include "ops/recurrent_functions.h"
#include "ops/rowwise.h"

namespace hb::HB_ISA {
namespace {

constexpr int64_t kTaskRows = 48;     // most rows of a task: their tile stays in L1
constexpr int64_t kLeastRows = 8;     // fewer would be slower than reading W
constexpr double kSerialFlops = 4e5;  // less than this does not wake other threads

template <class A, class B>
constexpr bool kSameType = false;
template <class A>
constexpr bool kSameType<A, A> = true;

template <class T>
HB_INLINE Vec<T> apply(Function f, Vec<T> x) {
  switch (f) {
    case Function::kTanh:
      return vtanh<T>(x);
    case Function::kSigmoid:
      return vsigmoid<T>(x);
    case Function::kRelu:
      return x < T(0) ? Vec<T>{} : x;  // keeps NaN
    case Function::kHardSigmoid: {
      const Vec<T> y = x * T(1.0 / 6) + T(0.5), low = y < T(0) ? Vec<T>{} : y;
      return low > T(1) ? splat<T>(T(1)) : low;
    }
    default:
      return x;
  }
}
// The functions of a kernel. Those of nearly every model are compiled in; the others are chosen
// vector by vector.
template <class T>
struct Usual {
  HB_INLINE Vec<T> gate(Vec<T> x) const { return vsigmoid<T>(x); }
  HB_INLINE Vec<T> state(Vec<T> x) const { return vtanh<T>(x); }
  HB_INLINE Vec<T> gate_slope(Vec<T> y) const { return y * (T(1) - y); }
  HB_INLINE Vec<T> state_slope(Vec<T> y) const { return T(1) - y * y; }
};
// Shorter formulas for float: e^x = 1 + x + x^2 p(x) and one quotient. Within 1.5e-7 of the value
// everywhere, and within 4 units of the last place of tanh.
HB_INLINE ExpReduced<float> reduced_within(Vec<float> x, float bound) {
  return exp_reduce<float>(vat_most<float>(vat_least<float>(x, -bound), bound));
}
HB_INLINE Vec<float> scaled(Vec<float> p, const ExpReduced<float>& e) {
#if HB_VEC_BYTES == 64
  return exp_scale<float>(p, e);
#else
  return p * vpow2<float>(e.n);  // the bounds keep it normal
#endif
}
template <>
struct Usual<float> {
  HB_INLINE Vec<float> gate(Vec<float> x) const {
    constexpr float c[] = {1, 0.4999923135f, 0.1666711465f, 0.04189017841f, 0.008312527729f};
    const ExpReduced<float> e = reduced_within(-x, 87);
    return 1.f / (1.f + scaled(1.f + e.r * polynomial<float>(e.r, c), e));
  }
  HB_INLINE Vec<float> state(Vec<float> x) const {
    constexpr float c[] = {
        1, 0.4999999815f, 0.166665436f, 0.0416671999f, 0.008366523596f, 0.001388252647f};
    const ExpReduced<float> e = reduced_within(x + x, 20);
    const Vec<float> p = e.r * polynomial<float>(e.r, c), s = scaled(splat(1.f), e);
    const Vec<float> t = s * p + (s - 1.f);  // e^2x - 1
    return t / (t + 2.f);
  }
  HB_INLINE Vec<float> gate_slope(Vec<float> y) const { return y * (1.f - y); }
  HB_INLINE Vec<float> state_slope(Vec<float> y) const { return 1.f - y * y; }
};
template <class T>
struct Chosen {
  Function of_gate, of_state;
  HB_INLINE Vec<T> gate(Vec<T> x) const { return apply<T>(of_gate, x); }
  HB_INLINE Vec<T> state(Vec<T> x) const { return apply<T>(of_state, x); }
  HB_INLINE Vec<T> gate_slope(Vec<T> y) const { return slope<T>(of_gate, y); }
  HB_INLINE Vec<T> state_slope(Vec<T> y) const { return slope<T>(of_state, y); }
};

// Rows of a tile: few rows that no row of the batch fills, few tiles, and tiles that are packed
// with few shuffles (see pack_few).
template <class T>
int64_t tile_rows(int64_t rows) {
  const auto cost = [&](int64_t mr) {
    const bool few = mr <= kLanes<T> / 2 && (mr & (mr - 1)) == 0;
    return ceil_div(rows, mr) * (2 * mr + 1) + (few ? 0 : rows / 8);
  };
  int64_t best = min64(max64(rows, 1), kMaxRows);
  for (int64_t mr = best - 1; mr > 0; --mr)
    if (cost(mr) < cost(best)) best = mr;
  return best;
}

// Shapes, scratch and the products of one of the kernels, of sequences stored as S. The weights are
// `panels` packed panels [k][NR] of up to NR columns.
template <class S>
struct Recurrent {
  typedef Compute<S> T;
  // Whether products may be made of pairs along k; counts of packed elements are in pairs then.
  static constexpr bool kPairs = HB_VEC_BYTES == 64 && kSameType<S, bf16>;
  static constexpr bool kRounds = sizeof(S) != sizeof(T);
  static constexpr int64_t kNr = kTileCols<T>;
  int64_t steps, batch, units, gates, k;
  bool reverse;
  int64_t step_rows, batch_rows;  // distance of two steps and of two rows of the batch, in rows
  int64_t blocks, panels;         // blocks of NR units; panels of W
  int64_t rows, tasks, mr;        // rows of a task; rows of a tile
  int64_t kc;                     // k of one pass: a panel [kc][NR] stays in L1
  int64_t tile_elems;             // of a tile of packed rows
  int64_t packed, a_elems, z_elems;
  int64_t carries;  // gradients of states that are not rounded meanwhile: where in scratch
  bool pairs;
  int mask_at = -1, drop_at = -1;  // which inputs, or -1
  bool serial, scattered;          // scattered: a step is many rows of large tensors
  Function of_gate, of_state;
  TileKernel<T> kernel[2];
  TileKernel<Pair> pair_kernel[2];

  // `states`: [time, batch, units] or [batch, time, units]. `optional`: the first input that may be
  // `drop` or the mask. `backward`: W is read as W^T, and the sum runs over the gates.
  Recurrent(Prepare& p, const TensorSpec& states, int64_t gates, int optional, bool backward)
      : gates(gates) {
    const bool batch_first = attr_int(*p.attrs, "batch_first");
    reverse = attr_int(*p.attrs, "reverse");
    steps = states.shape[batch_first], batch = states.shape[!batch_first], units = states.shape[2];
    step_rows = batch_first ? 1 : batch, batch_rows = batch_first ? steps : 1;
    of_state = function_of(p, "activation");
    of_gate = gates > 1 ? function_of(p, "recurrent_activation") : Function::kSigmoid;
    for (int i = optional; i < p.num_inputs; ++i) {
      if (p.inputs[i].dtype == DType::Bool)
        mask_at = i;
      else if (p.inputs[i].rank == 2)
        drop_at = i;
    }
    k = backward ? gates * units : units;
    blocks = ceil_div(units, kNr), panels = backward ? blocks : blocks * gates;
    rows = min64(batch, max64(kLeastRows, ceil_div(batch, num_threads())));
    rows = ceil_div(rows, max64(1, ceil_div(rows, kTaskRows)));
    tasks = batch ? ceil_div(batch, rows) : 0;
    mr = tile_rows<T>(rows);
    pairs = kPairs && has_bf16_pairs() && units % 2 == 0;
    const int64_t terms = packed_terms(k);
    kc = terms ? ceil_div(terms, ceil_div(terms, kMaxKc)) : 1;
    serial =
        2.0 * double(steps) * double(batch) * double(units) * double(units * gates) < kSerialFlops;
    scattered =
        rows >= kLeastRows && num_elements(states) * gates > int64_t(l2_bytes() / sizeof(T));
    p.single_thread = serial || tasks <= 1;
    packed = panels * terms * kNr;
    tile_elems = round_up(mr * terms + kLanes<T>, 64);  // pack_rows stores whole vectors
    a_elems = ceil_div(rows, mr) * tile_elems;
    const int64_t wide = backward ? kNr : max64(gates * kNr, drop_at >= 0 ? units : 0);
    z_elems = round_up(rows * wide, 64);
    for (int full = 0; full < 2; ++full) {
      const int vecs = full ? kTileVecs : 1;
      kernel[full] = find_tile_kernel(T(), int(mr), vecs);
      if constexpr (kPairs) pair_kernel[full] = find_tile_kernel(Pair(0), int(mr), vecs);
    }
    carries = round_up(packed, 64) + num_threads() * (2 * a_elems + z_elems);
    p.scratch_bytes = size_t(carries + (kRounds && backward ? 2 * carry_elems() : 0)) * sizeof(T);
  }
  HB_INLINE int64_t packed_terms(int64_t count) const { return pairs ? count / 2 : count; }
  int64_t carry_elems() const { return round_up(batch * units, 64); }

  // The gradient of a state (0 or 1), zero at first, which goes to an output at last.
  T* carry(const Call& c, int output, int which) const {
    T* p = static_cast<T*>(c.outputs[output]);
    if (kRounds) p = static_cast<T*>(c.scratch) + carries + which * carry_elems();
    memset(p, 0, size_t(batch * units) * sizeof(T));
    return p;
  }
  void store_carry(const Call& c, int output, const T* p) const {
    if constexpr (kRounds) narrow_row(p, static_cast<S*>(c.outputs[output]), batch * units);
  }

  // Calls f with the functions of this kernel.
  template <class F>
  HB_INLINE void with_functions(const F& f) const {
    if (of_gate == Function::kSigmoid && of_state == Function::kTanh)
      f(Usual<T>{});
    else
      f(Chosen<T>{of_gate, of_state});
  }

  // Step s of row r of the batch is this row of the sequences.
  HB_INLINE int64_t row_of(int64_t s, int64_t r) const {
    return (reverse ? steps - 1 - s : s) * step_rows + r * batch_rows;
  }
  // The row of states that step s starts from.
  HB_INLINE const S* before(const S* first, const S* all, int64_t s, int64_t r) const {
    return s ? all + row_of(s - 1, r) * units : first + r * units;
  }

  // Whether the states of a row of a step are held.
  struct Held {
    const uint8_t* mask;
    HB_INLINE bool operator()(int64_t row) const { return mask && !mask[row]; }
  };
  Held held(const Call& c) const {
    return {mask_at < 0 ? nullptr : static_cast<const uint8_t*>(c.inputs[mask_at])};
  }
  const S* drop(const Call& c) const {
    return drop_at < 0 ? nullptr : static_cast<const S*>(c.inputs[drop_at]);
  }

  // What one task works on and with.
  struct Task {
    int64_t row, m;  // rows [row, row + m) of the batch
    T *a, *next;     // packed rows, of this step and of the next one
    T* z;            // the gates of a block
    const T* w;
  };

  // Packs W, then runs f(task) for all tasks; `s`: the scratch.
  template <class F>
  void run(const S* w, bool backward, T* s, const F& f) const {
    parallel_unless(serial, panels, [&](int64_t panel, int) {
      const int64_t u = (backward ? panel : panel / gates) * kNr;
      const int64_t column = u + (backward ? 0 : panel % gates * units);
      const int n = int(min64(kNr, units - u));
      const int64_t terms = packed_terms(k), ld = gates * units;
      T* to = s + panel * terms * kNr;
      if constexpr (kPairs) {
        if (pairs)
          return PackMatrixPairs<S>{w, ld, backward, k}.pack(reinterpret_cast<Pair*>(to), int(kNr),
                                                             column, n, 0, terms);
      }
      PackMatrix<T, S>{w, ld, backward}.pack(to, int(kNr), column, n, 0, k);
    });
    parallel_unless(serial, tasks, [&](int64_t i, int worker) {
      Task t;
      t.row = i * rows, t.m = min64(rows, batch - t.row);
      t.w = s;
      t.a = s + round_up(packed, 64) + worker * (2 * a_elems + z_elems);
      t.next = t.a + a_elems;
      t.z = t.next + a_elems;
      f(t);
    });
  }

  // row(r): the row [k] of row r of the task.
  template <class Row>
  HB_INLINE void pack_rows_of(const Task& t, const Row& row) const {
    pack_rows_of(t, row, k);
  }
  template <class Row>
  HB_INLINE void pack_rows_of(const Task& t, const Row& row, int64_t k) const {
    for (int64_t i = 0; i < t.m; i += mr) pack_tile_of(t, t.a, i, row, 0, k);
  }
  // The rows from i of one tile of `a`: `count` terms from k, which row(r) are.
  template <class Row>
  HB_INLINE void pack_tile_of(const Task& t, T* a, int64_t i, const Row& row, int64_t k,
                              int64_t count) const {
    if constexpr (kPairs)
      if (pairs) return pack_tile_as<Pair>(t, reinterpret_cast<Pair*>(a), i, row, k / 2, count / 2);
    pack_tile_as<T>(t, a, i, row, k, count);
  }
  template <class E, class Row>
  HB_INLINE void pack_tile_as(const Task& t, E* a, int64_t i, const Row& row, int64_t k,
                              int64_t count) const {
    typedef Stored<E, Elem<decltype(remove_const(row(i)))>> From;
    const int n = int(min64(mr, t.m - i));
    const From* from[kMaxRows];
    for (int r = 0; r < n; ++r) from[r] = reinterpret_cast<const From*>(row(i + r));
    E* to = a + i / mr * tile_elems + k * mr;
    if (n < mr || count % kLanes<E> || !pack_few(to, from, n, count))
      pack_rows<E, From>(to, int(mr), from, n, count, count);
  }
  template <class F>
  static F* remove_const(const F* p);
  // As pack_rows, but log2(n) shuffles of vectors that are stored whole, where n <= most is a power
  // of two.
  template <int kMost = kLanes<T> / 2, class E, class From>
  static bool pack_few(E* to, const From* const* rows, int n, int64_t count) {
    if constexpr (kMost > 1)
      if (n < kMost) return pack_few<kMost / 2>(to, rows, n, count);
    if (n != kMost) return false;
    for (int64_t j = 0; j < count; j += kLanes<E>) {
      Vec<E> v[kMost];
#pragma GCC unroll 8
      for (int i = 0; i < kMost; ++i) v[i] = load_as<E>(rows[i] + j);
      transpose(v);
#pragma GCC unroll 8
      for (int i = 0; i < kMost; ++i) store(to + j * kMost + i * kLanes<E>, v[i]);
    }
    return true;
  }

  // Sequences that a step reads or writes: data[i] + row * width[i] is the first unit.
  struct Sequences {
    const S* data[12];
    int64_t width[12];
    int count = 0;
    void add(const S* p, int64_t row_width, int64_t parts = 1, int64_t part_width = 0) {
      for (int64_t i = 0; p && i < parts; ++i, ++count)
        data[count] = p + i * part_width, width[count] = row_width;
    }
  };
  // Fetches a block of units of the rows of a step, while products keep the processor busy: rows
  // of a step lie far apart, so that it sees no order in them. To L2 only: rows a power of two
  // apart meet in a few sets of L1.
  struct Fetch {
    const Sequences& from;
    int64_t rows, row, stride;  // rows of the task; the first of them, of the sequences
    int64_t u, last;            // first and last unit
    int64_t each;               // rows of sequences to fetch in a call
    int stream;
    int64_t r = 0;
    HB_INLINE void operator()() {
      for (int64_t left = each; left > 0 && stream < from.count;) {
        const int64_t n = min64(left, rows - r), step = stride * from.width[stream];
        const S* p = from.data[stream] + (row + r * stride) * from.width[stream] + u;
        for (int64_t i = 0; i < n; ++i, p += step) {
          __builtin_prefetch(p, 0, 2);
          __builtin_prefetch(p + last, 0, 2);
        }
        left -= n, r += n;
        if (r == rows) r = 0, ++stream;
      }
    }
  };
  // For `parts` calls, which divide the work.
  HB_INLINE Fetch fetch(const Task& t, const Sequences& from, int64_t step, int64_t block,
                        int64_t parts) const {
    const bool none = !scattered || step < 0 || step >= steps;
    const int64_t u = block * kNr;
    return {from,
            t.m,
            none ? 0 : row_of(step, t.row),
            batch_rows,
            u,
            min64(kNr, units - u) - 1,
            ceil_div(from.count * t.m, parts),
            none ? from.count : 0};
  }

  // c[r * ld + j] (+)= sum over k of the packed rows and n columns of a panel; or over a part of k,
  // [from, from + count), of which `count` the packed rows are.
  HB_INLINE void multiply(const Task& t, int64_t panel, int64_t n, T* c, int64_t ld,
                          bool add) const {
    multiply(t, panel, n, c, ld, add, 0, k, [] {});
  }
  // between(): before every call of the register kernel.
  template <class Between>
  HB_INLINE void multiply(const Task& t, int64_t panel, int64_t n, T* c, int64_t ld, bool add,
                          int64_t from, int64_t count, Between&& between) const {
    if constexpr (kPairs)
      if (pairs)
        return multiply_as<Pair>(t, pair_kernel, panel, n, c, ld, add, from, count, between);
    multiply_as<T>(t, kernel, panel, n, c, ld, add, from, count, between);
  }
  template <class E, class Between>
  HB_INLINE void multiply_as(const Task& t, const TileKernel<E> (&kernels)[2], int64_t panel,
                             int64_t n, T* c, int64_t ld, bool add, int64_t from, int64_t count,
                             Between&& between) const {
    const E* w =
        reinterpret_cast<const E*>(t.w) + (panel * packed_terms(k) + packed_terms(from)) * kNr;
    const E* a = reinterpret_cast<const E*>(t.a);
    int64_t offset[kMaxRows];
    for (int64_t r = 0; r < mr; ++r) offset[r] = r * ld;
    Tile<E> tile{};
    tile.ldb = kNr, tile.row = offset, tile.n = int(n);
    const TileKernel<E> f = kernels[n > kLanes<T>];
    const int64_t terms = packed_terms(count);
    for (int64_t k0 = 0; k0 < terms; k0 += kc) {
      tile.kc = min64(kc, terms - k0), tile.add = add || k0 > 0;
      tile.b = w + k0 * kNr;
      for (int64_t i = 0; i < t.m; i += mr) {
        tile.a = a + i / mr * tile_elems + k0 * mr;
        tile.c = c + i * ld, tile.m = int(min64(mr, t.m - i));
        between();
        f(tile);
      }
    }
  }

  // Units [u, u + count) of a row of a step.
  struct At {
    int64_t step, r;  // row of the batch
    int64_t row;      // of the sequences
    int64_t u, count;
  };

  // Packs the states that step s starts from, with dropout.
  void pack_states(const Task& t, const S* first, const S* hs, const S* drop, int64_t s) const {
    if (!drop) return pack_rows_of(t, [&](int64_t r) { return before(first, hs, s, t.row + r); });
    for (int64_t r = 0; r < t.m; ++r) {
      const S *from = before(first, hs, s, t.row + r), *d = drop + (t.row + r) * units;
      T* to = t.z + r * units;
      for (int64_t u = 0; u < units; ++u) to[u] = widen(from[u]) * widen(d[u]);
    }
    pack_rows_of(t, [&](int64_t r) { return t.z + r * units; });
  }

  // Calls of the register kernel in a product of `count` terms of k.
  int64_t calls(const Task& t, int64_t count) const {
    return ceil_div(t.m, mr) * ceil_div(packed_terms(count), kc);
  }

  // The forward pass: at every step, f(at, z), then h(at, z) for vectors of units, where
  // z[gate * NR] is h W at first and z[0] the new h at last. Two loops: what h computes waits for
  // all of f, and a processor looks ahead over a few iterations only. `ahead`: what f and h use.
  template <class F, class H>
  void each_gate(const S* w, const S* first, const S* hs, const S* drop, void* scratch,
                 const Sequences& ahead, const F& f, const H& h) const {
    run(w, false, static_cast<T*>(scratch), [&](const Task& task) {
      Task t = task;
      const int64_t ld = gates * kNr;
      pack_states(t, first, hs, drop, 0);
      for (int64_t s = 0; s < steps; ++s) {
        for (int64_t b = 0; b < blocks; ++b) {
          const int64_t u = b * kNr, n = min64(kNr, units - u);
          const bool last = b + 1 == blocks;
          Fetch next = fetch(t, ahead, s + last, last ? 0 : b + 1, gates * calls(t, k));
          for (int64_t g = 0; g < gates; ++g)
            multiply(t, b * gates + g, n, t.z + g * kNr, ld, false, 0, k, next);
          for (int64_t r = 0; r < t.m; ++r) {
            const int64_t row = row_of(s, t.row + r);
            each_vector<T>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
              f(At{s, t.row + r, row, u + i, count}, t.z + r * ld + i);
            });
          }
          for (int64_t r = 0; r < t.m; ++r) {
            const int64_t row = row_of(s, t.row + r);
            each_vector<T>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
              h(At{s, t.row + r, row, u + i, count}, t.z + r * ld + i);
            });
          }
          if (s + 1 == steps) continue;
          if (drop)
            for (int64_t r = 0; r < t.m; ++r)
              for (int64_t i = 0; i < n; ++i)
                t.z[r * ld + i] *= widen(drop[(t.row + r) * units + u + i]);
          for (int64_t i = 0; i < t.m; i += mr)  // while the states are in L1
            pack_tile_of(t, t.next, i, [&](int64_t r) { return t.z + r * ld; }, u, n);
        }
        T* packed_before = t.a;
        t.a = t.next, t.next = packed_before;
      }
    });
  }

  // dh of a block of units += the packed rows times W^T (times drop); the sum as in `multiply`.
  template <class Between>
  HB_INLINE void add_product(const Task& t, int64_t b, T* dh, const S* drop, int64_t from,
                             int64_t count, Between&& between) const {
    const int64_t n = min64(kNr, units - b * kNr), at = t.row * units + b * kNr;
    if (!drop) return multiply(t, b, n, dh + at, units, true, from, count, between);
    multiply(t, b, n, t.z, kNr, false, from, count, between);
    for (int64_t r = 0; r < t.m; ++r)
      for (int64_t u = 0; u < n; ++u)
        dh[at + r * units + u] += t.z[r * kNr + u] * widen(drop[at + r * units + u]);
  }

  // The backward pass: at every step from the last, f(at) for vectors of units writes dz into `dz`
  // and the part of dh that does not pass through W into `dh`; then dh += dz W^T. `ahead`: what f
  // uses.
  template <class F>
  void each_step_back(const S* w, const S* dz, T* dh, const S* drop, void* scratch,
                      const Sequences& ahead, const F& f) const {
    run(w, true, static_cast<T*>(scratch), [&](const Task& t) {
      for (int64_t s = steps - 1; s >= 0; --s) {
        for (int64_t i = 0; i < t.m; i += mr) {
          for (int64_t r = t.row + i; r < t.row + min64(i + mr, t.m); ++r) {
            const int64_t row = row_of(s, r);
            each_vector<T>(units, [&](int64_t u, int64_t count) __attribute__((always_inline)) {
              f(At{s, r, row, u, count});
            });
          }
          pack_tile_of(t, t.a, i, [&](int64_t r) { return dz + row_of(s, t.row + r) * k; }, 0, k);
        }
        for (int64_t b = 0; b < blocks; ++b)
          add_product(t, b, dh, drop, 0, k, fetch(t, ahead, s - 1, b, calls(t, k)));
      }
    });
  }
};

}  // namespace
}  // namespace hb::HB_ISA
