#include "core/registry.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>

namespace hb {
namespace {

struct Entry {
  KernelDef def;
  int level;
};

// Kernels of each op, best first.
using Table = std::map<std::string, std::vector<Entry>, std::less<>>;

// In a function, because kernels register from the constructors of static objects.
Table& table(DeviceKind kind) {
  static Table entries[kNumDeviceKinds];
  return entries[int(kind)];
}

bool better(const Entry& a, const Entry& b) {
  return std::tuple(a.level, a.def.supports != nullptr) >
         std::tuple(b.level, b.def.supports != nullptr);
}

}  // namespace

void register_kernel(const KernelDef& def, int level) {
  register_kernel(def, level, DeviceKind::Cpu);
}

void register_kernel(const KernelDef& def, int level, DeviceKind kind) {
  std::vector<Entry>& entries = table(kind)[def.op];
  const Entry entry{def, level};
  entries.insert(std::upper_bound(entries.begin(), entries.end(), entry, better), entry);
}

const KernelDef* find_kernel(const char* op, const Prepare& prepare, int max_level,
                             int* level_found, DeviceKind kind) {
  const auto entries = table(kind).find(op);
  if (entries == table(kind).end()) return nullptr;
  uint32_t dtype;
  if (prepare.num_inputs > 0) {
    dtype = 1u << unsigned(prepare.inputs[0].dtype);
  } else if (prepare.num_outputs > 0) {
    dtype = 1u << unsigned(prepare.outputs[0].dtype);
  } else {
    return nullptr;
  }
  for (const Entry& entry : entries->second) {
    if (entry.level > max_level || !(entry.def.dtypes & dtype)) continue;
    if (entry.def.supports && !entry.def.supports(prepare)) continue;
    if (level_found) *level_found = entry.level;
    return &entry.def;
  }
  return nullptr;
}

std::vector<KernelInfo> list_kernels() {
  std::vector<KernelInfo> list;
  for (const DeviceKind kind : {DeviceKind::Cpu, DeviceKind::Cuda})
    for (const auto& [op, entries] : table(kind))
      for (const Entry& entry : entries)
        list.push_back({op.c_str(), entry.def.dtypes, entry.def.inplace, entry.level, kind});
  return list;
}

}  // namespace hb
