#include "core/cpu_info.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "core/error.h"
#include "core/faults.h"

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace hb {
namespace {

constexpr const char* kIsaNames[kNumIsaLevels] = {"baseline", "avx2", "avx512", "amx"};

bool (*check_tiles)() = nullptr;

#if defined(__x86_64__)

struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned part = 0) {
  Registers r;
  __get_cpuid_count(leaf, part, &r.a, &r.b, &r.c, &r.d);  // leaves r at 0 if there is no such leaf
  return r;
}

bool has(unsigned word, std::initializer_list<int> bits) {
  return std::all_of(bits.begin(), bits.end(), [word](int bit) { return word >> bit & 1; });
}

// State components that the operating system saves (XCR0). Needs OSXSAVE.
uint64_t saved_state() {
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t(high) << 32 | low;
}

bool amx_permitted() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

int detect_isa_level() {
  const Registers one = cpuid(1), seven = cpuid(7), extended = cpuid(0x80000001u);
  constexpr int kOsxsave = 27;
  if (!has(one.c, {kOsxsave})) return 0;
  const uint64_t saved = saved_state();
  constexpr uint64_t kAvx = 0x6, kAvx512 = 0xe6, kTiles = 0x60000;

  const bool v3 = has(one.c, {12, 22, 28, 29}) &&  // FMA, MOVBE, AVX, F16C
                  has(seven.b, {3, 5, 8}) &&       // BMI1, AVX2, BMI2
                  has(extended.c, {5}) &&          // LZCNT
                  (saved & kAvx) == kAvx;
  if (!v3) return 0;
  const bool avx512 = has(seven.b, {16, 17, 28, 30, 31}) &&  // F, DQ, CD, BW, VL
                      (saved & kAvx512) == kAvx512;
  if (!avx512) return 1;
#ifdef HB_TILES_MODEL
  return 3;
#endif
  const bool amx = has(seven.d, {22, 24, 25}) && has(seven.c, {11}) &&  // AMX-BF16, -TILE, -INT8
                   (saved & kTiles) == kTiles && amx_permitted();
  return amx ? 3 : 2;
}

bool detect_bf16_pairs() {
  const Registers vendor = cpuid(0);
  const bool amd = vendor.b == 0x68747541 && vendor.d == 0x69746e65 && vendor.c == 0x444d4163;
  return amd && has(cpuid(7, 1).a, {5});
}
bool detect_byte_dots(int level) {
  return level >= 2 ? has(cpuid(7).c, {11}) : level == 1 && has(cpuid(7, 1).a, {4});
}

#else

int detect_isa_level() { return 0; }
bool detect_bf16_pairs() { return false; }
bool detect_byte_dots(int) { return false; }

#endif  // x86-64

int requested_isa_level() {
  const int machine = machine_isa_level();
  const char* name = std::getenv("HORNBEAM_ISA");
  if (!name || !*name) return machine;
  std::string available;
  for (int i = 0; i <= machine; ++i) {
    if (std::strcmp(name, kIsaNames[i]) == 0) return i;
    available += i ? ", " : "";
    available += kIsaNames[i];
  }
  const bool known = std::any_of(kIsaNames, kIsaNames + kNumIsaLevels,
                                 [name](const char* n) { return std::strcmp(name, n) == 0; });
  fail("HORNBEAM_ISA: %s; available here: %s; got '%s'",
       known ? "this machine lacks that level" : "unknown level", available.c_str(), name);
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  return text.str();
}

// cpu.max of version 2: "<quota or max> <period>".
double limit_v2(const std::string& folder) {
  std::istringstream text(read_file(folder + "/cpu.max"));
  double quota = 0, period = 0;
  return text >> quota >> period && quota > 0 && period > 0 ? quota / period : 0;
}

double limit_v1(const std::string& folder) {
  double quota = 0, period = 0;  // the quota is -1 where there is no limit
  std::istringstream(read_file(folder + "/cpu.cfs_quota_us")) >> quota;
  std::istringstream(read_file(folder + "/cpu.cfs_period_us")) >> period;
  return quota > 0 && period > 0 ? quota / period : 0;
}

size_t detect_l2_bytes() {
#if defined(__linux__)
#ifdef _SC_LEVEL2_CACHE_SIZE
  const long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (bytes > 0) return size_t(bytes);
#endif
  // "<n>K"; index2 is the unified second level on every machine with split first-level caches.
  const std::string text = read_file("/sys/devices/system/cpu/cpu0/cache/index2/size");
  if (const long kib = std::atol(text.c_str()); kib > 0) return size_t(kib) << 10;
#elif defined(__APPLE__)
  uint64_t bytes = 0;
  size_t size = sizeof bytes;
  if (sysctlbyname("hw.l2cachesize", &bytes, &size, nullptr, 0) == 0 && bytes > 0) return bytes;
#endif
  return size_t(512) << 10;
}

int affinity_cpus() {
#if defined(__linux__)
  // The kernel refuses a mask that is too small for its CPUs, so grow it until it is taken.
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
    cpu_set_t* mask = CPU_ALLOC(cpus);
    const size_t size = CPU_ALLOC_SIZE(cpus);
    const bool ok = mask && sched_getaffinity(0, size, mask) == 0;
    const int count = ok ? CPU_COUNT_S(size, mask) : 0;
    CPU_FREE(mask);
    if (count > 0) return count;
  }
#endif
  return std::max(1, int(std::thread::hardware_concurrency()));
}

}  // namespace

const char* isa_name(int level) {
  if (level < 0 || level >= kNumIsaLevels) fail("isa_name: no instruction-set level %d", level);
  return kIsaNames[level];
}

void set_tiles_check(bool (*check)()) { check_tiles = check; }

int machine_isa_level() {
  static const int level = [] {
    const int detected = detect_isa_level();
    return detected < 3 || (check_tiles && passes_without_fault(check_tiles)) ? detected : 2;
  }();
  return level;
}

int isa_level() {
  static const int level = requested_isa_level();
  return level;
}

bool has_bf16_pairs() {
  static const bool has = isa_level() >= 2 && detect_bf16_pairs();
  return has;
}

bool has_tiles() { return isa_level() >= 3; }

bool has_byte_dots() {
  static const bool has = detect_byte_dots(isa_level());
  return has;
}

size_t l2_bytes() {
  static const size_t bytes = detect_l2_bytes();
  return bytes;
}

double cgroup_cpu_limit(const std::string& membership, const std::string& root) {
  double smallest = 0;
  // A container may show a path of its host that does not exist inside: walking up to the root of
  // the mount finds the limit then.
  const auto walk = [&](const std::string& mount, std::string path,
                        double (*limit)(const std::string&)) {
    for (;;) {
      while (!path.empty() && path.back() == '/') path.pop_back();
      const double found = limit(mount + path);
      if (found > 0 && (smallest == 0 || found < smallest)) smallest = found;
      if (path.empty()) return;
      path.erase(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  };
  // Lines are "<id>:<controllers>:<path>"; version 2 has id 0 and no controllers.
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      walk(root, path, limit_v2);
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      walk(root + "/cpu", path, limit_v1);
      walk(root + "/" + controllers, path, limit_v1);
    }
  }
  return smallest;
}

int usable_cpus() {
  static const int cpus = [] {
    const double limit = cgroup_cpu_limit(read_file("/proc/self/cgroup"), "/sys/fs/cgroup");
    const int affinity = affinity_cpus();
    return limit > 0 ? std::clamp(int(std::ceil(limit)), 1, affinity) : affinity;
  }();
  return cpus;
}

}  // namespace hb
