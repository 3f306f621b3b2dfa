// The kernels of simple recurrence, LSTM and GRU: what is done to the gates of a step, forward and
// backward. Everything else is in recurrent.h.
#include "ops/recurrent.h"

HB_KERNELS_BEGIN

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
        [&](const At& at, T* z) __attribute__((always_inline)) {
          const int64_t to = at.row * units + at.u;
          const T* old = this->before(h0, hs, at.step, at.r) + at.u;
          const Vec<T> h = held(at.row) ? load_n(old, at.count, T(0))
                                        : fn.state(load(z) + load_n(x + to, at.count, T(0)));
          store(z, h);
          store_n(hs + to, h, at.count);
        },
        [&](const At&, T*) {});
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
        [&](const At& at, T* z) __attribute__((always_inline)) {
          const auto gate = [&](int64_t g)
                                __attribute__((always_inline)) { return load(z + g * kNr); };
          const int64_t to = at.row * units + at.u;
          const Vec<T> old = load_n(this->before(c0, cs, at.step, at.r) + at.u, at.count, T(0));
          Vec<T> c = old, h;
          if (held(at.row)) {
            h = load_n(this->before(h0, hs, at.step, at.r) + at.u, at.count, T(0));
          } else {
            c = gate(1) * old + gate(0) * gate(2);
            h = gate(3) * fn.state(c);
          }
          store(z, h);
          store_n(cs + to, c, at.count);
          store_n(hs + to, h, at.count);
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
        [&](const At& at, T* part) __attribute__((always_inline)) {
          const auto in = [&](const T* p) __attribute__((always_inline)) {
            return load_n(p + at.u, at.count, T(0));
          };
          T* pr = parts + at.row * 4 * units;
          const Vec<T> z = load(part), r = load(part + kNr), h_n = load(part + 2 * kNr);
          const Vec<T> n = fn.state(in(x + (at.row * 3 + 2) * units) + r * h_n);
          store_n(pr + 2 * units + at.u, n, at.count);
          const Vec<T> old = in(this->before(h0, hs, at.step, at.r));
          const Vec<T> h = held(at.row) ? old : z * old + (T(1) - z) * n;
          store(part, h);
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
