// LSTM and GRU over a whole sequence, forward and backward, one call each: what the compositions
// in ops/recurrent.py compute, without an instruction of the runtime per step.
//
//   LSTM   i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of x[t] + h W
//          c = f c + i g;  h = o tanh(c)
//   GRU    z, r = sigmoid of x[t] + h W + b;  n = tanh(x[t] + r (h W + b));  h = z h + (1 - z) n
//
// x[t] is projected already, and the gradient of W is one product over all steps: both are large
// products of their own, outside. Within stays what a step must wait for: h W, or dz W^T.
//
// A mask (bool [time, batch], the last input if there is one) holds the states of a row at steps
// where it is false: no gradient reaches these gates, and that of the states passes unchanged.
//
// Layout: [time, batch, ...]; x and the gates hold all units of a gate side by side. W is packed
// once per call into the panels of the register kernel, ordered by block of units, then gate. A
// step of the forward pass computes the gates of one block into a tile that stays in L1, from
// where the gates are activated and the states are stored. A step of the backward pass computes dz
// of all gates, then adds dz W^T panel by panel into the gradient of the state, which lives in the
// output for the first state.
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
#include "ops/gemm.h"
#include "ops/rowwise.h"

HB_KERNELS_BEGIN

constexpr int64_t kTaskRows = 48;     // most rows of a task: their tile stays in L1
constexpr int64_t kLeastRows = 8;     // fewer would be slower than reading W
constexpr double kSerialFlops = 4e5;  // less than this does not wake other threads

// Shapes, scratch and the products of one of the four kernels. The weights are `panels` packed
// panels [k][NR] of up to NR columns.
template <class T>
struct Recurrent {
  static constexpr int64_t kNr = kTileCols<T>;
  int64_t steps, batch, units, gates, k;
  int64_t blocks, panels;   // blocks of NR units; panels of W
  int64_t rows, tasks, mr;  // rows of a task; rows of a tile
  int64_t kc;               // k of one pass: a panel [kc][NR] stays in L1
  int64_t packed, a_elems, z_elems;
  int mask_at = -1;  // which input, or -1
  bool serial;
  TileKernel<T> kernel[2];

  // `backward`: W is read as W^T, and the sum runs over the gates.
  Recurrent(Prepare& p, const TensorSpec& states, int64_t gates, bool backward) : gates(gates) {
    steps = states.shape[0], batch = states.shape[1], units = states.shape[2];
    k = backward ? gates * units : units;
    blocks = ceil_div(units, kNr), panels = backward ? blocks : blocks * gates;
    rows = min64(batch, max64(kLeastRows, ceil_div(batch, num_threads())));
    rows = ceil_div(rows, max64(1, ceil_div(rows, kTaskRows)));
    tasks = batch ? ceil_div(batch, rows) : 0;
    mr = rows ? ceil_div(rows, ceil_div(rows, kMaxRows)) : 1;
    kc = k ? ceil_div(k, ceil_div(k, kMaxKc)) : 1;
    serial =
        2.0 * double(steps) * double(batch) * double(units) * double(units * gates) < kSerialFlops;
    packed = panels * k * kNr;
    a_elems = round_up(round_up(rows, mr) * k + 64, 64);
    z_elems = backward ? 0 : round_up(rows * gates * kNr, 64);
    if (p.inputs[p.num_inputs - 1].dtype == DType::Bool) mask_at = p.num_inputs - 1;
    kernel[0] = find_tile_kernel(T(), int(mr), 1);
    kernel[1] = find_tile_kernel(T(), int(mr), kTileVecs);
    p.scratch_bytes =
        size_t(round_up(packed, 64) + num_threads() * (a_elems + z_elems)) * sizeof(T);
  }

  // Whether the states of a row of a step are held.
  struct Held {
    const uint8_t* mask;
    HB_INLINE bool operator()(int64_t row) const { return mask && !mask[row]; }
  };
  Held held(const Call& c) const {
    return {mask_at < 0 ? nullptr : static_cast<const uint8_t*>(c.inputs[mask_at])};
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

  // Packs W, then runs f(task) for all tasks.
  template <class F>
  void run(const T* w, void* scratch, const F& f) const {
    T* const s = static_cast<T*>(scratch);
    const bool backward = k != units;
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

  // x: the rows of the task, [m, k].
  HB_INLINE void pack_rows_of(const Task& t, const T* x) const {
    for (int64_t i = 0; i < t.m; i += mr) {
      const int n = int(min64(mr, t.m - i));
      const T* from[kMaxRows];
      for (int r = 0; r < n; ++r) from[r] = x + (i + r) * k;
      pack_rows<T, T>(t.a + i * k, int(mr), from, n, k, k);
    }
  }

  // c[r * ld + j] (+)= sum over k of the packed rows and n columns of a panel.
  HB_INLINE void multiply(const Task& t, int64_t panel, int64_t n, T* c, int64_t ld,
                          bool add) const {
    int64_t offset[kMaxRows];
    for (int64_t r = 0; r < mr; ++r) offset[r] = r * ld;
    Tile<T> tile;
    tile.ldb = kNr, tile.row = offset, tile.n = int(n);
    tile.bias = nullptr, tile.relu = false;
    const TileKernel<T> f = kernel[n > kLanes<T>];
    for (int64_t k0 = 0; k0 < k; k0 += kc) {
      tile.kc = min64(kc, k - k0), tile.add = add || k0 > 0;
      tile.b = t.w + (panel * k + k0) * kNr;
      for (int64_t i = 0; i < t.m; i += mr) {
        tile.a = t.a + i * k + k0 * mr;
        tile.c = c + i * ld, tile.m = int(min64(mr, t.m - i));
        f(tile);
      }
    }
  }

  // The forward pass: at every step, f(at, z), then h(at) for vectors of units, where z[gate * NR]
  // is h W. Two loops: what h computes waits for all of f, and a processor looks ahead over a few
  // iterations only.
  struct At {
    int64_t row;       // of the step, in [0, steps * batch)
    const T* before;   // the row of h before the step
    int64_t u, count;  // units [u, u + count)
  };
  template <class F, class H>
  void each_gate(const T* w, const T* first, const T* hs, void* scratch, const F& f,
                 const H& h) const {
    run(w, scratch, [&](const Task& t) {
      const int64_t ld = gates * kNr;
      for (int64_t s = 0; s < steps; ++s) {
        const T* before = (s ? hs + (s - 1) * batch * units : first) + t.row * units;
        const int64_t row = s * batch + t.row;
        pack_rows_of(t, before);
        for (int64_t b = 0; b < blocks; ++b) {
          const int64_t u = b * kNr, n = min64(kNr, units - u);
          for (int64_t g = 0; g < gates; ++g)
            multiply(t, b * gates + g, n, t.z + g * kNr, ld, false);
          for (int64_t r = 0; r < t.m; ++r) {
            each_vector<T>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
              f(At{row + r, before + r * units, u + i, count}, t.z + r * ld + i);
            });
          }
          for (int64_t r = 0; r < t.m; ++r) {
            each_vector<T>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
              h(At{row + r, before + r * units, u + i, count});
            });
          }
        }
      }
    });
  }

  // The backward pass: at every step from the last, f(row of the step, row of the batch, unit,
  // count) for vectors of units writes dz into `dz` and the part of dh that does not pass through
  // W into `dh`; then dh += dz W^T.
  template <class F>
  void each_step_back(const T* w, const T* dz, T* dh, void* scratch, const F& f) const {
    run(w, scratch, [&](const Task& t) {
      for (int64_t s = steps - 1; s >= 0; --s) {
        for (int64_t r = t.row; r < t.row + t.m; ++r) {
          each_vector<T>(units, [&](int64_t u, int64_t count) __attribute__((always_inline)) {
            f(s * batch + r, r, u, count);
          });
        }
        pack_rows_of(t, dz + (s * batch + t.row) * k);
        for (int64_t b = 0; b < blocks; ++b)
          multiply(t, b, min64(kNr, units - b * kNr), dh + t.row * units + b * kNr, units, true);
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

// inputs: projected, h, c, kernel; outputs: h, c, gates.
template <class T>
struct LstmSequence : Recurrent<T> {
  explicit LstmSequence(Prepare& p) : Recurrent<T>(p, p.outputs[0], 4, false) {}
  void run(const Call& call) const {
    constexpr int64_t kNr = Recurrent<T>::kNr;
    const int64_t units = this->units, ahead = this->batch * units;
    const T *x = input<T>(call, 0), *c0 = input<T>(call, 2);
    T *hs = output<T>(call, 0), *cs = output<T>(call, 1), *gates = output<T>(call, 2);
    const auto held = this->held(call);
    typedef typename Recurrent<T>::At At;
    this->each_gate(
        input<T>(call, 3), input<T>(call, 1), hs, call.scratch,
        [&](const At& at, const T* z) __attribute__((always_inline)) {
          const T* xr = x + at.row * 4 * units + at.u;
          T* gr = gates + at.row * 4 * units + at.u;
          const auto gate = [&](int64_t g) __attribute__((always_inline)) {
            return load(z + g * kNr) + load_n(xr + g * units, at.count, T(0));
          };
          store_n(gr, vsigmoid<T>(gate(0)), at.count);
          store_n(gr + units, vsigmoid<T>(gate(1)), at.count);
          store_n(gr + 2 * units, vtanh<T>(gate(2)), at.count);
          store_n(gr + 3 * units, vsigmoid<T>(gate(3)), at.count);
        },
        [&](const At& at) __attribute__((always_inline)) {
          const T* gr = gates + at.row * 4 * units + at.u;
          const auto gate = [&](int64_t g) __attribute__((always_inline)) {
            return load_n(gr + g * units, at.count, T(0));
          };
          const int64_t to = at.row * units + at.u;
          const T* before = to < ahead ? c0 + to : cs + to - ahead;
          const Vec<T> old = load_n(before, at.count, T(0));
          if (held(at.row)) {
            store_n(cs + to, old, at.count);
            store_n(hs + to, load_n(at.before + at.u, at.count, T(0)), at.count);
            return;
          }
          const Vec<T> c = gate(1) * old + gate(0) * gate(2);
          store_n(cs + to, c, at.count);
          store_n(hs + to, gate(3) * vtanh<T>(c), at.count);
        });
  }
};

// inputs: gates, c (of all steps), c (the first), kernel, dh, maybe dc; outputs: dz, dh, dc.
template <class T>
struct LstmSequenceGrad : Recurrent<T> {
  bool has_dc;
  explicit LstmSequenceGrad(Prepare& p)
      : Recurrent<T>(p, p.inputs[1], 4, true),
        has_dc(p.num_inputs > 5 && p.inputs[5].dtype != DType::Bool) {}
  void run(const Call& call) const {
    const int64_t units = this->units, ahead = this->batch * units;
    const T *gates = input<T>(call, 0), *cs = input<T>(call, 1), *c0 = input<T>(call, 2);
    const T *dhs = input<T>(call, 4), *dcs = has_dc ? input<T>(call, 5) : nullptr;
    T *dz = output<T>(call, 0), *dh_carry = output<T>(call, 1), *dc_carry = output<T>(call, 2);
    const auto held = this->held(call);
    memset(dh_carry, 0, size_t(ahead) * sizeof(T));
    memset(dc_carry, 0, size_t(ahead) * sizeof(T));
    this->each_step_back(
        input<T>(call, 3), dz, dh_carry, call.scratch,
        [&](int64_t row, int64_t r, int64_t u, int64_t count) __attribute__((always_inline)) {
          const auto in = [&](const T* p)
                              __attribute__((always_inline)) { return load_n(p, count, T(0)); };
          const T* gr = gates + row * 4 * units + u;
          T* zr = dz + row * 4 * units + u;
          T *hr = dh_carry + r * units + u, *cr = dc_carry + r * units + u;
          const int64_t at = row * units + u;
          const Vec<T> i = in(gr), f = in(gr + units), g = in(gr + 2 * units);
          const Vec<T> o = in(gr + 3 * units), tanh_c = vtanh<T>(in(cs + at));
          const Vec<T> before = in(at < ahead ? c0 + at : cs + at - ahead);
          const Vec<T> dh = in(hr) + in(dhs + at);
          Vec<T> dc = in(cr);
          if (dcs) dc += in(dcs + at);
          if (held(row)) {
            for (int g = 0; g < 4; ++g) store_n(zr + g * units, Vec<T>{}, count);
            store_n(hr, dh, count);
            store_n(cr, dc, count);
            return;
          }
          dc += dh * o * (T(1) - tanh_c * tanh_c);
          store_n(zr, dc * g * i * (T(1) - i), count);
          store_n(zr + units, dc * before * f * (T(1) - f), count);
          store_n(zr + 2 * units, dc * i * (T(1) - g * g), count);
          store_n(zr + 3 * units, dh * tanh_c * o * (T(1) - o), count);
          store_n(hr, Vec<T>{}, count);
          store_n(cr, dc * f, count);
        });
  }
};

// inputs: projected, h, kernel, bias; outputs: h, and z, r, n, h W + b of n.
template <class T>
struct GruSequence : Recurrent<T> {
  explicit GruSequence(Prepare& p) : Recurrent<T>(p, p.outputs[0], 3, false) {}
  void run(const Call& call) const {
    constexpr int64_t kNr = Recurrent<T>::kNr;
    const int64_t units = this->units;
    const T *x = input<T>(call, 0), *bias = input<T>(call, 3);
    T *hs = output<T>(call, 0), *parts = output<T>(call, 1);
    const auto held = this->held(call);
    typedef typename Recurrent<T>::At At;
    this->each_gate(
        input<T>(call, 2), input<T>(call, 1), hs, call.scratch,
        [&](const At& at, const T* inner) __attribute__((always_inline)) {
          const T *xr = x + at.row * 3 * units + at.u, *br = bias + at.u;
          T* pr = parts + at.row * 4 * units + at.u;
          const auto product = [&](int64_t g) __attribute__((always_inline)) {
            return load(inner + g * kNr) + load_n(br + g * units, at.count, T(0));
          };
          const auto given = [&](int64_t g) __attribute__((always_inline)) {
            return load_n(xr + g * units, at.count, T(0));
          };
          store_n(pr, vsigmoid<T>(given(0) + product(0)), at.count);
          store_n(pr + units, vsigmoid<T>(given(1) + product(1)), at.count);
          store_n(pr + 3 * units, product(2), at.count);
        },
        [&](const At& at) __attribute__((always_inline)) {
          const auto in = [&](const T* p) __attribute__((always_inline)) {
            return load_n(p + at.u, at.count, T(0));
          };
          T* pr = parts + at.row * 4 * units;
          const Vec<T> z = in(pr), r = in(pr + units), h_n = in(pr + 3 * units);
          const Vec<T> n = vtanh<T>(in(x + (at.row * 3 + 2) * units) + r * h_n);
          store_n(pr + 2 * units + at.u, n, at.count);
          const Vec<T> old = in(at.before);
          const Vec<T> h = held(at.row) ? old : z * old + (T(1) - z) * n;
          store_n(hs + at.row * units + at.u, h, at.count);
        });
  }
};

// inputs: parts, h (of all steps), h (the first), kernel, dh; outputs: gradients of the projected
// inputs and of h W + b, and dh.
template <class T>
struct GruSequenceGrad : Recurrent<T> {
  explicit GruSequenceGrad(Prepare& p) : Recurrent<T>(p, p.inputs[1], 3, true) {}
  void run(const Call& call) const {
    const int64_t units = this->units, ahead = this->batch * units;
    const T *parts = input<T>(call, 0), *hs = input<T>(call, 1), *h0 = input<T>(call, 2);
    const T* dhs = input<T>(call, 4);
    T *dx = output<T>(call, 0), *inner = output<T>(call, 1), *dh_carry = output<T>(call, 2);
    const auto held = this->held(call);
    memset(dh_carry, 0, size_t(ahead) * sizeof(T));
    this->each_step_back(
        input<T>(call, 3), inner, dh_carry, call.scratch,
        [&](int64_t row, int64_t r_, int64_t u, int64_t count) __attribute__((always_inline)) {
          const auto in = [&](const T* p)
                              __attribute__((always_inline)) { return load_n(p, count, T(0)); };
          const T* pr = parts + row * 4 * units + u;
          T *xr = dx + row * 3 * units + u, *ir = inner + row * 3 * units + u;
          T* hr = dh_carry + r_ * units + u;
          const int64_t at = row * units + u;
          const Vec<T> z = in(pr), r = in(pr + units), n = in(pr + 2 * units);
          const Vec<T> h_n = in(pr + 3 * units), dh = in(hr) + in(dhs + at);
          if (held(row)) {
            for (int g = 0; g < 3; ++g) {
              store_n(xr + g * units, Vec<T>{}, count);
              store_n(ir + g * units, Vec<T>{}, count);
            }
            store_n(hr, dh, count);
            return;
          }
          const Vec<T> before = in(at < ahead ? h0 + at : hs + at - ahead);
          const Vec<T> dz = dh * (before - n) * z * (T(1) - z);
          const Vec<T> dn = dh * (T(1) - z) * (T(1) - n * n);
          const Vec<T> dr = dn * h_n * r * (T(1) - r);
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

#define HB_RECURRENT(op, Type)             \
  typedef Type<float> Type##F32;           \
  typedef Type<double> Type##F64;          \
  HB_CPU_KERNEL(op, Type##F32, ::hb::kF32) \
  HB_CPU_KERNEL(op, Type##F64, ::hb::kF64)
HB_RECURRENT(lstm_sequence, LstmSequence)
HB_RECURRENT(lstm_sequence_grad, LstmSequenceGrad)
HB_RECURRENT(gru_sequence, GruSequence)
HB_RECURRENT(gru_sequence_grad, GruSequenceGrad)

HB_KERNELS_END
