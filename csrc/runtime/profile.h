// What the profiler records: one event for each instruction that ran while it was on.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/attrs.h"

namespace hb {

// Costs of an instruction, from its shapes: floating-point operations, and bytes of all operands.
struct Cost {
  double flops = 0;
  double bytes = 0;
};
Cost instruction_cost(const std::string& op, const Prepare& p);

struct ProfileEvent {
  std::string name;   // op and level, for clusters also their functions
  std::string where;  // the user's line
  int64_t start_ns, end_ns;
  int thread;  // small number of the thread that ran the program
  Cost cost;
};

bool profiling();
void start_profile();
std::vector<ProfileEvent> stop_profile();
int64_t profile_clock_ns();
void record_event(ProfileEvent event);

}  // namespace hb
