#include "runtime/replays.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/error.h"

namespace hb {

bool recordings_wanted() {
  static const bool wanted = [] {
    const char* text = std::getenv("HORNBEAM_CUDA_GRAPHS");
    return !text || std::strcmp(text, "0") != 0;
  }();
  return wanted;
}

void Replays::run(const std::vector<const void*>& addresses,
                  const std::function<void(void*)>& work) {
  std::lock_guard lock(mutex_);
  Entry* entry = nullptr;
  if (refused_.empty()) {
    for (Entry& e : entries_)
      if (e.addresses == addresses) entry = &e;
    if (!entry) {
      if (entries_.size() == kKept)
        entries_.erase(
            std::min_element(entries_.begin(), entries_.end(),
                             [](const Entry& a, const Entry& b) { return a.used < b.used; }));
      entries_.push_back({addresses, nullptr, ++clock_});
      entry = nullptr;
    } else {
      entry->used = ++clock_;
      if (!entry->recording) {
        try {
          entry->recording = device_.record(work);
          ++counts_.recorded;
        } catch (const Error& e) {  // not lost: they run one by one, and `refused` says why
          refused_ = e.what();
          entries_.clear();
          entry = nullptr;
        }
      }
    }
  }
  if (entry) {
    device_.replay(*entry->recording);
    ++counts_.replayed;
  } else {
    work(device_.stream());
    ++counts_.direct;
  }
}

ReplayCounts Replays::counts() const {
  std::lock_guard lock(mutex_);
  return counts_;
}

std::string Replays::refused() const {
  std::lock_guard lock(mutex_);
  return refused_;
}

}  // namespace hb
