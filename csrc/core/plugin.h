// How a second library, opened at run time, brings devices and kernels to the core.
//
// The library does not link to the core: it exports one function, `hornbeam_plugin`, gets the
// functions of the core that kernels call as a table, registers its kernels and adds its devices.
// Both are built from one source tree; kPluginVersion guards against a stale file.
#pragma once
#include <cstddef>
#include <string>

#include "core/device.h"
#include "core/kernel.h"

namespace hb {

// Changes with Device, KernelDef, Prepare, Call, or the table below.
constexpr int kPluginVersion = 3;

struct CoreFunctions {
  bool (*attr_has)(const Attrs&, const char*);
  int64_t (*attr_int)(const Attrs&, const char*);
  double (*attr_float)(const Attrs&, const char*);
  const char* (*attr_str)(const Attrs&, const char*);
  IntList (*attr_ints)(const Attrs&, const char*);
  FloatList (*attr_floats)(const Attrs&, const char*);
  int64_t (*attr_strs_size)(const Attrs&, const char*);
  const char* (*attr_strs_at)(const Attrs&, const char*, int64_t);
  const char* (*attr_name)(const Attrs&, size_t);  // of the i-th; null: there are not so many
  const char* (*dtype_name)(DType);
  Precision (*matmul_precision)();
  void (*fail)(const char* text);           // throws Error
  void (*out_of_memory)(const char* text);  // throws OutOfMemory
  void (*register_kernel)(const KernelDef&, int level, DeviceKind);
  void (*add_device)(Device*);
};

// What the library exports, with C linkage. Returns why there are no devices, in words, or null;
// then it has registered and added nothing.
typedef const char* (*PluginEntry)(int version, const CoreFunctions*);

// Opens the library and asks it for its devices. `driver` is a library that must be there first
// (libcuda.so.1), or empty. Returns why there are no devices, or an empty text.
std::string load_plugin(const std::string& path, const std::string& driver);

}  // namespace hb
