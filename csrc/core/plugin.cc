#include "core/plugin.h"

#include <dlfcn.h>

#include "core/attrs.h"
#include "core/error.h"

namespace hb {

std::string load_plugin(const std::string& path, const std::string& driver) {
  // Neither is ever closed: devices and kernels live as long as the process.
  if (!driver.empty() && !dlopen(driver.c_str(), RTLD_LAZY | RTLD_LOCAL))
    return driver + " was not found";
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) return dlerror();
  const auto entry = reinterpret_cast<PluginEntry>(dlsym(library, "hornbeam_plugin"));
  if (!entry) return path + " is no plugin of hornbeam";
  static const CoreFunctions functions{
      attr_has,
      attr_int,
      attr_float,
      attr_str,
      attr_ints,
      attr_floats,
      attr_strs_size,
      attr_strs_at,
      [](const Attrs& attrs, size_t i) { return attrs.name_at(i); },
      dtype_name,
      matmul_precision,
      [](const char* text) { throw Error(text); },
      [](const char* text) { throw OutOfMemory(text); },
      [](const KernelDef& def, int level, DeviceKind kind) { register_kernel(def, level, kind); },
      add_device,
  };
  const char* problem = entry(kPluginVersion, &functions);
  return problem ? problem : "";
}

}  // namespace hb
