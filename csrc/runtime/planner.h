// Offline arena planning: where in one block of memory each temporary lives.
#pragma once
#include <cstddef>
#include <vector>

namespace hb {

// A temporary is needed from instruction `first` to instruction `last`, both included.
struct Lifetime {
  int first, last;
  size_t bytes;
  size_t offset = 0;  // set by plan_arena
};

// Gives every lifetime a 64-byte aligned offset such that no two that overlap in time overlap in
// memory; returns the bytes needed. Greedy by size (largest first, lowest gap that fits), which is
// within a few per cent of the lower bound on training graphs; deterministic.
size_t plan_arena(std::vector<Lifetime>& lifetimes);

}  // namespace hb
