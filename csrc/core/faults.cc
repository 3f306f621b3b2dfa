#include "core/faults.h"

#if defined(__linux__)
#include <setjmp.h>
#include <signal.h>

#include <mutex>
#endif

namespace hb {

#if defined(__linux__)
namespace {

constexpr int kSignals[] = {SIGILL, SIGSEGV, SIGBUS};
constexpr int kNumSignals = 3;
struct sigaction before[kNumSignals];
thread_local sigjmp_buf* resume = nullptr;

void on_fault(int number) {
  if (resume) siglongjmp(*resume, 1);
  // Another thread's own fault: the instruction is tried again under the handler from before.
  for (int i = 0; i < kNumSignals; ++i)
    if (kSignals[i] == number) sigaction(number, &before[i], nullptr);
}

}  // namespace

bool passes_without_fault(bool (*check)()) {
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  struct sigaction ours{};
  ours.sa_handler = on_fault;
  sigemptyset(&ours.sa_mask);
  for (int i = 0; i < kNumSignals; ++i) sigaction(kSignals[i], &ours, &before[i]);
  sigjmp_buf here;
  volatile bool passed = false;
  if (sigsetjmp(here, 1) == 0) {
    resume = &here;
    passed = check();
  }
  resume = nullptr;
  for (int i = 0; i < kNumSignals; ++i) sigaction(kSignals[i], &before[i], nullptr);
  return passed;
}
#else
bool passes_without_fault(bool (*check)()) { return check(); }
#endif

}  // namespace hb
