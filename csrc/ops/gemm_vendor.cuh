// Products of plain matrices by cuBLASLt, if it is asked for (vendor.cuh).
#pragma once
#include <functional>
#include <memory>

#include "ops/gemm_mma.cuh"

namespace hb::cuda {

class VendorProduct {
 public:
  static constexpr size_t kWorkspace = size_t(32) << 20;
  // Null unless it may be used for these.
  static std::shared_ptr<VendorProduct> create(DType dtype, Float32Products);
  virtual ~VendorProduct() = default;
  // Starts the product, and returns whether it did; false: `own` is to be run.
  virtual bool run(const MmaProduct& p, void* workspace, void* stream,
                   const std::function<void()>& own) = 0;
};

}  // namespace hb::cuda
