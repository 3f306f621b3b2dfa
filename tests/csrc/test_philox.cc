#include "check.h"
#include "core/philox.h"

using namespace hb;

namespace {
bool equal(const PhiloxBlock& a, const PhiloxBlock& b) {
  for (int i = 0; i < 4; ++i) {
    if (a.v[i] != b.v[i]) return false;
  }
  return true;
}
}  // namespace

// Known answers for philox4x32 with 10 rounds, as published with Random123.
TEST(philox_known_answers) {
  CHECK(
      equal(philox4x32({{0, 0, 0, 0}}, 0, 0), {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}));
  CHECK(equal(philox4x32({{~0u, ~0u, ~0u, ~0u}}, ~0u, ~0u),
              {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}));
  CHECK(
      equal(philox4x32({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0),
            {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}));
}

TEST(philox_block_layout) {
  CHECK(equal(philox_block(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88),
              {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}));
  CHECK(!equal(philox_block(1, 0, 0), philox_block(0, 1, 0)));
}

TEST(philox_uniform_range) {
  CHECK(philox_float(0) == 0.f && philox_float(~0u) == 1.f - 0x1p-24f);
  CHECK(philox_double(0, 0) == 0. && philox_double(~0u, ~0u) == 1. - 0x1p-53);
  CHECK(philox_float(0x80000000u) == 0.5f && philox_double(0x80000000u, 0) == 0.5);
}
