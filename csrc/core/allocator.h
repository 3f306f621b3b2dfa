// Memory of tensors, and the pool of arenas that programs run in.
#pragma once
#include <cstddef>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace hb {

// 64-byte aligned memory. Throws OutOfMemory with the bytes asked and in use. Blocks of 2 MiB and
// more ask the system for huge pages; up to 64 MiB of them are kept for the next of the same size.
void* allocate(size_t bytes);
void* allocate_zeros(size_t bytes);  // pages fresh from the system are zeros: they stay untouched
void deallocate(void* memory, size_t bytes);  // `bytes` as in allocate; null is allowed

void release_cached_blocks();  // gives the kept ones back to the system

size_t memory_in_use();
size_t memory_peak();
void reset_memory_peak();

// Cap on memory_in_use() in bytes; starts as HORNBEAM_MEMORY_LIMIT, or none (SIZE_MAX).
size_t memory_limit();
void set_memory_limit(size_t bytes);

// Blocks of memory that programs borrow for a run. Programs that run one after the other share a
// block; those that run at once have one each. A program registers what it needs for as long as it
// lives, and a free block that is larger than any such need is given back: without programs
// nothing is kept.
class ArenaPool {
 public:
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    Lease& operator=(Lease&& other) noexcept {
      std::swap(data_, other.data_);
      std::swap(size_, other.size_);
      return *this;
    }
    ~Lease();
    void* data() const { return data_; }  // 64-byte aligned; null if 0 bytes were asked
    size_t size() const { return size_; }

   private:
    friend class ArenaPool;
    Lease(void* data, size_t size) : data_(data), size_(size) {}
    void* data_ = nullptr;
    size_t size_ = 0;
  };

  static ArenaPool& instance();

  Lease acquire(size_t bytes);  // at least `bytes`
  void reserve(size_t bytes);
  void unreserve(size_t bytes) noexcept;
  void trim() noexcept;       // gives every free block back
  size_t free_bytes() const;  // in free blocks

 private:
  ArenaPool() = default;
  void release(void* data, size_t size) noexcept;
  void trim_above(size_t bytes) noexcept;  // with mutex_ held

  mutable std::mutex mutex_;
  std::multimap<size_t, void*> free_;
  std::map<size_t, int64_t> needs_;  // bytes -> programs that need as much
};

}  // namespace hb
