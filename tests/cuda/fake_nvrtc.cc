// A library with NVRTC's names that compiles for the emulated device: by the host compiler
// (FAKE_NVRTC_COMPILER, a command to which `SOURCE -o LIBRARY` is added). FAKE_NVRTC_FOLDER keeps
// the sources, and a line in its file `calls` for each. FAKE_NVRTC_FAILS: every compilation fails.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace {
struct Program {
  std::string source, code, log;
};
std::string variable(const char* name) {
  const char* text = getenv(name);
  return text ? text : "";
}
// What the emulated runtime asks for (csrc/cuda/emulate.h).
constexpr char kEnd[] = R"(
#include "cuda/emulate.h"
hb::emulate::Position hb::emulate::at;
extern "C" __attribute__((visibility("default"))) const uint64_t hornbeam_cluster_bytes =
    sizeof(hb::cuda::Arguments);
extern "C" __attribute__((visibility("default"))) void hornbeam_cluster_emulated(
    const void* argument, const hb::emulate::Position* at) {
  hb::emulate::at = *at;
  hornbeam_cluster(*static_cast<const hb::cuda::Arguments*>(argument));
}
)";
}  // namespace

extern "C" {
int nvrtcVersion(int* major, int* minor) {
  *major = variable("FAKE_NVRTC_VERSION").empty() ? 13 : atoi(getenv("FAKE_NVRTC_VERSION"));
  *minor = 0;
  return 0;
}
int nvrtcGetNumSupportedArchs(int* count) {
  *count = 2;
  return 0;
}
int nvrtcGetSupportedArchs(int* all) {
  all[0] = 75;
  all[1] = 80;
  return 0;
}
int nvrtcCreateProgram(Program** p, const char* source, const char*, int, const char* const*,
                       const char* const*) {
  *p = new Program{source, "", ""};
  return 0;
}
int nvrtcDestroyProgram(Program** p) {
  delete *p;
  *p = nullptr;
  return 0;
}
int nvrtcCompileProgram(Program* p, int count, const char* const* options) {
  const std::string folder = variable("FAKE_NVRTC_FOLDER");
  char name[64];
  static int number = 0;
  snprintf(name, sizeof name, "/%d-%d", int(getpid()), number++);
  std::ofstream(folder + name + ".cu") << p->source;
  std::ofstream(folder + name + ".cc") << p->source << kEnd;
  std::ofstream calls(folder + "/calls", std::ios::app);
  for (int i = 0; i < count; ++i) calls << options[i] << " ";
  calls << "\n";
  if (!variable("FAKE_NVRTC_FAILS").empty()) {
    p->log = "cluster.cu(1): error: this is asked to fail";
    return 6;
  }
  const std::string out = folder + name + ".so";
  const std::string command = variable("FAKE_NVRTC_COMPILER") + " " + folder + name + ".cc -o " +
                              out + " > " + folder + name + ".log 2>&1";
  if (system(command.c_str()) != 0) {
    std::stringstream log;
    log << std::ifstream(folder + name + ".log").rdbuf();
    p->log = log.str();
    return 6;
  }
  std::stringstream code;
  code << std::ifstream(out, std::ios::binary).rdbuf();
  const uint64_t size = code.str().size();
  p->code =
      "emulated" + std::string(reinterpret_cast<const char*>(&size), sizeof size) + code.str();
  return 0;
}
int nvrtcGetProgramLogSize(Program* p, size_t* size) {
  *size = p->log.size() + 1;
  return 0;
}
int nvrtcGetProgramLog(Program* p, char* log) {
  memcpy(log, p->log.c_str(), p->log.size() + 1);
  return 0;
}
int nvrtcGetCUBINSize(Program* p, size_t* size) {
  *size = p->code.size();
  return 0;
}
int nvrtcGetCUBIN(Program* p, char* code) {
  memcpy(code, p->code.data(), p->code.size());
  return 0;
}
int nvrtcGetPTXSize(Program* p, size_t* size) { return nvrtcGetCUBINSize(p, size); }
int nvrtcGetPTX(Program* p, char* code) { return nvrtcGetCUBIN(p, code); }
}
