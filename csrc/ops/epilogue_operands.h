// The inputs of a node that belong to its epilogue (epilogue.h), on every device.
#pragma once
#include <string.h>

#include "core/kernel.h"

namespace hb {
namespace {

// The attribute `epilogue` names the inputs from `first` on (without it a single one is the bias);
// `activation` is linear or relu.
class EpilogueOperands {
 public:
  EpilogueOperands(const Prepare& p, int first) {
    const TensorSpec& y = p.outputs[0];
    const int64_t size = num_elements(y), columns = y.rank > 0 ? y.shape[y.rank - 1] : 1;
    const bool named = attr_has(*p.attrs, "epilogue");
    const int64_t num = named ? attr_strs_size(*p.attrs, "epilogue") : p.num_inputs > first;
    if (p.num_inputs != first + num) fail("expected %d inputs", int(first + num));
    for (int i = 0; i < num; ++i) {
      const char* name = named ? attr_strs_at(*p.attrs, "epilogue", i) : kNames[1];
      int k = 0;
      while (k < kNum && strcmp(name, kNames[k]) != 0) ++k;
      if (k == kNum) fail("no operand %s of an epilogue", name);
      at_[k] = first + i;
      const TensorSpec& x = p.inputs[first + i];
      if (x.dtype != y.dtype || num_elements(x) != (k < 2 ? columns : size))
        fail("expected a %s of %lld elements of the result's dtype", name,
             (long long)(k < 2 ? columns : size));
    }
    if (!attr_has(*p.attrs, "activation")) return;
    const char* name = attr_str(*p.attrs, "activation");
    relu_ = strcmp(name, "relu") == 0;
    if (!relu_ && strcmp(name, "linear") != 0)
      fail("expected activation linear or relu, got %s", name);
  }
  // No more than a bias and ReLU.
  bool simple() const { return at_[0] < 0 && at_[2] < 0 && at_[3] < 0; }
  bool relu() const { return relu_; }
  // Scale, bias, residual, mask; null: there is none.
  const void* find(const Call& call, int k) const {
    return at_[k] < 0 ? nullptr : call.inputs[at_[k]];
  }
  static constexpr int kNum = 4;

 private:
  static constexpr const char* kNames[kNum] = {"scale", "bias", "residual", "mask"};
  int at_[kNum] = {-1, -1, -1, -1};
  bool relu_ = false;
};

}  // namespace
}  // namespace hb
