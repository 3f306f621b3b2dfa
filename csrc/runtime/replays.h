// Instructions of a device in a row, started as one recording (a CUDA graph).
//
// A recording holds addresses, so it stands for one set of them. A set that comes for the first
// time is only noted: the instructions run one by one, and what kernels do once is done. When it
// comes again they are recorded, and from then on started as a whole. A few sets are kept; memory
// that a program gets again and again has few addresses.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/device.h"

namespace hb {

struct ReplayCounts {
  int64_t direct = 0, recorded = 0, replayed = 0;
};

class Replays {
 public:
  explicit Replays(Device& device) : device_(device) {}

  // `work(stream)` gives the instructions to a stream. All memory that they touch is named by
  // `addresses`, or never changes its place.
  void run(const std::vector<const void*>& addresses, const std::function<void(void*)>& work);

  ReplayCounts counts() const;
  std::string refused() const;  // why they cannot be recorded, or empty

 private:
  static constexpr size_t kKept = 4;
  struct Entry {
    std::vector<const void*> addresses;
    std::unique_ptr<Recording> recording;
    uint64_t used;
  };

  Device& device_;
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
  uint64_t clock_ = 0;
  ReplayCounts counts_;
  std::string refused_;
};

// Whether programs record: unless HORNBEAM_CUDA_GRAPHS=0.
bool recordings_wanted();

}  // namespace hb
