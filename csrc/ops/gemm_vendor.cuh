// Products by cuBLASLt, opened at run time if it is asked for; nothing links to it.
//
// HORNBEAM_CUDA_PRODUCTS: `own` (default), `cublaslt` (wherever it can), `measure` (each shape's
// first product runs both, and the faster one is kept). Convolutions are always our own.
#pragma once
#include <functional>
#include <memory>

#include "ops/gemm_mma.cuh"

namespace hb::cuda {

class VendorProduct {
 public:
  static constexpr size_t kWorkspace = size_t(32) << 20;
  // Null unless it is asked for and can do these. Throws if it is asked for and not there.
  static std::shared_ptr<VendorProduct> create(DType dtype, Float32Products);
  virtual ~VendorProduct() = default;
  // Starts the product in the library, or by `own`, and returns true; false: it cannot do this one.
  virtual bool run(const MmaProduct& p, void* workspace, void* stream,
                   const std::function<void()>& own) = 0;
};

}  // namespace hb::cuda
