// Libraries of NVIDIA's that may run in place of kernels of ours: cuBLASLt (gemm_vendor.cu) and
// cuDNN (conv_vendor.cu), opened at run time if they are asked for; nothing links to them.
//
// HORNBEAM_CUDA_PRODUCTS: `own` (default); `cublaslt`, `cudnn`, or both with a comma: wherever they
// can, and an error where one cannot be opened; `measure`: of each that can be opened and ours the
// faster one, found out once for all kernels of the same sizes.
#pragma once
#include <functional>
#include <mutex>
#include <vector>

#include "cuda/kernel.cuh"
#include "cuda/shared_library.h"

namespace hb::cuda {

enum class VendorUse { Never, Always, Measured };
VendorUse vendor_use(const char* library);

// An error if the library is asked for; else ours is what runs.
void on_problem(VendorUse use, const LibraryProblem& problem);

// `Library` opened once per process, or null: it is not there, and not needed.
template <class Library>
const Library* open_vendor(VendorUse use) {
  if (use == VendorUse::Never) return nullptr;
  try {
    static const Library opened;  // a failure is thrown again by the next call
    return &opened;
  } catch (const LibraryProblem& problem) {
    on_problem(use, problem);
    return nullptr;
  }
}

// What one kernel does of the two, known from its first run on.
class VendorChoice {
 public:
  typedef std::function<void()> Start;
  typedef std::vector<int64_t> Key;
  explicit VendorChoice(VendorUse use) : measured_(use == VendorUse::Measured) {}
  // Runs `theirs` and returns true; false: `own` is to be run. (Both have run where they were
  // measured.) `prepare` is called once, before theirs; it returns all that times depend on, or
  // nothing: the library refuses these sizes.
  bool run(void* stream, const std::function<Key()>& prepare, const Start& own,
           const Start& theirs);

 private:
  enum class State { New, Unmeasured, Theirs, Own };
  std::mutex mutex_;
  bool measured_;
  State state_ = State::New;
  Key key_;
};

// Calls f, which gives work to the stream. Emulated libraries compute at once, so there f runs when
// its turn comes, where device memory can be read: it must hold what it needs.
template <class F>
void in_turn([[maybe_unused]] void* stream, F f) {
#ifdef HB_EMULATE
  launch(dim3(1), dim3(1), stream, +[](F g) { g(); }, f);
#else
  f();
#endif
}

}  // namespace hb::cuda
