#include <algorithm>
#include <vector>

#include "check.h"
#include "runtime/planner.h"

namespace {

uint64_t next(uint64_t& state) {
  return state = state * 6364136223846793005u + 1442695040888963407u;
}

bool overlap(const hb::Lifetime& a, const hb::Lifetime& b) {
  const bool in_time = a.first <= b.last && b.first <= a.last;
  return in_time && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

}  // namespace

TEST(planner_gives_disjoint_aligned_places) {
  uint64_t state = 7;
  for (int round = 0; round < 50; ++round) {
    std::vector<hb::Lifetime> t;
    for (int i = 0; i < 60; ++i) {
      const int first = int(next(state) >> 33) % 100;
      t.push_back({first, first + int(next(state) >> 33) % 20, 1 + (next(state) >> 33) % 5000});
    }
    const size_t total = hb::plan_arena(t);
    for (size_t i = 0; i < t.size(); ++i) {
      CHECK(t[i].offset % 64 == 0);
      CHECK(t[i].offset + t[i].bytes <= total);
      for (size_t j = 0; j < i; ++j) CHECK(!overlap(t[i], t[j]));
    }
  }
}

TEST(planner_reuses_memory_of_the_dead) {
  // a chain: each value dies when the next is there, so two places are enough
  std::vector<hb::Lifetime> chain;
  for (int i = 0; i < 100; ++i) chain.push_back({i, i + 1, 4096});
  CHECK(hb::plan_arena(chain) == 2 * 4096);
}

TEST(planner_handles_nothing_and_empty_values) {
  std::vector<hb::Lifetime> none;
  CHECK(hb::plan_arena(none) == 0);
  std::vector<hb::Lifetime> empty = {{0, 3, 0}, {1, 2, 0}};
  CHECK(hb::plan_arena(empty) <= 128);
}
