#include "check.h"
#include "core/cpu_info.h"
#include "core/registry.h"

using namespace hb;

namespace {

KernelDef def(const char* op, uint32_t dtypes, bool (*supports)(const Prepare&) = nullptr) {
  return {op, dtypes, 0, supports, nullptr, nullptr, nullptr};
}

// As kernels do it: before main, from the constructor of a static object.
const struct RegisterSample {
  RegisterSample() {
    const auto wide = [](const Prepare& p) { return p.inputs[0].shape[0] >= 16; };
    register_kernel(def("t_sample", kF32 | kF64), 0);
    register_kernel(def("t_sample", kF32), 1);
    register_kernel(def("t_sample", kF32 | kBF16, wide), 1);
    register_kernel(def("t_sample", kBF16, wide), 3);
    register_kernel(def("t_source", kI32), 0);
  }
} register_sample;

struct Found {
  int level = -1;
  const KernelDef* def = nullptr;
};
Found find(DType dtype, int64_t size, int max_level) {
  const TensorSpec input{dtype, 1, {size}};
  Prepare p{&input, 1, nullptr, 0, nullptr, nullptr, 0};
  Found found;
  found.def = find_kernel("t_sample", p, max_level, &found.level);
  return found;
}

}  // namespace

TEST(registry_finds_best) {
  CHECK(find(DType::F32, 4, 3).level == 1 && !find(DType::F32, 4, 3).def->supports);
  CHECK(find(DType::F32, 16, 3).level == 1 && find(DType::F32, 16, 3).def->supports);
  CHECK(find(DType::F32, 16, 0).level == 0);
  CHECK(find(DType::F64, 16, 3).level == 0);
  CHECK(find(DType::BF16, 16, 3).level == 3);
  CHECK(find(DType::BF16, 16, 2).level == 1);
  CHECK(!find(DType::BF16, 4, 3).def && !find(DType::I8, 16, 3).def);
}

TEST(registry_without_inputs) {
  const TensorSpec output{DType::I32, 0, {}};
  const Prepare p{nullptr, 0, &output, 1, nullptr, nullptr, 0};
  CHECK(find_kernel("t_source", p, 3, nullptr));
  CHECK(!find_kernel("t_unknown", p, 3, nullptr));
  const Prepare none{nullptr, 0, nullptr, 0, nullptr, nullptr, 0};
  CHECK(!find_kernel("t_source", none, 3, nullptr));
}

TEST(registry_list) {
  std::vector<int> levels;
  for (const KernelInfo& info : list_kernels()) {
    if (std::string(info.op) == "t_sample") levels.push_back(info.level);
  }
  CHECK((levels == std::vector<int>{3, 1, 1, 0}));
}
