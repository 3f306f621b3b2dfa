// The register kernels of attention_product.h for pairs of bfloat16: compiled once, with the
// instructions of AVX512_BF16.
#ifdef HB_BF16_PAIRS
#include "ops/attention_product.h"

namespace hb::HB_ISA {

ProductKernel<Pair> find_pair_product(int64_t rows, bool wide) {
  return find_product<Pair>(rows, wide);
}

}  // namespace hb::HB_ISA
#endif
