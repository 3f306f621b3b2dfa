#include <algorithm>
#include <vector>

#include "check.h"
#include "runtime/branches.h"

namespace {

using Needs = std::vector<std::vector<int>>;

// Every step once, after what it needs; steps that run together need nothing of each other.
bool valid(const Needs& needs, const hb::Branches& b) {
  const int n = int(needs.size());
  std::vector<int> end_of(n, -1);  // place where the group of a step ends
  if (int(b.order.size()) != n || int(b.together.size()) != n) return false;
  for (int at = 0; at < n;) {
    const int count = b.together[at];
    if (count < 1 || at + count > n) return false;
    for (int k = at; k < at + count; ++k) {
      if (k > at && b.together[k] != 0) return false;
      for (int i : needs[b.order[k]])
        if (end_of[i] < 0) return false;
    }
    for (int k = at; k < at + count; ++k) {
      if (end_of[b.order[k]] >= 0) return false;
      end_of[b.order[k]] = at + count;
    }
    at += count;
  }
  return true;
}

uint64_t next(uint64_t& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return state >> 33;
}

}  // namespace

TEST(branches_two_directions_meet) {
  // project, run, project, run, join; twice
  const Needs needs = {{}, {0}, {}, {2}, {1, 3}, {4}, {5}, {4}, {7}, {6, 8}};
  const std::vector<bool> single = {false, true, false, true, false,
                                    false, true, false, true, false};
  const hb::Branches b = hb::find_branches(needs, single);
  CHECK(valid(needs, b));
  CHECK((b.order == std::vector<int>{0, 2, 1, 3, 4, 5, 7, 6, 8, 9}));
  CHECK((b.together == std::vector<int>{1, 1, 2, 0, 1, 1, 1, 2, 0, 1}));
}

TEST(branches_readers_wait_behind_the_group) {
  const Needs needs = {{}, {}, {0}, {2}, {1}};  // 2 and 3 read the first single step
  const hb::Branches b = hb::find_branches(needs, {true, false, false, false, true});
  CHECK(valid(needs, b));
  CHECK((b.order == std::vector<int>{1, 0, 4, 2, 3}));
}

TEST(branches_chains_stay) {
  const Needs needs = {{}, {0}, {1}};
  const hb::Branches b = hb::find_branches(needs, {true, true, true});
  CHECK((b.order == std::vector<int>{0, 1, 2}));
  CHECK((b.together == std::vector<int>{1, 1, 1}));
}

TEST(branches_of_any_graph_are_valid) {
  uint64_t state = 3;
  for (int round = 0; round < 300; ++round) {
    const int n = 1 + int(next(state) % 400);
    Needs needs(n);
    std::vector<bool> single(n);
    for (int i = 0; i < n; ++i) {
      single[i] = next(state) % 3 == 0;
      for (uint64_t k = next(state) % 3; i > 0 && k > 0; --k)
        needs[i].push_back(int(next(state) % uint64_t(i)));
    }
    CHECK(valid(needs, hb::find_branches(needs, single)));
  }
}
