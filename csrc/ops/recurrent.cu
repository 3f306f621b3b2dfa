// Simple recurrence, LSTM and GRU over a whole sequence on CUDA: the ops of recurrent.cc, which
// says what is computed, how it lies in memory and what the optional inputs are.
//
// A step is one launch (two for the GRU that resets before the product): a block has 16 units and
// 16 or 64 rows of the batch, computes all gates of h W for them and goes on to the states. A step
// backward begins with dz W^T of the step behind it, so that a launch ends with dz of its own step;
// a last one makes the gradient of the first state. Blocks meet between launches only, and every
// sum has one order, whatever the sizes: the bits are the same run after run.
//
// Floor of a step: its product at the rate of multiply-adds, W from the L2 cache, and the time from
// launch to launch.
#include "cuda/kernel.cuh"
#include "ops/recurrent_functions.h"

namespace hb::cuda {
namespace {

constexpr int kUnits = 16;  // of a block
constexpr int kDepth = 32;  // of a piece of the product's sum
static_assert(kThreads == kUnits * 16);

template <class T>
__device__ T apply(Function f, T x) {
  switch (f) {
    case Function::kTanh:
      return tanh(x);
    case Function::kSigmoid:
      return T(1) / (T(1) + exp(-x));
    case Function::kRelu:
      return x < T(0) ? T(0) : x;  // keeps NaN
    case Function::kHardSigmoid: {
      const T y = x * T(1.0 / 6) + T(0.5);
      return y < T(0) ? T(0) : y > T(1) ? T(1) : y;
    }
    default:
      return x;
  }
}
struct Sequence {
  int64_t steps, batch, units, step_rows, batch_rows;  // as in recurrent.cc
  bool reverse;
  Function gate, state;
  const uint8_t* mask = nullptr;
  __device__ int64_t row_of(int64_t s, int64_t r) const {
    return (reverse ? steps - 1 - s : s) * step_rows + r * batch_rows;
  }
  template <class T>
  __device__ const T* before(const T* first, const T* all, int64_t s, int64_t r) const {
    return s ? all + row_of(s - 1, r) * units : first + r * units;
  }
  __device__ bool held(int64_t row) const { return mask && !mask[row]; }
};

// Row i and unit of a thread.
__device__ __forceinline__ int64_t unit_of() {
  return int64_t(blockIdx.x) * kUnits + threadIdx.x % kUnits;
}
template <int kRows>
__device__ __forceinline__ int64_t row_at(int i) {
  return int64_t(blockIdx.y) * (16 * kRows) + threadIdx.x / kUnits + 16 * i;
}

// acc[i][g] = sum over k of a(row i, k) w(k, g, unit): w[k ld + g * units + unit], or of the
// transpose (one gate) w[unit ld + k].
template <class T, int kGates, int kRows, bool kTransposed, class A>
__device__ void multiply(T (&acc)[kRows][kGates], const A& a, int64_t depth, const T* w, int64_t ld,
                         const Sequence& z) {
  static_assert(kGates == 1 || !kTransposed);
  __shared__ T rows[16 * kRows][kDepth + 1], part[kDepth][kGates * kUnits + 1];
  const int tx = threadIdx.x % kUnits, ty = threadIdx.x / kUnits;
  const int64_t row0 = int64_t(blockIdx.y) * (16 * kRows), unit0 = int64_t(blockIdx.x) * kUnits;
  for (int i = 0; i < kRows; ++i)
    for (int g = 0; g < kGates; ++g) acc[i][g] = 0;
  for (int64_t k0 = 0; k0 < depth; k0 += kDepth) {
    __syncthreads();
    for (int t = threadIdx.x; t < 16 * kRows * kDepth; t += kThreads) {
      const int64_t r = row0 + t / kDepth, k = k0 + t % kDepth;
      rows[t / kDepth][t % kDepth] = r < z.batch && k < depth ? a(r, k) : T(0);
    }
    for (int t = threadIdx.x; t < kDepth * kGates * kUnits; t += kThreads) {
      const int k = kTransposed ? t % kDepth : t / (kGates * kUnits);
      const int c = kTransposed ? t / kDepth : t % (kGates * kUnits);
      const int64_t unit = unit0 + c % kUnits;
      T value = 0;
      if (k0 + k < depth && unit < z.units)
        value =
            kTransposed ? w[unit * ld + k0 + k] : w[(k0 + k) * ld + c / kUnits * z.units + unit];
      part[k][c] = value;
    }
    __syncthreads();
    HB_UNROLL_BY(8)
    for (int k = 0; k < kDepth; ++k) {
      T y[kGates];
      for (int g = 0; g < kGates; ++g) y[g] = part[k][g * kUnits + tx];
      for (int i = 0; i < kRows; ++i) {
        const T x = rows[ty + 16 * i][k];
        for (int g = 0; g < kGates; ++g) acc[i][g] += x * y[g];
      }
    }
  }
}
// The states that step s starts from (times drop), times W.
template <class T, int kGates, int kRows>
__device__ void multiply_states(T (&acc)[kRows][kGates], const T* first, const T* hs, const T* drop,
                                const T* w, int64_t ld, int64_t s, const Sequence& z) {
  multiply<T, kGates, kRows, false>(
      acc,
      [&](int64_t r, int64_t k) {
        const T h = z.before(first, hs, s, r)[k];
        return drop ? h * drop[r * z.units + k] : h;
      },
      z.units, w, ld, z);
}
// What comes back through W: dz of step s, its gates [0, depth), times W^T (times drop); 0 behind
// the last step.
template <class T, int kRows>
__device__ void multiply_back(T (&acc)[kRows][1], const T* dz, int64_t width, int64_t depth,
                              const T* drop, const T* w, int64_t s, const Sequence& z) {
  if (s >= z.steps) {
    for (int i = 0; i < kRows; ++i) acc[i][0] = 0;
    return;
  }
  multiply<T, 1, kRows, true>(
      acc, [&](int64_t r, int64_t k) { return dz[z.row_of(s, r) * width + k]; }, depth, w, width,
      z);
  if (!drop) return;
  for (int i = 0; i < kRows; ++i)
    if (row_at<kRows>(i) < z.batch && unit_of() < z.units)
      acc[i][0] *= drop[row_at<kRows>(i) * z.units + unit_of()];
}

#define HB_EACH_ROW(i, r)         \
  for (int i = 0; i < kRows; ++i) \
    if (const int64_t r = row_at<kRows>(i); r < z.batch && unit_of() < z.units)

// ---------------------------------------------------------------------- simple

template <class T>
struct Simple {
  const T *x, *h0, *w, *drop;
  T* hs;
  template <int kRows>
  __device__ void step(const Sequence& z, int64_t s, int) const {
    T acc[kRows][1];
    multiply_states<T, 1, kRows>(acc, h0, hs, drop, w, z.units, s, z);
    HB_EACH_ROW(i, r) {
      const int64_t u = unit_of(), row = z.row_of(s, r), at = row * z.units + u;
      hs[at] = z.held(row) ? z.before(h0, hs, s, r)[u] : apply(z.state, acc[i][0] + x[at]);
    }
  }
};
template <class T>
struct SimpleGrad {
  const T *hs, *w, *dhs, *drop;
  T *dz, *carry;
  template <int kRows>
  __device__ void step(const Sequence& z, int64_t s, int) const {
    T acc[kRows][1];
    multiply_back<T, kRows>(acc, dz, z.units, z.units, drop, w, s + 1, z);
    HB_EACH_ROW(i, r) {
      const int64_t u = unit_of(), own = r * z.units + u;
      T dh = (s + 1 < z.steps ? carry[own] : T(0)) + acc[i][0];
      if (s >= 0) {
        const int64_t row = z.row_of(s, r), at = row * z.units + u;
        const bool hold = z.held(row);
        dh += dhs[at];
        dz[at] = hold ? T(0) : dh * slope<T>(z.state, hs[at]);
        if (!hold) dh = 0;
      }
      carry[own] = dh;
    }
  }
};

// ---------------------------------------------------------------------- LSTM

template <class T>
struct Lstm {
  const T *x, *h0, *c0, *w, *drop;
  T *hs, *cs, *gates;
  template <int kRows>
  __device__ void step(const Sequence& z, int64_t s, int) const {
    T acc[kRows][4];
    multiply_states<T, 4, kRows>(acc, h0, hs, drop, w, 4 * z.units, s, z);
    HB_EACH_ROW(i, r) {
      const int64_t u = unit_of(), row = z.row_of(s, r), at = row * z.units + u;
      const int64_t first = row * 4 * z.units + u;
      T gate[4];
      for (int g = 0; g < 4; ++g) {
        gate[g] = apply(g == 2 ? z.state : z.gate, acc[i][g] + x[first + g * z.units]);
        gates[first + g * z.units] = gate[g];
      }
      const T old = z.before(c0, cs, s, r)[u];
      const bool hold = z.held(row);
      const T c = hold ? old : gate[1] * old + gate[0] * gate[2];
      cs[at] = c;
      hs[at] = hold ? z.before(h0, hs, s, r)[u] : gate[3] * apply(z.state, c);
    }
  }
};
template <class T>
struct LstmGrad {
  const T *gates, *cs, *c0, *w, *dhs, *dcs, *drop;
  T *dz, *carry_h, *carry_c;  // dz may be gates
  template <int kRows>
  __device__ void step(const Sequence& z, int64_t s, int) const {
    T acc[kRows][1];
    multiply_back<T, kRows>(acc, dz, 4 * z.units, 4 * z.units, drop, w, s + 1, z);
    HB_EACH_ROW(k, r) {
      const int64_t u = unit_of(), own = r * z.units + u;
      const bool last = s + 1 == z.steps;
      T dh = (last ? T(0) : carry_h[own]) + acc[k][0], dc = last ? T(0) : carry_c[own];
      if (s >= 0) {
        const int64_t row = z.row_of(s, r), at = row * z.units + u;
        const int64_t first = row * 4 * z.units + u, step = z.units;
        const T i = gates[first], f = gates[first + step], g = gates[first + 2 * step];
        const T o = gates[first + 3 * step], shown = apply(z.state, cs[at]);
        const T before = z.before(c0, cs, s, r)[u];
        dh += dhs[at];
        if (dcs) dc += dcs[at];
        const bool hold = z.held(row);
        if (!hold) dc += dh * o * slope<T>(z.state, shown);
        dz[first] = hold ? T(0) : dc * g * slope<T>(z.gate, i);
        dz[first + step] = hold ? T(0) : dc * before * slope<T>(z.gate, f);
        dz[first + 2 * step] = hold ? T(0) : dc * i * slope<T>(z.state, g);
        dz[first + 3 * step] = hold ? T(0) : dh * shown * slope<T>(z.gate, o);
        if (!hold) {
          dh = 0;
          dc *= f;
        }
      }
      carry_h[own] = dh;
      carry_c[own] = dc;
    }
  }
};

// ---------------------------------------------------------------------- GRU

template <class T>
struct Gru {
  const T *x, *h0, *w, *bias, *drop;
  T *hs, *parts;  // parts: z, r, n, h W + b of n
  template <int kRows>
  __device__ void step(const Sequence& z, int64_t s, int) const {
    T acc[kRows][3];
    multiply_states<T, 3, kRows>(acc, h0, hs, drop, w, 3 * z.units, s, z);
    HB_EACH_ROW(i, r) {
      const int64_t u = unit_of(), row = z.row_of(s, r), n = z.units;
      const T* given = x + row * 3 * n + u;
      T* part = parts + row * 4 * n + u;
      const T update = apply(z.gate, given[0] + (acc[i][0] + bias[u]));
      const T reset = apply(z.gate, given[n] + (acc[i][1] + bias[n + u]));
      const T inner = acc[i][2] + bias[2 * n + u];
      const T next = apply(z.state, given[2 * n] + reset * inner);
      part[0] = update;
      part[n] = reset;
      part[2 * n] = next;
      part[3 * n] = inner;
      const T old = z.before(h0, hs, s, r)[u];
      hs[row * n + u] = z.held(row) ? old : update * old + (T(1) - update) * next;
    }
  }
};
template <class T>
struct GruGrad {
  const T *parts, *hs, *h0, *w, *dhs, *drop;
  T *dx, *inner, *carry;
  template <int kRows>
  __device__ void step(const Sequence& z, int64_t s, int) const {
    T acc[kRows][1];
    multiply_back<T, kRows>(acc, inner, 3 * z.units, 3 * z.units, drop, w, s + 1, z);
    HB_EACH_ROW(i, r) {
      const int64_t u = unit_of(), own = r * z.units + u, n = z.units;
      T dh = (s + 1 < z.steps ? carry[own] : T(0)) + acc[i][0];
      if (s >= 0) {
        const int64_t row = z.row_of(s, r);
        const T* part = parts + row * 4 * n + u;
        T *to = dx + row * 3 * n + u, *in = inner + row * 3 * n + u;
        const T update = part[0], reset = part[n], next = part[2 * n];
        const bool hold = z.held(row);
        dh += dhs[row * n + u];
        const T dz = dh * (z.before(h0, hs, s, r)[u] - next) * slope<T>(z.gate, update);
        const T dn = dh * (T(1) - update) * slope<T>(z.state, next);
        const T dr = dn * part[3 * n] * slope<T>(z.gate, reset);
        to[0] = in[0] = hold ? T(0) : dz;
        to[n] = in[n] = hold ? T(0) : dr;
        to[2 * n] = hold ? T(0) : dn;
        in[2 * n] = hold ? T(0) : dn * reset;
        if (!hold) dh *= update;
      }
      carry[own] = dh;
    }
  }
};

// Resets before the product: phase 0 makes z, r and r h, phase 1 n and h.
template <class T>
struct GruBefore {
  const T *x, *h0, *w, *drop;
  T *hs, *parts;  // parts: z, r, n, r h
  template <int kRows>
  __device__ void step(const Sequence& z, int64_t s, int phase) const {
    const int64_t u = unit_of(), n = z.units;
    if (phase == 0) {
      T acc[kRows][2];
      multiply_states<T, 2, kRows>(acc, h0, hs, drop, w, 3 * n, s, z);
      HB_EACH_ROW(i, r) {
        const int64_t row = z.row_of(s, r);
        const T* given = x + row * 3 * n + u;
        T* part = parts + row * 4 * n + u;
        T h = z.before(h0, hs, s, r)[u];
        if (drop) h *= drop[r * n + u];
        const T reset = apply(z.gate, acc[i][1] + given[n]);
        part[0] = apply(z.gate, acc[i][0] + given[0]);
        part[n] = reset;
        part[3 * n] = reset * h;
      }
      return;
    }
    T acc[kRows][1];
    multiply<T, 1, kRows, false>(
        acc, [&](int64_t r, int64_t k) { return parts[(z.row_of(s, r) * 4 + 3) * n + k]; }, n,
        w + 2 * n, 3 * n, z);
    HB_EACH_ROW(i, r) {
      const int64_t row = z.row_of(s, r);
      T* part = parts + row * 4 * n + u;
      const T next = apply(z.state, acc[i][0] + x[row * 3 * n + 2 * n + u]);
      const T old = z.before(h0, hs, s, r)[u];
      part[2 * n] = next;
      hs[row * n + u] = z.held(row) ? old : part[0] * old + (T(1) - part[0]) * next;
    }
  }
};
// Phase 0: dh of the step, dz and dn; phase 1: d(r h) = dn W^T, from it dr and a part of dh.
template <class T>
struct GruBeforeGrad {
  const T *parts, *hs, *h0, *w, *dhs, *drop;
  T *dx, *carry;
  template <int kRows>
  __device__ void step(const Sequence& z, int64_t s, int phase) const {
    const int64_t u = unit_of(), n = z.units;
    T acc[kRows][1];
    if (phase == 0) {
      multiply_back<T, kRows>(acc, dx, 3 * n, 2 * n, drop, w, s + 1, z);
      HB_EACH_ROW(i, r) {
        const int64_t own = r * n + u;
        T dh = (s + 1 < z.steps ? carry[own] : T(0)) + acc[i][0];
        if (s >= 0) {
          const int64_t row = z.row_of(s, r);
          const T* part = parts + row * 4 * n + u;
          const bool hold = z.held(row);
          dh += dhs[row * n + u];
          const T dz = dh * (z.before(h0, hs, s, r)[u] - part[2 * n]) * slope<T>(z.gate, part[0]);
          const T dn = dh * (T(1) - part[0]) * slope<T>(z.state, part[2 * n]);
          dx[row * 3 * n + u] = hold ? T(0) : dz;
          dx[row * 3 * n + 2 * n + u] = hold ? T(0) : dn;
        }
        carry[own] = dh;
      }
      return;
    }
    if (s < 0) return;
    multiply<T, 1, kRows, true>(
        acc, [&](int64_t r, int64_t k) { return dx[(z.row_of(s, r) * 3 + 2) * n + k]; }, n,
        w + 2 * n, 3 * n, z);
    HB_EACH_ROW(i, r) {
      const int64_t row = z.row_of(s, r), own = r * n + u;
      const T* part = parts + row * 4 * n + u;
      const bool hold = z.held(row);
      const T scale = drop ? drop[own] : T(1), reset = part[n];
      const T dr = acc[i][0] * (z.before(h0, hs, s, r)[u] * scale) * slope<T>(z.gate, reset);
      dx[(row * 3 + 1) * n + u] = hold ? T(0) : dr;
      if (!hold) carry[own] = carry[own] * part[0] + acc[i][0] * reset * scale;
    }
  }
};

// ---------------------------------------------------------------------- the ops

template <class Kind, int kRows>
__global__ void __launch_bounds__(kThreads)
    run_step(const Kind kind, const Sequence z, int64_t s, int phase) {
  kind.template step<kRows>(z, s, phase);
}

struct Recurrent {
  Sequence z;
  DType dtype;
  int mask_at = -1, drop_at = -1;  // which inputs, or -1
  // `states`: [time, batch, units] or [batch, time, units]; `optional`: the first input that may be
  // `drop` or the mask.
  Recurrent(Prepare& p, const TensorSpec& states, bool gated, int optional)
      : dtype(p.inputs[0].dtype) {
    const bool batch_first = attr_int(*p.attrs, "batch_first");
    z.reverse = attr_int(*p.attrs, "reverse");
    z.steps = states.shape[batch_first], z.batch = states.shape[!batch_first];
    z.units = states.shape[2];
    z.step_rows = batch_first ? 1 : z.batch, z.batch_rows = batch_first ? z.steps : 1;
    z.state = function_of(p, "activation");
    attr_has(*p.attrs, "recurrent_activation");  // SimpleRNN has none, but the attribute
    z.gate = gated ? function_of(p, "recurrent_activation") : Function::kSigmoid;
    for (int i = optional; i < p.num_inputs; ++i) {
      if (p.inputs[i].dtype == DType::Bool)
        mask_at = i;
      else if (p.inputs[i].rank == 2)
        drop_at = i;
    }
  }
  template <class T>
  static const T* in(const Call& c, int i) {
    return i < 0 ? nullptr : static_cast<const T*>(c.inputs[i]);
  }
  template <class T>
  static T* out(const Call& c, int i) {
    return static_cast<T*>(c.outputs[i]);
  }
  // kind<T>() for every step, from the first or (backward) from the last to the one before the
  // first.
  template <class F>
  void run(const Call& c, bool backward, int phases, const F& kind) const {
    if (z.batch * z.units == 0) return;
    if (dtype == DType::F32)
      start<float>(c, backward, phases, kind.template operator()<float>());
    else
      start<double>(c, backward, phases, kind.template operator()<double>());
  }

 private:
  template <class T, class Kind>
  void start(const Call& c, bool backward, int phases, const Kind& kind) const {
    Sequence sequence = z;
    sequence.mask = in<uint8_t>(c, mask_at);
    const int64_t across = (z.units + kUnits - 1) / kUnits;
    bool tall = false;  // four rows a thread, where there are blocks enough
    if constexpr (std::is_same_v<T, float>) tall = z.batch * across >= 64 * 128;
    const int64_t rows = tall ? 64 : 16, down = (z.batch + rows - 1) / rows;
    if (down > 65535) fail("a batch of %lld rows", (long long)z.batch);
    const dim3 grid{unsigned(across), unsigned(down)};
    const auto at = [&](int64_t s) {
      for (int phase = 0; phase < phases; ++phase) {
        if constexpr (std::is_same_v<T, float>)
          if (tall) {
            launch(grid, dim3(kThreads), c.stream, run_step<Kind, 4>, kind, sequence, s, phase);
            continue;
          }
        launch(grid, dim3(kThreads), c.stream, run_step<Kind, 1>, kind, sequence, s, phase);
      }
    };
    if (backward)
      for (int64_t s = z.steps - 1; s >= -1; --s) at(s);
    else
      for (int64_t s = 0; s < z.steps; ++s) at(s);
  }
};

// inputs: projected, h, kernel; output: h.
struct SimpleSequence : Recurrent {
  explicit SimpleSequence(Prepare& p) : Recurrent(p, p.outputs[0], false, 3) {}
  void run(const Call& c) const {
    Recurrent::run(c, false, 1, [&]<class T>() {
      return Simple<T>{in<T>(c, 0), in<T>(c, 1), in<T>(c, 2), in<T>(c, drop_at), out<T>(c, 0)};
    });
  }
};
// inputs: h (of all steps), kernel, dh; outputs: dz, dh.
struct SimpleSequenceGrad : Recurrent {
  explicit SimpleSequenceGrad(Prepare& p) : Recurrent(p, p.inputs[0], false, 3) {}
  void run(const Call& c) const {
    Recurrent::run(c, true, 1, [&]<class T>() {
      return SimpleGrad<T>{in<T>(c, 0),       in<T>(c, 1),  in<T>(c, 2),
                           in<T>(c, drop_at), out<T>(c, 0), out<T>(c, 1)};
    });
  }
};
// inputs: projected, h, c, kernel; outputs: h, c, gates.
struct LstmSequence : Recurrent {
  explicit LstmSequence(Prepare& p) : Recurrent(p, p.outputs[0], true, 4) {}
  void run(const Call& c) const {
    Recurrent::run(c, false, 1, [&]<class T>() {
      return Lstm<T>{in<T>(c, 0),       in<T>(c, 1),  in<T>(c, 2),  in<T>(c, 3),
                     in<T>(c, drop_at), out<T>(c, 0), out<T>(c, 1), out<T>(c, 2)};
    });
  }
};
// inputs: gates, c (of all steps), c (the first), kernel, dh, maybe dc; outputs: dz, dh, dc.
struct LstmSequenceGrad : Recurrent {
  int dc_at;
  explicit LstmSequenceGrad(Prepare& p)
      : Recurrent(p, p.inputs[1], true, 5),
        dc_at(p.num_inputs > 5 && p.inputs[5].rank == 3 ? 5 : -1) {}
  void run(const Call& c) const {
    Recurrent::run(c, true, 1, [&]<class T>() {
      return LstmGrad<T>{in<T>(c, 0),  in<T>(c, 1),     in<T>(c, 2),       in<T>(c, 3),
                         in<T>(c, 4),  in<T>(c, dc_at), in<T>(c, drop_at), out<T>(c, 0),
                         out<T>(c, 1), out<T>(c, 2)};
    });
  }
};
// inputs: projected, h, kernel, bias; outputs: h, and z, r, n, h W + b of n.
struct GruSequence : Recurrent {
  explicit GruSequence(Prepare& p) : Recurrent(p, p.outputs[0], true, 4) {}
  void run(const Call& c) const {
    Recurrent::run(c, false, 1, [&]<class T>() {
      return Gru<T>{in<T>(c, 0),       in<T>(c, 1),  in<T>(c, 2), in<T>(c, 3),
                    in<T>(c, drop_at), out<T>(c, 0), out<T>(c, 1)};
    });
  }
};
// inputs: parts, h (of all steps), h (the first), kernel, dh; outputs: gradients of the projected
// inputs and of h W + b, and dh.
struct GruSequenceGrad : Recurrent {
  explicit GruSequenceGrad(Prepare& p) : Recurrent(p, p.inputs[1], true, 5) {}
  void run(const Call& c) const {
    Recurrent::run(c, true, 1, [&]<class T>() {
      return GruGrad<T>{in<T>(c, 0),       in<T>(c, 1),  in<T>(c, 2),  in<T>(c, 3), in<T>(c, 4),
                        in<T>(c, drop_at), out<T>(c, 0), out<T>(c, 1), out<T>(c, 2)};
    });
  }
};
// inputs: projected, h, kernel; outputs: h, and z, r, n, r h.
struct GruBeforeSequence : Recurrent {
  explicit GruBeforeSequence(Prepare& p) : Recurrent(p, p.outputs[0], true, 3) {}
  void run(const Call& c) const {
    Recurrent::run(c, false, 2, [&]<class T>() {
      return GruBefore<T>{in<T>(c, 0),       in<T>(c, 1),  in<T>(c, 2),
                          in<T>(c, drop_at), out<T>(c, 0), out<T>(c, 1)};
    });
  }
};
// inputs: parts, h (of all steps), h (the first), kernel, dh; outputs: gradients of the projected
// inputs, and dh.
struct GruBeforeSequenceGrad : Recurrent {
  explicit GruBeforeSequenceGrad(Prepare& p) : Recurrent(p, p.inputs[1], true, 5) {}
  void run(const Call& c) const {
    Recurrent::run(c, true, 2, [&]<class T>() {
      return GruBeforeGrad<T>{in<T>(c, 0), in<T>(c, 1),       in<T>(c, 2),  in<T>(c, 3),
                              in<T>(c, 4), in<T>(c, drop_at), out<T>(c, 0), out<T>(c, 1)};
    });
  }
};

constexpr uint32_t kTypes = kF32 | kF64;
HB_CUDA_KERNEL(simple_sequence, SimpleSequence, kTypes)
HB_CUDA_KERNEL(simple_sequence_grad, SimpleSequenceGrad, kTypes)
HB_CUDA_KERNEL(lstm_sequence, LstmSequence, kTypes)
HB_CUDA_KERNEL_INPLACE(lstm_sequence_grad, LstmSequenceGrad, kTypes)
HB_CUDA_KERNEL(gru_sequence, GruSequence, kTypes)
HB_CUDA_KERNEL(gru_sequence_grad, GruSequenceGrad, kTypes)
HB_CUDA_KERNEL(gru_before_sequence, GruBeforeSequence, kTypes)
HB_CUDA_KERNEL(gru_before_sequence_grad, GruBeforeSequenceGrad, kTypes)

}  // namespace
}  // namespace hb::cuda
