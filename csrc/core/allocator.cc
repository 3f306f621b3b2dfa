#include "core/allocator.h"

#include <atomic>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <string>

#include "core/error.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#define HB_POSIX_MEMORY 1
#endif

namespace hb {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t(2) << 20;

std::atomic<size_t> in_use{0}, peak{0};

size_t limit_from_environment() {
  const char* text = std::getenv("HORNBEAM_MEMORY_LIMIT");
  if (!text || !*text) return SIZE_MAX;
  size_t value = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stop != end) {
    fail("HORNBEAM_MEMORY_LIMIT: expected a number of bytes, got '%s'", text);
  }
  return value;
}

std::atomic<size_t>& limit() {
  static std::atomic<size_t> bytes{limit_from_environment()};
  return bytes;
}

size_t round_up(size_t bytes, size_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

#ifdef HB_POSIX_MEMORY
// Large blocks given back, for the next one of the same size: the first touch of a fresh page costs
// more than most kernels need for it. Never more than kMostBytes.
class BlockCache {
 public:
  static BlockCache& instance() {
    static BlockCache* const cache = [] {
      auto* const c = new BlockCache;  // never deleted: buffers may end after static objects
      pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                     [] { instance().mutex_.unlock(); });
      return c;
    }();
    return *cache;
  }

  void* take(size_t size) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = free_.find(size);
    if (found == free_.end()) return nullptr;
    void* const block = found->second;
    free_.erase(found);
    bytes_ -= size;
    return block;
  }

  bool keep(void* block, size_t size) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (size > kMostBytes - bytes_) return false;
    free_.emplace(size, block);
    bytes_ += size;
    return true;
  }

  void clear() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [size, block] : free_) munmap(block, size);
    free_.clear();
    bytes_ = 0;
  }

 private:
  static constexpr size_t kMostBytes = size_t(64) << 20;
  std::mutex mutex_;
  std::multimap<size_t, void*> free_;
  size_t bytes_ = 0;
};
#endif

// Memory of the system, or null; of zeros if it is to be. bytes <= SIZE_MAX / 2.
void* system_allocate(size_t bytes, bool zeros) {
#ifdef HB_POSIX_MEMORY
  if (bytes >= kHugePage) {
    const size_t size = round_up(bytes, kHugePage);
    if (void* const block = BlockCache::instance().take(size))
      return zeros ? memset(block, 0, bytes) : block;
    // Map one huge page more than needed and cut the ends, so that the start is aligned to one.
    void* map =
        mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return nullptr;
    char* const begin = static_cast<char*>(map);
    char* const start = begin + (round_up(uintptr_t(begin), kHugePage) - uintptr_t(begin));
    if (start > begin) munmap(begin, size_t(start - begin));
    if (const size_t tail = size_t(begin + kHugePage - start)) munmap(start + size, tail);
#ifdef MADV_HUGEPAGE
    madvise(start, size, MADV_HUGEPAGE);  // a wish: where the kernel has none, small pages do
#endif
    return start;
  }
#endif
  void* const memory = ::operator new(bytes, std::align_val_t(kAlignment), std::nothrow);
  return zeros && memory ? memset(memory, 0, bytes) : memory;
}

void system_deallocate(void* memory, size_t bytes) {
#ifdef HB_POSIX_MEMORY
  if (bytes >= kHugePage) {
    const size_t size = round_up(bytes, kHugePage);
    if (!BlockCache::instance().keep(memory, size)) munmap(memory, size);
    return;
  }
#endif
  ::operator delete(memory, std::align_val_t(kAlignment));
}

// Counts the bytes if the limit allows it and takes the memory; null if either refuses.
void* try_allocate(size_t bytes, bool zeros) {
  if (bytes > SIZE_MAX / 2) return nullptr;
  const size_t cap = limit().load(std::memory_order_relaxed);
  size_t before = in_use.load(std::memory_order_relaxed);
  do {
    if (bytes > cap || before > cap - bytes) return nullptr;
  } while (!in_use.compare_exchange_weak(before, before + bytes, std::memory_order_relaxed));
  void* memory = system_allocate(bytes, zeros);
  if (!memory) {
    in_use.fetch_sub(bytes, std::memory_order_relaxed);
    return nullptr;
  }
  size_t highest = peak.load(std::memory_order_relaxed);
  while (before + bytes > highest &&
         !peak.compare_exchange_weak(highest, before + bytes, std::memory_order_relaxed)) {
  }
  return memory;
}

void* allocate(size_t bytes, bool zeros) {
  void* memory = try_allocate(bytes, zeros);
  if (!memory) {
    ArenaPool::instance().trim();
    release_cached_blocks();
    memory = try_allocate(bytes, zeros);
  }
  if (memory) return memory;
  const size_t cap = memory_limit();
  throw OutOfMemory("out of memory: " + std::to_string(bytes) + " bytes asked, " +
                    std::to_string(memory_in_use()) + " bytes in use" +
                    (cap == SIZE_MAX ? "" : ", limit " + std::to_string(cap) + " bytes"));
}

}  // namespace

void release_cached_blocks() {
#ifdef HB_POSIX_MEMORY
  BlockCache::instance().clear();
#endif
}

void* allocate(size_t bytes) { return allocate(bytes, false); }
void* allocate_zeros(size_t bytes) { return allocate(bytes, true); }

void deallocate(void* memory, size_t bytes) {
  if (!memory) return;
  system_deallocate(memory, bytes);
  in_use.fetch_sub(bytes, std::memory_order_relaxed);
}

size_t memory_in_use() { return in_use.load(std::memory_order_relaxed); }
size_t memory_peak() { return peak.load(std::memory_order_relaxed); }
void reset_memory_peak() { peak.store(memory_in_use(), std::memory_order_relaxed); }
size_t memory_limit() { return limit().load(std::memory_order_relaxed); }
void set_memory_limit(size_t bytes) { limit().store(bytes, std::memory_order_relaxed); }

ArenaPool& ArenaPool::instance() {
  static ArenaPool* const pool = [] {
    auto* const p = new ArenaPool;  // never deleted: leases may end after static objects
#ifdef HB_POSIX_MEMORY
    pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                   [] { instance().mutex_.unlock(); });
#endif
    return p;
  }();
  return *pool;
}

ArenaPool::Lease::~Lease() {
  if (data_) ArenaPool::instance().release(data_, size_);
}

ArenaPool::Lease ArenaPool::acquire(size_t bytes) {
  if (bytes == 0) return {};
  std::pair<size_t, void*> small{0, nullptr};
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const auto fit = free_.lower_bound(bytes); fit != free_.end()) {
      Lease lease(fit->second, fit->first);
      free_.erase(fit);
      return lease;
    }
    if (!free_.empty()) {
      small = *free_.rbegin();
      free_.erase(std::prev(free_.end()));
    }
  }
  deallocate(small.second, small.first);
  return Lease(allocate(bytes), bytes);
}

void ArenaPool::release(void* data, size_t size) noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!needs_.empty() && size <= needs_.rbegin()->first) {
      try {
        free_.emplace(size, data);
        return;
      } catch (const std::bad_alloc&) {
        // No memory for the entry: give the block back.
      }
    }
  }
  deallocate(data, size);
}

void ArenaPool::reserve(size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++needs_[bytes];
}

void ArenaPool::unreserve(size_t bytes) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto need = needs_.find(bytes);
  if (need == needs_.end()) return;
  if (--need->second == 0) needs_.erase(need);
  trim_above(needs_.empty() ? 0 : needs_.rbegin()->first);
}

void ArenaPool::trim() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  trim_above(0);
}

void ArenaPool::trim_above(size_t bytes) noexcept {
  for (auto block = free_.upper_bound(bytes); block != free_.end(); block = free_.erase(block)) {
    deallocate(block->second, block->first);
  }
}

size_t ArenaPool::free_bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  size_t sum = 0;
  for (const auto& block : free_) sum += block.first;
  return sum;
}

}  // namespace hb
