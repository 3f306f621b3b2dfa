#include "runtime/branches.h"

#include <algorithm>

namespace hb {
namespace {

constexpr size_t kWindow = 256;  // steps that are searched for partners

}  // namespace

Branches find_branches(const std::vector<std::vector<int>>& needs,
                       const std::vector<bool>& single) {
  const size_t n = needs.size();
  Branches result;
  std::vector<int> pending(n);  // in order
  for (size_t i = 0; i < n; ++i) pending[i] = int(i);
  std::vector<bool> waits(n, false);
  for (size_t at = 0; at < n;) {
    std::vector<int> group, before, after;
    size_t end = at + 1;  // behind the last member
    if (single[pending[at]]) {
      std::vector<int> marked;
      for (size_t k = at; k < std::min(n, at + kWindow); ++k) {
        const int step = pending[k];
        const bool behind =
            std::any_of(needs[step].begin(), needs[step].end(), [&](int i) { return waits[i]; });
        if (!behind && !single[step]) continue;
        if (!behind) group.push_back(step), end = k + 1;
        waits[step] = true;
        marked.push_back(step);
      }
      if (group.size() > 1) {
        for (size_t k = at; k < end; ++k) {
          const int step = pending[k];
          if (std::find(group.begin(), group.end(), step) != group.end()) continue;
          (waits[step] ? after : before).push_back(step);
        }
      }
      for (int step : marked) waits[step] = false;
    }
    if (group.size() < 2) {
      result.order.push_back(pending[at++]);
      result.together.push_back(1);
      continue;
    }
    for (int step : before) {
      result.order.push_back(step);
      result.together.push_back(1);
    }
    for (size_t k = 0; k < group.size(); ++k) {
      result.order.push_back(group[k]);
      result.together.push_back(k ? 0 : int(group.size()));
    }
    std::copy(after.begin(), after.end(), pending.begin() + std::ptrdiff_t(end - after.size()));
    at = end - after.size();
  }
  return result;
}

}  // namespace hb
