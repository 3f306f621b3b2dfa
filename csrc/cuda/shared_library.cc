#include "cuda/shared_library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <mutex>
#include <set>

namespace hb::cuda {
namespace {

constexpr char kMark = 0;

// site-packages, from site-packages/hornbeam/backend/_cuda.so
std::string packages() {
  Dl_info info;
  if (!dladdr(&kMark, &info) || !info.dli_fname) return "";
  std::string folder = info.dli_fname;
  for (int up = 0; up < 3; ++up) {
    const size_t cut = folder.rfind('/');
    folder = cut == std::string::npos ? std::string() : folder.substr(0, cut);
  }
  return folder;
}

std::vector<std::string> places(const char* variable,
                                const std::vector<SharedLibrary::Name>& names) {
  std::vector<std::string> all;
  if (const char* given = getenv(variable); given && *given) {
    struct stat s;
    if (stat(given, &s) != 0 || !S_ISDIR(s.st_mode)) return {given};
    for (const auto& name : names) all.push_back(std::string(given) + "/" + name.file);
    return all;
  }
  for (const auto& name : names) all.push_back(name.file);
  for (const auto& name : names) all.push_back(std::string("/usr/local/cuda/lib64/") + name.file);
  const std::string beside = packages();
  for (const auto& name : names)
    if (!beside.empty()) all.push_back(beside + "/nvidia/" + name.package + "/lib/" + name.file);
  return all;
}

}  // namespace

void tell_once(const char* consequence, const LibraryProblem& problem) {
  const char* stages = getenv("HORNBEAM_DEBUG");
  if (!stages || !strstr(stages, "plan")) return;
  static std::mutex mutex;
  static auto& told = *new std::set<std::string>;
  std::lock_guard lock(mutex);
  const std::string line = std::string(consequence) + ": " + problem.what();
  if (told.insert(line).second) fprintf(stderr, "%s\n", line.c_str());
}

SharedLibrary::SharedLibrary(const char* title, const char* variable,
                             const std::vector<Name>& names)
    : title_(title) {
  std::string problem;
  for (const std::string& name : places(variable, names)) {
    opened_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (opened_) return;
    if (problem.empty()) problem = dlerror();
  }
  throw LibraryProblem(std::string(title) + " was not found: " + problem);
}

void* SharedLibrary::symbol(const char* name) const {
  void* found = dlsym(opened_, name);
  if (!found) throw LibraryProblem(std::string(title_) + " has no " + name);
  return found;
}

}  // namespace hb::cuda
