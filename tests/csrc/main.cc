#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "check.h"

#ifdef __SANITIZE_THREAD__
// The tests start threads in forked children on purpose.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options() {
  return "die_after_fork=0";
}
#endif

namespace hb_test {
namespace {
const char* program = nullptr;
}

std::vector<Case>& child_cases() {
  static std::vector<Case> all;
  return all;
}

std::string run_child(const char* child, const std::vector<std::string>& variables) {
  int ends[2];
  CHECK(pipe(ends) == 0);
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    for (const char* name :
         {"HORNBEAM_ISA", "HORNBEAM_NUM_THREADS", "OMP_NUM_THREADS", "HORNBEAM_MEMORY_LIMIT"}) {
      unsetenv(name);
    }
    for (const std::string& variable : variables) putenv(const_cast<char*>(variable.c_str()));
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    execl(program, program, "--child", child, static_cast<char*>(nullptr));
    _exit(127);
  }
  close(ends[1]);
  std::string text;
  char buffer[512];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, size_t(n));
  close(ends[0]);
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  return text;
}

}  // namespace hb_test

// Without arguments runs every test; with one, the tests whose name contains it.
int main(int argc, char** argv) {
  hb_test::program = argv[0];
  if (argc == 3 && std::strcmp(argv[1], "--child") == 0) {
    for (const auto& c : hb_test::child_cases()) {
      if (std::strcmp(c.name, argv[2]) != 0) continue;
      try {
        c.body();
      } catch (const hb::Error& e) {
        std::printf("error: %s\n", e.what());
      }
      return 0;
    }
    return 1;
  }
  int count = 0;
  for (const auto& c : hb_test::cases()) {
    if (argc > 1 && !std::strstr(c.name, argv[1])) continue;
    std::printf("%s\n", c.name);
    std::fflush(stdout);
    c.body();
    ++count;
  }
  std::printf("%d tests passed\n", count);
  return count > 0 ? 0 : 1;
}
