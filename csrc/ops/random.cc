// Random numbers: Philox 4x32-10 at the counter of the element, so the same key gives the same
// numbers for any number of threads, and on any device.
//
//   input 0: key uint32[2] (the seed). Element i comes from block i / 4 (32 random bits each) or
//   i / 2 (float64 and 64-bit integers) of stream 0; draws that are rejected go on with block i of
//   the streams 1, 2, ...
//
// Normal numbers: Box-Muller, z = sqrt(-2 log u) (cos, sin)(2 pi v). Truncated: redrawn until
// |z| < 2. Gamma: Marsaglia and Tsang (ACM TOMS 26, 2000). Binomial: Relles' splitting by the
// median, which is Beta distributed, then single trials.
#include "core/philox.h"
#include "ops/rowwise.h"

HB_KERNELS_BEGIN

constexpr int kBatch = 64;             // blocks at a time
constexpr int64_t kTaskBlocks = 4096;  // a multiple of it

struct Key {
  uint32_t k0, k1;
  explicit Key(const void* p)
      : k0(static_cast<const uint32_t*>(p)[0]), k1(static_cast<const uint32_t*>(p)[1]) {}
  uint64_t seed() const { return uint64_t(k1) << 32 | k0; }
};
static void expect_key(const TensorSpec& key) {
  if (key.dtype != DType::U32 || num_elements(key) != 2) fail("the key must be uint32[2]");
}

// v[lane][b] = lane of block first + b of stream 0: philox4x32 for kBatch blocks at once.
static void philox_batch(Key key, int64_t first, uint32_t (&v)[4][kBatch]) {
  for (int b = 0; b < kBatch; ++b) {
    v[0][b] = uint32_t(uint64_t(first + b));
    v[1][b] = uint32_t(uint64_t(first + b) >> 32);
    v[2][b] = v[3][b] = 0;
  }
  uint32_t k0 = key.k0, k1 = key.k1;
  for (int round = 0; round < 10; ++round) {
    for (int b = 0; b < kBatch; ++b) {
      const uint64_t p0 = uint64_t(0xD2511F53u) * v[0][b], p1 = uint64_t(0xCD9E8D57u) * v[2][b];
      v[0][b] = uint32_t(p1 >> 32) ^ v[1][b] ^ k0;
      v[1][b] = uint32_t(p1);
      v[2][b] = uint32_t(p0 >> 32) ^ v[3][b] ^ k1;
      v[3][b] = uint32_t(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

// make(v, values) turns a batch of blocks into kPer numbers each, values[kBatch * kPer] in the
// order of elements; store(i, count, values) takes them.
template <class N, int kPer, class Make, class Store>
static void each_batch(Key key, int64_t n, const Make& make, const Store& store) {
  const int64_t per_task = kTaskBlocks * kPer;
  parallel_for((n + per_task - 1) / per_task, [&](int64_t task, int) {
    const int64_t end = min_of(n, (task + 1) * per_task);
    alignas(64) uint32_t v[4][kBatch];
    alignas(64) N values[kBatch * kPer];
    for (int64_t i = task * per_task; i < end; i += kBatch * kPer) {
      philox_batch(key, i / kPer, v);
      make(v, values);
      store(i, min_of(end - i, int64_t(kBatch * kPer)), values);
    }
  });
}

static void make_bits(const uint32_t (&v)[4][kBatch], uint32_t* values) {
  for (int b = 0; b < kBatch; ++b) {
    for (int k = 0; k < 4; ++k) values[4 * b + k] = v[k][b];
  }
}
static void make_wide(const uint32_t (&v)[4][kBatch], uint64_t* values) {
  for (int b = 0; b < kBatch; ++b) {
    values[2 * b] = uint64_t(v[0][b]) << 32 | v[1][b];
    values[2 * b + 1] = uint64_t(v[2][b]) << 32 | v[3][b];
  }
}

// output: uint32.
struct RandomBits {
  int64_t n;
  explicit RandomBits(Prepare& p) : n(num_elements(p.outputs[0])) { expect_key(p.inputs[0]); }
  void run(const Call& c) const {
    uint32_t* y = static_cast<uint32_t*>(c.outputs[0]);
    each_batch<uint32_t, 4>(Key(c.inputs[0]), n, make_bits,
                            [&](int64_t i, int64_t count, const uint32_t* values) {
                              memcpy(y + i, values, size_t(count) * sizeof *y);
                            });
  }
};
HB_CPU_KERNEL(random_bits, RandomBits, kU32)

// [0, 1), with as many random bits as the dtype's mantissa holds: 1 cannot come out of rounding.
template <class T>
struct Uniform;
template <>
struct Uniform<float> {
  static HB_INLINE float of(uint32_t x) { return float(int32_t(x >> 8)) * 0x1p-24f; }
};
template <>
struct Uniform<f16> {
  static HB_INLINE f16 of(uint32_t x) { return narrowed<f16>(float(int32_t(x >> 21)) * 0x1p-11f); }
};
template <>
struct Uniform<bf16> {
  static HB_INLINE bf16 of(uint32_t x) { return narrowed<bf16>(float(int32_t(x >> 24)) * 0x1p-8f); }
};

struct RandomUniform {
  int64_t n;
  DType dtype;
  explicit RandomUniform(Prepare& p) : n(num_elements(p.outputs[0])), dtype(p.outputs[0].dtype) {
    expect_key(p.inputs[0]);
  }
  void run(const Call& c) const {
    const Key key(c.inputs[0]);
    with_float_type(dtype, [&]<class T>(T) {
      T* y = static_cast<T*>(c.outputs[0]);
      if constexpr (sizeof(T) == 8) {
        each_batch<uint64_t, 2>(key, n, make_wide,
                                [&](int64_t i, int64_t count, const uint64_t* values) {
                                  for (int64_t k = 0; k < count; ++k) {
                                    y[i + k] = double(int64_t(values[k] >> 11)) * 0x1p-53;
                                  }
                                });
      } else {
        each_batch<uint32_t, 4>(key, n, make_bits,
                                [&](int64_t i, int64_t count, const uint32_t* values) {
                                  for (int64_t k = 0; k < count; ++k)
                                    y[i + k] = Uniform<T>::of(values[k]);
                                });
      }
    });
  }
};
HB_CPU_KERNEL(random_uniform, RandomUniform, kU32)

// Pairs of lanes to pairs of normal numbers. u = (x + 1/2) / 2^32 is never 0, so |z| < 6.8.
static void make_normal(const uint32_t (&v)[4][kBatch], float* values) {
  constexpr float kTwoPi = 6.2831853071795865f;
  alignas(64) float z[4][kBatch];
  for (int pair = 0; pair < 4; pair += 2) {
    for (int b = 0; b < kBatch; b += kLanes<float>) {
      Vec<float> u, w;
      for (int i = 0; i < kLanes<float>; ++i) {
        u[i] = float(v[pair][b + i]) * 0x1p-32f + 0x1p-33f;
        w[i] = float(int32_t(v[pair + 1][b + i])) * 0x1p-32f;  // [-1/2, 1/2]
      }
      const Vec<float> log_u = vlog<float>(u);
      const Vec<float> r = vsqrt(-2.f * log_u), angle = w * kTwoPi;
      store(z[pair] + b, r * vcos(angle));
      store(z[pair + 1] + b, r * vsin(angle));
    }
  }
  for (int b = 0; b < kBatch; ++b) {
    for (int k = 0; k < 4; ++k) values[4 * b + k] = z[k][b];
  }
}
HB_INLINE double open_unit(uint64_t x) { return (double(int64_t(x >> 12)) + 0.5) * 0x1p-52; }
HB_INLINE void normal_pair(uint64_t x, uint64_t y, double* z) {
  const double r = __builtin_sqrt(-2 * __builtin_log(open_unit(x)));
  const double angle = double(int64_t(y)) * 0x1p-64 * 6.283185307179586477;
  z[0] = r * __builtin_cos(angle);
  z[1] = r * __builtin_sin(angle);
}
static void make_wide_normal(const uint32_t (&v)[4][kBatch], double* values) {
  uint64_t x[kBatch * 2];
  make_wide(v, x);
  for (int b = 0; b < kBatch; ++b) normal_pair(x[2 * b], x[2 * b + 1], values + 2 * b);
}

// The draws of one element after the first: stream 1, 2, ... of its block.
struct Draws {
  uint64_t seed;
  int64_t element;
  uint64_t stream = 1;
  struct Two {
    uint64_t a, b;
  };
  Two next() {
    const PhiloxBlock v = philox_block(seed, stream++, uint64_t(element));
    return {uint64_t(v.v[0]) << 32 | v.v[1], uint64_t(v.v[2]) << 32 | v.v[3]};
  }
  double uniform() { return open_unit(next().a); }
  double normal() {
    const Two two = next();
    double z[2];
    normal_pair(two.a, two.b, z);
    return z[0];
  }
};

template <bool kTruncated>
struct NormalNumbers {
  int64_t n;
  DType dtype;
  explicit NormalNumbers(Prepare& p) : n(num_elements(p.outputs[0])), dtype(p.outputs[0].dtype) {
    expect_key(p.inputs[0]);
  }
  void run(const Call& c) const {
    const Key key(c.inputs[0]);
    with_float_type(dtype, [&]<class T>(T) {
      typedef Compute<T> C;
      T* y = static_cast<T*>(c.outputs[0]);
      auto store = [&](int64_t i, int64_t count, const C* values) {
        for (int64_t k = 0; k < count; ++k) {
          C z = values[k];
          if (kTruncated && !(z > C(-2) && z < C(2))) z = redraw<C>(key, i + k);
          y[i + k] = narrowed<T>(z);
        }
      };
      if constexpr (sizeof(C) == 8) {
        each_batch<double, 2>(key, n, make_wide_normal, store);
      } else {
        each_batch<float, 4>(key, n, make_normal, store);
      }
    });
  }
  template <class C>
  static C redraw(Key key, int64_t element) {
    Draws draws{key.seed(), element};
    C z;
    do {
      z = C(draws.normal());
    } while (!(z > C(-2) && z < C(2)));
    return z;
  }
};
typedef NormalNumbers<false> RandomNormal;
typedef NormalNumbers<true> RandomTruncatedNormal;
HB_CPU_KERNEL(random_normal, RandomNormal, kU32)
HB_CPU_KERNEL(random_truncated_normal, RandomTruncatedNormal, kU32)

// Integers in [low, high), attributes: floor(x (high - low) / 2^64) + low for 64 random bits x.
struct RandomIntegers {
  int64_t n, low;
  uint64_t range;
  DType dtype;
  explicit RandomIntegers(Prepare& p)
      : n(num_elements(p.outputs[0])),
        low(attr_int(*p.attrs, "low")),
        range(uint64_t(attr_int(*p.attrs, "high")) - uint64_t(low)),
        dtype(p.outputs[0].dtype) {
    expect_key(p.inputs[0]);
  }
  void run(const Call& c) const {
    with_type(dtype, [&]<class T>(T) {
      T* y = static_cast<T*>(c.outputs[0]);
      each_batch<uint64_t, 2>(
          Key(c.inputs[0]), n, make_wide, [&](int64_t i, int64_t count, const uint64_t* values) {
            for (int64_t k = 0; k < count; ++k) {
              const int64_t x =
                  int64_t(uint64_t(low) + uint64_t((unsigned __int128)values[k] * range >> 64));
              y[i + k] = narrowed<T>(Compute<T>(x));
            }
          });
    });
  }
};
HB_CPU_KERNEL(random_integers, RandomIntegers, kU32)

// inputs: x, key; attribute rate. y = x / (1 - rate) with probability 1 - rate, else 0. The same
// key gives the same choice, so the gradient is the same kernel on dy and nothing is stored.
struct Dropout {
  int64_t n;
  double rate;
  DType dtype;
  explicit Dropout(Prepare& p)
      : n(num_elements(p.inputs[0])), rate(attr_float(*p.attrs, "rate")), dtype(p.inputs[0].dtype) {
    expect_key(p.inputs[1]);
  }
  void run(const Call& c) const {
    const uint32_t threshold = uint32_t(rate * 0x1p32);
    with_float_type(dtype, [&]<class T>(T) {
      typedef Compute<T> C;
      const C scale = C(1 / (1 - rate));
      const T* x = static_cast<const T*>(c.inputs[0]);
      T* y = static_cast<T*>(c.outputs[0]);
      each_batch<uint32_t, 4>(
          Key(c.inputs[1]), n, make_bits, [&](int64_t i, int64_t count, const uint32_t* values) {
            int64_t k = 0;
            if constexpr (sizeof(T) == 4) {  // y may be x: explicit vectors
              for (; k + kLanes<T> <= count; k += kLanes<T>) {
                const Vec<T> kept = load(x + i + k) * scale;
                store(y + i + k, load(values + k) >= threshold ? kept : Vec<T>{});
              }
            }
            for (; k < count; ++k) {
              const C kept = widened(x[i + k]) * scale;
              y[i + k] = narrowed<T>(values[k] >= threshold ? kept : C(0));
            }
          });
    });
  }
};
HB_CPU_KERNEL_INPLACE(dropout, Dropout, kAllFloat)

// Gamma(alpha, 1). alpha < 1 by Gamma(alpha + 1) u^(1 / alpha).
static double gamma_number(Draws& draws, double alpha) {
  if (!(alpha > 0)) return alpha == 0 ? 0 : __builtin_nan("");
  double boost = 1;
  if (alpha < 1) {
    boost = __builtin_pow(draws.uniform(), 1 / alpha);
    alpha += 1;
  }
  const double d = alpha - 1 / 3., factor = 1 / __builtin_sqrt(9 * d);
  for (;;) {
    const double z = draws.normal(), t = 1 + factor * z;
    if (t <= 0) continue;
    const double v = t * t * t;
    if (__builtin_log(draws.uniform()) < 0.5 * z * z + d - d * v + d * __builtin_log(v)) {
      return boost * d * v;
    }
  }
}

static double binomial_number(Draws& draws, double count, double p) {
  if (!(count >= 0) || !(p >= 0 && p <= 1)) return __builtin_nan("");
  double n = __builtin_floor(count), hits = 0;
  while (n > 32 && p > 0 && p < 1) {
    const double i = __builtin_floor((n + 1) / 2);  // the i-th smallest of n uniform numbers
    const double a = gamma_number(draws, i), b = gamma_number(draws, n + 1 - i), m = a / (a + b);
    if (m <= p) {
      hits += i;
      n -= i;
      p = (p - m) / (1 - m);
    } else {
      n = i - 1;
      p /= m;
    }
  }
  for (; n >= 1; --n) hits += draws.uniform() < p;
  return hits;
}

// One number per element of the parameters (float32 or float64, of the output's shape).
template <class F>
static void each_draw(const Call& c, DType dtype, int64_t n, const F& f) {
  constexpr int64_t kPerTask = 512;
  const Key key(c.inputs[0]);
  with_float_type(dtype, [&]<class T>(T) {
    T* y = static_cast<T*>(c.outputs[0]);
    const T* a = static_cast<const T*>(c.inputs[1]);
    const T* b = static_cast<const T*>(c.inputs[2]);
    parallel_for((n + kPerTask - 1) / kPerTask, [&](int64_t task, int) {
      const int64_t end = min_of(n, (task + 1) * kPerTask);
      for (int64_t i = task * kPerTask; i < end; ++i) {
        Draws draws{key.seed(), i};
        y[i] = narrowed<T>(Compute<T>(f(draws, double(widened(a[i])), double(widened(b[i])))));
      }
    });
  });
}
static void expect_parameters(const Prepare& p) {
  expect_key(p.inputs[0]);
  for (int i = 1; i < p.num_inputs; ++i) {
    if (p.inputs[i].dtype != p.outputs[0].dtype ||
        num_elements(p.inputs[i]) != num_elements(p.outputs[0])) {
      fail("parameters must have the dtype and the shape of the output");
    }
  }
}

// inputs: key, alpha, beta (the rate).
struct RandomGamma {
  int64_t n;
  DType dtype;
  explicit RandomGamma(Prepare& p) : n(num_elements(p.outputs[0])), dtype(p.outputs[0].dtype) {
    expect_parameters(p);
  }
  void run(const Call& c) const {
    each_draw(c, dtype, n, [](Draws& draws, double alpha, double rate) {
      return gamma_number(draws, alpha) / rate;
    });
  }
};
HB_CPU_KERNEL(random_gamma, RandomGamma, kU32)

// inputs: key, counts, probabilities.
struct RandomBinomial {
  int64_t n;
  DType dtype;
  explicit RandomBinomial(Prepare& p) : n(num_elements(p.outputs[0])), dtype(p.outputs[0].dtype) {
    expect_parameters(p);
  }
  void run(const Call& c) const { each_draw(c, dtype, n, binomial_number); }
};
HB_CPU_KERNEL(random_binomial, RandomBinomial, kU32)

HB_KERNELS_END
