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
// Measured on one Zen 5 core, float32, AVX-512, batch 32 (share of the rate of a large matmul
// there, counting the product only; without the functions a forward step would reach 84 and 71 %):
//   LSTM, 128 units   forward 75 %   backward 78 %
//   GRU, 64 units     forward 61 %   backward 64 %
#include <string.h>

#include "ops/gemm.h"
#include "ops/rowwise.h"

HB_KERNELS_BEGIN

constexpr int64_t kTaskRows = 48;     // most rows of a task: their tile stays in L1
constexpr int64_t kLeastRows = 8;     // fewer would be slower than reading W
constexpr double kSerialFlops = 4e5;  // less than this does not wake other threads

// The functions of gates and states, and their slopes given their values.
enum class Function { kTanh, kSigmoid, kRelu, kHardSigmoid, kLinear };

Function function_named(const char* name) {
  static constexpr const char* names[] = {"tanh", "sigmoid", "relu", "hard_sigmoid", "linear"};
  for (int i = 0; i < 5; ++i)
    if (!strcmp(name, names[i])) return Function(i);
  fail("no function '%s' in recurrent kernels", name);
}
Function function_of(const Prepare& p, const char* attribute) {
  return function_named(attr_str(*p.attrs, attribute));
}
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
template <class T>
HB_INLINE Vec<T> slope(Function f, Vec<T> y) {
  switch (f) {
    case Function::kTanh:
      return T(1) - y * y;
    case Function::kSigmoid:
      return y * (T(1) - y);
    case Function::kRelu:
      return y > T(0) ? splat<T>(T(1)) : Vec<T>{};
    case Function::kHardSigmoid: {
      const Vec<T> inner = splat<T>(T(1.0 / 6)), below = y > T(0) ? inner : Vec<T>{};
      return y < T(1) ? below : Vec<T>{};
    }
    default:
      return splat<T>(T(1));
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
template <class T>
struct Chosen {
  Function of_gate, of_state;
  HB_INLINE Vec<T> gate(Vec<T> x) const { return apply<T>(of_gate, x); }
  HB_INLINE Vec<T> state(Vec<T> x) const { return apply<T>(of_state, x); }
  HB_INLINE Vec<T> gate_slope(Vec<T> y) const { return slope<T>(of_gate, y); }
  HB_INLINE Vec<T> state_slope(Vec<T> y) const { return slope<T>(of_state, y); }
};

// Rows of a tile: few rows that no row of the batch fills, few tiles.
int64_t tile_rows(int64_t rows) {
  const auto cost = [&](int64_t mr) { return ceil_div(rows, mr) * (2 * mr + 1); };
  int64_t best = min64(max64(rows, 1), kMaxRows);
  for (int64_t mr = best - 1; mr > 0; --mr)
    if (cost(mr) < cost(best)) best = mr;
  return best;
}

// Shapes, scratch and the products of one of the kernels. The weights are `panels` packed panels
// [k][NR] of up to NR columns.
template <class T>
struct Recurrent {
  static constexpr int64_t kNr = kTileCols<T>;
  int64_t steps, batch, units, gates, k;
  bool reverse;
  int64_t step_rows, batch_rows;  // distance of two steps and of two rows of the batch, in rows
  int64_t blocks, panels;         // blocks of NR units; panels of W
  int64_t rows, tasks, mr;        // rows of a task; rows of a tile
  int64_t kc;                     // k of one pass: a panel [kc][NR] stays in L1
  int64_t packed, a_elems, z_elems;
  int mask_at = -1, drop_at = -1;  // which inputs, or -1
  bool serial;
  Function of_gate, of_state;
  TileKernel<T> kernel[2];

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
    mr = tile_rows(rows);
    kc = k ? ceil_div(k, ceil_div(k, kMaxKc)) : 1;
    serial =
        2.0 * double(steps) * double(batch) * double(units) * double(units * gates) < kSerialFlops;
    p.single_thread = serial || tasks <= 1;
    packed = panels * k * kNr;
    a_elems = round_up(round_up(rows, mr) * k + 64, 64);
    const int64_t wide = backward ? kNr : max64(gates * kNr, drop_at >= 0 ? units : 0);
    z_elems = round_up(rows * wide, 64);
    kernel[0] = find_tile_kernel(T(), int(mr), 1);
    kernel[1] = find_tile_kernel(T(), int(mr), kTileVecs);
    p.scratch_bytes =
        size_t(round_up(packed, 64) + num_threads() * (a_elems + z_elems)) * sizeof(T);
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
  HB_INLINE const T* before(const T* first, const T* all, int64_t s, int64_t r) const {
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
  const T* drop(const Call& c) const {
    return drop_at < 0 ? nullptr : static_cast<const T*>(c.inputs[drop_at]);
  }

  template <class F>
  HB_INLINE void for_tasks(int64_t n, const F& f) const {
    if (serial)
      for (int64_t i = 0; i < n; ++i) f(i, 0);
    else
      parallel_for(n, f);
  }

  // What one task works on and with.
  struct Task {
    int64_t row, m;  // rows [row, row + m) of the batch
    T *a, *z;        // packed rows; the gates of a block
    const T* w;
  };

  // Packs W, then runs f(task) for all tasks; `s`: the scratch.
  template <class F>
  void run(const T* w, bool backward, T* s, const F& f) const {
    const PackMatrix<T, T> pack{w, gates * units, backward};
    for_tasks(panels, [&](int64_t panel, int) {
      const int64_t u = (backward ? panel : panel / gates) * kNr;
      const int64_t column = u + (backward ? 0 : panel % gates * units);
      pack.pack(s + panel * k * kNr, int(kNr), column, int(min64(kNr, units - u)), 0, k);
    });
    for_tasks(tasks, [&](int64_t i, int worker) {
      Task t;
      t.row = i * rows, t.m = min64(rows, batch - t.row);
      t.w = s;
      t.a = s + round_up(packed, 64) + worker * (a_elems + z_elems);
      t.z = t.a + a_elems;
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
    for (int64_t i = 0; i < t.m; i += mr) pack_tile_of(t, i, row, k);
  }
  // The rows from i of one tile.
  template <class Row>
  HB_INLINE void pack_tile_of(const Task& t, int64_t i, const Row& row, int64_t k) const {
    const int n = int(min64(mr, t.m - i));
    const T* from[kMaxRows];
    for (int r = 0; r < n; ++r) from[r] = row(i + r);
    if (mr == kHalf && n == kHalf && k % kLanes<T> == 0)
      pack_half(t.a + i * k, from, k);
    else
      pack_rows<T, T>(t.a + i * k, int(mr), from, n, k, k);
  }
  // Tiles of half as many rows as a vector has lanes: half the shuffles, and no lane is stored
  // twice.
  static constexpr int kHalf = kLanes<T> / 2;
  static void pack_half(T* to, const T* const* rows, int64_t k) {
    for (int64_t j = 0; j < k; j += kLanes<T>) {
      Vec<T> v[kHalf];
#pragma GCC unroll 8
      for (int i = 0; i < kHalf; ++i) v[i] = load(rows[i] + j);
      transpose(v);
#pragma GCC unroll 8
      for (int i = 0; i < kHalf; ++i) store(to + j * kHalf + i * kLanes<T>, v[i]);
    }
  }

  // Sequences that a step reads or writes: data[i] + row * width[i] is the first unit.
  struct Sequences {
    const T* data[12];
    int64_t width[12];
    int count = 0;
    void add(const T* p, int64_t row_width, int64_t parts = 1, int64_t part_width = 0) {
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
        const T* p = from.data[stream] + (row + r * stride) * from.width[stream] + u;
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
    const bool none = step < 0 || step >= steps;
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
    int64_t offset[kMaxRows];
    for (int64_t r = 0; r < mr; ++r) offset[r] = r * ld;
    Tile<T> tile{};
    tile.ldb = kNr, tile.row = offset, tile.n = int(n);
    const TileKernel<T> f = kernel[n > kLanes<T>];
    for (int64_t k0 = 0; k0 < count; k0 += kc) {
      tile.kc = min64(kc, count - k0), tile.add = add || k0 > 0;
      tile.b = t.w + (panel * k + from + k0) * kNr;
      for (int64_t i = 0; i < t.m; i += mr) {
        tile.a = t.a + i * count + k0 * mr;
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
  void pack_states(const Task& t, const T* first, const T* hs, const T* drop, int64_t s) const {
    if (!drop) return pack_rows_of(t, [&](int64_t r) { return before(first, hs, s, t.row + r); });
    for (int64_t r = 0; r < t.m; ++r) {
      const T *from = before(first, hs, s, t.row + r), *d = drop + (t.row + r) * units;
      T* to = t.z + r * units;
      for (int64_t u = 0; u < units; ++u) to[u] = from[u] * d[u];
    }
    pack_rows_of(t, [&](int64_t r) { return t.z + r * units; });
  }

  // Calls of the register kernel in a product of `count` terms of k.
  int64_t calls(const Task& t, int64_t count) const {
    return ceil_div(t.m, mr) * ceil_div(count, kc);
  }

  // The forward pass: at every step, f(at, z), then h(at, z) for vectors of units, where
  // z[gate * NR] is h W at first. Two loops: what h computes waits for all of f, and a processor
  // looks ahead over a few iterations only. `ahead`: what f and h use.
  template <class F, class H>
  void each_gate(const T* w, const T* first, const T* hs, const T* drop, void* scratch,
                 const Sequences& ahead, const F& f, const H& h) const {
    run(w, false, static_cast<T*>(scratch), [&](const Task& t) {
      const int64_t ld = gates * kNr;
      for (int64_t s = 0; s < steps; ++s) {
        pack_states(t, first, hs, drop, s);
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
        }
      }
    });
  }

  // dh of a block of units += the packed rows times W^T (times drop); the sum as in `multiply`.
  template <class Between>
  HB_INLINE void add_product(const Task& t, int64_t b, T* dh, const T* drop, int64_t from,
                             int64_t count, Between&& between) const {
    const int64_t n = min64(kNr, units - b * kNr), at = t.row * units + b * kNr;
    if (!drop) return multiply(t, b, n, dh + at, units, true, from, count, between);
    multiply(t, b, n, t.z, kNr, false, from, count, between);
    for (int64_t r = 0; r < t.m; ++r)
      for (int64_t u = 0; u < n; ++u)
        dh[at + r * units + u] += t.z[r * kNr + u] * drop[at + r * units + u];
  }

  // The backward pass: at every step from the last, f(at) for vectors of units writes dz into `dz`
  // and the part of dh that does not pass through W into `dh`; then dh += dz W^T. `ahead`: what f
  // uses.
  template <class F>
  void each_step_back(const T* w, const T* dz, T* dh, const T* drop, void* scratch,
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
          pack_tile_of(t, i, [&](int64_t r) { return dz + row_of(s, t.row + r) * k; }, k);
        }
        for (int64_t b = 0; b < blocks; ++b)
          add_product(t, b, dh, drop, 0, k, fetch(t, ahead, s - 1, b, calls(t, k)));
      }
    });
  }
};

template <class T>
HB_INLINE const T* input(const Call& c, int i) {
  return static_cast<const T*>(c.inputs[i]);
}
template <class T>
HB_INLINE T* output(const Call& c, int i) {
  return static_cast<T*>(c.outputs[i]);
}

// inputs: projected, h, kernel; output: h.
template <class T>
struct SimpleSequence : Recurrent<T> {
  explicit SimpleSequence(Prepare& p) : Recurrent<T>(p, p.outputs[0], 1, 3, false) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    const int64_t units = this->units;
    const T *x = input<T>(call, 0), *h0 = input<T>(call, 1);
    T* hs = output<T>(call, 0);
    const auto held = this->held(call);
    typedef typename Recurrent<T>::At At;
    typename Recurrent<T>::Sequences ahead;
    ahead.add(x, units), ahead.add(hs, units);
    this->each_gate(
        input<T>(call, 2), h0, hs, this->drop(call), call.scratch, ahead,
        [&](const At& at, const T* z) __attribute__((always_inline)) {
          const int64_t to = at.row * units + at.u;
          const T* old = this->before(h0, hs, at.step, at.r) + at.u;
          const Vec<T> h = held(at.row) ? load_n(old, at.count, T(0))
                                        : fn.state(load(z) + load_n(x + to, at.count, T(0)));
          store_n(hs + to, h, at.count);
        },
        [&](const At&, const T*) {});
  }
};

// inputs: h (of all steps), kernel, dh; outputs: dz, dh.
template <class T>
struct SimpleSequenceGrad : Recurrent<T> {
  explicit SimpleSequenceGrad(Prepare& p) : Recurrent<T>(p, p.inputs[0], 1, 3, true) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    const int64_t units = this->units;
    const T *hs = input<T>(call, 0), *dhs = input<T>(call, 2);
    T *dz = output<T>(call, 0), *dh_carry = output<T>(call, 1);
    const auto held = this->held(call);
    memset(dh_carry, 0, size_t(this->batch * units) * sizeof(T));
    typedef typename Recurrent<T>::At At;
    typename Recurrent<T>::Sequences ahead;
    ahead.add(hs, units), ahead.add(dhs, units), ahead.add(dz, units);
    this->each_step_back(input<T>(call, 1), dz, dh_carry, this->drop(call), call.scratch, ahead,
                         [&](const At& at) __attribute__((always_inline)) {
                           const int64_t i = at.row * units + at.u;
                           T* hr = dh_carry + at.r * units + at.u;
                           const Vec<T> dh =
                               load_n(hr, at.count, T(0)) + load_n(dhs + i, at.count, T(0));
                           const bool hold = held(at.row);
                           const Vec<T> h = load_n(hs + i, at.count, T(0));
                           store_n(dz + i, hold ? Vec<T>{} : dh * fn.state_slope(h), at.count);
                           store_n(hr, hold ? dh : Vec<T>{}, at.count);
                         });
  }
};

// inputs: projected, h, c, kernel; outputs: h, c, gates.
template <class T>
struct LstmSequence : Recurrent<T> {
  explicit LstmSequence(Prepare& p) : Recurrent<T>(p, p.outputs[0], 4, 4, false) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    constexpr int64_t kNr = Recurrent<T>::kNr;
    const int64_t units = this->units;
    const T *x = input<T>(call, 0), *h0 = input<T>(call, 1), *c0 = input<T>(call, 2);
    T *hs = output<T>(call, 0), *cs = output<T>(call, 1), *gates = output<T>(call, 2);
    const auto held = this->held(call);
    typedef typename Recurrent<T>::At At;
    typename Recurrent<T>::Sequences ahead;
    ahead.add(x, 4 * units, 4, units), ahead.add(hs, units), ahead.add(cs, units);
    if (gates != x) ahead.add(gates, 4 * units, 4, units);
    this->each_gate(
        input<T>(call, 3), h0, hs, this->drop(call), call.scratch, ahead,
        [&](const At& at, T* z) __attribute__((always_inline)) {
          const T* xr = x + at.row * 4 * units + at.u;
          T* gr = gates + at.row * 4 * units + at.u;
          Vec<T> v[4];
          for (int g = 0; g < 4; ++g)
            v[g] = load(z + g * kNr) + load_n(xr + g * units, at.count, T(0));
          for (int g = 0; g < 4; ++g) {
            v[g] = g == 2 ? fn.state(v[g]) : fn.gate(v[g]);
            store(z + g * kNr, v[g]);
            store_n(gr + g * units, v[g], at.count);
          }
        },
        [&](const At& at, const T* z) __attribute__((always_inline)) {
          const auto gate = [&](int64_t g)
                                __attribute__((always_inline)) { return load(z + g * kNr); };
          const int64_t to = at.row * units + at.u;
          const Vec<T> old = load_n(this->before(c0, cs, at.step, at.r) + at.u, at.count, T(0));
          if (held(at.row)) {
            const T* h = this->before(h0, hs, at.step, at.r) + at.u;
            store_n(cs + to, old, at.count);
            store_n(hs + to, load_n(h, at.count, T(0)), at.count);
            return;
          }
          const Vec<T> c = gate(1) * old + gate(0) * gate(2);
          store_n(cs + to, c, at.count);
          store_n(hs + to, gate(3) * fn.state(c), at.count);
        });
  }
};

// inputs: gates, c (of all steps), c (the first), kernel, dh, maybe dc; outputs: dz, dh, dc.
template <class T>
struct LstmSequenceGrad : Recurrent<T> {
  bool has_dc;
  explicit LstmSequenceGrad(Prepare& p)
      : Recurrent<T>(p, p.inputs[1], 4, 5, true),
        has_dc(p.num_inputs > 5 && p.inputs[5].rank == 3) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    const int64_t units = this->units, states = this->batch * units;
    const T *gates = input<T>(call, 0), *cs = input<T>(call, 1), *c0 = input<T>(call, 2);
    const T *dhs = input<T>(call, 4), *dcs = has_dc ? input<T>(call, 5) : nullptr;
    T *dz = output<T>(call, 0), *dh_carry = output<T>(call, 1), *dc_carry = output<T>(call, 2);
    const auto held = this->held(call);
    memset(dh_carry, 0, size_t(states) * sizeof(T));
    memset(dc_carry, 0, size_t(states) * sizeof(T));
    typedef typename Recurrent<T>::At At;
    typename Recurrent<T>::Sequences ahead;
    ahead.add(gates, 4 * units, 4, units), ahead.add(cs, units), ahead.add(dhs, units);
    ahead.add(dcs, units);
    if (dz != gates) ahead.add(dz, 4 * units, 4, units);
    this->each_step_back(input<T>(call, 3), dz, dh_carry, this->drop(call), call.scratch, ahead,
                         [&](const At& p) __attribute__((always_inline)) {
                           const int64_t count = p.count;
                           const auto in = [&](const T* from) __attribute__((always_inline)) {
                             return load_n(from, count, T(0));
                           };
                           const T* gr = gates + p.row * 4 * units + p.u;
                           T* zr = dz + p.row * 4 * units + p.u;
                           T *hr = dh_carry + p.r * units + p.u, *cr = dc_carry + p.r * units + p.u;
                           const int64_t at = p.row * units + p.u;
                           const Vec<T> i = in(gr), f = in(gr + units), g = in(gr + 2 * units);
                           const Vec<T> o = in(gr + 3 * units), shown = fn.state(in(cs + at));
                           const Vec<T> before = in(this->before(c0, cs, p.step, p.r) + p.u);
                           const Vec<T> dh = in(hr) + in(dhs + at);
                           Vec<T> dc = in(cr);
                           if (dcs) dc += in(dcs + at);
                           if (held(p.row)) {
                             for (int gate = 0; gate < 4; ++gate)
                               store_n(zr + gate * units, Vec<T>{}, count);
                             store_n(hr, dh, count);
                             store_n(cr, dc, count);
                             return;
                           }
                           dc += dh * o * fn.state_slope(shown);
                           store_n(zr, dc * g * fn.gate_slope(i), count);
                           store_n(zr + units, dc * before * fn.gate_slope(f), count);
                           store_n(zr + 2 * units, dc * i * fn.state_slope(g), count);
                           store_n(zr + 3 * units, dh * shown * fn.gate_slope(o), count);
                           store_n(hr, Vec<T>{}, count);
                           store_n(cr, dc * f, count);
                         });
  }
};

// inputs: projected, h, kernel, bias; outputs: h, and z, r, n, h W + b of n.
template <class T>
struct GruSequence : Recurrent<T> {
  explicit GruSequence(Prepare& p) : Recurrent<T>(p, p.outputs[0], 3, 4, false) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    constexpr int64_t kNr = Recurrent<T>::kNr;
    const int64_t units = this->units;
    const T *x = input<T>(call, 0), *h0 = input<T>(call, 1), *bias = input<T>(call, 3);
    T *hs = output<T>(call, 0), *parts = output<T>(call, 1);
    const auto held = this->held(call);
    typedef typename Recurrent<T>::At At;
    typename Recurrent<T>::Sequences ahead;
    ahead.add(x, 3 * units, 3, units), ahead.add(hs, units), ahead.add(parts, 4 * units, 4, units);
    this->each_gate(
        input<T>(call, 2), h0, hs, this->drop(call), call.scratch, ahead,
        [&](const At& at, T* inner) __attribute__((always_inline)) {
          const T *xr = x + at.row * 3 * units + at.u, *br = bias + at.u;
          T* pr = parts + at.row * 4 * units + at.u;
          for (int g = 0; g < 3; ++g) {
            Vec<T> v = load(inner + g * kNr) + load_n(br + g * units, at.count, T(0));
            if (g < 2) v = fn.gate(load_n(xr + g * units, at.count, T(0)) + v);
            store(inner + g * kNr, v);
            store_n(pr + (g < 2 ? g : 3) * units, v, at.count);
          }
        },
        [&](const At& at, const T* part) __attribute__((always_inline)) {
          const auto in = [&](const T* p) __attribute__((always_inline)) {
            return load_n(p + at.u, at.count, T(0));
          };
          T* pr = parts + at.row * 4 * units;
          const Vec<T> z = load(part), r = load(part + kNr), h_n = load(part + 2 * kNr);
          const Vec<T> n = fn.state(in(x + (at.row * 3 + 2) * units) + r * h_n);
          store_n(pr + 2 * units + at.u, n, at.count);
          const Vec<T> old = in(this->before(h0, hs, at.step, at.r));
          const Vec<T> h = held(at.row) ? old : z * old + (T(1) - z) * n;
          store_n(hs + at.row * units + at.u, h, at.count);
        });
  }
};

// inputs: parts, h (of all steps), h (the first), kernel, dh; outputs: gradients of the projected
// inputs and of h W + b, and dh.
template <class T>
struct GruSequenceGrad : Recurrent<T> {
  explicit GruSequenceGrad(Prepare& p) : Recurrent<T>(p, p.inputs[1], 3, 5, true) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    const int64_t units = this->units;
    const T *parts = input<T>(call, 0), *hs = input<T>(call, 1), *h0 = input<T>(call, 2);
    const T* dhs = input<T>(call, 4);
    T *dx = output<T>(call, 0), *inner = output<T>(call, 1), *dh_carry = output<T>(call, 2);
    const auto held = this->held(call);
    memset(dh_carry, 0, size_t(this->batch * units) * sizeof(T));
    typedef typename Recurrent<T>::At At;
    typename Recurrent<T>::Sequences ahead;
    ahead.add(parts, 4 * units, 4, units), ahead.add(hs, units), ahead.add(dhs, units);
    this->each_step_back(input<T>(call, 3), inner, dh_carry, this->drop(call), call.scratch, ahead,
                         [&](const At& p) __attribute__((always_inline)) {
                           const int64_t count = p.count;
                           const auto in = [&](const T* from) __attribute__((always_inline)) {
                             return load_n(from, count, T(0));
                           };
                           const T* pr = parts + p.row * 4 * units + p.u;
                           T *xr = dx + p.row * 3 * units + p.u,
                             *ir = inner + p.row * 3 * units + p.u;
                           T* hr = dh_carry + p.r * units + p.u;
                           const int64_t at = p.row * units + p.u;
                           const Vec<T> z = in(pr), r = in(pr + units), n = in(pr + 2 * units);
                           const Vec<T> h_n = in(pr + 3 * units), dh = in(hr) + in(dhs + at);
                           if (held(p.row)) {
                             for (int g = 0; g < 3; ++g) {
                               store_n(xr + g * units, Vec<T>{}, count);
                               store_n(ir + g * units, Vec<T>{}, count);
                             }
                             store_n(hr, dh, count);
                             return;
                           }
                           const Vec<T> before = in(this->before(h0, hs, p.step, p.r) + p.u);
                           const Vec<T> dz = dh * (before - n) * fn.gate_slope(z);
                           const Vec<T> dn = dh * (T(1) - z) * fn.state_slope(n);
                           const Vec<T> dr = dn * h_n * fn.gate_slope(r);
                           store_n(xr, dz, count);
                           store_n(xr + units, dr, count);
                           store_n(xr + 2 * units, dn, count);
                           store_n(ir, dz, count);
                           store_n(ir + units, dr, count);
                           store_n(ir + 2 * units, dn * r, count);
                           store_n(hr, dh * z, count);
                         });
  }
};

// The GRU that resets before the product. inputs: projected, h, kernel; outputs: h, and z, r, n, r
// h.
template <class T>
struct GruBeforeSequence : Recurrent<T> {
  explicit GruBeforeSequence(Prepare& p) : Recurrent<T>(p, p.outputs[0], 3, 3, false) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    constexpr int64_t kNr = Recurrent<T>::kNr;
    const int64_t units = this->units, blocks = this->blocks, ld = 2 * kNr;
    const T *x = input<T>(call, 0), *h0 = input<T>(call, 1), *drop = this->drop(call);
    T *hs = output<T>(call, 0), *parts = output<T>(call, 1);
    const auto held = this->held(call);
    Recurrent<T>::run(
        input<T>(call, 2), false, static_cast<T*>(call.scratch),
        [&](const typename Recurrent<T>::Task& t) {
          for (int64_t s = 0; s < this->steps; ++s) {
            this->pack_states(t, h0, hs, drop, s);
            for (int64_t b = 0; b < blocks; ++b) {
              const int64_t n = min64(kNr, units - b * kNr);
              for (int64_t g = 0; g < 2; ++g)
                this->multiply(t, b * 3 + g, n, t.z + g * kNr, ld, false);
              each_row(t, s, b, [&](const Place& at) __attribute__((always_inline)) {
                const T* xr = x + at.row * 3 * units + at.u;
                T* pr = parts + at.row * 4 * units + at.u;
                const T* z = t.z + at.local * ld + at.i;
                const Vec<T> r = fn.gate(load(z + kNr) + load_n(xr + units, at.count, T(0)));
                Vec<T> h = load_n(this->before(h0, hs, s, at.r) + at.u, at.count, T(0));
                if (drop) h *= load_n(drop + at.r * units + at.u, at.count, T(0));
                store_n(pr, fn.gate(load(z) + load_n(xr, at.count, T(0))), at.count);
                store_n(pr + units, r, at.count);
                store_n(pr + 3 * units, r * h, at.count);
              });
            }
            this->pack_rows_of(
                t, [&](int64_t r) { return parts + (this->row_of(s, t.row + r) * 4 + 3) * units; });
            for (int64_t b = 0; b < blocks; ++b) {
              this->multiply(t, b * 3 + 2, min64(kNr, units - b * kNr), t.z, kNr, false);
              each_row(t, s, b, [&](const Place& at) __attribute__((always_inline)) {
                const T* given = x + (at.row * 3 + 2) * units + at.u;
                T* pr = parts + at.row * 4 * units + at.u;
                const Vec<T> inner = load(t.z + at.local * kNr + at.i);
                const Vec<T> n = fn.state(inner + load_n(given, at.count, T(0)));
                const Vec<T> z = load_n(pr, at.count, T(0));
                const Vec<T> old = load_n(this->before(h0, hs, s, at.r) + at.u, at.count, T(0));
                store_n(pr + 2 * units, n, at.count);
                const Vec<T> h = held(at.row) ? old : z * old + (T(1) - z) * n;
                store_n(hs + at.row * units + at.u, h, at.count);
              });
            }
          }
        });
  }

  // Units [u, u + count) of a row, which are [i, i + count) of their block.
  struct Place {
    int64_t local, r, row;  // of the task, of the batch, of the sequences
    int64_t u, i, count;
  };
  template <class Task, class F>
  HB_INLINE void each_row(const Task& t, int64_t s, int64_t b, const F& f) const {
    constexpr int64_t kNr = Recurrent<T>::kNr;
    for (int64_t r = 0; r < t.m; ++r) {
      const int64_t row = this->row_of(s, t.row + r);
      each_vector<T>(min64(kNr, this->units - b * kNr),
                     [&](int64_t i, int64_t count) __attribute__((always_inline)) {
                       f(Place{r, t.row + r, row, b * kNr + i, i, count});
                     });
    }
  }
};

// inputs: parts, h (of all steps), h (the first), kernel, dh; outputs: gradients of the projected
// inputs, and dh.
template <class T>
struct GruBeforeSequenceGrad : Recurrent<T> {
  explicit GruBeforeSequenceGrad(Prepare& p) : Recurrent<T>(p, p.inputs[1], 3, 5, true) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    constexpr int64_t kNr = Recurrent<T>::kNr;
    const int64_t units = this->units, blocks = this->blocks;
    const T *parts = input<T>(call, 0), *hs = input<T>(call, 1), *h0 = input<T>(call, 2);
    const T *dhs = input<T>(call, 4), *drop = this->drop(call);
    T *dx = output<T>(call, 0), *carry = output<T>(call, 1);
    const auto held = this->held(call);
    memset(carry, 0, size_t(this->batch * units) * sizeof(T));
    const auto in = [](const T* p, int64_t count)
                        __attribute__((always_inline)) { return load_n(p, count, T(0)); };
    Recurrent<T>::run(
        input<T>(call, 3), true, static_cast<T*>(call.scratch),
        [&](const typename Recurrent<T>::Task& t) {
          for (int64_t s = this->steps - 1; s >= 0; --s) {
            // dz and dn, and all of dh for now
            for (int64_t r = t.row; r < t.row + t.m; ++r) {
              const int64_t row = this->row_of(s, r);
              const T *pr = parts + row * 4 * units, *old = this->before(h0, hs, s, r);
              T* xr = dx + row * 3 * units;
              each_vector<T>(units, [&](int64_t u, int64_t count) __attribute__((always_inline)) {
                const Vec<T> dh =
                    in(carry + r * units + u, count) + in(dhs + row * units + u, count);
                const Vec<T> z = in(pr + u, count), n = in(pr + 2 * units + u, count);
                const bool hold = held(row);
                const Vec<T> dz = dh * (in(old + u, count) - n) * fn.gate_slope(z);
                const Vec<T> dn = dh * (T(1) - z) * fn.state_slope(n);
                store_n(xr + u, hold ? Vec<T>{} : dz, count);
                store_n(xr + 2 * units + u, hold ? Vec<T>{} : dn, count);
                store_n(carry + r * units + u, dh, count);
              });
            }
            // d(r h) = dn W^T, from it dr and a part of dh
            this->pack_rows_of(
                t, [&](int64_t r) { return dx + (this->row_of(s, t.row + r) * 3 + 2) * units; },
                units);
            for (int64_t b = 0; b < blocks; ++b) {
              const int64_t width = min64(kNr, units - b * kNr);
              this->multiply(t, b, width, t.z, kNr, false, 2 * units, units, [] {});
              for (int64_t i = 0; i < t.m; ++i) {
                const int64_t r = t.row + i, row = this->row_of(s, r);
                const T *pr = parts + row * 4 * units, *old = this->before(h0, hs, s, r);
                each_vector<T>(width, [&](int64_t j, int64_t count) __attribute__((always_inline)) {
                  const int64_t u = b * kNr + j;
                  T *xr = dx + (row * 3 + 1) * units + u, *hr = carry + r * units + u;
                  if (held(row)) return store_n(xr, Vec<T>{}, count);
                  const Vec<T> drh = in(t.z + i * kNr + j, count), rs = in(pr + units + u, count);
                  Vec<T> scale = splat<T>(T(1));
                  if (drop) scale = in(drop + r * units + u, count);
                  store_n(xr, drh * (in(old + u, count) * scale) * fn.gate_slope(rs), count);
                  store_n(hr, in(hr, count) * in(pr + u, count) + drh * rs * scale, count);
                });
              }
            }
            // dh += [dz, dr] W^T
            this->pack_rows_of(
                t, [&](int64_t r) { return dx + this->row_of(s, t.row + r) * 3 * units; },
                2 * units);
            for (int64_t b = 0; b < blocks; ++b)
              this->add_product(t, b, carry, drop, 0, 2 * units, [] {});
          }
        });
  }
};

#define HB_RECURRENT(op, Type)             \
  typedef Type<float> Type##F32;           \
  typedef Type<double> Type##F64;          \
  HB_CPU_KERNEL(op, Type##F32, ::hb::kF32) \
  HB_CPU_KERNEL(op, Type##F64, ::hb::kF64)
HB_RECURRENT(simple_sequence, SimpleSequence)
HB_RECURRENT(simple_sequence_grad, SimpleSequenceGrad)
typedef LstmSequence<float> LstmSequenceF32;  // the gates may lie where the projected inputs were
typedef LstmSequence<double> LstmSequenceF64;
HB_CPU_KERNEL_IF(lstm_sequence, LstmSequenceF32, ::hb::kF32, ~0u, nullptr)
HB_CPU_KERNEL_IF(lstm_sequence, LstmSequenceF64, ::hb::kF64, ~0u, nullptr)
typedef LstmSequenceGrad<float> LstmSequenceGradF32;  // dz may lie where the gates were
typedef LstmSequenceGrad<double> LstmSequenceGradF64;
HB_CPU_KERNEL_INPLACE(lstm_sequence_grad, LstmSequenceGradF32, ::hb::kF32)
HB_CPU_KERNEL_INPLACE(lstm_sequence_grad, LstmSequenceGradF64, ::hb::kF64)
HB_RECURRENT(gru_before_sequence, GruBeforeSequence)
HB_RECURRENT(gru_before_sequence_grad, GruBeforeSequenceGrad)
HB_RECURRENT(gru_sequence, GruSequence)
HB_RECURRENT(gru_sequence_grad, GruSequenceGrad)

HB_KERNELS_END
