#include "check.h"
#include "core/faults.h"

#if defined(__linux__)
#include <signal.h>

TEST(a_check_that_faults_has_failed) {
  struct sigaction before, after;
  sigaction(SIGILL, nullptr, &before);
  CHECK(hb::passes_without_fault([] { return true; }));
  CHECK(!hb::passes_without_fault([] { return false; }));
  for (int number : {0, 1}) {  // again after the first
    static_cast<void>(number);
    CHECK(!hb::passes_without_fault([] { return raise(SIGILL) != 0 || raise(SIGSEGV) != 0; }));
    CHECK(!hb::passes_without_fault([]() -> bool { __builtin_trap(); }));
  }
  sigaction(SIGILL, nullptr, &after);
  CHECK(before.sa_handler == after.sa_handler);
}
#endif
