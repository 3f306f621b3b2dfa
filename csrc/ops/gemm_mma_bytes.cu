// Products of int8 on tensor cores.
#include "ops/gemm_mma_kernel.cuh"

namespace hb::cuda {

void run_mma_bytes(const MmaProduct& p, bool large, void* stream) {
  run_mma_engine<BytesEngine>(p, large, stream);
}

}  // namespace hb::cuda
