// Random numbers on CUDA, with the same bits as on the CPU: Philox 4x32-10 at the counter of the
// element (random.cc says which block is whose). One thread makes a block of 128 bits.
//
// Normal, truncated normal, gamma and binomial numbers are not here: their logarithms and cosines
// would differ in the last bit. They are made on the CPU and copied.
#include "cuda/kernel.cuh"

namespace hb::cuda {
namespace {

struct Block {
  uint32_t v[4];
};
__device__ Block philox(const uint32_t* key, uint64_t index) {
  uint32_t x0 = uint32_t(index), x1 = uint32_t(index >> 32), x2 = 0, x3 = 0;
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
