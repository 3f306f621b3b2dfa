// Kernels that are compiled at run time, by NVRTC, which is opened by dlopen where it is found.
//
// HORNBEAM_NVRTC (the library, or its folder) says where; else libnvrtc.so.13 or .12 as the loader
// finds them, the toolkit's folder, or NVIDIA's packages beside this one. What was compiled is kept
// for the process, and on disk (kernel_files.h). Nothing here is for recorded runs but `launch`.
#pragma once
#include <memory>
#include <string>

#include "cuda/kernel.cuh"

namespace hb::cuda {

class CompiledKernel {
 public:
  explicit CompiledKernel(const void* kernel) : kernel_(kernel) {}
  // `argument` is the kernel's one argument, a struct.
  void launch(dim3 grid, dim3 block, void* stream, void* argument) const;

 private:
  const void* kernel_;
};

// The kernel `name` of the source, for a GPU of this architecture (80: 8.0). Null where it cannot
// be had: HORNBEAM_DEBUG=plan prints why, each reason once.
std::shared_ptr<const CompiledKernel> compile(const std::string& source, const char* name,
                                              int architecture);

}  // namespace hb::cuda
