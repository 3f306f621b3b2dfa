// What happens to a product on its way to memory. Of the sum at row i and column j:
//
//   y[i, j] = activation(sum * scale[j] + bias[j] + residual[i, j]),   0 where mask[i, j] <= 0
//
// where activation is max(., 0) or nothing, and every operand may be missing. So a convolution
// takes in batch normalisation, a skip connection and ReLU, and a gradient the mask of the ReLU
// before it (whose output is `mask`): no pass over memory of their own. All paths of matmul, conv
// and conv_grad_input go through this struct.
#pragma once
#include "core/kernel.h"
#include "ops/epilogue_operands.h"
#include "simd/half.h"
#include "simd/vec.h"

namespace hb::HB_ISA {

template <class S>
struct Epilogue {
  const S *scale = nullptr, *bias = nullptr;     // one per column
  const S *residual = nullptr, *mask = nullptr;  // laid out as the result
  bool relu = false;

  // No more than a bias and ReLU, which the register kernels do themselves.
  HB_INLINE bool simple() const { return !scale && !residual && !mask; }
  // The same for a result whose column 0 is column j of this one.
  HB_INLINE Epilogue columns(int64_t j) const {
    Epilogue e = elements(j);
    if (scale) e.scale += j;
    if (bias) e.bias += j;
    return e;
  }
  // The same for a result that starts at element `at` of this one, at column 0.
  HB_INLINE Epilogue elements(int64_t at) const {
    Epilogue e = *this;
    if (residual) e.residual += at;
    if (mask) e.mask += at;
    return e;
  }

  // The lanes v of columns j .. j + L, elements at .. at + L of the result.
  template <class T>
  HB_INLINE Vec<T> vector(Vec<T> v, int64_t j, int64_t at) const {
    if (scale) v *= load_as<T>(scale + j);
    if (bias) v += load_as<T>(bias + j);
    if (residual) v += load_as<T>(residual + at);
    if (relu) v = v < Vec<T>{} ? Vec<T>{} : v;  // keeps NaN
    if (mask) v = load_as<T>(mask + at) > Vec<T>{} ? v : Vec<T>{};
    return v;
  }
  template <class T>
  HB_INLINE T scalar(T v, int64_t j, int64_t at) const {
    if (scale) v *= T(widen(scale[j]));
    if (bias) v += T(widen(bias[j]));
    if (residual) v += T(widen(residual[at]));
    if (relu && v < T(0)) v = T(0);
    if (mask && !(T(widen(mask[at])) > T(0))) v = T(0);
    return v;
  }
};

namespace {

class EpilogueInputs : public EpilogueOperands {
 public:
  using EpilogueOperands::EpilogueOperands;

  template <class S>
  Epilogue<S> of(const Call& call) const {
    const S* x[kNum];
    for (int k = 0; k < kNum; ++k) x[k] = static_cast<const S*>(find(call, k));
    return {x[0], x[1], x[2], x[3], relu()};
  }
};

}  // namespace
}  // namespace hb::HB_ISA
