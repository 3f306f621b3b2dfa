// Devices: where tensors live and kernels run.
//
// `cpu:0` is the memory of the process; `cpu:1` … are virtual devices that share its processor and
// kernels, so that placement and transfers can be tried without an accelerator. Other devices come
// from a plugin (csrc/cuda/plugin.h) that is opened at run time.
#pragma once
#include <cstddef>
#include <string>

#include "core/kernel.h"

namespace hb {

struct MemoryStats {
  size_t in_use = 0;    // bytes of tensors and arenas
  size_t peak = 0;      // the most that was in use
  size_t reserved = 0;  // held from the system, in use or kept for reuse
};

// Work given to a device runs in order, on its one stream; the host need not wait for it.
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
  // 64-byte aligned (256 on CUDA). Memory that is given back may still be read by work in the
  // stream: it is handed out again only to work behind that. Throws OutOfMemory.
  virtual void* allocate(size_t bytes) = 0;
  virtual void deallocate(void* memory, size_t bytes) noexcept = 0;
  // In the order of the stream. The host memory may be reused when the call returns;
  // `copy_to_host` has waited for the values.
  virtual void copy_from_host(void* to, const void* from, size_t bytes) = 0;
  virtual void copy_to_host(void* to, const void* from, size_t bytes) = 0;
  virtual void copy_within(void* to, const void* from, size_t bytes) = 0;
  virtual void* stream() { return nullptr; }
  virtual void synchronize() {}  // waits; throws what went wrong in the stream
  virtual MemoryStats memory_stats() const = 0;
  virtual void release_cached() {}  // gives memory that is kept for reuse back to the system

 private:
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
