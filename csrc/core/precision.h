// Setting the precision of float32 products; kernels read it through core/kernel.h.
#pragma once
#include "core/kernel.h"

namespace hb {

// For programs prepared from now on.
void set_matmul_precision(Precision precision);

}  // namespace hb
