// Devices: where tensors live and kernels run.
//
// `cpu:0` is the memory of the process; `cpu:1` … are virtual devices that share its processor and
// kernels, so that placement and transfers can be tried without an accelerator. Other devices come
// from a plugin (core/plugin.h) that is opened at run time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/kernel.h"

namespace hb {

struct MemoryStats {
  size_t current = 0;       // bytes of tensors and arenas
  size_t peak = 0;          // the most that was in use
  size_t reserved = 0;      // held from the system, in use or kept for reuse
  size_t free = 0;          // what the system could still give
  size_t largest = 0;       // block that could be had without asking the system
  size_t limit = SIZE_MAX;  // of what is held
};

// Work of a device waits in queues. Kernels, and copies that name no queue, go to Compute; Copy is
// for transfers beside them. What is to happen in another queue later is said with fences.
enum class Queue : uint8_t { Compute, Copy };

// A point in a queue.
class Fence {
 public:
  virtual ~Fence() = default;
};

// Work that was recorded, to be started as a whole (Device::record).
class Recording {
 public:
  virtual ~Recording() = default;
};

// Work given to a queue of a device runs in order; the host need not wait for it.
class Device {
 public:
  Device(DeviceKind kind, int index)
      : kind_(kind),
        index_(index),
        name_((kind == DeviceKind::Cuda ? "cuda:" : "cpu:") + std::to_string(index)) {}
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  DeviceKind kind() const { return kind_; }
  int index() const { return index_; }
  const std::string& name() const { return name_; }
  bool is_host() const { return kind_ == DeviceKind::Cpu; }  // the processor can read its memory

  virtual std::string description() const = 0;  // what it is, for people
  // 64-byte aligned (512 on CUDA). Memory that is given back may still be read by work in the
  // queue Compute: it is handed out again only to work behind that. Throws OutOfMemory.
  virtual void* allocate(size_t bytes) = 0;
  // For the time of a run: apart from what lives long, so that runs get the same addresses.
  virtual void* allocate_temporary(size_t bytes) { return allocate(bytes); }
  virtual void deallocate(void* memory, size_t bytes) noexcept = 0;
  // In the order of the queue Compute. The host memory may be reused when the call returns;
  // `copy_to_host` has waited for the values.
  virtual void copy_from_host(void* to, const void* from, size_t bytes) = 0;
  virtual void copy_to_host(void* to, const void* from, size_t bytes) = 0;
  // `stream`: as in Call; null is the queue Compute.
  virtual void copy_within(void* to, const void* from, size_t bytes, void* stream) = 0;
  virtual void* stream() { return nullptr; }
  virtual void synchronize() {}  // waits; throws what went wrong in the queues
  virtual MemoryStats memory_stats() const = 0;
  virtual void set_memory_limit(size_t bytes) = 0;  // SIZE_MAX: none
  virtual void release_cached() {}  // gives memory that is kept for reuse back to the system

  // The rest is for devices whose memory the processor cannot read.

  // Host memory that the device copies from and to by itself; 512-byte aligned. Throws OutOfMemory.
  // It is given back when no copy needs it any more.
  virtual void* allocate_pinned(size_t) { fail_here("pinned memory"); }
  virtual void deallocate_pinned(void*) noexcept {}
  // The pinned memory is in use until the queue has come so far: fences say when.
  virtual void start_copy_from_host(void*, const void*, size_t, Queue) { fail_here("queues"); }
  virtual void start_copy_to_host(void*, const void*, size_t, Queue) { fail_here("queues"); }
  virtual std::unique_ptr<Fence> make_fence() { fail_here("fences"); }
  virtual void mark(Fence&, Queue) { fail_here("fences"); }        // all that the queue has now
  virtual void wait(const Fence&, Queue) { fail_here("fences"); }  // what comes later waits
  virtual void wait(const Fence&) { fail_here("fences"); }         // the host waits
  // What `work` gives to the stream that it gets is not run but recorded, and runs at each
  // `replay`, in the queue Compute, with the same addresses. Throws what `work` throws, and Error
  // if it waits or allocates.
  virtual bool can_record() const { return false; }
  virtual std::unique_ptr<Recording> record(const std::function<void(void* stream)>&) {
    fail_here("recordings");
  }
  virtual void replay(const Recording&) { fail_here("recordings"); }

 private:
  [[noreturn]] void fail_here(const char* what) const {
    fail("%s: %s are not for this device", name_.c_str(), what);
  }
  DeviceKind kind_;
  int index_;
  std::string name_;
};

Device& host_device();  // cpu:0

// "cpu:1", "cuda:0". Throws Error that says which devices there are.
Device& find_device(const std::string& name);

// How many devices named cpu:k there are (1 at first). Devices that exist stay.
void set_num_cpu_devices(int count);
int num_cpu_devices();

// Adds what a plugin offers; the device stays for the life of the process.
void add_device(Device* device);
int num_cuda_devices();

// From any device to any; through host memory between two accelerators.
void copy_bytes(Device& to_device, void* to, Device& from_device, const void* from, size_t bytes);

}  // namespace hb
