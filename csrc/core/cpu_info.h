// What the machine offers: instruction-set level, caches, usable CPUs.
#pragma once
#include <string>

#include "core/kernel.h"

namespace hb {

// Levels: 0 "baseline" (portable; x86-64-v2 on x86), 1 "avx2" (x86-64-v3), 2 "avx512"
// (F, BW, CD, DQ, VL), 3 "amx" (the kernels of avx512, products on AMX tiles of bfloat16 and int8).
constexpr int kNumIsaLevels = 4;
const char* isa_name(int level);

// The highest level that processor and operating system support. Asks Linux for the AMX state;
// level 3 is there only if `check_tiles` finds its products right.
int machine_isa_level();

// Set while the library is loaded, by whoever has kernels of level 3.
void set_tiles_check(bool (*check_tiles)());

// The level in use: the machine's, or HORNBEAM_ISA. Throws Error if that names an unknown level or
// one that the machine lacks.
int isa_level();

// Whether the processor has the dot products of bytes (VNNI) of the level in use: AVX-VNNI at level
// 1, AVX512_VNNI from level 2 on.
bool has_byte_dots();

// CPUs that this process may use: min(affinity mask, cgroup CPU limit rounded up), at least 1.
int usable_cpus();

// The smallest CPU limit (in CPUs) of a cgroup and its ancestors, version 1 or 2; 0 if there is
// none. `membership` is the text of /proc/self/cgroup, `root` the mount point of the hierarchy.
double cgroup_cpu_limit(const std::string& membership, const std::string& root);

}  // namespace hb
