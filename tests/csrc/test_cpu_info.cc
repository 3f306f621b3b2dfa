#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "check.h"
#include "core/cpu_info.h"

using namespace hb;
using hb_test::run_child;

CHILD(isa) { std::printf("%s", isa_name(isa_level())); }

TEST(isa_levels) {
  const int machine = machine_isa_level();
  CHECK(machine >= 0 && machine < kNumIsaLevels);
#if defined(__x86_64__)
  CHECK((machine >= 1) == bool(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")));
  CHECK((machine >= 2) ==
        bool(__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512dq")));
#endif
  CHECK(run_child("isa", {}) == isa_name(machine < 2 ? machine : 2));
  CHECK(run_child("isa", {"HORNBEAM_ISA="}) == isa_name(machine < 2 ? machine : 2));
  for (int level = 0; level < kNumIsaLevels; ++level) {
    const std::string name = isa_name(level);
    const std::string text = run_child("isa", {"HORNBEAM_ISA=" + name});
    if (level <= machine) {
      CHECK(text == name);
    } else {
      CHECK(text.find("this machine lacks that level; available here: baseline") !=
            std::string::npos);
    }
  }
  const std::string text = run_child("isa", {"HORNBEAM_ISA=sse9"});
  CHECK(text.find("HORNBEAM_ISA: unknown level; available here: baseline") != std::string::npos);
  CHECK(text.find("got 'sse9'") != std::string::npos);
  CHECK_THROWS(Error, "no instruction-set level 4", isa_name(4));
}

TEST(cache_and_cpus) {
  CHECK(l2_bytes() >= 64 << 10 && l2_bytes() <= size_t(1) << 30);
  CHECK(usable_cpus() >= 1);
}

TEST(cgroup_limits) {
  const std::filesystem::path root =
      std::filesystem::temp_directory_path() / ("hb_cgroup_" + std::to_string(getpid()));
  const auto put = [&](const char* path, const char* text) {
    std::filesystem::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  };
  put("a/cpu.max", "250000 100000\n");
  put("a/b/cpu.max", "max 100000\n");
  put("a/c/cpu.max", "150000 100000\n");
  put("cpu/x/cpu.cfs_quota_us", "400000\n");
  put("cpu/x/cpu.cfs_period_us", "100000\n");
  put("cpu/x/y/cpu.cfs_quota_us", "-1\n");
  put("cpu/x/y/cpu.cfs_period_us", "100000\n");
  put("cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
  put("cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  const auto limit = [&](const char* membership) {
    return cgroup_cpu_limit(membership, root.string());
  };
  CHECK(limit("0::/a/b\n") == 2.5);           // the ancestor's
  CHECK(limit("0::/a/c\n") == 1.5);           // its own, smaller
  CHECK(limit("0::/host/only/path\n") == 0);  // nothing on the way up
  CHECK(limit("0::/\n") == 0 && limit("") == 0 && limit("nonsense\n") == 0);
  CHECK(limit("3:memory:/x\n4:cpu:/x/y\n") == 4);
  CHECK(limit("4:cpu,cpuacct:/docker/0123\n") == 0.5);  // of the mount's root
  CHECK(limit("4:cpuset:/x\n") == 0);
  CHECK(limit("4:cpu:/x\n0::/a/c\n") == 1.5);  // both hierarchies
  std::filesystem::remove_all(root);
}
