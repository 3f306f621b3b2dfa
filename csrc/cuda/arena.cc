#include "cuda/arena.h"

#include <algorithm>

namespace hb::cuda {
namespace {

constexpr size_t kAlign = 512, kMiB = size_t(1) << 20;
// Small blocks share regions; what is larger than half of one has a region of its own size.
constexpr size_t kRegion = 32 * kMiB;

size_t rounded(size_t bytes, size_t to) { return (std::max<size_t>(bytes, 1) + to - 1) / to * to; }

}  // namespace

void* Arena::take(size_t bytes) {
  bytes = rounded(bytes, kAlign);
  void* block = take_free(bytes);
  if (!block && grow(bytes)) block = take_free(bytes);
  if (!block) return nullptr;
  in_use_ += bytes;
  return block;
}

void* Arena::take_free(size_t bytes) {
  const auto found = free_.lower_bound({bytes, nullptr});
  if (found == free_.end()) return nullptr;
  char* const start = found->second;
  free_.erase(found);
  Block& block = blocks_.at(start);
  block.free = false;
  if (block.bytes > bytes) {
    const size_t rest = block.bytes - bytes;
    block.bytes = bytes;
    blocks_[start + bytes] = {rest, block.region, true};
    free_.insert({rest, start + bytes});
  }
  return start;
}

bool Arena::grow(size_t bytes) {
  const size_t least = rounded(bytes, 2 * kMiB);
  const size_t wanted = bytes > kRegion / 2 ? least : kRegion;
  for (const bool released : {false, true}) {
    if (released) release();
    for (const size_t size : {wanted, least}) {
      if (size > limit_ || reserved_ > limit_ - size) continue;
      char* region = static_cast<char*>(get_(size));
      if (!region) continue;
      regions_[region] = size;
      blocks_[region] = {size, region, true};
      free_.insert({size, region});
      reserved_ += size;
      return true;
    }
  }
  return false;
}

std::map<char*, Arena::Block>::iterator Arena::join(std::map<char*, Block>::iterator a,
                                                    std::map<char*, Block>::iterator b) {
  for (auto i : {a, b})
    if (i->second.free) free_.erase({i->second.bytes, i->first});
  a->second.bytes += b->second.bytes;
  blocks_.erase(b);
  return a;
}

void Arena::give(void* block) noexcept {
  auto i = blocks_.find(static_cast<char*>(block));
  in_use_ -= i->second.bytes;
  const auto joins = [&](auto other) {
    return other->second.free && other->second.region == i->second.region;
  };
  if (const auto next = std::next(i); next != blocks_.end() && joins(next)) i = join(i, next);
  if (i != blocks_.begin())
    if (const auto previous = std::prev(i); joins(previous)) i = join(previous, i);
  i->second.free = true;
  free_.insert({i->second.bytes, i->first});
}

void Arena::release() {
  for (auto region = regions_.begin(); region != regions_.end();) {
    const auto block = blocks_.find(region->first);
    if (!block->second.free || block->second.bytes != region->second) {
      ++region;
      continue;
    }
    free_.erase({block->second.bytes, block->first});
    blocks_.erase(block);
    reserved_ -= region->second;
    give_(region->first);
    region = regions_.erase(region);
  }
}

MemoryStats Arena::stats() const {
  MemoryStats s;
  s.current = in_use_;
  s.reserved = reserved_;
  s.largest = free_.empty() ? 0 : free_.rbegin()->first;
  return s;
}

size_t Arena::block_bytes(void* block) const { return blocks_.at(static_cast<char*>(block)).bytes; }

}  // namespace hb::cuda
