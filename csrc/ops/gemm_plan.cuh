// How a product on tensor cores is run (gemm_mma.cu), for matmul.cu and conv.cu.
#pragma once
#include <memory>

#include "ops/gemm_mma.cuh"

namespace hb::cuda {

class VendorProduct;  // gemm_vendor.cuh

class MmaPlan {
 public:
  // Sizes beyond 2^31: not `possible`. A library may be asked for products of plain matrices.
  MmaPlan(DType dtype, int64_t m, int64_t n, int64_t k, int64_t batch, bool matrices = false);
  bool possible() const { return possible_; }
  size_t partial_bytes() const;  // of MmaProduct::partial
  // Sets parts of `p`, whose partial has partial_bytes(), and starts it.
  void run(MmaProduct p, void* stream) const;

 private:
  void run_own(const MmaProduct& p, void* stream) const;

  std::shared_ptr<VendorProduct> vendor_;
  DType dtype_;
  Float32Products float32_ = Float32Products::Parts3;
  int64_t m_, n_, batch_;
  bool possible_, large_;  // tiles of 128 x 128, or of 64 x 64
  int parts_, part_k_;
};

}  // namespace hb::cuda
