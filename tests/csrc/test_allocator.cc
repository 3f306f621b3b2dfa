#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <thread>

#include "check.h"
#include "core/allocator.h"

using namespace hb;
using hb_test::run_child;

namespace {
constexpr size_t kMiB = size_t(1) << 20;

bool aligned(const void* p, size_t to) { return reinterpret_cast<uintptr_t>(p) % to == 0; }
}  // namespace

TEST(allocate_alignment_and_counters) {
  const size_t before = memory_in_use();
  for (size_t bytes : {size_t(0), size_t(1), size_t(63), size_t(4097), 2 * kMiB - 1, 2 * kMiB,
                       2 * kMiB + 1, 9 * kMiB + 5}) {
    auto* p = static_cast<unsigned char*>(allocate(bytes));
    CHECK(p && aligned(p, 64));
    CHECK(bytes < 2 * kMiB || aligned(p, 2 * kMiB));
    std::memset(p, 0xab, bytes);
    CHECK(memory_in_use() == before + bytes && memory_peak() >= before + bytes);
    deallocate(p, bytes);
    CHECK(memory_in_use() == before);
  }
  deallocate(nullptr, 0);
  CHECK(memory_peak() > before);
  reset_memory_peak();
  CHECK(memory_peak() == before);
}

TEST(large_blocks_are_separate_and_come_back) {
  const size_t bytes = (size_t(5) << 20) + 3;
  auto* a = static_cast<char*>(allocate(bytes));
  auto* b = static_cast<char*>(allocate(bytes));
  for (size_t i = 0; i < bytes; i += 4096) a[i] = 1, b[i] = 2;
  a[bytes - 1] = 1, b[bytes - 1] = 2;
  for (size_t i = 0; i < bytes; i += 4096) CHECK(a[i] == 1 && b[i] == 2);
  const size_t before = memory_in_use();
  deallocate(a, bytes);
  CHECK(memory_in_use() == before - bytes);
  auto* again = static_cast<char*>(allocate(bytes));  // kept for the next one of that size
  CHECK(again == a);
  deallocate(again, bytes);
  deallocate(b, bytes);
  release_cached_blocks();
}

TEST(zeros_are_zeros_in_memory_used_before) {
  for (size_t bytes : {size_t(70), 3 * kMiB + 1}) {
    for (int round = 0; round < 2; ++round) {  // fresh, and (large ones) the same block again
      auto* p = static_cast<unsigned char*>(allocate_zeros(bytes));
      for (size_t i = 0; i < bytes; ++i) CHECK(p[i] == 0);
      std::memset(p, 0xab, bytes);
      deallocate(p, bytes);
    }
  }
  release_cached_blocks();
}

TEST(out_of_memory) {
  void* p = allocate(1000);
  const std::string used = std::to_string(memory_in_use()) + " bytes in use";
  CHECK_THROWS(OutOfMemory, used, allocate(SIZE_MAX));
  CHECK_THROWS(OutOfMemory, used, allocate(SIZE_MAX / 2));
  CHECK_THROWS(Error, "9223372036854775807 bytes asked", allocate(SIZE_MAX / 2));
  CHECK(memory_limit() == SIZE_MAX);
  set_memory_limit(memory_in_use() + 100);
  CHECK_THROWS(OutOfMemory, "limit ", allocate(101));
  deallocate(allocate(100), 100);
  set_memory_limit(SIZE_MAX);
  deallocate(p, 1000);
  CHECK(memory_in_use() == 0);
}

CHILD(limit) {
  deallocate(allocate(5000), 5000);
  deallocate(allocate(5001), 5001);
}

TEST(memory_limit_variable) {
  CHECK(run_child("limit", {"HORNBEAM_MEMORY_LIMIT=5000"}) ==
        "error: out of memory: 5001 bytes asked, 0 bytes in use, limit 5000 bytes\n");
  for (const char* value : {"2G", "-1", " 5"}) {
    CHECK(run_child("limit", {std::string("HORNBEAM_MEMORY_LIMIT=") + value}) ==
          std::string("error: HORNBEAM_MEMORY_LIMIT: expected a number of bytes, got '") + value +
              "'\n");
  }
  CHECK(run_child("limit", {}).empty());
}

TEST(arena_reuse_and_trim) {
  ArenaPool& pool = ArenaPool::instance();
  const size_t before = memory_in_use();
  pool.reserve(1000);
  pool.reserve(5000);
  void* first;
  {
    const auto lease = pool.acquire(1000);
    first = lease.data();
    CHECK(aligned(first, 64) && lease.size() == 1000);
  }
  CHECK(pool.free_bytes() == 1000);
  CHECK(pool.acquire(800).data() == first);  // large enough
  CHECK(pool.free_bytes() == 1000);
  {
    const auto lease = pool.acquire(5000);  // the small block is replaced, not kept beside
    CHECK(lease.size() == 5000 && memory_in_use() == before + 5000);
    const auto other = pool.acquire(1000);  // at the same time: its own
    CHECK(other.data() != lease.data() && memory_in_use() == before + 6000);
  }
  CHECK(pool.free_bytes() == 6000);
  CHECK(pool.acquire(900).size() == 1000);  // the smallest that fits
  pool.unreserve(5000);
  CHECK(pool.free_bytes() == 1000 && memory_in_use() == before + 1000);
  pool.unreserve(1000);
  CHECK(pool.free_bytes() == 0 && memory_in_use() == before);
  {
    const auto lease = pool.acquire(64);  // nobody needs it afterwards
    CHECK(!pool.acquire(0).data());
  }
  CHECK(memory_in_use() == before);
}

TEST(arena_lease_outlives_need) {
  ArenaPool& pool = ArenaPool::instance();
  const size_t before = memory_in_use();
  pool.reserve(100);
  pool.reserve(100);
  auto lease = pool.acquire(100);
  ArenaPool::Lease moved;
  moved = std::move(lease);
  CHECK(moved.size() == 100 && !lease.data());
  pool.unreserve(100);
  pool.unreserve(100);
  CHECK(memory_in_use() == before + 100);
  moved = {};
  CHECK(memory_in_use() == before);
}

// Free blocks give way before an allocation fails.
TEST(arena_gives_way) {
  ArenaPool& pool = ArenaPool::instance();
  pool.reserve(4000);
  {
    const auto lease = pool.acquire(4000);
  }
  CHECK(pool.free_bytes() == 4000);
  set_memory_limit(memory_in_use() + 100);
  void* p = allocate(2000);
  CHECK(pool.free_bytes() == 0);
  deallocate(p, 2000);
  set_memory_limit(SIZE_MAX);
  pool.unreserve(4000);
}

TEST(arena_concurrent) {
  ArenaPool& pool = ArenaPool::instance();
  const size_t before = memory_in_use();
  std::vector<std::thread> threads;
  for (int t = 1; t <= 4; ++t) {
    threads.emplace_back([&pool, t] {
      const size_t bytes = size_t(t) * 777;
      for (int i = 0; i < 500; ++i) {
        pool.reserve(bytes);
        {
          const auto lease = pool.acquire(bytes);
          CHECK(lease.size() >= bytes);
          std::memset(lease.data(), t, bytes);
          const auto* data = static_cast<char*>(lease.data());
          CHECK(data[0] == t && data[bytes - 1] == t);
        }
        pool.unreserve(bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(memory_in_use() == before && pool.free_bytes() == 0);
}

TEST(arena_after_fork) {
  ArenaPool& pool = ArenaPool::instance();
  pool.reserve(100);
  const auto lease = pool.acquire(100);
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    {
      const auto mine = pool.acquire(50);
    }
    _exit(pool.free_bytes() == 50 ? 0 : 1);
  }
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  pool.unreserve(100);
}
