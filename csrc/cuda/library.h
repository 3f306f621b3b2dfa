// What the two forms of the library have in common: the real one (device.cu) and the emulated one
// (emulate.cc).
#pragma once
#include <map>
#include <vector>

#include "core/device.h"
#include "cuda/kernel.cuh"

namespace hb::cuda {

// Finds the devices and adds each. Returns why there are none, or null.
const char* open_devices(void (*add)(Device*));

[[noreturn]] void fail_out_of_memory(const char* text);

// Blocks that were given back, kept for the next of the same rounded size. On a device this saves
// the system's allocation, which waits for all work; and work in one stream needs no more care.
class BlockCache {
 public:
  // Steps of an eighth of a power of two: at most 12.5 % is lost, and sizes meet again.
  static size_t rounded(size_t bytes) {
    size_t step = 512;
    while (step * 8 < bytes) step *= 2;
    return (bytes + step - 1) / step * step;
  }
  void* take(size_t rounded_bytes) {
    auto found = free_.find(rounded_bytes);
    if (found == free_.end() || found->second.empty()) return nullptr;
    void* block = found->second.back();
    found->second.pop_back();
    bytes_ -= rounded_bytes;
    return block;
  }
  void keep(void* block, size_t rounded_bytes) {
    free_[rounded_bytes].push_back(block);
    bytes_ += rounded_bytes;
  }
  size_t bytes() const { return bytes_; }
  template <class F>
  void clear(const F& release) {
    for (auto& [size, blocks] : free_)
      for (void* block : blocks) release(block, size);
    free_.clear();
    bytes_ = 0;
  }

 private:
  std::map<size_t, std::vector<void*>> free_;
  size_t bytes_ = 0;
};

}  // namespace hb::cuda
