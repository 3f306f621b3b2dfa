#include "runtime/planner.h"

#include <algorithm>
#include <numeric>

namespace hb {

size_t plan_arena(std::vector<Lifetime>& lifetimes) {
  constexpr size_t kAlign = 64;
  std::vector<int> order(lifetimes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return lifetimes[a].bytes > lifetimes[b].bytes; });
  std::vector<const Lifetime*> placed;  // sorted by offset
  size_t total = 0;
  for (int i : order) {
    Lifetime& t = lifetimes[i];
    const size_t bytes = (std::max<size_t>(t.bytes, 1) + kAlign - 1) / kAlign * kAlign;
    size_t offset = 0;
    for (const Lifetime* p : placed) {
      if (p->last < t.first || t.last < p->first) continue;
      if (offset + bytes <= p->offset) break;
      offset = std::max(offset,
                        p->offset + (std::max<size_t>(p->bytes, 1) + kAlign - 1) / kAlign * kAlign);
    }
    t.offset = offset;
    total = std::max(total, offset + bytes);
    placed.insert(std::upper_bound(
                      placed.begin(), placed.end(), &t,
                      [](const Lifetime* a, const Lifetime* b) { return a->offset < b->offset; }),
                  &t);
  }
  return total;
}

}  // namespace hb
