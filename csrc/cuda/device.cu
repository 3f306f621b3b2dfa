// NVIDIA GPUs as devices: one stream each, memory that is kept for reuse.
#include <pthread.h>

#include <atomic>
#include <mutex>

#include "cuda/library.h"

namespace hb::cuda {
namespace {

// CUDA does not survive fork: the child gets an error of ours instead of a hang or a crash.
std::atomic<bool> forked{false};

void expect_same_process() {
  if (forked.load(std::memory_order_relaxed))
    fail(
        "CUDA was started before this process was forked; start worker processes by spawn "
        "(multiprocessing.set_start_method(\"spawn\")), or use no CUDA in them");
}

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) fail_cuda(what, error);
}

class CudaDevice : public Device {
 public:
  explicit CudaDevice(int index) : Device(DeviceKind::Cuda, index) {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, index), "properties");
    description_ = std::string(properties.name) + ", compute capability " +
                   std::to_string(properties.major) + "." + std::to_string(properties.minor) +
                   ", " + std::to_string(properties.totalGlobalMem >> 20) + " MiB";
  }
  std::string description() const override { return description_; }

  void* allocate(size_t bytes) override {
    enter();
    const size_t size = BlockCache::rounded(bytes);
    std::lock_guard lock(mutex_);
    void* block = cache_.take(size);
    if (!block) block = allocate_new(size);
    stats_.in_use += size;
    if (stats_.in_use > stats_.peak) stats_.peak = stats_.in_use;
    return block;
  }
  void deallocate(void* block, size_t bytes) noexcept override {
    if (!block) return;
    const size_t size = BlockCache::rounded(bytes);
    std::lock_guard lock(mutex_);
    stats_.in_use -= size;
    cache_.keep(block, size);
  }
  void copy_from_host(void* to, const void* from, size_t bytes) override {
    // From pageable memory: it was read when the call returns.
    enter();
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of()), "copy to device");
  }
  void copy_to_host(void* to, const void* from, size_t bytes) override {
    enter();
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of()), "copy to host");
    check(cudaStreamSynchronize(stream_of()), "copy to host");
    throw_index_error();
  }
  void copy_within(void* to, const void* from, size_t bytes) override {
    enter();
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of()), "copy");
  }
  void* stream() override {
    enter();
    return stream_of();
  }
  void synchronize() override {
    enter();
    check(cudaStreamSynchronize(stream_of()), "synchronize");
    throw_index_error();
  }
  MemoryStats memory_stats() const override {
    std::lock_guard lock(mutex_);
    MemoryStats s = stats_;
    s.reserved = s.in_use + cache_.bytes();
    return s;
  }
  void release_cached() override {
    enter();
    std::lock_guard lock(mutex_);
    release();
  }

 private:
  void enter() {
    expect_same_process();
    check(cudaSetDevice(index()), "choice of the device");
  }
  cudaStream_t stream_of() {
    std::call_once(started_, [&] {
      check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
      pthread_atfork(nullptr, nullptr, [] { forked = true; });
    });
    return stream_;
  }
  void release() {  // cudaFree waits for all work
    cache_.clear([](void* block, size_t) { cudaFree(block); });
  }
  void* allocate_new(size_t bytes) {
    void* block = nullptr;
    cudaError_t error = cudaMalloc(&block, bytes);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      release();
      error = cudaMalloc(&block, bytes);
    }
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      size_t free = 0, total = 0;
      cudaMemGetInfo(&free, &total);
      char text[256];
      snprintf(text, sizeof text,
               "%s: out of memory: %zu MiB are needed, %zu of %zu MiB are free, tensors and arenas "
               "hold %zu MiB; try a smaller batch",
               name().c_str(), bytes >> 20, free >> 20, total >> 20, stats_.in_use >> 20);
      fail_out_of_memory(text);
    }
    check(error, "allocation");
    return block;
  }

  std::string description_;
  mutable std::mutex mutex_;
  BlockCache cache_;
  MemoryStats stats_;
  std::once_flag started_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace

void fail_cuda(const char* what, cudaError_t error) {
  fail("CUDA: %s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

IndexError* index_error() {
  static IndexError* record = [] {
    void* memory = nullptr;
    check(cudaHostAlloc(&memory, sizeof(IndexError), cudaHostAllocPortable | cudaHostAllocMapped),
          "pinned memory");
    return new (memory) IndexError{};
  }();
  return record;
}

const char* open_devices(void (*add)(Device*)) {
  static char text[256];
  int driver = 0, count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    cudaDriverGetVersion(&driver);
    if (driver == 0) return "no NVIDIA driver on this machine";
    snprintf(text, sizeof text,
             "the NVIDIA driver is too old: it supports CUDA %d.%d, this build needs %d.%d",
             driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    return text;
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
    return "the NVIDIA driver finds no GPU";
  if (error != cudaSuccess) {
    snprintf(text, sizeof text, "%s (%s)", cudaGetErrorString(error), cudaGetErrorName(error));
    return text;
  }
  for (int i = 0; i < count; ++i) add(new CudaDevice(i));
  return nullptr;
}

}  // namespace hb::cuda
