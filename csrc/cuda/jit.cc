// NVRTC by dlopen (jit.h). The few functions that are needed are declared here, as NVIDIA's manual
// documents them.
#include "cuda/jit.h"

#include <string.h>

#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "cuda/kernel_files.h"
#include "cuda/library.h"
#include "cuda/shared_library.h"

namespace hb::cuda {
namespace {

typedef void* Handle;
typedef LibraryProblem Reason;  // why there is no kernel; it does not leave this file

class Nvrtc {
 public:
  Nvrtc() {
    const SharedLibrary library("NVRTC", "HORNBEAM_NVRTC",
                                {{"libnvrtc.so.13", "cu13"}, {"libnvrtc.so.12", "cuda_nvrtc"}});
    int (*version)(int*, int*) = nullptr;
    int (*num_supported)(int*) = nullptr;
    int (*supported)(int*) = nullptr;
    library.find(version, "nvrtcVersion");
    library.find(num_supported, "nvrtcGetNumSupportedArchs");
    library.find(supported, "nvrtcGetSupportedArchs");
    library.find(create_, "nvrtcCreateProgram");
    library.find(destroy_, "nvrtcDestroyProgram");
    library.find(compile_, "nvrtcCompileProgram");
    library.find(log_size_, "nvrtcGetProgramLogSize");
    library.find(log_, "nvrtcGetProgramLog");
    library.find(cubin_size_, "nvrtcGetCUBINSize");
    library.find(cubin_, "nvrtcGetCUBIN");
    library.find(ptx_size_, "nvrtcGetPTXSize");
    library.find(ptx_, "nvrtcGetPTX");
    int major = 0, minor = 0, count = 0;
    check(version(&major, &minor), "version");
    if (major < 12)
      throw Reason("NVRTC " + std::to_string(major) + "." + std::to_string(minor) +
                   " is too old; expected 12.0 or newer");
    version_ = std::to_string(major) + "." + std::to_string(minor);
    check(num_supported(&count), "architectures");
    architectures_.resize(size_t(count));
    if (count > 0) check(supported(architectures_.data()), "architectures");
  }
  const std::string& version() const { return version_; }

  // Machine code, or PTX of what is nearest where the GPU is newer than the compiler.
  std::string option_for(int architecture) const {
    int nearest = 0;
    for (const int a : architectures_)
      if (a <= architecture && a > nearest) nearest = a;
    if (nearest == 0) throw Reason("NVRTC " + version_ + " knows no GPU like this");
    return std::string("--gpu-architecture=") + (nearest == architecture ? "sm_" : "compute_") +
           std::to_string(nearest);
  }

  std::string compile(const std::string& source, const std::vector<const char*>& options) const {
    Handle program = nullptr;
    check(create_(&program, source.c_str(), "cluster.cu", 0, nullptr, nullptr), "program");
    const struct Guard {
      const Nvrtc& nvrtc;
      Handle* program;
      ~Guard() { nvrtc.destroy_(program); }
    } guard{*this, &program};
    const int status = compile_(program, int(options.size()), options.data());
    if (status != 0) {
      size_t size = 0;
      std::string text;
      if (log_size_(program, &size) == 0 && size > 1) {
        text.resize(size);
        log_(program, text.data());
        text.resize(size - 1);
      }
      throw Reason("NVRTC " + version_ + ": status " + std::to_string(status) + ": " + text);
    }
    const bool machine = strstr(options[0], "=sm_");
    size_t size = 0;
    check((machine ? cubin_size_ : ptx_size_)(program, &size), "size");
    std::string code(size, '\0');
    check((machine ? cubin_ : ptx_)(program, code.data()), "code");
    return code;
  }

 private:
  static void check(int status, const char* what) {
    if (status != 0)
      throw Reason(std::string("NVRTC: ") + what + ": status " + std::to_string(status));
  }

  int (*create_)(Handle*, const char* source, const char* name, int, const char* const*,
                 const char* const*);
  int (*destroy_)(Handle*);
  int (*compile_)(Handle, int count, const char* const* options);
  int (*log_size_)(Handle, size_t*);
  int (*log_)(Handle, char*);
  int (*cubin_size_)(Handle, size_t*);
  int (*cubin_)(Handle, char*);
  int (*ptx_size_)(Handle, size_t*);
  int (*ptx_)(Handle, char*);
  std::string version_;
  std::vector<int> architectures_;
};
const Nvrtc& nvrtc() {
  static const Nvrtc opened;  // a failure is thrown again by the next call
  return opened;
}

// A library is loaded for good, in all GPUs of its kind.
std::shared_ptr<const CompiledKernel> open_code(const std::string& code, const char* name) {
  cudaLibrary_t library = nullptr;
  cudaKernel_t kernel = nullptr;
  cudaError_t error =
      cudaLibraryLoadData(&library, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0);
  if (error == cudaSuccess) {
    error = cudaLibraryGetKernel(&kernel, library, name);
    if (error != cudaSuccess) cudaLibraryUnload(library);
  }
  if (error != cudaSuccess) {
    cudaGetLastError();
    throw Reason(std::string("the code cannot be loaded: ") + cudaGetErrorName(error));
  }
  return std::make_shared<CompiledKernel>(kernel);
}

std::shared_ptr<const CompiledKernel> make(const std::string& source, const char* name, int gpu) {
  const Nvrtc& compiler = nvrtc();
  const std::string architecture = compiler.option_for(gpu);
  // Multiplications and additions stay apart, as in the interpreter.
  const std::vector<const char*> options = {architecture.c_str(), "--std=c++17", "--fmad=false"};
  std::string key = "NVRTC " + compiler.version();
  for (const char* option : options) key += std::string(" ") + option;
  key += "\n" + source;
  const KernelFiles files;
  if (const std::optional<std::string> code = files.load(key)) {
    try {
      return open_code(*code, name);
    } catch (const Reason&) {  // not for this driver: made anew
    }
  }
  const std::string code = compiler.compile(source, options);
  auto kernel = open_code(code, name);
  files.store(key, code);
  return kernel;
}

}  // namespace

void CompiledKernel::launch(dim3 grid, dim3 block, void* stream, void* argument) const {
  void* arguments[] = {argument};
  const cudaError_t error =
      cudaLaunchKernel(kernel_, grid, block, arguments, 0, static_cast<cudaStream_t>(stream));
  if (error != cudaSuccess) fail_cuda("kernel launch", error);
}

std::shared_ptr<const CompiledKernel> compile(const std::string& source, const char* name,
                                              int architecture) {
  static std::mutex mutex;
  // By source and GPU; null where it failed, which is not tried again.
  static auto& made =
      *new std::map<std::pair<int, std::string>, std::shared_ptr<const CompiledKernel>>;
  std::lock_guard lock(mutex);
  const std::pair<int, std::string> key(architecture, source);
  if (const auto found = made.find(key); found != made.end()) return found->second;
  std::shared_ptr<const CompiledKernel> kernel;
  try {
    kernel = make(source, name, architecture);
  } catch (const Reason& reason) {
    tell_once("element-wise clusters are interpreted on the GPU", reason);
  }
  return made[key] = kernel;
}

}  // namespace hb::cuda
