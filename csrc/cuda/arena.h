// The memory of one device, kept for reuse.
//
// It is taken from the system in large regions, which are cut into blocks; blocks that are given
// back join their free neighbours. Asking the system waits for all work of the device, so it
// happens only while the first steps of a program run. The block that fits best is taken, and of
// equal ones the lowest, so that the same steps get the same addresses. Work in one stream needs no
// more care; whoever uses a second one makes the first wait for it before giving memory back.
#pragma once
#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "core/device.h"

namespace hb::cuda {

class Arena {
 public:
  // `get` returns null where the system has no more; `give` takes back what `get` returned.
  Arena(std::function<void*(size_t)> get, std::function<void(void*)> give)
      : get_(std::move(get)), give_(std::move(give)) {}

  void* take(size_t bytes);  // 512-byte aligned; null: out of memory
  void give(void* block) noexcept;
  void release();  // regions without a block in use go back to the system
  void set_limit(size_t bytes) { limit_ = bytes; }  // of what is held from the system
  MemoryStats stats() const;                        // without what the system has free
  bool holds(void* block) const { return blocks_.count(static_cast<char*>(block)); }
  size_t block_bytes(void* block) const;

 private:
  struct Block {
    size_t bytes;
    char* region;  // its start
    bool free;
  };
  void* take_free(size_t bytes);
  bool grow(size_t bytes);
  std::map<char*, Block>::iterator join(std::map<char*, Block>::iterator a,
                                        std::map<char*, Block>::iterator b);

  std::function<void*(size_t)> get_;
  std::function<void(void*)> give_;
  std::map<char*, Block> blocks_;            // all, by address
  std::set<std::pair<size_t, char*>> free_;  // by size, then address
  std::map<char*, size_t> regions_;
  size_t in_use_ = 0, reserved_ = 0, limit_ = SIZE_MAX;
};

}  // namespace hb::cuda
