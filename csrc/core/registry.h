// The table of kernels. Kernels register while the library is loaded, before any look-up.
#pragma once
#include <vector>

#include "core/kernel.h"

namespace hb {

// The kernel for `op` on the operands of `prepare`: it takes the dtype of input 0 (of output 0 for
// an op without inputs), has the highest level <= max_level, and its `supports` agrees. Among
// kernels of one level those with a `supports` come first, then the order of registration counts.
// Null if there is none. `level_found`, if not null, receives the level.
const KernelDef* find_kernel(const char* op, const Prepare& prepare, int max_level,
                             int* level_found, DeviceKind kind = DeviceKind::Cpu);

struct KernelInfo {
  const char* op;
  uint32_t dtypes, inplace;
  int level;
  DeviceKind kind;
};
std::vector<KernelInfo> list_kernels();  // by kind, by op, then in the order of find_kernel

}  // namespace hb
