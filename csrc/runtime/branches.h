// Independent branches side by side: instructions that cannot use more than one thread, and do not
// wait for each other, run as tasks of one parallel_for (the two directions of a bidirectional
// layer on a small batch, loops over tiny operations).
#pragma once
#include <vector>

namespace hb {

struct Branches {
  std::vector<int> order;  // of the steps
  // For each place in `order`: how many steps from there on run together; 0 inside of a group.
  std::vector<int> together;
};

// needs[i]: steps before i whose results step i reads. single[i]: worth a task of its own.
//
// From a single step on, what follows is sorted into three: steps that wait for the group, other
// single steps, which join it, and the rest, which goes before it. The result depends on the
// program alone.
Branches find_branches(const std::vector<std::vector<int>>& needs, const std::vector<bool>& single);

}  // namespace hb
