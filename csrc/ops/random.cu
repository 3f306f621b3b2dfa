// Random numbers on CUDA, with the same bits as on the CPU: Philox 4x32-10 at the counter of the
// element (random.cc says which block is whose). One thread makes a block of 128 bits.
//
// Normal numbers of float32 and narrower ones take the same steps as make_normal there, with every
// rounding written out: the multiply-adds are those that the CPU's compiler makes of simd/math.h
// (at the levels avx2 and above; the baseline has none). Truncated ones that are drawn again come
// from float64 functions, which may differ from the CPU's in the last bit before they are rounded.
// Normal numbers of float64, gamma and binomial numbers would differ so in all of their digits'
// last place: they are made on the CPU and copied.
#include "cuda/kernel.cuh"

namespace hb::cuda {
namespace {

struct Block {
  uint32_t v[4];
};
__device__ Block philox(const uint32_t* key, uint64_t index, uint64_t stream = 0) {
  uint32_t x0 = uint32_t(index), x1 = uint32_t(index >> 32);
  uint32_t x2 = uint32_t(stream), x3 = uint32_t(stream >> 32);
  uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(0xD2511F53u, x0), low0 = 0xD2511F53u * x0;
    const uint32_t high2 = __umulhi(0xCD9E8D57u, x2), low2 = 0xCD9E8D57u * x2;
    x0 = high2 ^ x1 ^ k0;
    x2 = high0 ^ x3 ^ k1;
    x1 = low2;
    x3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{x0, x1, x2, x3}};
}

// What an element is made of: 32 bits, or 64 of two words.
struct Bits {
  static constexpr int kPer = 4;
  typedef uint32_t Stored;
  __device__ void make(uint32_t* y, uint32_t low, uint32_t) const { *y = low; }
};
template <class T>
struct Uniform {  // [0, 1), with as many random bits as the mantissa holds
  static constexpr int kPer = sizeof(T) == 8 ? 2 : 4;
  typedef T Stored;
  __device__ void make(T* y, uint32_t a, uint32_t b) const {
    if constexpr (std::is_same_v<T, double>)
      *y = double((uint64_t(a) << 32 | b) >> 11) * 0x1p-53;
    else if constexpr (std::is_same_v<T, float>)
      *y = float(a >> 8) * 0x1p-24f;
    else if constexpr (std::is_same_v<T, Half>)
      *y = narrowed<Half>(float(a >> 21) * 0x1p-11f);
    else
      *y = narrowed<BHalf>(float(a >> 24) * 0x1p-8f);
  }
};
template <class T>
struct Integers {  // floor(x range / 2^64) + low
  static constexpr int kPer = 2;
  typedef T Stored;
  uint64_t low, range;
  __device__ void make(T* y, uint32_t a, uint32_t b) const {
    const uint64_t x = uint64_t(a) << 32 | b;
    *y = narrowed<T>(Compute<T>(int64_t(low + __umul64hi(x, range))));
  }
};

template <class M>
__global__ void __launch_bounds__(kThreads)
    draw(typename M::Stored* y, const uint32_t* key, int64_t n, const M make) {
  constexpr int kPer = M::kPer;
  HB_EACH(block, (n + kPer - 1) / kPer) {
    const Block b = philox(key, uint64_t(block));
    for (int k = 0; k < kPer; ++k) {
      const int64_t i = block * kPer + k;
      if (i < n) make.make(y + i, b.v[kPer == 4 ? k : 2 * k], b.v[kPer == 4 ? k : 2 * k + 1]);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    drop(T* y, const T* x, const uint32_t* key, int64_t n, uint32_t threshold, Compute<T> scale) {
  HB_EACH(block, (n + 3) / 4) {
    const Block b = philox(key, uint64_t(block));
    for (int k = 0; k < 4; ++k) {
      const int64_t i = block * 4 + k;
      if (i < n) y[i] = narrowed<T>(b.v[k] >= threshold ? widened(x[i]) * scale : Compute<T>(0));
    }
  }
}

// log u for 2^-33 <= u <= 1
__device__ float log_of(float u) {
  const float c[] = {0.333333126f,   -0.250000096f, 0.2000211873f,  -0.1666799567f, 0.1421955091f,
                     -0.1240559142f, 0.118881746f,  -0.1167564131f, 0.06746601326f};
  const int32_t bits = __float_as_int(u), exponent = (bits - 0x3f3504f3) >> 23;
  const float f = __fsub_rn(__int_as_float(bits - (exponent << 23)), 1.0f);
  const float e = float(exponent), z = __fmul_rn(f, f);
  float tail = c[8];
  for (int i = 7; i >= 0; --i) tail = __fmaf_rn(tail, f, c[i]);
  const float low = __fmaf_rn(__fmul_rn(f, z), tail, __fmul_rn(e, 1.4286068203094173e-06f));
  const float y = __fadd_rn(__fmaf_rn(-0.5f, z, low), f);
  return __fmaf_rn(e, 0x1.62e4p-1f, y);
}
// Sine (quadrant 0) or cosine (1) of |x| <= pi.
__device__ float sine_of(float x, int quadrant) {
  const float sine[] = {-1 / 6.f, 1 / 120.f, -1 / 5040.f, 1 / 362880.f};
  const float cosine[] = {-1 / 2.f, 1 / 24.f, -1 / 720.f, 1 / 40320.f, -1 / 3628800.f};
  const float shifted = __fmaf_rn(x, 0.636619772367581f, 0x1.8p23f);
  const float n = __fsub_rn(shifted, 0x1.8p23f);
  const int q = __float_as_int(shifted) + quadrant;
  float r = __fmaf_rn(n, -0x1.92p0f, x);
  r = __fmaf_rn(n, -0x1.fb4p-12f, r);
  r = __fmaf_rn(n, -0x1.444p-24f, r);
  r = __fmaf_rn(n, -0x1.68c234p-39f, r);
  const float z = __fmul_rn(r, r);
  float s = sine[3], k = cosine[4];
  for (int i = 2; i >= 0; --i) s = __fmaf_rn(s, z, sine[i]);
  for (int i = 3; i >= 0; --i) k = __fmaf_rn(k, z, cosine[i]);
  const float y = q & 1 ? __fmaf_rn(z, k, 1.0f) : __fmaf_rn(__fmul_rn(r, z), s, r);
  return __int_as_float(__float_as_int(y) ^ ((q & 2) << 30));
}
// The draw of an element that was rejected: |z| < 2, from the streams 1, 2, ...
__device__ float drawn_again(const uint32_t* key, int64_t element) {
  for (uint64_t stream = 1;; ++stream) {
    const Block b = philox(key, uint64_t(element), stream);
    const uint64_t x = uint64_t(b.v[0]) << 32 | b.v[1], y = uint64_t(b.v[2]) << 32 | b.v[3];
    const double u = (double(int64_t(x >> 12)) + 0.5) * 0x1p-52;
    const float z =
        float(sqrt(-2 * log(u)) * cos(double(int64_t(y)) * 0x1p-64 * 6.283185307179586477));
    if (z > -2.0f && z < 2.0f) return z;
  }
}
template <class T, bool kTruncated>
__global__ void __launch_bounds__(kThreads) draw_normal(T* y, const uint32_t* key, int64_t n) {
  HB_EACH(block, (n + 3) / 4) {
    const Block b = philox(key, uint64_t(block));
    for (int k = 0; k < 4; ++k) {
      const int64_t i = block * 4 + k;
      if (i >= n) continue;
      const float u = __fmaf_rn(float(b.v[k & 2]), 0x1p-32f, 0x1p-33f);
      const float angle = __fmul_rn(float(int32_t(b.v[k | 1])) * 0x1p-32f, 6.2831853071795865f);
      float z = __fmul_rn(sqrtf(__fmul_rn(-2.0f, log_of(u))), sine_of(angle, k & 1 ? 0 : 1));
      if (kTruncated && !(z > -2.0f && z < 2.0f)) z = drawn_again(key, i);
      y[i] = narrowed<T>(z);
    }
  }
}

struct Draw {
  int64_t n;
  DType dtype;
  explicit Draw(Prepare& p) : n(num_elements(p.outputs[0])), dtype(p.outputs[0].dtype) {
    expect_key(p.inputs[0]);
  }
  static void expect_key(const TensorSpec& key) {
    if (key.dtype != DType::U32 || num_elements(key) != 2) fail("the key must be uint32[2]");
  }
  template <class M>
  void start(const Call& c, const M& make) const {
    if (n == 0) return;
    launch(blocks_for((n + M::kPer - 1) / M::kPer), dim3(kThreads), c.stream, draw<M>,
           static_cast<typename M::Stored*>(c.outputs[0]),
           static_cast<const uint32_t*>(c.inputs[0]), n, make);
  }
};
struct RandomBits : Draw {
  using Draw::Draw;
  void run(const Call& c) const { start(c, Bits()); }
};
HB_CUDA_KERNEL(random_bits, RandomBits, kU32)
struct RandomUniform : Draw {
  using Draw::Draw;
  void run(const Call& c) const {
    with_float_type(dtype, [&]<class T>() { start(c, Uniform<T>()); });
  }
};
HB_CUDA_KERNEL(random_uniform, RandomUniform, kU32)
template <bool kTruncated>
struct Normal : Draw {
  using Draw::Draw;
  static bool supports(const Prepare& p) { return p.outputs[0].dtype != DType::F64; }
  void run(const Call& c) const {
    if (n == 0) return;
    with_float_type(dtype, [&]<class T>() {
      if constexpr (!std::is_same_v<T, double>)
        launch(blocks_for((n + 3) / 4), dim3(kThreads), c.stream, draw_normal<T, kTruncated>,
               static_cast<T*>(c.outputs[0]), static_cast<const uint32_t*>(c.inputs[0]), n);
    });
  }
};
typedef Normal<false> RandomNormal;
typedef Normal<true> RandomTruncatedNormal;
HB_CUDA_KERNEL_IF(random_normal, RandomNormal, kU32, 0u, RandomNormal::supports)
HB_CUDA_KERNEL_IF(random_truncated_normal, RandomTruncatedNormal, kU32, 0u,
                  RandomTruncatedNormal::supports)

struct RandomIntegers : Draw {
  uint64_t low, range;
  explicit RandomIntegers(Prepare& p)
      : Draw(p),
        low(uint64_t(attr_int(*p.attrs, "low"))),
        range(uint64_t(attr_int(*p.attrs, "high")) - low) {}
  void run(const Call& c) const {
    with_type(dtype, [&]<class T>() { start(c, Integers<T>{low, range}); });
  }
};
HB_CUDA_KERNEL(random_integers, RandomIntegers, kU32)

// inputs: x, key; attribute rate.
struct Dropout {
  int64_t n;
  double rate;
  DType dtype;
  explicit Dropout(Prepare& p)
      : n(num_elements(p.inputs[0])), rate(attr_float(*p.attrs, "rate")), dtype(p.inputs[0].dtype) {
    Draw::expect_key(p.inputs[1]);
  }
  void run(const Call& c) const {
    if (n == 0) return;
    with_float_type(dtype, [&]<class T>() {
      launch(blocks_for((n + 3) / 4), dim3(kThreads), c.stream, drop<T>,
             static_cast<T*>(c.outputs[0]), static_cast<const T*>(c.inputs[0]),
             static_cast<const uint32_t*>(c.inputs[1]), n, uint32_t(rate * 0x1p32),
             Compute<T>(1 / (1 - rate)));
    });
  }
};
HB_CUDA_KERNEL_INPLACE(dropout, Dropout, kAllFloat)

}  // namespace
}  // namespace hb::cuda
