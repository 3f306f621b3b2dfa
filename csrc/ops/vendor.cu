#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "ops/vendor.cuh"

namespace hb::cuda {
namespace {

#ifdef HB_EMULATE
bool may_wait(void*) { return true; }
class Clock {
 public:
  explicit Clock(void*) {}
  void start() { start_ = std::chrono::steady_clock::now(); }
  double stop() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_;
};
#else
bool may_wait(void* stream) {  // not while a graph is captured
  cudaStreamCaptureStatus status;
  return cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &status) == cudaSuccess &&
         status == cudaStreamCaptureStatusNone;
}
class Clock {
 public:
  explicit Clock(void* stream) : stream_(static_cast<cudaStream_t>(stream)) {
    check(cudaEventCreate(&begin_));
    check(cudaEventCreate(&end_));
  }
  ~Clock() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  void start() { check(cudaEventRecord(begin_, stream_)); }
  double stop() {
    float milliseconds = 0;
    check(cudaEventRecord(end_, stream_));
    check(cudaEventSynchronize(end_));
    check(cudaEventElapsedTime(&milliseconds, begin_, end_));
    return milliseconds;
  }

 private:
  static void check(cudaError_t error) {
    if (error != cudaSuccess) fail_cuda("measuring a product", error);
  }
  cudaStream_t stream_;
  cudaEvent_t begin_, end_;
};
#endif

double time(void* stream, const VendorChoice::Start& start) {
  start();  // what is only done once
  Clock clock(stream);
  double best = HUGE_VAL;
  for (int i = 0; i < 3; ++i) {
    clock.start();
    start();
    best = std::min(best, clock.stop());
  }
  return best;
}

// Whether the library was faster, by key. The choice stays for the process: programs that are made
// again have the same bits.
struct Measured {
  std::mutex mutex;
  std::map<VendorChoice::Key, bool> theirs;
};
Measured& measured() {
  static auto& all = *new Measured;
  return all;
}

}  // namespace

VendorUse vendor_use(const char* library) {
  const char* value = getenv("HORNBEAM_CUDA_PRODUCTS");
  const std::string choice = value ? value : "";
  if (choice.empty() || choice == "own") return VendorUse::Never;
  if (choice == "measure") return VendorUse::Measured;
  bool asked = false;
  for (size_t begin = 0; begin <= choice.size();) {
    const size_t end = std::min(choice.find(',', begin), choice.size());
    const std::string name = choice.substr(begin, end - begin);
    if (name != "cublaslt" && name != "cudnn")
      fail(
          "HORNBEAM_CUDA_PRODUCTS: expected own, measure, cublaslt, cudnn or cublaslt,cudnn, got "
          "%s",
          choice.c_str());
    asked |= name == library;
    begin = end + 1;
  }
  return asked ? VendorUse::Always : VendorUse::Never;
}

void on_problem(VendorUse use, const LibraryProblem& problem) {
  if (use == VendorUse::Always) fail("HORNBEAM_CUDA_PRODUCTS: %s", problem.what());
  tell_once("HORNBEAM_CUDA_PRODUCTS=measure: not measured", problem);
}

bool VendorChoice::run(void* stream, const std::function<Key()>& prepare, const Start& own,
                       const Start& theirs) {
  std::lock_guard lock(mutex_);
  if (state_ == State::New) {
    try {
      key_ = prepare();
    } catch (const LibraryProblem& problem) {
      on_problem(measured_ ? VendorUse::Measured : VendorUse::Always, problem);
    }
    state_ = key_.empty() ? State::Own : measured_ ? State::Unmeasured : State::Theirs;
  }
  if (state_ == State::Unmeasured && may_wait(stream)) {
    Measured& all = measured();
    std::lock_guard one_at_a_time(all.mutex);
    auto found = all.theirs.find(key_);
    const bool known = found != all.theirs.end();
    if (!known) {
      const double ours = time(stream, own);
      found = all.theirs.emplace(key_, time(stream, theirs) < ours).first;
    }
    state_ = found->second ? State::Theirs : State::Own;
    if (!known) return true;
  }
  if (state_ != State::Theirs) return false;
  theirs();
  return true;
}

}  // namespace hb::cuda
