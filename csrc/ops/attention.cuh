// What the two forms of attention on CUDA share: with multiply-adds (attention.cu) and on tensor
// cores (attention_mma.cu).
#pragma once
#include "cuda/kernel.cuh"

namespace hb::cuda {

constexpr float kMaskedScore = -0.999999e30f;  // as in attention.cc
constexpr float kLowestScore = -3.402823466e38f;

struct AttentionExtra {  // strides of a mask or bias, 0 where broadcast
  int64_t batch = 0, head = 0, query = 0, key = 0;
  __device__ int64_t at(int64_t b, int64_t n, int64_t q, int64_t s) const {
    return b * batch + n * head + q * query + s * key;
  }
};
struct AttentionSizes {
  int64_t batch, queries, keys, heads, key_heads, group, h, e;
  float scale;
  bool causal;
  AttentionExtra bias, mask;
};
template <class T>
struct AttentionOperands {
  const T *q, *k, *v, *bias;
  const uint8_t* mask;
};

// The score of a query and a key whose dot product is given.
template <class T>
__device__ __forceinline__ float attention_score(const AttentionSizes& z,
                                                 const AttentionOperands<T>& o, float dot,
                                                 int64_t b, int64_t n, int64_t q, int64_t s) {
  float v = dot * z.scale;
  if (o.bias) v += float(widened(o.bias[z.bias.at(b, n, q, s)]));
  const bool hidden = (z.causal && s > q) || (o.mask && !o.mask[z.mask.at(b, n, q, s)]);
  return hidden ? kMaskedScore : v;
}

// On tensor cores: float16 and bfloat16, up to 128 features, in eights, all rows aligned to 16
// bytes. Where false is returned, nothing was done.
template <class T>
bool attend_on_tensor_cores(const AttentionSizes& z, const AttentionOperands<T>& o, T* y,
                            float* stats, void* stream);
// d: dy . y of every query.
template <class T>
bool attend_back_on_tensor_cores(const AttentionSizes& z, const AttentionOperands<T>& o,
                                 const float* stats, const float* d, const T* dy, T* dq, T* dk,
                                 T* dv, void* stream);

}  // namespace hb::cuda
