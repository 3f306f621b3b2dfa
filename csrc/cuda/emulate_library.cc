// Kernels loaded at run time, on the emulated devices: libraries for the processor (emulate.h).
#ifdef HB_EMULATE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "cuda/emulate.h"

struct CUlib_st {
  void* opened;
};
struct CUkern_st {
  void (*run)(const void* argument, const hb::emulate::Position*);
  uint64_t bytes;
};

cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void* code, cudaJitOption*, void**,
                                unsigned, cudaLibraryOption*, void**, unsigned) {
  const char* p = static_cast<const char*>(code);
  if (memcmp(p, kEmulatedCode, sizeof kEmulatedCode) != 0) return cudaErrorInvalidKernelImage;
  uint64_t size;
  memcpy(&size, p + sizeof kEmulatedCode, sizeof size);
  p += sizeof kEmulatedCode + sizeof size;
  // The loader takes a name that it knows for the library that had it: each has its own.
  char name[] = "/tmp/hornbeam-kernel-XXXXXX";
  const int file = mkstemp(name);
  if (file < 0) return cudaErrorInvalidKernelImage;
  void* opened = nullptr;
  if (write(file, p, size) == ssize_t(size)) opened = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  close(file);
  unlink(name);
  if (!opened) return cudaErrorInvalidKernelImage;
  *library = new CUlib_st{opened};
  return cudaSuccess;
}
cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t library, const char* name) {
  const std::string of = name;
  void* run = dlsym(library->opened, (of + "_emulated").c_str());
  const void* bytes = dlsym(library->opened, (of + "_bytes").c_str());
  if (!run || !bytes) return cudaErrorInvalidValue;
  *kernel = new CUkern_st{reinterpret_cast<decltype(CUkern_st::run)>(run),
                          *static_cast<const uint64_t*>(bytes)};
  return cudaSuccess;
}
cudaError_t cudaLibraryUnload(cudaLibrary_t library) {
  dlclose(library->opened);
  delete library;
  return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments,
                             size_t shared_bytes, cudaStream_t stream) {
  hb::emulate::check_launch(grid, block, shared_bytes);
  const auto* k = static_cast<const CUkern_st*>(kernel);
  // It was read when the call returns.
  const char* from = static_cast<const char*>(arguments[0]);
  const auto argument = std::make_shared<std::vector<char>>(from, from + k->bytes);
  hb::emulate::bound_queue(stream);
  hb::emulate::enqueue(stream, [=] {
    auto body = [&] { k->run(argument->data(), &hb::emulate::at); };
    hb::emulate::run_grid(
        grid, block, shared_bytes, [](void* f) { (*static_cast<decltype(body)*>(f))(); }, &body);
  });
  return cudaSuccess;
}
#endif  // HB_EMULATE
