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
template <class S>
struct SimpleSequence : Recurrent<S> {
  typedef Compute<S> T;
  explicit SimpleSequence(Prepare& p) : Recurrent<S>(p, p.outputs[0], 1, 3, false) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    const int64_t units = this->units;
    const S *x = input<S>(call, 0), *h0 = input<S>(call, 1);
    S* hs = output<S>(call, 0);
    const auto held = this->held(call);
    typedef typename Recurrent<S>::At At;
    typename Recurrent<S>::Sequences ahead;
    ahead.add(x, units), ahead.add(hs, units);
    this->each_gate(
        input<S>(call, 2), h0, hs, this->drop(call), call.scratch, ahead,
        [&](const At& at, T* z) __attribute__((always_inline)) {
          const int64_t to = at.row * units + at.u;
          const S* old = this->before(h0, hs, at.step, at.r) + at.u;
          const Vec<T> h = held(at.row) ? load_wide(old, at.count)
                                        : fn.state(load(z) + load_wide(x + to, at.count));
          store(z, h);
          store_narrow(hs + to, h, at.count);
        },
        [&](const At&, T*) {});
  }
};

// inputs: h (of all steps), kernel, dh; outputs: dz, dh.
template <class S>
struct SimpleSequenceGrad : Recurrent<S> {
  typedef Compute<S> T;
  explicit SimpleSequenceGrad(Prepare& p) : Recurrent<S>(p, p.inputs[0], 1, 3, true) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    const int64_t units = this->units;
    const S *hs = input<S>(call, 0), *dhs = input<S>(call, 2);
    S* dz = output<S>(call, 0);
    T* dh_carry = this->carry(call, 1, 0);
    const auto held = this->held(call);
    typedef typename Recurrent<S>::At At;
    typename Recurrent<S>::Sequences ahead;
    ahead.add(hs, units), ahead.add(dhs, units), ahead.add(dz, units);
    this->each_step_back(input<S>(call, 1), dz, dh_carry, this->drop(call), call.scratch, ahead,
                         [&](const At& at) __attribute__((always_inline)) {
                           const int64_t i = at.row * units + at.u;
                           T* hr = dh_carry + at.r * units + at.u;
                           const Vec<T> dh = load_wide(hr, at.count) + load_wide(dhs + i, at.count);
                           const bool hold = held(at.row);
                           const Vec<T> h = load_wide(hs + i, at.count);
                           store_narrow(dz + i, hold ? Vec<T>{} : dh * fn.state_slope(h), at.count);
                           store_narrow(hr, hold ? dh : Vec<T>{}, at.count);
                         });
    this->store_carry(call, 1, dh_carry);
  }
};

// inputs: projected, h, c, kernel; outputs: h, c, gates.
template <class S>
struct LstmSequence : Recurrent<S> {
  typedef Compute<S> T;
  explicit LstmSequence(Prepare& p) : Recurrent<S>(p, p.outputs[0], 4, 4, false) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    constexpr int64_t kNr = Recurrent<S>::kNr;
    const int64_t units = this->units;
    const S *x = input<S>(call, 0), *h0 = input<S>(call, 1), *c0 = input<S>(call, 2);
    S *hs = output<S>(call, 0), *cs = output<S>(call, 1), *gates = output<S>(call, 2);
    const auto held = this->held(call);
    typedef typename Recurrent<S>::At At;
    typename Recurrent<S>::Sequences ahead;
    ahead.add(x, 4 * units, 4, units), ahead.add(hs, units), ahead.add(cs, units);
    if (gates != x) ahead.add(gates, 4 * units, 4, units);
    this->each_gate(
        input<S>(call, 3), h0, hs, this->drop(call), call.scratch, ahead,
        [&](const At& at, T* z) __attribute__((always_inline)) {
          const S* xr = x + at.row * 4 * units + at.u;
          S* gr = gates + at.row * 4 * units + at.u;
          Vec<T> v[4];
          for (int g = 0; g < 4; ++g)
            v[g] = load(z + g * kNr) + load_wide(xr + g * units, at.count);
          for (int g = 0; g < 4; ++g) {
            v[g] = g == 2 ? fn.state(v[g]) : fn.gate(v[g]);
            store(z + g * kNr, v[g]);
            store_narrow(gr + g * units, v[g], at.count);
          }
        },
        [&](const At& at, T* z) __attribute__((always_inline)) {
          const auto gate = [&](int64_t g)
                                __attribute__((always_inline)) { return load(z + g * kNr); };
          const int64_t to = at.row * units + at.u;
          const Vec<T> old = load_wide(this->before(c0, cs, at.step, at.r) + at.u, at.count);
          Vec<T> c = old, h;
          if (held(at.row)) {
            h = load_wide(this->before(h0, hs, at.step, at.r) + at.u, at.count);
          } else {
            c = gate(1) * old + gate(0) * gate(2);
            h = gate(3) * fn.state(c);
          }
          store(z, h);
          store_narrow(cs + to, c, at.count);
          store_narrow(hs + to, h, at.count);
        });
  }
};

// inputs: gates, c (of all steps), c (the first), kernel, dh, maybe dc; outputs: dz, dh, dc.
template <class S>
struct LstmSequenceGrad : Recurrent<S> {
  typedef Compute<S> T;
  bool has_dc;
  explicit LstmSequenceGrad(Prepare& p)
      : Recurrent<S>(p, p.inputs[1], 4, 5, true),
        has_dc(p.num_inputs > 5 && p.inputs[5].rank == 3) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    const int64_t units = this->units;
    const S *gates = input<S>(call, 0), *cs = input<S>(call, 1), *c0 = input<S>(call, 2);
    const S *dhs = input<S>(call, 4), *dcs = has_dc ? input<S>(call, 5) : nullptr;
    S* dz = output<S>(call, 0);
    T *dh_carry = this->carry(call, 1, 0), *dc_carry = this->carry(call, 2, 1);
    const auto held = this->held(call);
    typedef typename Recurrent<S>::At At;
    typename Recurrent<S>::Sequences ahead;
    ahead.add(gates, 4 * units, 4, units), ahead.add(cs, units), ahead.add(dhs, units);
    ahead.add(dcs, units);
    if (dz != gates) ahead.add(dz, 4 * units, 4, units);
    this->each_step_back(input<S>(call, 3), dz, dh_carry, this->drop(call), call.scratch, ahead,
                         [&](const At& p) __attribute__((always_inline)) {
                           const int64_t count = p.count;
                           const auto in = [&](const auto* from) __attribute__((always_inline)) {
                             return load_wide(from, count);
                           };
                           const S* gr = gates + p.row * 4 * units + p.u;
                           S* zr = dz + p.row * 4 * units + p.u;
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
                               store_narrow(zr + gate * units, Vec<T>{}, count);
                             store_narrow(hr, dh, count);
                             store_narrow(cr, dc, count);
                             return;
                           }
                           dc += dh * o * fn.state_slope(shown);
                           store_narrow(zr, dc * g * fn.gate_slope(i), count);
                           store_narrow(zr + units, dc * before * fn.gate_slope(f), count);
                           store_narrow(zr + 2 * units, dc * i * fn.state_slope(g), count);
                           store_narrow(zr + 3 * units, dh * shown * fn.gate_slope(o), count);
                           store_narrow(hr, Vec<T>{}, count);
                           store_narrow(cr, dc * f, count);
                         });
    this->store_carry(call, 1, dh_carry);
    this->store_carry(call, 2, dc_carry);
  }
};

// inputs: projected, h, kernel, bias; outputs: h, and z, r, n, h W + b of n.
template <class S>
struct GruSequence : Recurrent<S> {
  typedef Compute<S> T;
  explicit GruSequence(Prepare& p) : Recurrent<S>(p, p.outputs[0], 3, 4, false) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    constexpr int64_t kNr = Recurrent<S>::kNr;
    const int64_t units = this->units;
    const S *x = input<S>(call, 0), *h0 = input<S>(call, 1), *bias = input<S>(call, 3);
    S *hs = output<S>(call, 0), *parts = output<S>(call, 1);
    const auto held = this->held(call);
    typedef typename Recurrent<S>::At At;
    typename Recurrent<S>::Sequences ahead;
    ahead.add(x, 3 * units, 3, units), ahead.add(hs, units), ahead.add(parts, 4 * units, 4, units);
    this->each_gate(
        input<S>(call, 2), h0, hs, this->drop(call), call.scratch, ahead,
        [&](const At& at, T* inner) __attribute__((always_inline)) {
          const S *xr = x + at.row * 3 * units + at.u, *br = bias + at.u;
          S* pr = parts + at.row * 4 * units + at.u;
          for (int g = 0; g < 3; ++g) {
            Vec<T> v = load(inner + g * kNr) + load_wide(br + g * units, at.count);
            if (g < 2) v = fn.gate(load_wide(xr + g * units, at.count) + v);
            store(inner + g * kNr, v);
            store_narrow(pr + (g < 2 ? g : 3) * units, v, at.count);
          }
        },
        [&](const At& at, T* part) __attribute__((always_inline)) {
          const auto in = [&](const auto* p) __attribute__((always_inline)) {
            return load_wide(p + at.u, at.count);
          };
          S* pr = parts + at.row * 4 * units;
          const Vec<T> z = load(part), r = load(part + kNr), h_n = load(part + 2 * kNr);
          const Vec<T> n = fn.state(in(x + (at.row * 3 + 2) * units) + r * h_n);
          store_narrow(pr + 2 * units + at.u, n, at.count);
          const Vec<T> old = in(this->before(h0, hs, at.step, at.r));
          const Vec<T> h = held(at.row) ? old : z * old + (T(1) - z) * n;
          store(part, h);
          store_narrow(hs + at.row * units + at.u, h, at.count);
        });
  }
};

// inputs: parts, h (of all steps), h (the first), kernel, dh; outputs: gradients of the projected
// inputs and of h W + b, and dh.
template <class S>
struct GruSequenceGrad : Recurrent<S> {
  typedef Compute<S> T;
  explicit GruSequenceGrad(Prepare& p) : Recurrent<S>(p, p.inputs[1], 3, 5, true) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    const int64_t units = this->units;
    const S *parts = input<S>(call, 0), *hs = input<S>(call, 1), *h0 = input<S>(call, 2);
    const S* dhs = input<S>(call, 4);
    S *dx = output<S>(call, 0), *inner = output<S>(call, 1);
    T* dh_carry = this->carry(call, 2, 0);
    const auto held = this->held(call);
    typedef typename Recurrent<S>::At At;
    typename Recurrent<S>::Sequences ahead;
    ahead.add(parts, 4 * units, 4, units), ahead.add(hs, units), ahead.add(dhs, units);
    this->each_step_back(input<S>(call, 3), inner, dh_carry, this->drop(call), call.scratch, ahead,
                         [&](const At& p) __attribute__((always_inline)) {
                           const int64_t count = p.count;
                           const auto in = [&](const auto* from) __attribute__((always_inline)) {
                             return load_wide(from, count);
                           };
                           const S* pr = parts + p.row * 4 * units + p.u;
                           S *xr = dx + p.row * 3 * units + p.u,
                             *ir = inner + p.row * 3 * units + p.u;
                           T* hr = dh_carry + p.r * units + p.u;
                           const int64_t at = p.row * units + p.u;
                           const Vec<T> z = in(pr), r = in(pr + units), n = in(pr + 2 * units);
                           const Vec<T> h_n = in(pr + 3 * units), dh = in(hr) + in(dhs + at);
                           if (held(p.row)) {
                             for (int g = 0; g < 3; ++g) {
                               store_narrow(xr + g * units, Vec<T>{}, count);
                               store_narrow(ir + g * units, Vec<T>{}, count);
                             }
                             store_narrow(hr, dh, count);
                             return;
                           }
                           const Vec<T> before = in(this->before(h0, hs, p.step, p.r) + p.u);
                           const Vec<T> dz = dh * (before - n) * fn.gate_slope(z);
                           const Vec<T> dn = dh * (T(1) - z) * fn.state_slope(n);
                           const Vec<T> dr = dn * h_n * fn.gate_slope(r);
                           store_narrow(xr, dz, count);
                           store_narrow(xr + units, dr, count);
                           store_narrow(xr + 2 * units, dn, count);
                           store_narrow(ir, dz, count);
                           store_narrow(ir + units, dr, count);
                           store_narrow(ir + 2 * units, dn * r, count);
                           store_narrow(hr, dh * z, count);
                         });
    this->store_carry(call, 2, dh_carry);
  }
};

// The GRU that resets before the product. inputs: projected, h, kernel; outputs: h, and z, r, n, r
// h.
template <class S>
struct GruBeforeSequence : Recurrent<S> {
  typedef Compute<S> T;
  explicit GruBeforeSequence(Prepare& p) : Recurrent<S>(p, p.outputs[0], 3, 3, false) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    constexpr int64_t kNr = Recurrent<S>::kNr;
    const int64_t units = this->units, blocks = this->blocks, ld = 2 * kNr;
    const S *x = input<S>(call, 0), *h0 = input<S>(call, 1), *drop = this->drop(call);
    S *hs = output<S>(call, 0), *parts = output<S>(call, 1);
    const auto held = this->held(call);
    Recurrent<S>::run(
        input<S>(call, 2), false, static_cast<T*>(call.scratch),
        [&](const typename Recurrent<S>::Task& t) {
          for (int64_t s = 0; s < this->steps; ++s) {
            this->pack_states(t, h0, hs, drop, s);
            for (int64_t b = 0; b < blocks; ++b) {
              const int64_t n = min64(kNr, units - b * kNr);
              for (int64_t g = 0; g < 2; ++g)
                this->multiply(t, b * 3 + g, n, t.z + g * kNr, ld, false);
              each_row(t, s, b, [&](const Place& at) __attribute__((always_inline)) {
                const S* xr = x + at.row * 3 * units + at.u;
                S* pr = parts + at.row * 4 * units + at.u;
                const T* z = t.z + at.local * ld + at.i;
                const Vec<T> r = fn.gate(load(z + kNr) + load_wide(xr + units, at.count));
                Vec<T> h = load_wide(this->before(h0, hs, s, at.r) + at.u, at.count);
                if (drop) h *= load_wide(drop + at.r * units + at.u, at.count);
                store_narrow(pr, fn.gate(load(z) + load_wide(xr, at.count)), at.count);
                store_narrow(pr + units, r, at.count);
                store_narrow(pr + 3 * units, r * h, at.count);
              });
            }
            this->pack_rows_of(
                t, [&](int64_t r) { return parts + (this->row_of(s, t.row + r) * 4 + 3) * units; });
            for (int64_t b = 0; b < blocks; ++b) {
              this->multiply(t, b * 3 + 2, min64(kNr, units - b * kNr), t.z, kNr, false);
              each_row(t, s, b, [&](const Place& at) __attribute__((always_inline)) {
                const S* given = x + (at.row * 3 + 2) * units + at.u;
                S* pr = parts + at.row * 4 * units + at.u;
                const Vec<T> inner = load(t.z + at.local * kNr + at.i);
                const Vec<T> n = fn.state(inner + load_wide(given, at.count));
                const Vec<T> z = load_wide(pr, at.count);
                const Vec<T> old = load_wide(this->before(h0, hs, s, at.r) + at.u, at.count);
                store_narrow(pr + 2 * units, n, at.count);
                const Vec<T> h = held(at.row) ? old : z * old + (T(1) - z) * n;
                store_narrow(hs + at.row * units + at.u, h, at.count);
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
    constexpr int64_t kNr = Recurrent<S>::kNr;
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
template <class S>
struct GruBeforeSequenceGrad : Recurrent<S> {
  typedef Compute<S> T;
  explicit GruBeforeSequenceGrad(Prepare& p) : Recurrent<S>(p, p.inputs[1], 3, 5, true) {}
  void run(const Call& call) const {
    this->with_functions([&](const auto& fn) __attribute__((always_inline)) { run(call, fn); });
  }
  template <class Functions>
  void run(const Call& call, const Functions& fn) const {
    constexpr int64_t kNr = Recurrent<S>::kNr;
    const int64_t units = this->units, blocks = this->blocks;
    const S *parts = input<S>(call, 0), *hs = input<S>(call, 1), *h0 = input<S>(call, 2);
    const S *dhs = input<S>(call, 4), *drop = this->drop(call);
    S* dx = output<S>(call, 0);
    T* carry = this->carry(call, 1, 0);
    const auto held = this->held(call);
    const auto in = [](const auto* p, int64_t count)
                        __attribute__((always_inline)) { return load_wide(p, count); };
    Recurrent<S>::run(
        input<S>(call, 3), true, static_cast<T*>(call.scratch),
        [&](const typename Recurrent<S>::Task& t) {
          for (int64_t s = this->steps - 1; s >= 0; --s) {
            // dz and dn, and all of dh for now
            for (int64_t r = t.row; r < t.row + t.m; ++r) {
              const int64_t row = this->row_of(s, r);
              const S *pr = parts + row * 4 * units, *old = this->before(h0, hs, s, r);
              S* xr = dx + row * 3 * units;
              each_vector<T>(units, [&](int64_t u, int64_t count) __attribute__((always_inline)) {
                const Vec<T> dh =
                    in(carry + r * units + u, count) + in(dhs + row * units + u, count);
                const Vec<T> z = in(pr + u, count), n = in(pr + 2 * units + u, count);
                const bool hold = held(row);
                const Vec<T> dz = dh * (in(old + u, count) - n) * fn.gate_slope(z);
                const Vec<T> dn = dh * (T(1) - z) * fn.state_slope(n);
                store_narrow(xr + u, hold ? Vec<T>{} : dz, count);
                store_narrow(xr + 2 * units + u, hold ? Vec<T>{} : dn, count);
                store_narrow(carry + r * units + u, dh, count);
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
                const S *pr = parts + row * 4 * units, *old = this->before(h0, hs, s, r);
                each_vector<T>(width, [&](int64_t j, int64_t count) __attribute__((always_inline)) {
                  const int64_t u = b * kNr + j;
                  S* xr = dx + (row * 3 + 1) * units + u;
                  T* hr = carry + r * units + u;
                  if (held(row)) return store_narrow(xr, Vec<T>{}, count);
                  const Vec<T> drh = in(t.z + i * kNr + j, count), rs = in(pr + units + u, count);
                  Vec<T> scale = splat<T>(T(1));
                  if (drop) scale = in(drop + r * units + u, count);
                  store_narrow(xr, drh * (in(old + u, count) * scale) * fn.gate_slope(rs), count);
                  store_narrow(hr, in(hr, count) * in(pr + u, count) + drh * rs * scale, count);
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
    this->store_carry(call, 1, carry);
  }
};

#define HB_RECURRENT_OF(op, Type, inplace, S, dtype) \
  typedef Type<S> Type##_##S;                        \
  HB_CPU_KERNEL_IF(op, Type##_##S, ::hb::dtype, inplace, nullptr)
#define HB_RECURRENT(op, Type, inplace)            \
  HB_RECURRENT_OF(op, Type, inplace, float, kF32)  \
  HB_RECURRENT_OF(op, Type, inplace, double, kF64) \
  HB_RECURRENT_OF(op, Type, inplace, f16, kF16)    \
  HB_RECURRENT_OF(op, Type, inplace, bf16, kBF16)
HB_RECURRENT(simple_sequence, SimpleSequence, 0u)
HB_RECURRENT(simple_sequence_grad, SimpleSequenceGrad, 0u)
HB_RECURRENT(lstm_sequence, LstmSequence, ~0u)  // the gates may lie where the projected inputs were
HB_RECURRENT(lstm_sequence_grad, LstmSequenceGrad, 1u)  // dz may lie where the gates were
HB_RECURRENT(gru_before_sequence, GruBeforeSequence, 0u)
HB_RECURRENT(gru_before_sequence_grad, GruBeforeSequenceGrad, 0u)
HB_RECURRENT(gru_sequence, GruSequence, 0u)
HB_RECURRENT(gru_sequence_grad, GruSequenceGrad, 0u)

HB_KERNELS_END
