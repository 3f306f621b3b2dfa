// What a kernel file sees: dtypes, tensor shapes, attributes, registration and parallel_for.
//
// This header is included by files that are compiled once per instruction-set level, so it holds
// no inline function with external linkage: templates and helpers are `static`, everything else is
// an ordinary function defined once in core/.  Kernel files put their code between
// HB_KERNELS_BEGIN and HB_KERNELS_END (a namespace per level, and an anonymous one in it).
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace hb {

enum class DType : uint8_t { Bool, I8, I16, I32, I64, U8, U16, U32, U64, F16, BF16, F32, F64 };
constexpr int kNumDTypes = 13;
constexpr int kMaxRank = 12;

// Which table of kernels a device takes (core/device.h).
enum class DeviceKind : uint8_t { Cpu, Cuda };
constexpr int kNumDeviceKinds = 2;

// Sets of dtypes for registration: HB_CPU_KERNEL(softmax, Softmax, kF32 | kF64).
constexpr uint32_t kBool = 1u << 0, kI8 = 1u << 1, kI16 = 1u << 2, kI32 = 1u << 3, kI64 = 1u << 4,
                   kU8 = 1u << 5, kU16 = 1u << 6, kU32 = 1u << 7, kU64 = 1u << 8, kF16 = 1u << 9,
                   kBF16 = 1u << 10, kF32 = 1u << 11, kF64 = 1u << 12;
constexpr uint32_t kAllFloat = kF16 | kBF16 | kF32 | kF64;
constexpr uint32_t kAllDTypes = (1u << kNumDTypes) - 1;

static inline constexpr size_t item_bytes(DType t) {
  switch (t) {
    case DType::Bool:
    case DType::I8:
    case DType::U8:
      return 1;
    case DType::I16:
    case DType::U16:
    case DType::F16:
    case DType::BF16:
      return 2;
    case DType::I32:
    case DType::U32:
    case DType::F32:
      return 4;
    default:
      return 8;
  }
}
const char* dtype_name(DType t);

// Shape and dtype of a dense row-major tensor. Kernels always get dense tensors.
struct TensorSpec {
  DType dtype;
  int rank;
  int64_t shape[kMaxRank];
};
static inline int64_t num_elements(const TensorSpec& s) {
  int64_t n = 1;
  for (int i = 0; i < s.rank; ++i) n *= s.shape[i];
  return n;
}

// Attributes of a node, as the Python declaration wrote them. Asking for one that is not there
// is an error, except through attr_has.
class Attrs;
bool attr_has(const Attrs& attrs, const char* name);
int64_t attr_int(const Attrs& attrs, const char* name);  // also reads booleans
double attr_float(const Attrs& attrs, const char* name);
const char* attr_str(const Attrs& attrs, const char* name);
struct IntList {
  const int64_t* data;
  int64_t size;
};
IntList attr_ints(const Attrs& attrs, const char* name);  // list or tuple of ints
struct FloatList {
  const double* data;
  int64_t size;
};
FloatList attr_floats(const Attrs& attrs, const char* name);
int64_t attr_strs_size(const Attrs& attrs, const char* name);  // list of strings
const char* attr_strs_at(const Attrs& attrs, const char* name, int64_t i);

// Throws hb::Error; the runtime adds op name, shapes and the user's line.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Threads that the pool has (fixed per process). Scratch that is per thread is sized with it.
// Results must not depend on it: partition reductions by size, never by thread count.
int num_threads();
size_t l2_bytes();  // per core

// Whether products of pairs of bfloat16 that are added to float32 (AVX512_BF16) run at twice the
// rate of float32: on AMD's processors, where Intel's need twice the time. Only at level 2 and
// above.
bool has_bf16_pairs();
// Whether products use tile registers (AMX): level 3.
bool has_tiles();

// How exact products of float32 must be (hornbeam.config.set_matmul_precision). Highest: within the
// error bound of float32 multiply-adds. High: products of 16 bits of mantissa. Medium: of 8
// (bfloat16). Sums are float32 always. Ask while preparing: a change prepares programs anew.
enum class Precision : uint8_t { Highest, High, Medium };
Precision matmul_precision();

// Runs fn(ctx, task, worker) for every task in [0, num_tasks), worker in [0, num_threads());
// returns when all are done. Nested calls run inline. Tasks are claimed dynamically.
void run_tasks(int64_t num_tasks, void (*fn)(void* ctx, int64_t task, int worker), void* ctx);

template <class F>
static inline void parallel_for(int64_t num_tasks, const F& f) {
  run_tasks(
      num_tasks,
      [](void* ctx, int64_t task, int worker) { (*static_cast<const F*>(ctx))(task, worker); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

// parallel_for, or one task after another on this thread: what is small wakes no others.
template <class F>
static inline void parallel_unless(bool serial, int64_t num_tasks, const F& f) {
  if (!serial) return parallel_for(num_tasks, f);
  for (int64_t task = 0; task < num_tasks; ++task) f(task, 0);
}

class Packs;  // runtime/packs.h

// Given to a kernel once, when a program is built. The kernel parses attributes, chooses its
// algorithm, packs constant operands and says how much scratch a run needs. What it computes must
// not depend on which operands are constants: a program whose variables stay the same prepares
// kernels again, with their values as constants.
struct Prepare {
  const TensorSpec* inputs;
  int num_inputs;
  const TensorSpec* outputs;
  int num_outputs;
  const Attrs* attrs;
  // [num_inputs]: data of inputs that never change, else null (always null on other devices than
  // the CPU)
  const void* const* constants;
  size_t scratch_bytes;        // set by the kernel (starts at 0): the whole scratch of one run
  bool single_thread = false;  // set by the kernel: a run keeps no second thread busy
  Packs* packs = nullptr;      // for keep_packed
};

// Memory for what a kernel makes of constant operand `input` while it is prepared, 64-byte aligned;
// it lives as long as the kernel. Kernels that make the same of the same value share it: `layout`
// says who made it, and how (empty: not shared). fill(ctx, memory) is called unless it was made.
const void* keep_packed(const Prepare& p, int input, IntList layout, size_t bytes,
                        void (*fill)(void* ctx, void* memory), void* ctx);

template <class T, class F>
static inline const T* pack_once(const Prepare& p, int input, IntList layout, size_t bytes,
                                 const F& f) {
  const auto fill = [](void* ctx, void* memory) {
    (*static_cast<const F*>(ctx))(static_cast<T*>(memory));
  };
  return static_cast<const T*>(
      keep_packed(p, input, layout, bytes, fill, const_cast<void*>(static_cast<const void*>(&f))));
}

// Given to a kernel at every run. Output buffers never overlap inputs, except where the
// registration allows it (inplace). Scratch is 64-byte aligned; inputs that a user handed in may be
// aligned to their item size only.
struct Call {
  const void* const* inputs;
  void* const* outputs;
  void* scratch;
  void* stream;  // the device's queue; null on the CPU
};

struct KernelDef {
  const char* op;
  uint32_t dtypes;  // set of dtypes of input 0 (of output 0 for an op without inputs)
  // bit i: output 0 may use the buffer of input i (if of the same byte size); ~0u: every output may
  // use the buffer of every input of the same shape and item size
  uint32_t inplace;
  bool (*supports)(const Prepare&);  // null: everything
  void* (*create)(Prepare&);
  void (*run)(const void* kernel, const Call&);
  void (*destroy)(void* kernel);
};
// `level`: 0 portable, 1 AVX2+FMA, 2 AVX-512, 3 AMX. The highest level that machine and
// HORNBEAM_ISA allow and whose `supports` agrees is taken.
void register_kernel(const KernelDef& def, int level);
void register_kernel(const KernelDef& def, int level, DeviceKind kind);

}  // namespace hb

#ifdef HB_ISA  // only in files compiled per level

#define HB_KERNELS_BEGIN \
  namespace hb::HB_ISA { \
  namespace {
#define HB_KERNELS_END \
  }                    \
  }

// Registers `Type` as the kernel of `op`. Type has a constructor Type(Prepare&) and
// `void run(const Call&) const`. Use between HB_KERNELS_BEGIN and HB_KERNELS_END.
#define HB_CPU_KERNEL(op, Type, dtypes) HB_CPU_KERNEL_IF(op, Type, dtypes, 0u, nullptr)
// The same for an element-wise-like kernel that may write its result over input 0.
#define HB_CPU_KERNEL_INPLACE(op, Type, dtypes) HB_CPU_KERNEL_IF(op, Type, dtypes, 1u, nullptr)
// The definition is a constant, so that what runs while the library is loaded is a plain call:
// vector instructions of this level must not occur there, the machine may lack them.
#define HB_CPU_KERNEL_IF(op, Type, dtypes, inplace, supports)                            \
  constexpr ::hb::KernelDef def_##op##_##Type = {                                        \
      #op,                                                                               \
      (dtypes),                                                                          \
      (inplace),                                                                         \
      (supports),                                                                        \
      [](::hb::Prepare& p) -> void* { return new Type(p); },                             \
      [](const void* k, const ::hb::Call& c) { static_cast<const Type*>(k)->run(c); },   \
      [](void* k) { delete static_cast<Type*>(k); }};                                    \
  const struct Register_##op##_##Type {                                                  \
    Register_##op##_##Type() { ::hb::register_kernel(def_##op##_##Type, HB_ISA_LEVEL); } \
  } register_##op##_##Type;

#endif  // HB_ISA
