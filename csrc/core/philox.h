// Philox 4x32-10, a counter-based random generator: the numbers at a counter are a function of
// counter and key alone, so any split over threads or devices gives the same stream.
// Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once
#include <stdint.h>

namespace hb {

struct PhiloxBlock {
  uint32_t v[4];
};

static inline PhiloxBlock philox4x32(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  uint32_t x0 = counter.v[0], x1 = counter.v[1], x2 = counter.v[2], x3 = counter.v[3];
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t(0xD2511F53u) * x0, p1 = uint64_t(0xCD9E8D57u) * x2;
    x0 = uint32_t(p1 >> 32) ^ x1 ^ key0;
    x2 = uint32_t(p0 >> 32) ^ x3 ^ key1;
    x1 = uint32_t(p1);
    x3 = uint32_t(p0);
    key0 += 0x9E3779B9u;  // golden ratio
    key1 += 0xBB67AE85u;  // sqrt(3) - 1
  }
  return {{x0, x1, x2, x3}};
}

// Block `index` of the stream (seed, stream): four independent uniform 32-bit numbers.
static inline PhiloxBlock philox_block(uint64_t seed, uint64_t stream, uint64_t index) {
  return philox4x32(
      {{uint32_t(index), uint32_t(index >> 32), uint32_t(stream), uint32_t(stream >> 32)}},
      uint32_t(seed), uint32_t(seed >> 32));
}

// [0, 1) with 24 and 53 random bits.
static inline float philox_float(uint32_t bits) { return float(bits >> 8) * 0x1p-24f; }
static inline double philox_double(uint32_t high, uint32_t low) {
  return double((uint64_t(high) << 32 | low) >> 11) * 0x1p-53;
}

}  // namespace hb
