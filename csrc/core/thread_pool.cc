// The thread pool behind run_tasks.
//
// One word, `state_`, says everything about the job at hand: [63:32] its number, bit 31 open,
// bit 30 the caller sleeps, [29:0] helpers inside. Helpers join an open job by incrementing it, so
// a helper that sleeps or is off its core never delays the caller: the caller takes part itself,
// closes the job when no task is left to claim, and waits only for helpers that are inside a task.
// The fields of the job are written only while it is closed and nobody is inside.
//
// Helpers spin for a short while between jobs (kernels come in quick succession) and then park on a
// condition variable, so an idle process uses no CPU. A helper that finds itself on the CPU of the
// caller (the others are busy with other programs) is in the way: it rests and lets the caller do
// the work, which costs little more than a pool of one thread. One job runs at a time; a second
// thread that calls meanwhile does its tasks itself.
#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/cpu_info.h"
#include "core/denormals.h"
#include "core/error.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#define HB_POSIX_THREADS 1
#endif
#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#endif

namespace hb {
namespace {

using Clock = std::chrono::steady_clock;
using TaskFunction = void (*)(void*, int64_t, int);

constexpr int kMaxThreads = 1024;
constexpr auto kSpinTime = std::chrono::microseconds(30);
constexpr auto kRestTime = std::chrono::milliseconds(1);

// The CPU this thread is on; -1 if the system does not tell.
int this_cpu() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

// The worker number of the task that this thread is in; -1 outside of tasks.
thread_local int current_worker = -1;

class WorkerScope {
 public:
  explicit WorkerScope(int worker) : outer_(current_worker) { current_worker = worker; }
  ~WorkerScope() { current_worker = outer_; }
  WorkerScope(const WorkerScope&) = delete;

 private:
  const int outer_;
};

void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Spins until ready(), or until kSpinTime is over or stop(); returns the last ready().
template <class Ready, class Stop>
bool spin_until(const Ready& ready, const Stop& stop) {
  const auto end = Clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      cpu_relax();
    }
  } while (!stop() && Clock::now() < end);
  return ready();
}

#if defined(__linux__)
// One helper as its caller sees it.
class alignas(64) Helper {
 public:
  void start() {  // by the helper
    id_ = pid_t(syscall(SYS_gettid));
    if (pthread_getcpuclockid(pthread_self(), &clock_) != 0) id_ = -1;
  }
  std::atomic<bool> inside{false};  // in a task (set after start)

  // Two calls some time apart: move() takes the helper to this CPU if it has not run in between.
  void look() { before_ = inside.load(std::memory_order_acquire) ? cpu_time() : -1; }
  void move() {
    moved_ = before_ >= 0 && inside.load(std::memory_order_acquire) && cpu_time() == before_ &&
             sched_getaffinity(id_, sizeof allowed_, &allowed_) == 0;
    if (!moved_) return;
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(size_t(this_cpu()), &here);
    moved_ = sched_setaffinity(id_, sizeof here, &here) == 0;
  }
  void release() {
    if (std::exchange(moved_, false)) sched_setaffinity(id_, sizeof allowed_, &allowed_);
  }

 private:
  int64_t cpu_time() const {
    timespec t;
    if (id_ < 0 || clock_gettime(clock_, &t) != 0) return -1;
    return int64_t(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
  }

  pid_t id_ = -1;
  clockid_t clock_{};
  int64_t before_ = -1;
  bool moved_ = false;
  cpu_set_t allowed_;
};
#else
struct Helper {  // the system decides where it runs
  void start() {}
  void look() {}
  void move() {}
  void release() {}
  std::atomic<bool> inside{false};
};
#endif

void run_inline(int64_t num_tasks, TaskFunction fn, void* ctx, int worker) {
  const WorkerScope scope(worker);
  for (int64_t task = 0; task < num_tasks; ++task) fn(ctx, task, worker);
}

class Pool {
 public:
  explicit Pool(int threads) : spin_(threads <= usable_cpus()), places_(size_t(threads - 1)) {
    helpers_.reserve(size_t(threads - 1));
#ifdef HB_POSIX_THREADS
    // Signals are for the threads of the application; faults stay where they happen.
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT})
      sigdelset(&blocked, fault);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
#endif
    try {
      for (int worker = 1; worker < threads; ++worker) {
        helpers_.emplace_back([this, worker] { help(worker); });
      }
    } catch (const std::system_error&) {
      // The system refuses more threads: those that started share the work with the caller.
    }
#ifdef HB_POSIX_THREADS
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
  }

  // Runs the job, or returns false because another thread's job is running.
  bool try_run(int64_t num_tasks, TaskFunction fn, void* ctx) {
    std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
    if (!owner.owns_lock()) return false;
    fn_ = fn;
    ctx_ = ctx;
    num_tasks_ = num_tasks;
    error_ = nullptr;
    failed_.store(false, std::memory_order_relaxed);
    next_.store(0, std::memory_order_relaxed);
    caller_cpu_.store(this_cpu(), std::memory_order_relaxed);
    const uint64_t job = (state_.load(std::memory_order_relaxed) >> 32) + 1;
    // Sequentially consistent, as is the pair in park(): either this thread sees the sleeper or
    // the sleeper sees the job.
    state_.store(job << 32 | kOpen, std::memory_order_seq_cst);
    if (const int sleepers = sleepers_.load(std::memory_order_seq_cst); sleepers > 0) {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
      }
      if (num_tasks - 1 < sleepers) {
        for (int64_t i = 0; i < num_tasks - 1; ++i) work_.notify_one();
      } else {
        work_.notify_all();
      }
    }
    work(0);
    state_.fetch_and(~kOpen, std::memory_order_acq_rel);
    wait_for_helpers();
    if (failed_.load(std::memory_order_relaxed)) {
      std::rethrow_exception(std::exchange(error_, nullptr));
    }
    return true;
  }

  void join_all() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_.store(true, std::memory_order_seq_cst);
    }
    work_.notify_all();
    rest_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
    helpers_.clear();
  }

 private:
  static constexpr uint64_t kOpen = uint64_t(1) << 31, kCallerSleeps = uint64_t(1) << 30,
                            kInside = kCallerSleeps - 1;

  // True if there is a job to join that this helper has not been in, or if it is to end.
  bool called(uint64_t seen) const {
    const uint64_t state = state_.load(std::memory_order_seq_cst);
    return ((state & kOpen) && state >> 32 != seen) || stop_.load(std::memory_order_seq_cst);
  }

  // True if this helper runs where the caller could: the other CPUs are busy with other programs.
  bool in_the_way() const {
    const int cpu = this_cpu();
    return cpu >= 0 && cpu == caller_cpu_.load(std::memory_order_relaxed);
  }

  void help(int worker) {
#if defined(__linux__)
    char name[16];
    std::snprintf(name, sizeof name, "hornbeam-%d", worker);
    pthread_setname_np(pthread_self(), name);
#elif defined(__APPLE__)
    pthread_setname_np("hornbeam");
#endif
    const DenormalMode mode(true);
    Helper& self = places_[size_t(worker - 1)];
    self.start();
    uint64_t seen = 0;  // the job this helper was in last; numbers start at 1
    for (;;) {
      const auto ready = [&] { return called(seen); };
      if (!(spin_ && spin_until(ready, [this] { return in_the_way(); }))) {
        std::unique_lock<std::mutex> lock(mutex_);
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        work_.wait(lock, ready);
        sleepers_.fetch_sub(1, std::memory_order_relaxed);
      }
      if (stop_.load(std::memory_order_relaxed)) return;
      uint64_t state = state_.load(std::memory_order_relaxed);
      if (spin_ && in_the_way()) {
        // Comes back for a job that is still the same after the rest: it is a long one.
        std::unique_lock<std::mutex> lock(mutex_);
        rest_.wait_for(lock, kRestTime, [this] { return stop_.load(std::memory_order_relaxed); });
        lock.unlock();
        const uint64_t before = std::exchange(state, state_.load(std::memory_order_relaxed));
        if (state >> 32 != before >> 32) continue;
      }
      while ((state & kOpen) && state >> 32 != seen) {
        if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire,
                                         std::memory_order_relaxed)) {
          seen = state >> 32;
          self.inside.store(true, std::memory_order_release);
          work(worker);
          self.inside.store(false, std::memory_order_release);
          leave();
          break;
        }
      }
    }
  }

  void leave() {
    const uint64_t before = state_.fetch_sub(1, std::memory_order_acq_rel);
    if ((before & kInside) == 1 && (before & kCallerSleeps)) {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
      }
      done_.notify_all();
    }
  }

  void wait_for_helpers() {
    const auto empty = [this] { return (state_.load(std::memory_order_acquire) & kInside) == 0; };
    const auto never = [] { return false; };
    if (spin_ ? spin_until(empty, never) : empty()) return;
    // A helper that another program has put off its CPU in the middle of a task may wait there for
    // milliseconds. The CPU of this thread is about to be free.
    if (spin_) {
      for (Helper& helper : places_) helper.look();
      if (spin_until(empty, never)) return;
      for (Helper& helper : places_) helper.move();
    }
    {
      std::unique_lock<std::mutex> lock(mutex_);
      state_.fetch_or(kCallerSleeps, std::memory_order_acq_rel);
      done_.wait(lock, empty);
    }
    for (Helper& helper : places_) helper.release();
  }

  void work(int worker) {
    const WorkerScope scope(worker);
    try {
      for (;;) {
        const int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
        if (task >= num_tasks_) return;
        fn_(ctx_, task, worker);
      }
    } catch (...) {
      next_.store(num_tasks_, std::memory_order_relaxed);  // leave the other tasks
      // Read by the caller after this thread has left the job, which orders the accesses.
      if (!failed_.exchange(true, std::memory_order_relaxed)) error_ = std::current_exception();
    }
  }

  const bool spin_;  // with more threads than CPUs a spinning thread keeps a working one waiting
  std::mutex owner_;
  TaskFunction fn_ = nullptr;
  void* ctx_ = nullptr;
  int64_t num_tasks_ = 0;
  std::exception_ptr error_;
  std::atomic<bool> failed_{false}, stop_{false};
  alignas(64) std::atomic<uint64_t> state_{0};
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<int> sleepers_{0}, caller_cpu_{-1};
  std::mutex mutex_;
  std::condition_variable work_, rest_, done_;
  std::vector<Helper> places_;
  std::vector<std::thread> helpers_;
};

// The pool of this process. A Pool is never deleted: a thread may be in it while the process ends,
// and a forked child only inherits its memory, not its threads.
std::atomic<Pool*> pool{nullptr};
bool ended = false;  // guarded by pool_mutex

std::mutex& pool_mutex() {
  static std::mutex* const mutex = new std::mutex;
  return *mutex;
}

struct EndOfProcess {
  ~EndOfProcess() {
    const std::lock_guard<std::mutex> lock(pool_mutex());
    ended = true;
    if (Pool* p = pool.load(std::memory_order_relaxed)) p->join_all();
  }
};

// Null once the process ends.
Pool* create_pool() {
  const std::lock_guard<std::mutex> lock(pool_mutex());
  if (ended) return nullptr;
  Pool* p = pool.load(std::memory_order_relaxed);
  if (p) return p;
#ifdef HB_POSIX_THREADS
  // The mutex is held across fork, so the child finds it in a known state.
  static const int once = pthread_atfork([] { pool_mutex().lock(); }, [] { pool_mutex().unlock(); },
                                         [] {
                                           pool.store(nullptr, std::memory_order_relaxed);
                                           pool_mutex().unlock();
                                         });
  (void)once;
#endif
  p = new Pool(num_threads());
  static const EndOfProcess end;
  pool.store(p, std::memory_order_release);
  return p;
}

// The value of a variable that holds a number of threads; 0 if it is not set.
int threads_from(const char* variable, bool list_allowed) {
  const char* text = std::getenv(variable);
  if (!text || !*text) return 0;
  const char* end = text + std::strlen(text);
  if (list_allowed) end = std::find(text, end, ',');  // OpenMP: one number per nesting level
  int value = 0;
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stop != end || value < 1 || value > kMaxThreads) {
    fail("%s: invalid number of threads; expected an integer from 1 to %d, got '%s'", variable,
         kMaxThreads, text);
  }
  return value;
}

}  // namespace

int num_threads() {
  static const int threads = [] {
    if (const int n = threads_from("HORNBEAM_NUM_THREADS", false)) return n;
    if (const int n = threads_from("OMP_NUM_THREADS", true)) return n;
    return std::min(usable_cpus(), kMaxThreads);
  }();
  return threads;
}

void run_tasks(int64_t num_tasks, void (*fn)(void* ctx, int64_t task, int worker), void* ctx) {
  if (num_tasks <= 0) return;
  // A nested call keeps the worker number of its task: scratch per worker stays its own.
  if (current_worker >= 0) return run_inline(num_tasks, fn, ctx, current_worker);
  if (num_tasks > 1 && num_threads() > 1) {
    Pool* p = pool.load(std::memory_order_acquire);
    if (!p) p = create_pool();
    if (p && p->try_run(num_tasks, fn, ctx)) return;
  }
  run_inline(num_tasks, fn, ctx, 0);
}

}  // namespace hb
