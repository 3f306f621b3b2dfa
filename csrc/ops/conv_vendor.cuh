// Convolutions by cuDNN, if it is asked for (vendor.cuh).
#pragma once
#include <functional>
#include <memory>

#include "ops/conv.cuh"

namespace hb::cuda {

enum class ConvPart { Forward, GradInput, GradFilter };

class VendorConvolution {
 public:
  // Null unless it may be used for this one.
  static std::shared_ptr<VendorConvolution> create(ConvPart part, const ConvShape& s, DType dtype);
  virtual ~VendorConvolution() = default;
  // Of Call::scratch: the filter in cuDNN's order, and a workspace of bounded size.
  virtual size_t scratch_bytes() const = 0;
  // Starts it, and returns whether it did; false: `own` is to be run.
  virtual bool run(const Call& c, const Epilogue& epilogue, const std::function<void()>& own) = 0;
};

}  // namespace hb::cuda
