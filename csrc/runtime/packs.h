// Packed constants of one kernel, made while it is prepared (keep_packed in core/kernel.h).
#pragma once
#include <memory>
#include <vector>

#include "runtime/variable.h"

namespace hb {

// Where the value of a constant operand comes from: a variable, at that version; else it was
// computed from variables (`changes`), or is a constant of the graph.
struct Source {
  Variable* variable = nullptr;
  uint64_t version = 0;
  bool changes = false;
};

class Packs {
 public:
  explicit Packs(std::vector<Source> sources) : sources_(std::move(sources)) {}

  // Throws OutOfMemory; for what changes also where packs would take too large a share of memory.
  const void* keep(int input, std::vector<int64_t> layout, size_t bytes,
                   void (*fill)(void* ctx, void* memory), void* ctx);
  // What the kernel needs as long as it lives.
  std::vector<std::shared_ptr<const Pack>> take() { return std::move(kept_); }

 private:
  std::vector<Source> sources_;  // [inputs]
  std::vector<std::shared_ptr<const Pack>> kept_;
};

}  // namespace hb
