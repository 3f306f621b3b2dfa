// NVIDIA GPUs as devices: a stream for kernels, one for copies beside them, and recordings.
#include <pthread.h>
#include <stdlib.h>

#include <atomic>
#include <mutex>

#include "cuda/arena.h"
#include "cuda/library.h"

namespace hb::cuda {
namespace {

// CUDA does not survive fork: the child gets an error of ours instead of a hang or a crash.
std::atomic<bool> forked{false};
thread_local bool recording = false;  // this thread is inside Device::record

void expect_same_process() {
  if (forked.load(std::memory_order_relaxed))
    fail(
        "CUDA was started before this process was forked; start worker processes by spawn "
        "(multiprocessing.set_start_method(\"spawn\")), or use no CUDA in them");
}

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) fail_cuda(what, error);
}

struct CudaFence : Fence {
  cudaEvent_t event = nullptr;
  ~CudaFence() override {
    if (event && !forked) cudaEventDestroy(event);
  }
};

struct CudaRecording : Recording {
  cudaGraphExec_t exec = nullptr;
  ~CudaRecording() override {
    if (exec && !forked) cudaGraphExecDestroy(exec);
  }
};

class CudaDevice : public Device {
 public:
  CudaDevice(int index, size_t limit)
      : Device(DeviceKind::Cuda, index),
        limit_(limit),
        tensors_(get_memory, give_memory),
        temporaries_(get_memory, give_memory),
        pinned_(get_pinned, give_pinned) {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, index), "properties");
    description_ = std::string(properties.name) + ", compute capability " +
                   std::to_string(properties.major) + "." + std::to_string(properties.minor) +
                   ", " + std::to_string(properties.totalGlobalMem >> 20) + " MiB";
  }
  std::string description() const override { return description_; }

  void* allocate(size_t bytes) override { return take(tensors_, temporaries_, bytes); }
  void* allocate_temporary(size_t bytes) override { return take(temporaries_, tensors_, bytes); }
  void deallocate(void* block, size_t) noexcept override {
    if (!block || forked.load(std::memory_order_relaxed)) return;
    std::lock_guard lock(mutex_);
    Arena& arena = temporaries_.holds(block) ? temporaries_ : tensors_;
    poison(block, arena.block_bytes(block));
    arena.give(block);
  }
  void copy_from_host(void* to, const void* from, size_t bytes) override {
    // From pageable memory: it was read when the call returns.
    enter("a copy from the host");
    start();
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, compute_), "copy to device");
  }
  void copy_to_host(void* to, const void* from, size_t bytes) override {
    enter("a copy to the host");
    start();
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, compute_), "copy to host");
    check(cudaStreamSynchronize(compute_), "copy to host");
    throw_index_error();
  }
  void copy_within(void* to, const void* from, size_t bytes, void* stream) override {
    enter(stream ? nullptr : "a copy in no stream");
    start();
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice,
                          stream ? static_cast<cudaStream_t>(stream) : compute_),
          "copy");
  }
  void* stream() override {
    enter("a stream");
    start();
    return compute_;
  }
  void synchronize() override {
    enter("synchronize");
    start();
    check(cudaStreamSynchronize(copies_), "synchronize");
    check(cudaStreamSynchronize(compute_), "synchronize");
    throw_index_error();
  }

  MemoryStats memory_stats() const override {
    expect_same_process();
    check(cudaSetDevice(index()), "choice of the device");
    std::lock_guard lock(mutex_);
    MemoryStats s = stats();
    size_t total = 0;
    check(cudaMemGetInfo(&s.free, &total), "memory");
    if (s.limit != SIZE_MAX) {
      const size_t room = s.limit > s.reserved ? s.limit - s.reserved : 0;
      if (room < s.free) s.free = room;
    }
    return s;
  }
  void set_memory_limit(size_t bytes) override {
    std::lock_guard lock(mutex_);
    limit_ = bytes;
  }
  void release_cached() override {
    enter("memory");
    std::lock_guard lock(mutex_);
    tensors_.release();
    temporaries_.release();
    pinned_.release();
  }

  void* allocate_pinned(size_t bytes) override {
    enter("pinned memory");
    std::lock_guard lock(mutex_);
    if (void* block = pinned_.take(bytes)) return block;
    char text[160];
    snprintf(text, sizeof text,
             "%s: %.1f MiB of host memory that the device may read are needed, and the system has "
             "no more",
             name().c_str(), double(bytes) / (1 << 20));
    fail_out_of_memory(text);
  }
  void deallocate_pinned(void* block) noexcept override {
    if (!block || forked.load(std::memory_order_relaxed)) return;
    std::lock_guard lock(mutex_);
#ifdef HB_EMULATE
    emulate::expect_idle(block, pinned_.block_bytes(block));
#endif
    pinned_.give(block);
  }
  void start_copy_from_host(void* to, const void* from, size_t bytes, Queue queue) override {
    enter("a copy from the host");
    if (bytes == 0) return;
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(queue)),
          "copy to device");
  }
  void start_copy_to_host(void* to, const void* from, size_t bytes, Queue queue) override {
    enter("a copy to the host");
    if (bytes == 0) return;
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of(queue)),
          "copy to host");
  }
  std::unique_ptr<Fence> make_fence() override {
    enter("a fence");
    auto fence = std::make_unique<CudaFence>();
    check(cudaEventCreateWithFlags(&fence->event, cudaEventDisableTiming), "event");
    return fence;
  }
  void mark(Fence& fence, Queue queue) override {
    enter("a fence");
    check(cudaEventRecord(static_cast<CudaFence&>(fence).event, stream_of(queue)), "event");
  }
  void wait(const Fence& fence, Queue queue) override {
    enter("a fence");
    check(cudaStreamWaitEvent(stream_of(queue), static_cast<const CudaFence&>(fence).event, 0),
          "wait for an event");
  }
  void wait(const Fence& fence) override {
    enter("a fence");
    check(cudaEventSynchronize(static_cast<const CudaFence&>(fence).event), "wait for an event");
    throw_index_error();
  }

  bool can_record() const override { return true; }
  std::unique_ptr<Recording> record(const std::function<void(void*)>& work) override {
    enter("a recording");
    start();
    // A stream of its own: what other threads give to the device is not recorded.
    std::lock_guard lock(record_mutex_);
    if (!recorder_) check(cudaStreamCreateWithFlags(&recorder_, cudaStreamNonBlocking), "stream");
    check(cudaStreamBeginCapture(recorder_, cudaStreamCaptureModeThreadLocal), "capture");
    cudaGraph_t graph = nullptr;
    recording = true;
    try {
      work(recorder_);
    } catch (...) {
      recording = false;
      cudaStreamEndCapture(recorder_, &graph);
      if (graph) cudaGraphDestroy(graph);
      cudaGetLastError();
      throw;
    }
    recording = false;
    const cudaError_t error = cudaStreamEndCapture(recorder_, &graph);
    if (error != cudaSuccess) {
      cudaGetLastError();
      fail_cuda("capture", error);
    }
    auto result = std::make_unique<CudaRecording>();
    const cudaError_t made = cudaGraphInstantiate(&result->exec, graph, 0);
    cudaGraphDestroy(graph);
    check(made, "graph");
    return result;
  }
  void replay(const Recording& recording) override {
    enter("a replay");
    start();
    check(cudaGraphLaunch(static_cast<const CudaRecording&>(recording).exec, compute_), "graph");
  }

 private:
  // `forbidden`: what a recording must not hold.
  void enter(const char* forbidden) {
    expect_same_process();
    if (recording && forbidden)
      fail("%s: %s was asked for while work is recorded", name().c_str(), forbidden);
    check(cudaSetDevice(index()), "choice of the device");
  }
  void start() {
    std::call_once(started_, [&] {
      check(cudaStreamCreateWithFlags(&compute_, cudaStreamNonBlocking), "stream");
      check(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking), "stream");
      index_error();
      pthread_atfork(nullptr, nullptr, [] { forked = true; });
    });
  }
  cudaStream_t stream_of(Queue queue) {
    start();
    return queue == Queue::Copy ? copies_ : compute_;
  }
  static void* get_memory(size_t bytes) {
    void* region = nullptr;
    const cudaError_t error = cudaMalloc(&region, bytes);
    if (error == cudaSuccess) return region;
    cudaGetLastError();
    if (error != cudaErrorMemoryAllocation) fail_cuda("allocation", error);
    return nullptr;
  }
  static void give_memory(void* region) { cudaFree(region); }  // waits for all work
  static void* get_pinned(size_t bytes) {
    void* region = nullptr;
    const cudaError_t error = cudaHostAlloc(&region, bytes, cudaHostAllocDefault);
    if (error == cudaSuccess) return region;
    cudaGetLastError();
    if (error != cudaErrorMemoryAllocation) fail_cuda("pinned memory", error);
    return nullptr;
  }
  static void give_pinned(void* region) { cudaFreeHost(region); }
  [[noreturn]] void fail_no_memory(size_t bytes) {
    const MemoryStats s = stats();
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    std::string limit;
    if (s.limit != SIZE_MAX)
      limit = "; the limit is " + std::to_string(s.limit >> 20) +
              " MiB (HORNBEAM_CUDA_MEMORY_LIMIT, config.set_memory_limit)";
    char text[640];
    snprintf(text, sizeof text,
             "%s: out of memory: %.1f MiB are needed; %zu of %zu MiB are free on the device, and "
             "of the %zu MiB held from it %zu MiB are free (largest block %zu MiB); tensors and "
             "arenas hold %zu MiB%s; try a smaller batch, or config.set_memory_budget",
             name().c_str(), double(bytes) / (1 << 20), free >> 20, total >> 20, s.reserved >> 20,
             (s.reserved - s.current) >> 20, s.largest >> 20, s.current >> 20, limit.c_str());
    fail_out_of_memory(text);
  }
  void* take(Arena& arena, Arena& other, size_t bytes) {
    enter("memory");
    start();
    std::lock_guard lock(mutex_);
    const auto bound = [&] {
      const size_t held = other.stats().reserved;
      arena.set_limit(limit_ == SIZE_MAX ? SIZE_MAX : limit_ - (held < limit_ ? held : limit_));
    };
    bound();
    void* block = arena.take(bytes);
    if (!block) {
      other.release();
      bound();
      block = arena.take(bytes);
    }
    if (!block) fail_no_memory(bytes);
    const size_t current = tensors_.stats().current + temporaries_.stats().current;
    if (current > peak_) peak_ = current;
    poison(block, arena.block_bytes(block));
    return block;
  }
  MemoryStats stats() const {
    MemoryStats s = tensors_.stats();
    const MemoryStats t = temporaries_.stats();
    s.current += t.current;
    s.reserved += t.reserved;
    if (t.largest > s.largest) s.largest = t.largest;
    s.peak = peak_;
    s.limit = limit_;
    return s;
  }
  // Emulation: what reads memory before it was written, or after it was given back, finds NaN.
  void poison([[maybe_unused]] void* block, [[maybe_unused]] size_t bytes) {
#ifdef HB_EMULATE
    cudaMemsetAsync(block, 0xff, bytes, compute_);
#endif
  }

  std::string description_;
  mutable std::mutex mutex_;  // of the memory
  size_t limit_, peak_ = 0;
  Arena tensors_, temporaries_;
  Arena pinned_;  // of the host: taking memory from the system is slow, so it is kept
  std::once_flag started_;
  std::mutex record_mutex_;
  cudaStream_t compute_ = nullptr, copies_ = nullptr, recorder_ = nullptr;
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
  cudaGetLastError();
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
  size_t limit = SIZE_MAX;
  if (const char* bytes = getenv("HORNBEAM_CUDA_MEMORY_LIMIT"); bytes && *bytes) {
    char* end = nullptr;
    limit = size_t(strtoull(bytes, &end, 10));
    if (*end || *bytes == '-' || limit == 0) {
      snprintf(text, sizeof text,
               "HORNBEAM_CUDA_MEMORY_LIMIT: expected a number of bytes, got '%.100s'", bytes);
      return text;
    }
  }
  for (int i = 0; i < count; ++i) add(new CudaDevice(i, limit));
  return nullptr;
}

}  // namespace hb::cuda
