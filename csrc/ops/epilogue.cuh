// What happens to a product on its way to memory, on CUDA: the formula of epilogue.h, one for
// multiply-adds, mma.sync and wgmma, applied to sums in registers.
#pragma once
#include "ops/epilogue_operands.h"
#include "ops/pack.cuh"

namespace hb::cuda {

// Reads what no thread writes while the kernel runs: such loads may be moved before stores.
template <class T, int kCount>
__device__ __forceinline__ Pack<T, kCount> load_constant(const T* from) {
  typedef Pack<T, kCount> Whole;
#ifdef HB_EMULATE
  if (uintptr_t(from) % sizeof(Whole) != 0) fail("a load that is not aligned");
  return *reinterpret_cast<const Whole*>(from);
#else
  constexpr int kBytes = sizeof(Whole);
  typedef std::conditional_t<
      kBytes == 16, uint4,
      std::conditional_t<
          kBytes == 8, uint2,
          std::conditional_t<kBytes == 4, unsigned,
                             std::conditional_t<kBytes == 2, unsigned short, unsigned char>>>>
      Bits;
  const Bits bits = __ldg(reinterpret_cast<const Bits*>(from));
  Whole whole;
  memcpy(&whole, &bits, sizeof whole);
  return whole;
#endif
}

struct Epilogue {
  const void *scale = nullptr, *bias = nullptr;     // one per column
  const void *residual = nullptr, *mask = nullptr;  // laid out as the result
  bool relu = false;

  Epilogue() = default;
  Epilogue(const EpilogueOperands& operands, const Call& c)
      : scale(operands.find(c, 0)),
        bias(operands.find(c, 1)),
        residual(operands.find(c, 2)),
        mask(operands.find(c, 3)),
        relu(operands.relu()) {}
  bool any() const { return scale || bias || residual || mask || relu; }
  // The same for a result that starts `bytes` behind this one, at column 0.
  Epilogue behind(int64_t bytes) const {
    Epilogue e = *this;
    if (residual) e.residual = static_cast<const char*>(residual) + bytes;
    if (mask) e.mask = static_cast<const char*>(mask) + bytes;
    return e;
  }

  // Whether what `apply` reads is aligned to kCount numbers.
  template <class T, int kCount>
  __device__ __forceinline__ bool is_aligned(int64_t column, int64_t at) const {
    const auto end = [](const void* p, int64_t i) {
      return p ? uintptr_t(static_cast<const T*>(p) + i) : 0;
    };
    return (end(scale, column) | end(bias, column) | end(residual, at) | end(mask, at)) %
               (kCount * sizeof(T)) ==
           0;
  }
  // Sums of kCount columns from `column` on, whose results (of T) are elements `at` and on.
  template <class T, int kCount>
  __device__ __forceinline__ void apply(Compute<T>* sums, int64_t column, int64_t at) const {
    typedef Compute<T> C;
    C x[kCount];
    if (scale) {
      read<T, kCount>(x, scale, column);
      HB_UNROLL
      for (int e = 0; e < kCount; ++e) sums[e] *= x[e];
    }
    if (bias) {
      read<T, kCount>(x, bias, column);
      HB_UNROLL
      for (int e = 0; e < kCount; ++e) sums[e] += x[e];
    }
    if (residual) {
      read<T, kCount>(x, residual, at);
      HB_UNROLL
      for (int e = 0; e < kCount; ++e) sums[e] += x[e];
    }
    if (relu) {
      HB_UNROLL
      for (int e = 0; e < kCount; ++e)
        sums[e] = below_zero<T>(sums[e]) ? C(0) : sums[e];  // keeps NaN
    }
    if (mask) {
      read<T, kCount>(x, mask, at);
      HB_UNROLL
      for (int e = 0; e < kCount; ++e) sums[e] = x[e] > C(0) ? sums[e] : C(0);
    }
  }

 private:
  // Integers are computed without a sign: they wrap.
  template <class T>
  static __device__ __forceinline__ bool below_zero(Compute<T> x) {
    if constexpr (std::is_integral_v<Compute<T>>)
      return std::make_signed_t<Compute<T>>(x) < 0;
    else
      return x < Compute<T>(0);
  }
  template <class T, int kCount>
  static __device__ __forceinline__ void read(Compute<T>* to, const void* from, int64_t at) {
    const auto pack = load_constant<T, kCount>(static_cast<const T*>(from) + at);
    HB_UNROLL
    for (int e = 0; e < kCount; ++e) to[e] = widened(pack.x[e]);
  }
};

}  // namespace hb::cuda
