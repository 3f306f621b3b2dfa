#include "core/precision.h"

#include <atomic>

namespace hb {
namespace {

std::atomic<Precision> precision{Precision::Highest};

}  // namespace

Precision matmul_precision() { return precision.load(std::memory_order_relaxed); }

void set_matmul_precision(Precision p) { precision.store(p, std::memory_order_relaxed); }

}  // namespace hb
