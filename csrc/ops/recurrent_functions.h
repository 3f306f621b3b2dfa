// The functions of gates and states of recurrent kernels, by name, and their slopes given their
// values: for vectors of the CPU (recurrent.h) and for numbers on CUDA (recurrent.cu).
#pragma once
#include <string.h>

#include "core/kernel.h"

#ifdef __CUDACC__
#define HB_OF_GATES __device__ __forceinline__
#else
#define HB_OF_GATES inline __attribute__((always_inline))
#endif

namespace hb {
namespace {

enum class Function { kTanh, kSigmoid, kRelu, kHardSigmoid, kLinear };

inline Function function_of(const Prepare& p, const char* attribute) {
  constexpr const char* kNames[] = {"tanh", "sigmoid", "relu", "hard_sigmoid", "linear"};
  const char* name = attr_str(*p.attrs, attribute);
  for (int i = 0; i < 5; ++i)
    if (!strcmp(name, kNames[i])) return Function(i);
  fail("no function '%s' in recurrent kernels", name);
}

// V: T, or a vector of it.
template <class T, class V>
HB_OF_GATES V slope(Function f, V y) {
  const V zero = V{}, one = zero + T(1), inner = zero + T(1.0 / 6);
  switch (f) {
    case Function::kTanh:
      return one - y * y;
    case Function::kSigmoid:
      return y * (one - y);
    case Function::kRelu:
      return y > zero ? one : zero;
    case Function::kHardSigmoid: {
      const V below = y > zero ? inner : zero;
      return y < one ? below : zero;
    }
    default:
      return one;
  }
}

}  // namespace
}  // namespace hb
