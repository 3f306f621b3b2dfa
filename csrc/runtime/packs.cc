#include "runtime/packs.h"

#include <atomic>
#include <cstdint>

#include "core/allocator.h"
#include "core/error.h"
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace hb {
namespace {

std::atomic<size_t> packed_bytes{0};  // of what changes

// Packs of variables take a quarter of the machine's memory at most, and half of what a limit
// leaves.
bool has_room(size_t bytes) {
#if defined(_SC_PHYS_PAGES)
  static const size_t most = size_t(sysconf(_SC_PHYS_PAGES)) / 4 * size_t(sysconf(_SC_PAGESIZE));
#else
  static const size_t most = size_t(1) << 30;
#endif
  const size_t limit = memory_limit(), used = memory_in_use();
  return packed_bytes + bytes <= most &&
         (limit == SIZE_MAX || (used < limit && bytes <= (limit - used) / 2));
}

struct CountedPack : Pack {
  ~CountedPack() { packed_bytes -= memory ? memory->bytes() : 0; }
};

}  // namespace

const void* Packs::keep(int input, std::vector<int64_t> layout, size_t bytes,
                        void (*fill)(void* ctx, void* memory), void* ctx) {
  const Source& source = sources_[size_t(input)];
  std::shared_ptr<const Pack> kept;
  const bool shared = source.variable && !layout.empty();
  if (shared) kept = source.variable->find_pack(source.version, layout);
  if (!kept) {
    std::shared_ptr<Pack> pack;
    if (source.changes) {
      if (!has_room(bytes)) throw OutOfMemory("packed weights: not enough memory to spare");
      pack = std::make_shared<CountedPack>();
      pack->memory = Buffer::allocate(bytes);
      packed_bytes += bytes;
    } else {
      pack = std::make_shared<Pack>();
      pack->memory = Buffer::allocate(bytes);
    }
    fill(ctx, pack->memory->data());
    pack->layout = std::move(layout);
    if (shared) source.variable->add_pack(source.version, pack);
    kept = std::move(pack);
  }
  kept_.push_back(kept);
  return kept->memory->data();
}

const void* keep_packed(const Prepare& p, int input, IntList layout, size_t bytes,
                        void (*fill)(void* ctx, void* memory), void* ctx) {
  if (!p.packs) fail("a constant can be packed only while a program is built");
  return p.packs->keep(input, {layout.data, layout.data + layout.size}, bytes, fill, ctx);
}

}  // namespace hb
