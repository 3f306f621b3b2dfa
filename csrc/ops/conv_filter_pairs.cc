// The register kernels of conv_filter_direct.h for pairs of bfloat16: compiled once, with the
// instructions of AVX512_BF16.
#ifdef HB_BF16_PAIRS
#include "ops/conv_filter_direct.h"

namespace hb::HB_ISA {

FilterKernel<Pair> find_pair_filter_kernel(int rows, int vecs, bool spread) {
  return spread ? find_filter_kernel<Pair, true>(rows, vecs)
                : find_filter_kernel<Pair, false>(rows, vecs);
}

}  // namespace hb::HB_ISA
#endif
