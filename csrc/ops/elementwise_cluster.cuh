// An element-wise cluster as the kernels on CUDA have it: made from the attributes of the op
// (elementwise.cu), interpreted there, or made into source (elementwise_source.cu).
#pragma once
#include <string>

#include "ops/elementwise_functions.cuh"

namespace hb::cuda {

// What a value is computed in: bool as a byte, integers shorter than 32 bits as I32, uint32 as I64,
// float16 and bfloat16 as F32.
enum class Kind : uint8_t { U8, I32, I64, U64, F32, F64 };
inline Kind kind_of(DType t) {
  switch (t) {
    case DType::Bool:
      return Kind::U8;
    case DType::U32:
    case DType::I64:
      return Kind::I64;
    case DType::U64:
      return Kind::U64;
    case DType::F16:
    case DType::BF16:
    case DType::F32:
      return Kind::F32;
    case DType::F64:
      return Kind::F64;
    default:
      return Kind::I32;
  }
}

enum Function : uint8_t {
#define F(name, n, value) kCompare_##name,
  HB_COMPARISONS(F)
#undef F
#define F(name, n, value) kFloatTest_##name,
      HB_FLOAT_TESTS(F)
#undef F
#define F(name, n, value) kIntTest_##name,
          HB_INT_TESTS(F)
#undef F
#define F(name, n, value) kFloat_##name,
              HB_FLOAT_FUNCTIONS(F)
#undef F
#define F(name, n, value) kInt_##name,
                  HB_INT_FUNCTIONS(F)
#undef F
#define F(name, n, value) kBool_##name,
                      HB_BOOL_FUNCTIONS(F)
#undef F
                          kWhere,
  kCast,
  kUnknown
};

// What a function is, and whether its result is a truth value.
struct FunctionInfo {
  const char* name;
  int arity;
  Function function;
  const char* value;  // of operands a, b, as text
  bool test;
  bool floats, ints, bools;
};
inline const FunctionInfo kFunctions[] = {
#define F(name, n, value) {#name, n, kCompare_##name, #value, true, true, true, true},
    HB_COMPARISONS(F)
#undef F
#define F(name, n, value) {#name, n, kFloatTest_##name, #value, true, true, false, false},
        HB_FLOAT_TESTS(F)
#undef F
#define F(name, n, value) {#name, n, kIntTest_##name, #value, true, false, true, false},
            HB_INT_TESTS(F)
#undef F
#define F(name, n, value) {#name, n, kFloat_##name, #value, false, true, false, false},
                HB_FLOAT_FUNCTIONS(F)
#undef F
#define F(name, n, value) {#name, n, kInt_##name, #value, false, false, true, false},
                    HB_INT_FUNCTIONS(F)
#undef F
#define F(name, n, value) {#name, n, kBool_##name, #value, false, false, false, true},
                        HB_BOOL_FUNCTIONS(F)
#undef F
                            {"where", 3, kWhere, "", false, true, true, true},
    {"cast", 1, kCast, "", false, true, true, true},
};

constexpr int kMaxInputs = 24, kMaxOutputs = 24, kMaxSteps = 64, kMaxAxes = 6;

struct ClusterOperand {
  const void* data;
  DType dtype;
  uint8_t axes;  // 0: dense; else merged axes, innermost first; stride 0 repeats
  int64_t size[kMaxAxes], stride[kMaxAxes];
};
// Axes that a kernel must know: none where one element repeats.
inline int told_axes(const ClusterOperand& x) {
  return x.axes == 1 && x.stride[0] == 0 ? 0 : x.axes;
}
struct Step {
  Function function;
  Kind type, result;  // of the last operand, of the result
  DType wrap;         // the logical dtype of the result
  uint8_t args[3];
};
struct Result {
  void* data;
  DType dtype;
  uint8_t value;
};
struct Cluster {
  int64_t total;
  int num_inputs, num_steps, num_outputs;
  ClusterOperand inputs[kMaxInputs];
  Step steps[kMaxSteps];
  Result outputs[kMaxOutputs];
};

// Source of a kernel for one cluster, or for several parts: equal clusters of operands that are
// dense or repeat one element. It depends on what the cluster does and on which axes operands
// repeat, not on sizes, but that short axes and few elements allow more.
struct ClusterSource {
  std::string text;
  int width = 1;  // elements of a pack, which a thread takes at once
  int words = 0;  // of 8 bytes, that describe a part
  int parts = 0;  // at most, of one launch; 0: it is for one cluster
};
constexpr int kMaxWords = 512;  // what older drivers take as arguments
constexpr char kClusterKernel[] = "hornbeam_cluster";
ClusterSource source_of(const Cluster& c, bool parts);

// What the kernel is called with: `words` has room for kMaxWords. Packs are taken where operands
// are aligned to them.
struct ClusterLaunch {
  int64_t words[kMaxWords];
  dim3 grid;
};
// For `c` alone.
void arguments_of(const Cluster& c, const ClusterSource& s, ClusterLaunch* launch);
// Adds a part. False if there is no room; it belongs to the next launch then. `launch` starts with
// words[0] = 0 and a grid of 0.
bool add_part(const Cluster& c, const ClusterSource& s, ClusterLaunch* launch);

}  // namespace hb::cuda
