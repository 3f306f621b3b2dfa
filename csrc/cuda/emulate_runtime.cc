// Streams, events, graphs and memory of the emulated devices.
#include "cuda/emulate_runtime.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/kernel.h"

namespace {

// What an event knows; work that waits for it keeps it alive.
struct EventState {
  CUstream_st* stream = nullptr;  // that recorded it last
  uint64_t recorded = 0, done = 0;
};
struct Work {
  std::function<void()> run{};          // kernels and copies, or
  std::shared_ptr<EventState> event{};  // an event that is recorded (wait == false) or waited for
  uint64_t stamp = 0;
  bool wait = false;
  const char* host = nullptr;  // pinned memory that it copies from or to
  size_t host_bytes = 0;
};

}  // namespace

struct CUevent_st {
  std::shared_ptr<EventState> state = std::make_shared<EventState>();
};
struct CUstream_st {
  int device = 0, index = 0;  // of the device's streams
  std::deque<Work> queue;
  bool capturing = false, spoilt = false;
  std::thread::id thread;  // that captures
  std::vector<std::function<void()>> captured;
};
struct CUgraph_st {
  std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
  std::vector<std::function<void()>> work;
};

namespace {

constexpr size_t kDefaultBytes = size_t(4) << 30, kPage = 4096;
constexpr size_t kLongestQueue = 8192;

bool is(const char* variable, const char* value) {
  const char* text = getenv(variable);
  return text && strcmp(text, value) == 0;
}
size_t number(const char* variable, size_t otherwise) {
  const char* text = getenv(variable);
  return text ? size_t(strtoull(text, nullptr, 10)) : otherwise;
}

__attribute__((format(printf, 1, 2))) void log(const char* format, ...) {
  const char* path = getenv("HORNBEAM_EMULATE_LOG");
  if (!path || !*path) return;
  FILE* file = fopen(path, "a");
  if (!file) return;
  va_list args;
  va_start(args, format);
  vfprintf(file, format, args);
  va_end(args);
  fclose(file);
}

// Whether this call is the one that HORNBEAM_EMULATE_FAIL names.
bool fails_now(const char* function) {
  static std::mutex mutex;
  static std::string wanted;
  static size_t calls = 0;
  std::lock_guard lock(mutex);
  const char* text = getenv("HORNBEAM_EMULATE_FAIL");
  if (wanted != (text ? text : "")) {
    wanted = text ? text : "";
    calls = 0;
  }
  const size_t name = wanted.find(':');
  if (name == std::string::npos || wanted.substr(0, name) != function) return false;
  return ++calls == strtoull(wanted.c_str() + name + 1, nullptr, 10);
}

// The memory of a device: one range of addresses, readable only while work of a stream runs.
class Memory {
 public:
  explicit Memory(size_t bytes) : bytes_((bytes + kPage - 1) / kPage * kPage) {
    void* p = mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return;
    base_ = static_cast<char*>(p);
    free_[0] = bytes_;
  }
  bool ready() const { return base_; }
  size_t bytes() const { return bytes_; }
  size_t used() const { return used_; }
  bool holds(const void* p) const {
    return p >= base_ && static_cast<const char*>(p) < base_ + bytes_;
  }
  void* take(size_t bytes) {  // first fit
    bytes = bytes < 1 ? 512 : (bytes + 511) / 512 * 512;
    for (auto [offset, size] : free_) {
      if (size < bytes) continue;
      free_.erase(offset);
      if (size > bytes) free_[offset + bytes] = size - bytes;
      taken_[offset] = bytes;
      used_ += bytes;
      if (offset + bytes > top_) top_ = offset + bytes;
      return base_ + offset;
    }
    return nullptr;
  }
  bool give(void* memory) {
    const auto found = taken_.find(size_t(static_cast<char*>(memory) - base_));
    if (found == taken_.end()) return false;
    auto [offset, size] = *found;
    taken_.erase(found);
    used_ -= size;
    auto next = free_.lower_bound(offset);
    if (next != free_.end() && next->first == offset + size) {
      size += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin()) {
      auto previous = std::prev(next);
      if (previous->first + previous->second == offset) {
        previous->second += size;
        return true;
      }
    }
    free_[offset] = size;
    return true;
  }
  size_t size_of(void* memory) const {
    const auto found = taken_.find(size_t(static_cast<char*>(memory) - base_));
    return found == taken_.end() ? 0 : found->second;
  }
  void open(bool yes) const {
    if (top_)
      mprotect(base_, (top_ + kPage - 1) / kPage * kPage, yes ? PROT_READ | PROT_WRITE : PROT_NONE);
  }

 private:
  size_t bytes_, used_ = 0, top_ = 0;
  char* base_ = nullptr;
  std::map<size_t, size_t> free_, taken_;
};

// Everything; never destroyed, as tensors may outlive the interpreter.
struct Runtime {
  std::recursive_mutex mutex;
  std::vector<Memory> memories;
  std::map<const char*, size_t> pinned;
  std::vector<CUstream_st*> streams;
  uint64_t stamps = 0;
  bool eager = is("HORNBEAM_EMULATE_STREAMS", "eager");
  bool ahead = is("HORNBEAM_EMULATE_STREAMS", "ahead");
  int open = 0;  // depth of work that runs

  Runtime() {
    const size_t count = number("HORNBEAM_EMULATE_DEVICES", 1);
    for (size_t i = 0; i < count; ++i)
      memories.emplace_back(number("HORNBEAM_EMULATE_MEMORY", kDefaultBytes));
  }
  bool is_pinned(const void* p) const {
    const char* at = static_cast<const char*>(p);
    auto next = pinned.upper_bound(at);
    if (next == pinned.begin()) return false;
    --next;
    return at < next->first + next->second;
  }
};
Runtime& runtime() {
  static Runtime* r = new Runtime;
  return *r;
}
thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

class Access {  // to device memory
 public:
  Access() {
    if (runtime().open++ == 0)
      for (const Memory& m : runtime().memories) m.open(true);
  }
  ~Access() {
    if (--runtime().open == 0)
      for (const Memory& m : runtime().memories) m.open(false);
  }
};

void run_until(CUstream_st* stream, const EventState* event, uint64_t stamp);

// Does the next thing in the queue, and before a wait what it waits for.
void run_next(CUstream_st* stream) {
  const Work work = std::move(stream->queue.front());
  stream->queue.pop_front();
  if (!work.event) {
    work.run();
  } else if (!work.wait) {
    work.event->done = work.stamp;
  } else if (work.event->done < work.stamp) {
    run_until(work.event->stream, work.event.get(), work.stamp);
  }
}
void run_until(CUstream_st* stream, const EventState* event, uint64_t stamp) {
  while (event ? event->done < stamp : !stream->queue.empty()) run_next(stream);
}
// What fails ends all that was to come, as the context of a GPU does.
void flush(CUstream_st* stream, const EventState* event = nullptr, uint64_t stamp = 0) {
  const Access access;
  try {
    run_until(stream, event, stamp);
  } catch (...) {
    for (CUstream_st* s : runtime().streams) s->queue.clear();
    throw;
  }
}
void flush_all() {
  for (CUstream_st* s : runtime().streams) flush(s);
}

void add(CUstream_st* stream, Work work) {
  stream->queue.push_back(std::move(work));
  if (runtime().eager || (runtime().ahead && stream->index > 0)) flush(stream);
}

// A call that waits, allocates or touches the host is not allowed to a thread that captures: it
// spoils the capture.
bool forbidden_now() {
  bool found = false;
  for (CUstream_st* s : runtime().streams)
    if (s->capturing && s->thread == std::this_thread::get_id()) found = s->spoilt = true;
  return found;
}

#define HB_LOCKED std::lock_guard lock(runtime().mutex)

}  // namespace

// ---------------------------------------------------------------------- errors and devices

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define NAME(name) \
  case name:       \
    return #name;
    NAME(cudaSuccess)
    NAME(cudaErrorInvalidValue)
    NAME(cudaErrorMemoryAllocation)
    NAME(cudaErrorInsufficientDriver)
    NAME(cudaErrorNoDevice)
    NAME(cudaErrorInvalidDevice)
    NAME(cudaErrorInvalidKernelImage)
    NAME(cudaErrorInvalidResourceHandle)
    NAME(cudaErrorNotReady)
    NAME(cudaErrorStreamCaptureUnsupported)
    NAME(cudaErrorStreamCaptureInvalidated)
    NAME(cudaErrorStreamCaptureUnmatched)
    NAME(cudaErrorStreamCaptureWrongThread)
    NAME(cudaErrorUnknown)
#undef NAME
  }
  return "unknown";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorStreamCaptureUnsupported ? "operation not permitted while capturing"
                                                    : "an error of the emulated device";
}
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = is("HORNBEAM_EMULATE_FAULT", "no_driver")    ? 0
             : is("HORNBEAM_EMULATE_FAULT", "old_driver") ? 11040
                                                          : CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (is("HORNBEAM_EMULATE_FAULT", "no_driver") || is("HORNBEAM_EMULATE_FAULT", "old_driver"))
    return result(cudaErrorInsufficientDriver);
  if (is("HORNBEAM_EMULATE_FAULT", "no_device")) return result(cudaErrorNoDevice);
  for (const Memory& m : runtime().memories) *count += m.ready();
  return *count ? cudaSuccess : result(cudaErrorNoDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (device < 0 || device >= int(runtime().memories.size())) return result(cudaErrorInvalidDevice);
  *p = {};
  snprintf(p->name, sizeof p->name, "emulated on the processor (every CUDA thread is a fiber)");
  p->totalGlobalMem = runtime().memories[size_t(device)].bytes();
  p->major = 8;
  p->multiProcessorCount = 4;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= int(runtime().memories.size())) return result(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

// ---------------------------------------------------------------------- memory

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  HB_LOCKED;
  if (forbidden_now()) return result(cudaErrorStreamCaptureUnsupported);
  Memory& m = runtime().memories[size_t(current_device)];
  *memory = fails_now("cudaMalloc") ? nullptr : m.take(bytes);
  if (!*memory) return result(cudaErrorMemoryAllocation);
  const Access access;
  m.open(true);                               // the new block too
  memset(*memory, 0xff, m.size_of(*memory));  // what reads it before it is written finds NaN
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  HB_LOCKED;
  if (!memory) return cudaSuccess;
  if (forbidden_now()) return result(cudaErrorStreamCaptureUnsupported);
  flush_all();
  for (Memory& m : runtime().memories)
    if (m.holds(memory)) return m.give(memory) ? cudaSuccess : result(cudaErrorInvalidValue);
  return result(cudaErrorInvalidValue);
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  HB_LOCKED;
  const Memory& m = runtime().memories[size_t(current_device)];
  *total = m.bytes();
  *free = m.bytes() - m.used();
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  HB_LOCKED;
  if (forbidden_now()) return result(cudaErrorStreamCaptureUnsupported);
  *memory = fails_now("cudaHostAlloc") ? nullptr
                                       : aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
  if (!*memory) return result(cudaErrorMemoryAllocation);
  runtime().pinned[static_cast<const char*>(*memory)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  HB_LOCKED;
  flush_all();
  if (!runtime().pinned.erase(static_cast<const char*>(memory)))
    return result(cudaErrorInvalidValue);
  free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  HB_LOCKED;
  if (fails_now("cudaMemcpyAsync")) return result(cudaErrorUnknown);
  log("give %d copy %s\n", stream->index,
      kind == cudaMemcpyHostToDevice   ? "in"
      : kind == cudaMemcpyDeviceToHost ? "out"
                                       : "within");
  const auto on_device = [](const void* p) {
    for (const Memory& m : runtime().memories)
      if (m.holds(p)) return true;
    return false;
  };
  if (on_device(to) != (kind != cudaMemcpyDeviceToHost) ||
      on_device(from) != (kind != cudaMemcpyHostToDevice))
    return result(cudaErrorInvalidValue);
  const auto copy = [=] { memmove(to, from, bytes); };
  if (kind == cudaMemcpyDeviceToDevice) {
    hb::emulate::enqueue(stream, copy);
    return cudaSuccess;
  }
  // A graph could copy from and to host memory, but nothing says when it is safe to touch that.
  if (forbidden_now()) return result(cudaErrorStreamCaptureUnsupported);
  const void* host = kind == cudaMemcpyHostToDevice ? from : to;
  if (runtime().is_pinned(host)) {
    add(stream, {copy, nullptr, 0, false, static_cast<const char*>(host), bytes});
  } else if (kind == cudaMemcpyHostToDevice) {  // it was read when the call returns
    auto values = std::make_shared<std::vector<char>>(static_cast<const char*>(from),
                                                      static_cast<const char*>(from) + bytes);
    hb::emulate::enqueue(stream, [=] { memcpy(to, values->data(), bytes); });
  } else {
    log("host waits for stream %d\n", stream->index);
    flush(stream);
    const Access access;
    copy();
  }
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  hb::emulate::enqueue(stream, [=] { memset(memory, value, bytes); });
  return cudaSuccess;
}

// ---------------------------------------------------------------------- streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  HB_LOCKED;
  if (forbidden_now()) return result(cudaErrorStreamCaptureUnsupported);
  *stream = new CUstream_st;
  (*stream)->device = current_device;
  for (CUstream_st* s : runtime().streams) (*stream)->index += s->device == current_device;
  runtime().streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  HB_LOCKED;
  flush(stream);
  std::erase(runtime().streams, stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  HB_LOCKED;
  if (forbidden_now() || stream->capturing) return result(cudaErrorStreamCaptureUnsupported);
  if (fails_now("cudaStreamSynchronize")) return result(cudaErrorUnknown);
  log("host waits for stream %d\n", stream->index);
  flush(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  HB_LOCKED;
  if (fails_now("cudaStreamWaitEvent")) return result(cudaErrorUnknown);
  if (stream->capturing) {
    stream->spoilt = true;
    return result(cudaErrorStreamCaptureUnsupported);
  }
  if (event->state->recorded) add(stream, {{}, event->state, event->state->recorded, true});
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  HB_LOCKED;
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  HB_LOCKED;
  if (fails_now("cudaEventRecord")) return result(cudaErrorUnknown);
  if (stream->capturing) {
    stream->spoilt = true;
    return result(cudaErrorStreamCaptureUnsupported);
  }
  EventState& state = *event->state;
  // Recorded again: what waited for the first time is done before the second in this emulation.
  if (state.stream && state.stream != stream && state.done < state.recorded)
    flush(state.stream, &state, state.recorded);
  state.stream = stream;
  state.recorded = ++runtime().stamps;
  add(stream, {{}, event->state, state.recorded, false});
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  HB_LOCKED;
  if (forbidden_now()) return result(cudaErrorStreamCaptureUnsupported);
  if (fails_now("cudaEventSynchronize")) return result(cudaErrorUnknown);
  if (event->state->stream) log("host waits for event of stream %d\n", event->state->stream->index);
  if (event->state->done < event->state->recorded)
    flush(event->state->stream, event->state.get(), event->state->recorded);
  return cudaSuccess;
}

// ---------------------------------------------------------------------- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  HB_LOCKED;
  if (stream->capturing) return result(cudaErrorStreamCaptureUnsupported);
  stream->capturing = true;
  stream->spoilt = false;
  stream->thread = std::this_thread::get_id();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  HB_LOCKED;
  *graph = nullptr;
  if (!stream->capturing) return result(cudaErrorStreamCaptureUnmatched);
  if (stream->thread != std::this_thread::get_id())
    return result(cudaErrorStreamCaptureWrongThread);
  stream->capturing = false;
  auto work = std::move(stream->captured);
  stream->captured.clear();
  if (stream->spoilt) return result(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(work)};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  HB_LOCKED;
  if (forbidden_now()) return result(cudaErrorStreamCaptureUnsupported);
  *exec = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  HB_LOCKED;
  if (stream->capturing) {
    stream->spoilt = true;
    return result(cudaErrorStreamCaptureUnsupported);
  }
  if (fails_now("cudaGraphLaunch")) return result(cudaErrorUnknown);
  log("give %d graph\n", stream->index);
  for (const auto& work : exec->work) add(stream, {work});
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  HB_LOCKED;
  delete exec;
  return cudaSuccess;
}

namespace hb::emulate {

void enqueue(cudaStream_t stream, std::function<void()> work) {
  HB_LOCKED;
  if (!stream) fail("emulated device: work was given to no stream");
  if (stream->capturing)
    stream->captured.push_back(std::move(work));
  else
    add(stream, {std::move(work)});
}

void expect_idle(const void* memory, size_t bytes) {
  HB_LOCKED;
  const char* const begin = static_cast<const char*>(memory);
  for (const CUstream_st* s : runtime().streams)
    for (const Work& work : s->queue)
      if (work.host && work.host < begin + bytes && begin < work.host + work.host_bytes) {
        fprintf(stderr, "emulated device: pinned memory is given back before a copy has used it\n");
        abort();
      }
}

void bound_queue(cudaStream_t stream) {
  HB_LOCKED;
  if (stream->queue.size() > kLongestQueue) flush(stream);
}

}  // namespace hb::emulate
