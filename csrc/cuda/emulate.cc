// The threads of an emulated kernel: fibers.
#include "cuda/emulate.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <vector>

#include "core/kernel.h"

namespace hb::emulate {

Position at;

namespace {

// ---------------------------------------------------------------------- switching stacks

constexpr size_t kStackBytes = 128 << 10;

#if defined(__x86_64__)
// Saves what a call preserves on the old stack, and takes it from the new one.
extern "C" void hb_emulate_switch(void** save, void* load);
asm(R"(
.text
.type hb_emulate_switch, @function
hb_emulate_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size hb_emulate_switch, .-hb_emulate_switch
)");
struct Context {
  void* stack_pointer = nullptr;
};
void start(Context& c, char* stack, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + kStackBytes) - 1;
  *top = nullptr;  // where a return address would be: the stack of a function starts 8 off 16
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  c.stack_pointer = top;
}
void go(Context& from, Context& to) { hb_emulate_switch(&from.stack_pointer, to.stack_pointer); }
#else
struct Context {
  ucontext_t context;
};
void start(Context& c, char* stack, void (*entry)()) {
  getcontext(&c.context);
  c.context.uc_stack.ss_sp = stack;
  c.context.uc_stack.ss_size = kStackBytes;
  c.context.uc_link = nullptr;
  makecontext(&c.context, entry, 0);
}
void go(Context& from, Context& to) { swapcontext(&from.context, &to.context); }
#endif

// ---------------------------------------------------------------------- threads of a block

enum class Wait { None, Poll, Barrier, Warp, Done };

struct Copy {
  void* to;
  const void* from;
  size_t size, valid;
  int group;
};

struct Thread {
  Context context;
  uint3 index;
  Wait wait;
  unsigned mask;
  int turn;          // which of the two places for bits it uses
  uint64_t bits[2];  // two: a lane may come to its next exchange before others have read this one
  alignas(16) unsigned char brought[2][64];
  std::vector<Copy> copies;                                 // under way
  int group;                                                // of copies that begin now
  std::vector<std::pair<int, std::function<void()>>> work;  // with their groups
  int work_group;
};
struct BoxCopy {
  const void* barrier;
  std::function<void()> run;
};
std::vector<BoxCopy> box_copies;
bool somebody_went_on;

Context scheduler;
std::vector<Thread> threads;
int running;
void (*kernel_body)(void*);
void* kernel_context;

char* stack_of(int i) {
  static char* stacks = [] {
    void* p = mmap(nullptr, kStackBytes * 1024, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) fail("emulated device: no memory for stacks");
    return static_cast<char*>(p);
  }();
  return stacks + size_t(i) * kStackBytes;
}

void yield(Wait wait) {
  Thread& t = threads[running];
  t.wait = wait;
  go(t.context, scheduler);
  at.thread = t.index;
}

void thread_main() {
  kernel_body(kernel_context);
  yield(Wait::Done);
}

// Lets the lanes of a warp go on once every lane of the mask is there.
void release_warp(int thread) {
  const int first = thread & ~31, n = int(threads.size());
  const unsigned mask = threads[thread].mask;
  if (!(mask >> (thread & 31) & 1)) fail("warp function: the lane that calls is not in its mask");
  for (int l = 0; l < 32; ++l) {
    if (!(mask >> l & 1) || first + l >= n) continue;
    const Thread& t = threads[first + l];
    if (t.wait == Wait::Done) fail("warp function: lane %d of its mask has ended", l);
    if (t.wait != Wait::Warp) return;
    if (t.mask != mask) fail("warp function: lanes came with different masks");
  }
  for (int l = 0; l < 32; ++l)
    if (mask >> l & 1 && first + l < n) threads[first + l].wait = Wait::None;
}

void run_block(bool reverse) {
  const int n = int(threads.size());
  for (int i = 0; i < n; ++i) {
    threads[i].wait = Wait::None;
    threads[i].turn = 0;
    threads[i].copies.clear();
    threads[i].group = 0;
    threads[i].work.clear();
    threads[i].work_group = 0;
    start(threads[i].context, stack_of(i), thread_main);
  }
  box_copies.clear();
  for (int done = 0; done < n;) {
    bool moved = false;
    somebody_went_on = false;
    int waiting = 0;
    for (int k = 0; k < n; ++k) {
      const int i = reverse ? n - 1 - k : k;
      if (threads[i].wait == Wait::None || threads[i].wait == Wait::Poll) {
        moved = moved || threads[i].wait == Wait::None;
        running = i;
        at.thread = threads[i].index;
        go(scheduler, threads[i].context);
        if (threads[i].wait == Wait::Done) ++done;
        if (threads[i].wait == Wait::Warp) release_warp(i);
      }
      waiting += threads[i].wait == Wait::Barrier;
    }
    if (moved || somebody_went_on) continue;
    for (const Thread& t : threads)
      if (t.wait == Wait::Poll) fail("mbarrier: all threads wait, for what none of them will do");
    if (waiting + done != n)
      fail("threads of a warp wait for lanes that wait at a barrier (block of %d threads)", n);
    if (done > 0) fail("__syncthreads: %d of %d threads have ended without it", done, n);
    for (Thread& t : threads) t.wait = Wait::None;
  }
}

bool reversed() {
  const char* order = getenv("HORNBEAM_EMULATE_ORDER");
  return order && strcmp(order, "reverse") == 0;
}

}  // namespace

void barrier() { yield(Wait::Barrier); }

int lane() { return running & 31; }

uint64_t exchange(unsigned mask, uint64_t bits, int source) {
  Thread& t = threads[running];
  const int me = running, turn = t.turn ^= 1;
  t.bits[turn] = bits;
  t.mask = mask;
  yield(Wait::Warp);
  const int from = (me & ~31) + source;
  const bool there = mask >> source & 1 && from < int(threads.size());
  return there ? threads[from].bits[turn] : bits;
}

unsigned ballot(unsigned mask, bool flag) {
  Thread& t = threads[running];
  const int me = running, turn = t.turn ^= 1;
  t.bits[turn] = flag;
  t.mask = mask;
  yield(Wait::Warp);
  unsigned result = 0;
  for (int l = 0; l < 32; ++l) {
    const int from = (me & ~31) + l;
    if (mask >> l & 1 && from < int(threads.size()) && threads[from].bits[turn]) result |= 1u << l;
  }
  return result;
}

int bring(const void* data, size_t bytes) {
  Thread& t = threads[running];
  if (bytes > sizeof t.brought[0] || threads.size() % 32 != 0)
    fail("emulated device: %zu bytes of a lane, %zu threads", bytes, threads.size());
  const int turn = t.turn ^= 1;
  memcpy(t.brought[turn], data, bytes);
  t.mask = 0xffffffffu;
  yield(Wait::Warp);
  return turn;
}
const void* brought(int lane, int turn) { return threads[(running & ~31) + lane].brought[turn]; }

void copy_later(void* to, const void* from, size_t size, size_t valid) {
  if ((uintptr_t(to) | uintptr_t(from)) % size != 0 || valid > size)
    fail("cp.async of %zu bytes: %p or %p is not aligned", size, to, from);
  threads[running].copies.push_back({to, from, size, valid, threads[running].group});
}
void commit_copies() { ++threads[running].group; }
void wait_copies(size_t groups_left) {
  Thread& t = threads[running];
  size_t kept = 0;
  for (const Copy& c : t.copies) {
    if (c.group + int(groups_left) >= t.group) {
      t.copies[kept++] = c;
      continue;
    }
    memcpy(c.to, c.from, c.valid);
    memset(static_cast<char*>(c.to) + c.valid, 0, c.size - c.valid);
  }
  t.copies.resize(kept);
}

void copy_box_later(const void* barrier, std::function<void()> copy) {
  box_copies.push_back({barrier, std::move(copy)});
}
void copy_boxes(const void* barrier) {
  for (size_t i = 0; i < box_copies.size();)
    if (box_copies[i].barrier == barrier) {
      box_copies[i].run();
      box_copies.erase(box_copies.begin() + int64_t(i));
    } else {
      ++i;
    }
}
void work_later(std::function<void()> work) {
  threads[running].work.emplace_back(threads[running].work_group, std::move(work));
}
void commit_work() { ++threads[running].work_group; }
void wait_work(size_t groups_left) {
  Thread& t = threads[running];
  size_t done = 0;
  while (done < t.work.size() && t.work[done].first + int(groups_left) < t.work_group)
    t.work[done++].second();
  t.work.erase(t.work.begin(), t.work.begin() + int64_t(done));
}
void pause() { yield(Wait::Poll); }
void went_on() { somebody_went_on = true; }

constexpr size_t kSharedBytes = 227 << 10;  // what a block of a Hopper GPU can have
alignas(1024) unsigned char shared_memory[kSharedBytes];
unsigned char* dynamic_shared() { return shared_memory; }

void check_launch(dim3 grid, dim3 block, size_t dynamic_shared_bytes) {
  const uint64_t n = uint64_t(block.x) * block.y * block.z;
  if (n < 1 || n > 1024 || grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.y > 65535 ||
      grid.z > 65535 || dynamic_shared_bytes > kSharedBytes)
    fail("kernel launch: grid (%u, %u, %u), block (%u, %u, %u)", grid.x, grid.y, grid.z, block.x,
         block.y, block.z);
}

// One stream at a time runs its work (emulate_runtime.cc).
void run_grid(dim3 grid, dim3 block, size_t dynamic_shared_bytes, void (*body)(void*),
              void* context) {
  const uint64_t n = uint64_t(block.x) * block.y * block.z;
  const bool reverse = reversed();
  threads.resize(n);
  for (unsigned i = 0; i < n; ++i)
    threads[i].index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
  kernel_body = body;
  kernel_context = context;
  at.block_size = block;
  at.grid_size = grid;
  const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
  for (uint64_t b = 0; b < blocks; ++b) {
    const uint64_t k = reverse ? blocks - 1 - b : b;
    at.block = {unsigned(k % grid.x), unsigned(k / grid.x % grid.y), unsigned(k / grid.x / grid.y)};
    memset(shared_memory, 0xff, dynamic_shared_bytes);
    run_block(reverse);
  }
}

}  // namespace hb::emulate
