// A few lines of test harness: TEST(name) { CHECK(…); } registers itself; main() is in main.cc.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace hb_test {

struct Case {
  const char* name;
  void (*body)();
};
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
struct Register {
  Register(const char* name, void (*body)()) { cases().push_back({name, body}); }
};

// Ends the process, so that a failure inside a task or a forked child cannot be lost.
[[noreturn]] inline void failed(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  std::fflush(stderr);
  std::_Exit(1);
}

// The text of the exception of type E that f throws; fails if there is none.
template <class E, class F>
std::string message_of(const char* file, int line, const F& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  failed(file, line, "no exception was thrown");
}

}  // namespace hb_test

#define TEST(name)                                               \
  static void test_##name();                                     \
  static const hb_test::Register reg_##name(#name, test_##name); \
  static void test_##name()

#define CHECK(condition) \
  ((condition) ? void() : hb_test::failed(__FILE__, __LINE__, "CHECK failed: " #condition))

// The statement throws a `Type` whose text contains `part`.
#define CHECK_THROWS(Type, part, ...)                                                              \
  do {                                                                                             \
    const std::string text_ = hb_test::message_of<Type>(__FILE__, __LINE__, [&] { __VA_ARGS__; }); \
    if (text_.find(part) == std::string::npos) {                                                   \
      hb_test::failed(__FILE__, __LINE__, "the error is: " + text_);                               \
    }                                                                                              \
  } while (false)

namespace hb_test {
// Runs this program again with variables NAME=value set and the child case `child` (see main.cc);
// returns what it printed.
std::string run_child(const char* child, const std::vector<std::string>& variables);
std::vector<Case>& child_cases();
struct RegisterChild {
  RegisterChild(const char* name, void (*body)()) { child_cases().push_back({name, body}); }
};
}  // namespace hb_test

// Code for run_child: settings that are read once per process are tested in processes of their own.
// What it throws is printed as "error: …".
#define CHILD(name)                                                     \
  static void child_##name();                                           \
  static const hb_test::RegisterChild creg_##name(#name, child_##name); \
  static void child_##name()
