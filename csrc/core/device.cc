#include "core/device.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "core/allocator.h"
#include "core/error.h"

namespace hb {
namespace {

class CpuDevice : public Device {
 public:
  explicit CpuDevice(int index) : Device(DeviceKind::Cpu, index) {}
  std::string description() const override {
    return index() ? "virtual device on the processor" : "the processor";
  }
  void* allocate(size_t bytes) override { return hb::allocate(bytes); }
  void deallocate(void* memory, size_t bytes) noexcept override { hb::deallocate(memory, bytes); }
  void copy_from_host(void* to, const void* from, size_t bytes) override {
    memcpy(to, from, bytes);
  }
  void copy_to_host(void* to, const void* from, size_t bytes) override { memcpy(to, from, bytes); }
  void copy_within(void* to, const void* from, size_t bytes, void*) override {
    memcpy(to, from, bytes);
  }
  MemoryStats memory_stats() const override {
    MemoryStats s;
    s.current = s.reserved = memory_in_use();
    s.peak = memory_peak();
    s.limit = memory_limit();
    s.free = size_t(sysconf(_SC_AVPHYS_PAGES)) * size_t(sysconf(_SC_PAGESIZE));
    s.free = std::min(s.free, s.limit - std::min(s.limit, s.current));
    s.largest = s.free;
    return s;
  }
  void set_memory_limit(size_t bytes) override { hb::set_memory_limit(bytes); }
  void release_cached() override {
    ArenaPool::instance().trim();
    release_cached_blocks();
  }
};

// Devices are never deleted: tensors that outlive the interpreter give their memory back to them.
struct Table {
  std::mutex mutex;
  std::vector<Device*> cpus{new CpuDevice(0)}, cudas;
};
Table& table() {
  static Table* devices = new Table;
  return *devices;
}

std::string names(const Table& t) {
  std::string text;
  for (const auto* list : {&t.cpus, &t.cudas})
    for (const Device* d : *list) text += (text.empty() ? "" : ", ") + d->name();
  return text;
}

}  // namespace

Device& host_device() {
  static Device& device = *table().cpus[0];
  return device;
}

Device& find_device(const std::string& name) {
  Table& t = table();
  std::lock_guard lock(t.mutex);
  for (const auto* list : {&t.cpus, &t.cudas})
    for (Device* d : *list)
      if (d->name() == name) return *d;
  fail("device: expected one of %s, got %s", names(t).c_str(), name.c_str());
}

void set_num_cpu_devices(int count) {
  if (count < 1 || count > 64) fail("device: expected 1 to 64 devices of the CPU, got %d", count);
  Table& t = table();
  std::lock_guard lock(t.mutex);
  while (int(t.cpus.size()) < count) t.cpus.push_back(new CpuDevice(int(t.cpus.size())));
}
int num_cpu_devices() {
  Table& t = table();
  std::lock_guard lock(t.mutex);
  return int(t.cpus.size());
}

void add_device(Device* device) {
  Table& t = table();
  std::lock_guard lock(t.mutex);
  t.cudas.push_back(device);
}
int num_cuda_devices() {
  Table& t = table();
  std::lock_guard lock(t.mutex);
  return int(t.cudas.size());
}

void copy_bytes(Device& to_device, void* to, Device& from_device, const void* from, size_t bytes) {
  if (bytes == 0) return;
  if (to_device.is_host()) {
    from_device.copy_to_host(to, from, bytes);
  } else if (from_device.is_host()) {
    to_device.copy_from_host(to, from, bytes);
  } else if (&to_device == &from_device) {
    to_device.copy_within(to, from, bytes, nullptr);
  } else {
    const std::unique_ptr<char[]> staging(new char[bytes]);
    from_device.copy_to_host(staging.get(), from, bytes);
    to_device.copy_from_host(to, staging.get(), bytes);
  }
}

}  // namespace hb
