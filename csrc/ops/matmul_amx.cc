// matmul on tile registers (gemm_amx.h), compiled for the level "amx" only.
//
// float32: six, three or one product of bfloat16 parts, as set_matmul_precision asks; operands that
// the parts cannot hold (non-finite, extreme exponents) are found while packing, and the kernel of
// the level below computes the product. bfloat16: one product, as they are.
//
// No machine with AMX has run this: what is tested is the same code on a model of the registers.
// So the level is taken only if HORNBEAM_ISA=amx asks for it.
#include "core/kernel.h"
#include "ops/gemm_amx.h"
#include "simd/half.h"

namespace hb {
const KernelDef* find_kernel(const char* op, const Prepare& prepare, int max_level,
                             int* level_found, DeviceKind kind);
}

HB_KERNELS_BEGIN

bool attr_set(const Attrs& attrs, const char* name) {
  return attr_has(attrs, name) && attr_int(attrs, name);
}

class MatmulAmx {
 public:
  // Large products by one matrix; what is small is bound by packing.
  static bool supports(const Prepare& p) {
    const TensorSpec &a = p.inputs[0], &b = p.inputs[1], &c = p.outputs[0];
    if (b.rank != 2 || a.rank < 2 || p.num_inputs > 3 || attr_has(*p.attrs, "epilogue"))
      return false;
    if (attr_set(*p.attrs, "transpose_a") && a.rank > 2) return false;
    const int64_t n = c.shape[c.rank - 1], elements = num_elements(c);
    const int64_t k = b.shape[attr_set(*p.attrs, "transpose_b") ? 1 : 0];
    return n >= 64 && k >= 64 && elements >= 64 * n && elements * k >= (1 << 22);
  }

  explicit MatmulAmx(Prepare& p) {
    const TensorSpec &b = p.inputs[1], &c = p.outputs[0];
    transpose_a_ = attr_set(*p.attrs, "transpose_a");
    transpose_b_ = attr_set(*p.attrs, "transpose_b");
    has_bias_ = p.num_inputs > 2;
    relu_ = attr_has(*p.attrs, "activation") && attr_str(*p.attrs, "activation")[0] == 'r';
    n_ = c.shape[c.rank - 1], m_ = num_elements(c) / n_;
    k_ = b.shape[transpose_b_ ? 1 : 0];
    half_ = p.inputs[0].dtype == DType::BF16;
    gemm_.plan(m_, n_, k_, half_ ? 1 : 3 - int(matmul_precision()));
    below_ = find_kernel("matmul", p, HB_ISA_LEVEL - 1, nullptr, DeviceKind::Cpu);
    if (!below_) fail("no kernel for operands that tiles cannot hold");
    kernel_ = below_->create(p);
    if (gemm_.scratch_bytes() > p.scratch_bytes) p.scratch_bytes = gemm_.scratch_bytes();
  }
  MatmulAmx(const MatmulAmx&) = delete;
  MatmulAmx& operator=(const MatmulAmx&) = delete;
  ~MatmulAmx() { below_->destroy(kernel_); }

  void run(const Call& call) const { half_ ? run_as<bf16>(call) : run_as<float>(call); }

 private:
  template <class S>
  void run_as(const Call& call) const {
    const S* a = static_cast<const S*>(call.inputs[0]);
    const S* b = static_cast<const S*>(call.inputs[1]);
    const int64_t ai = transpose_a_ ? 1 : k_, ak = transpose_a_ ? m_ : 1;
    const int64_t bk = transpose_b_ ? 1 : n_, bj = transpose_b_ ? k_ : 1;
    const bool fits =
        gemm_.pack([=](int64_t i, int64_t k) { return widen(a[i * ai + k * ak]); },
                   [=](int64_t k, int64_t j) { return widen(b[k * bk + j * bj]); }, call.scratch);
    if (!fits) return below_->run(kernel_, call);
    const S* bias = has_bias_ ? static_cast<const S*>(call.inputs[2]) : nullptr;
    S* c = static_cast<S*>(call.outputs[0]);
    gemm_.run<AmxTiles>(call.scratch, [=, this](int64_t i, int64_t j, int64_t n, const float* x) {
      S* to = c + i * n_ + j;
      for (int64_t q = 0; q < n; ++q) {
        const float v = bias ? x[q] + widen(bias[j + q]) : x[q];
        narrow(relu_ && v < 0 ? 0.f : v, to[q]);
      }
    });
  }

  bool transpose_a_, transpose_b_, has_bias_, relu_, half_;
  int64_t m_, n_, k_;
  AmxGemm gemm_;
  const KernelDef* below_;
  void* kernel_;
};
HB_CPU_KERNEL_IF(matmul, MatmulAmx, kF32 | kBF16, 0u, MatmulAmx::supports)

HB_KERNELS_END
