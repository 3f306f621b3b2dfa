// Products of float32 and float64 on tensor cores.
#include "ops/gemm_mma_kernel.cuh"

namespace hb::cuda {

void run_mma_float(const MmaProduct& p, Float32Products how, bool large, void* stream) {
  switch (how) {
    case Float32Products::Parts3:
      return run_mma_engine<PartsEngine<3>>(p, large, stream);
    case Float32Products::Parts2:
      return run_mma_engine<PartsEngine<2>>(p, large, stream);
    case Float32Products::Tf32:
      return run_mma_engine<Tf32Engine>(p, large, stream);
  }
}

void run_mma_double(const MmaProduct& p, void* stream) { run_mma<DoubleEngine, 64>(p, stream); }

}  // namespace hb::cuda
