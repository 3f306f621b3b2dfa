#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>

#include <filesystem>
#endif

#include "check.h"
#include "core/cpu_info.h"

using namespace hb;
using hb_test::run_child;

namespace {
// Every task once, workers in range; false if not.
bool covers(int64_t n) {
  std::vector<std::atomic<int>> seen(size_t(n > 0 ? n : 1));
  std::atomic<bool> ok{true};
  parallel_for(n, [&](int64_t task, int worker) {
    if (worker < 0 || worker >= num_threads()) ok = false;
    ++seen[size_t(task)];
  });
  for (int64_t i = 0; i < n; ++i) ok = ok && seen[size_t(i)] == 1;
  return ok;
}
}  // namespace

TEST(pool_runs_every_task_once) {
  for (int64_t n : {-1, 0, 1, 2, 3, 17, 1000}) CHECK(covers(n));
}

TEST(pool_many_tiny_jobs) {
  int64_t sum = 0;
  for (int i = 0; i < 20000; ++i) {
    int64_t part[4] = {};
    parallel_for(4, [&](int64_t task, int) { part[task] = task + i; });
    for (int64_t p : part) sum += p;
  }
  CHECK(sum == 20000 * 6 + 4 * (int64_t(19999) * 20000 / 2));
}

TEST(pool_wakes_after_sleep) {
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(covers(8));
  }
}

// Two tasks that wait for each other end only if two threads work on them.
TEST(pool_runs_in_parallel) {
  if (num_threads() < 2) return;
  std::atomic<int> inside{0};
  parallel_for(2, [&](int64_t, int) {
    ++inside;
    while (inside < 2) std::this_thread::yield();
  });
  CHECK(inside == 2);
}

#if defined(__linux__)
// The threads of this process, and where they may run.
std::vector<std::pair<pid_t, cpu_set_t>> places() {
  std::vector<std::pair<pid_t, cpu_set_t>> all;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    all.emplace_back(std::stoi(task.path().filename()), cpu_set_t{});
    CHECK(sched_getaffinity(all.back().first, sizeof(cpu_set_t), &all.back().second) == 0);
  }
  return all;
}
void place(pid_t thread, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(size_t(cpu), &set);
  CHECK(sched_setaffinity(thread, sizeof set, &set) == 0);
}
int cpu_of(const cpu_set_t& set, int which) {  // -1 if there are not so many
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(size_t(cpu), &set) && which-- == 0) return cpu;
  return -1;
}

TEST(pool_on_one_cpu) {
  parallel_for(2, [](int64_t, int) {});  // there are helpers now
  const auto before = places();
  for (const auto& [thread, set] : before) place(thread, cpu_of(before[0].second, 0));
  for (int i = 0; i < 3000; ++i) {
    std::atomic<int64_t> sum{0};
    parallel_for(5, [&](int64_t task, int) { sum += task; });
    CHECK(sum == 10);
  }
  if (num_threads() > 1) {  // a long job gets its helpers even there
    std::atomic<int> inside{0};
    parallel_for(2, [&](int64_t, int) {
      ++inside;
      while (inside < 2) std::this_thread::yield();
    });
    CHECK(inside == 2);
  }
  for (const auto& [thread, set] : before) sched_setaffinity(thread, sizeof set, &set);
}

TEST(pool_beside_a_busy_program) {
  parallel_for(2, [](int64_t, int) {});
  const auto before = places();
  const int here = cpu_of(before[0].second, 0), there = cpu_of(before[0].second, 1);
  if (there < 0) return;
  const pid_t self = pid_t(syscall(SYS_gettid));
  for (const auto& [thread, set] : before) place(thread, thread == self ? here : there);
  const auto placed = places();
  std::atomic<bool> stop{false};
  std::thread neighbour([&] {
    place(pid_t(syscall(SYS_gettid)), there);
    while (!stop) {
    }
  });
  for (int i = 0; i < 200; ++i) {
    std::atomic<int64_t> sum{0};
    parallel_for(4, [&](int64_t task, int) {
      const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(100);
      while (std::chrono::steady_clock::now() < end) {
      }
      sum += task;
    });
    CHECK(sum == 6);
  }
  stop = true;
  neighbour.join();
  // A helper that was moved out of the neighbour's way is back where it is allowed to be.
  for (const auto& [thread, set] : placed) {
    cpu_set_t now;
    CHECK(sched_getaffinity(thread, sizeof now, &now) == 0 && CPU_EQUAL(&now, &set));
  }
  for (const auto& [thread, set] : before) sched_setaffinity(thread, sizeof set, &set);
}
#endif

TEST(pool_workers_are_exclusive) {
  const auto threads = size_t(num_threads());
  std::vector<std::atomic<int>> busy(threads);
  std::atomic<bool> ok{true};
  parallel_for(2000, [&](int64_t, int worker) {
    if (++busy[size_t(worker)] != 1) ok = false;
    --busy[size_t(worker)];
  });
  CHECK(ok);
}

TEST(pool_nested_runs_inline) {
  std::atomic<int> count{0};
  std::atomic<bool> ok{true};
  parallel_for(8, [&](int64_t, int outer) {
    const auto thread = std::this_thread::get_id();
    parallel_for(5, [&](int64_t, int inner) {
      if (inner != outer || std::this_thread::get_id() != thread) ok = false;
      ++count;
    });
  });
  CHECK(count == 40 && ok);
}

TEST(pool_concurrent_callers) {
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        int64_t part[6] = {};
        parallel_for(6, [&](int64_t task, int) { part[task] = task; });
        for (int64_t p : part) sum += p;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(sum == 4 * 2000 * 15);
}

TEST(pool_exceptions) {
  for (int i = 0; i < 500; ++i) {
    CHECK_THROWS(std::runtime_error, "task 3", parallel_for(100, [&](int64_t task, int) {
                   if (task == 3) throw std::runtime_error("task 3");
                 }));
    CHECK_THROWS(Error, "all", parallel_for(50, [&](int64_t, int) { fail("all"); }));
    CHECK_THROWS(Error, "one", parallel_for(1, [&](int64_t, int) { fail("one"); }));
    CHECK_THROWS(Error, "inner", parallel_for(4, [&](int64_t, int) {
                   parallel_for(4, [&](int64_t, int) { fail("inner"); });
                 }));
    CHECK(covers(10));
  }
}

// The tasks after a failed one are left out.
TEST(pool_exception_stops_early) {
  std::atomic<int64_t> run{0};
  CHECK_THROWS(Error, "first", parallel_for(1000000, [&](int64_t, int) {
                 ++run;
                 fail("first");
               }));
  CHECK(run <= num_threads());
}

namespace {
int exit_status_of_child(int (*body)()) {
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) _exit(body());
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
}  // namespace

TEST(pool_after_fork) {
  CHECK(covers(10));
  for (int i = 0; i < 5; ++i) {
    CHECK(exit_status_of_child([] { return covers(100) ? 0 : 1; }) == 0);
    CHECK(covers(100));
  }
  // A child of a child, and a fork while another thread keeps the pool busy.
  CHECK(exit_status_of_child([] {
          return covers(10) ? exit_status_of_child([] { return covers(10) ? 0 : 1; }) : 2;
        }) == 0);
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) {
      if (!covers(20)) std::abort();
    }
  });
  for (int i = 0; i < 5; ++i) {
    CHECK(exit_status_of_child([] { return covers(100) ? 0 : 1; }) == 0);
  }
  stop = true;
  busy.join();
}

CHILD(threads) { std::printf("%d", num_threads()); }
CHILD(covers) { std::printf("%d", covers(1000) && covers(3) && covers(1)); }
CHILD(unused) { std::printf("ok"); }

// Leaves main while another thread still calls the pool.
CHILD(busy_end) {
  std::atomic<bool> started{false};
  std::thread([&started] {
    for (;;) {
      parallel_for(100, [](int64_t, int) {});
      started.store(true);
    }
  }).detach();
  while (!started) std::this_thread::yield();
  std::printf("ok");
  std::fflush(stdout);
  std::exit(0);
}

TEST(pool_size_settings) {
  const std::string all = std::to_string(usable_cpus());
  CHECK(run_child("threads", {}) == all);
  CHECK(run_child("threads", {"HORNBEAM_NUM_THREADS="}) == all);
  CHECK(run_child("threads", {"HORNBEAM_NUM_THREADS=3"}) == "3");
  CHECK(run_child("threads", {"OMP_NUM_THREADS=4"}) == "4");
  CHECK(run_child("threads", {"OMP_NUM_THREADS=5,2"}) == "5");
  CHECK(run_child("threads", {"HORNBEAM_NUM_THREADS=3", "OMP_NUM_THREADS=4"}) == "3");
  for (const char* value : {"0", "-2", "two", "2.5", "1025", " 3", "3,2", "99999999999999"}) {
    CHECK(run_child("threads", {std::string("HORNBEAM_NUM_THREADS=") + value}) ==
          std::string("error: HORNBEAM_NUM_THREADS: invalid number of threads; expected an integer "
                      "from 1 to 1024, got '") +
              value + "'\n");
  }
  CHECK(run_child("threads", {"OMP_NUM_THREADS=many"}).find("error: OMP_NUM_THREADS") == 0);
}

TEST(pool_of_any_size_and_end_of_process) {
  for (const char* threads : {"1", "2", "7", "40"}) {
    CHECK(run_child("covers", {std::string("HORNBEAM_NUM_THREADS=") + threads}) == "1");
  }
  CHECK(run_child("unused", {}) == "ok");
  for (int i = 0; i < 5; ++i) CHECK(run_child("busy_end", {"HORNBEAM_NUM_THREADS=3"}) == "ok");
}
