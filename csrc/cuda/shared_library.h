// A library of NVIDIA's that is opened at run time, where it is found: nothing links to it.
#pragma once
#include <stdexcept>
#include <string>
#include <vector>

namespace hb::cuda {

// Why it cannot be used. What opens one says what follows from that.
struct LibraryProblem : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// With HORNBEAM_DEBUG=plan, each line once: what follows from a problem, and the problem.
void tell_once(const char* consequence, const LibraryProblem& problem);

class SharedLibrary {
 public:
  struct Name {
    const char *file, *package;  // a folder of NVIDIA's packages that may have it
  };
  // The first that can be opened. `variable` is of the environment: if it is set, the library or
  // its folder, and nothing else is looked for. Else the loader's places, the toolkit's folder, the
  // packages beside this one.
  SharedLibrary(const char* title, const char* variable, const std::vector<Name>& names);

  template <class F>
  void find(F*& function, const char* name) const {
    function = reinterpret_cast<F*>(symbol(name));
  }

 private:
  void* symbol(const char* name) const;

  const char* title_;
  void* opened_ = nullptr;  // for good
};

}  // namespace hb::cuda
