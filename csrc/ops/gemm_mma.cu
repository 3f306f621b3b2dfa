// Products on tensor cores: the plan, bfloat16 and float16, and the sum of parts.
#include <stdlib.h>

#include <algorithm>

#include "ops/gemm_mma_kernel.cuh"
#include "ops/gemm_plan.cuh"
#include "ops/gemm_vendor.cuh"

namespace hb::cuda {

void run_mma_float(const MmaProduct&, Float32Products, bool large, void* stream);  // …_float.cu
void run_mma_double(const MmaProduct&, void* stream);
void run_mma_bytes(const MmaProduct&, bool large, void* stream);  // …_bytes.cu
// On Hopper's own instructions (gemm_hopper.cu), if it can: bfloat16, float16, float32 as tf32.
bool run_hopper(const MmaProduct&, DType, void* stream);

namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) add_parts(const MmaProduct p) {
  typedef Compute<T> Sum;
  const int64_t size = p.batch * p.m * p.n;
  const Sum* partial = static_cast<const Sum*>(p.partial);
  MmaProduct whole = p;
  whole.partial = nullptr;
  HB_EACH(e, size) {
    Sum sum = partial[e];
    for (int part = 1; part < p.parts; ++part) sum += partial[part * size + e];
    const int64_t row = e / p.n;
    store_sum<T>(whole, int(row / p.m), 0, int(row % p.m), int(e - row * p.n), sum);
  }
}

}  // namespace

#ifdef HB_EMULATE
int architecture() {
  const char* name = getenv("HORNBEAM_EMULATE_ARCHITECTURE");
  return name ? atoi(name) : 80;
}
#else
int architecture() {
  int device = 0, major = 0, minor = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  return major * 10 + minor;
}
#endif

MmaPlan::MmaPlan(DType dtype, int64_t m, int64_t n, int64_t k, int64_t batch, bool matrices)
    : dtype_(dtype), m_(m), n_(n), batch_(batch) {
  const int64_t end = (int64_t(1) << 31) - 256;
  possible_ = dtype == DType::BF16 || dtype == DType::F16 || dtype == DType::F32 ||
              dtype == DType::F64 || dtype == DType::I8;
  possible_ = possible_ && m < end && n < end && k < end;
  if (dtype == DType::F32) switch (matmul_precision()) {
      case Precision::Highest:
        float32_ = Float32Products::Parts3;
        break;
      case Precision::High:
        float32_ = Float32Products::Parts2;
        break;
      case Precision::Medium:
        float32_ = Float32Products::Tf32;
        break;
    }
  const auto tiles = [&](int64_t t) { return (m + t - 1) / t * ((n + t - 1) / t) * batch; };
  // Blocks that a large device runs at once, as few of them as its 128 multiprocessors or so. By
  // sizes only: results do not depend on the device.
  constexpr int64_t kEnough = 128, kLeastDepth = 512;
  const int64_t most_parts = k / kLeastDepth < 1 ? 1 : k / kLeastDepth;
  large_ = dtype != DType::F64 && m > 64 && n > 64 && tiles(128) * most_parts >= kEnough;
  const int64_t count = tiles(large_ ? 128 : 64);
  possible_ = possible_ && count < end;
  int64_t parts = count > 0 && count < kEnough ? 2 * kEnough / count : 1;
  if (parts > most_parts) parts = most_parts;
  const int64_t depth = 64;  // a multiple of the numbers of a stage
  part_k_ = int(((k + parts - 1) / parts + depth - 1) / depth * depth);
  if (part_k_ < depth) part_k_ = int(depth);
  parts_ = int((k + part_k_ - 1) / part_k_);
  if (parts_ < 1) parts_ = 1;
  if (matrices && possible_ && dtype != DType::I8 && m > 0 && n > 0 && k > 0)
    vendor_ = VendorProduct::create(dtype, float32_);
}

size_t MmaPlan::partial_bytes() const {
  const size_t item = dtype_ == DType::F64 ? 8 : 4;
  const size_t own = parts_ > 1 ? size_t(parts_) * size_t(batch_ * m_ * n_) * item : 0;
  return vendor_ ? std::max(own, VendorProduct::kWorkspace) : own;
}

void MmaPlan::run(MmaProduct p, void* stream) const {
  p.parts = parts_;
  p.part_k = part_k_;
  void* workspace = p.partial;
  if (parts_ == 1) p.partial = nullptr;
  for (Operand* o : {&p.a, &p.b})
    while (uintptr_t(o->data) % uintptr_t(o->width) != 0) o->width /= 2;
  const auto own = [&] { run_own(p, stream); };
  if (!vendor_ || !vendor_->run(p, workspace, stream, own)) own();
}

void MmaPlan::run_own(const MmaProduct& p, void* stream) const {
  const auto add = [&](void (*kernel)(MmaProduct)) {
    if (parts_ > 1)
      launch(blocks_for(p.batch * p.m * int64_t(p.n)), dim3(kThreads), stream, kernel, p);
  };
  const bool hopper = large_ && (dtype_ != DType::F32 || float32_ == Float32Products::Tf32) &&
                      dtype_ != DType::I8 && run_hopper(p, dtype_, stream);
  switch (dtype_) {
    case DType::BF16:
      if (!hopper) run_mma_engine<HalfEngine<BHalf>>(p, large_, stream);
      return add(add_parts<BHalf>);
    case DType::F16:
      if (!hopper) run_mma_engine<HalfEngine<Half>>(p, large_, stream);
      return add(add_parts<Half>);
    case DType::F32:
      if (!hopper) run_mma_float(p, float32_, large_, stream);
      return add(add_parts<float>);
    case DType::I8:
      run_mma_bytes(p, large_, stream);
      return add(add_parts<uint32_t>);
    default:
      run_mma_double(p, stream);
      return add(add_parts<double>);
  }
}

}  // namespace hb::cuda
