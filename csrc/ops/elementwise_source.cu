// CUDA C++ for one element-wise cluster, for a compiler at run time (elementwise_cluster.cuh).
//
// The source includes nothing: what the interpreter's functions need is in it as text. Compiled
// with HB_EMULATE it is code for the processor. A thread takes packs of elements (16 bytes of the
// widest operand): it reads all its operands, then computes, then writes, as outputs may lie over
// inputs.
#include <algorithm>
#include <string_view>

#include "ops/elementwise_cluster.cuh"

namespace hb::cuda {
namespace {

// Types as in types.cuh.
constexpr char kTypesText[] = R"(#ifdef HB_EMULATE
#include "cuda/kernel.cuh"
#else
#define HUGE_VAL __longlong_as_double(0x7ff0000000000000LL)
namespace hb::cuda {
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned uint32_t;
typedef unsigned long long uint64_t;
struct Half {
  uint16_t bits;
};
struct BHalf {
  uint16_t bits;
};
struct Bool {
  uint8_t bits;
};
template <class T>
__device__ T widened(T x) {
  return x;
}
__device__ uint8_t widened(Bool x) { return x.bits; }
__device__ float widened(Half x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
__device__ float widened(BHalf x) { return __uint_as_float(uint32_t(x.bits) << 16); }
template <class T>
struct Narrow;
template <>
struct Narrow<Bool> {
  static __device__ Bool of(uint8_t x) { return {uint8_t(x != 0)}; }
};
template <>
struct Narrow<Half> {
  static __device__ Half of(float x) {
    Half y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
  }
};
template <>
struct Narrow<BHalf> {
  static __device__ BHalf of(float x) {
    BHalf y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
  }
};
}
#endif
namespace hb::cuda {
)";

// clang-format off
HB_CODE_AND_TEXT(kPackText,
template <class T, int W>
struct alignas(sizeof(T) * W) Pack {
  T v[W];
};
template <class T, int W>
__device__ Pack<T, W> load_pack(const void* data, uint64_t at) {
  return *reinterpret_cast<const Pack<T, W>*>(static_cast<const T*>(data) + at);
}
template <class T, int W>
__device__ Pack<T, W> repeat_pack(const void* data, uint64_t at) {
  Pack<T, W> x;
  for (int j = 0; j < W; ++j) x.v[j] = static_cast<const T*>(data)[at];
  return x;
}
template <class T, int W>
__device__ void store_pack(void* data, uint64_t at, Pack<T, W> x) {
  *reinterpret_cast<Pack<T, W>*>(static_cast<T*>(data) + at) = x;
}
)
// clang-format on

const char* stored_name(DType t) {
  constexpr const char* names[] = {"Bool",    "int8_t",   "int16_t",  "int32_t",  "int64_t",
                                   "uint8_t", "uint16_t", "uint32_t", "uint64_t", "Half",
                                   "BHalf",   "float",    "double"};
  static_assert(sizeof names / sizeof *names == kNumDTypes);
  return names[int(t)];
}
const char* computed_name(Kind k) {
  constexpr const char* names[] = {"uint8_t", "int32_t", "int64_t", "uint64_t", "float", "double"};
  return names[int(k)];
}
bool is_special(DType t) { return t == DType::Bool || t == DType::F16 || t == DType::BF16; }

const FunctionInfo& info_of(Function f) {
  for (const FunctionInfo& i : kFunctions)
    if (i.function == f) return i;
  fail("a function without a formula");
}

// Adds pieces of text and numbers to `to`.
void add(std::string& to, std::string_view piece) { to += piece; }
void add(std::string& to, int64_t number) { to += std::to_string(number); }
template <class... P>
void write(std::string& to, const P&... pieces) {
  (add(to, pieces), ...);
}

// How the elements of a pack lie in an operand.
enum class Lines { Dense, Row, Repeat, Single };
Lines lines_of(const ClusterOperand& x, int width) {
  if (x.axes == 0) return Lines::Dense;
  if (told_axes(x) == 0) return Lines::Repeat;
  if (x.size[0] % width != 0) return Lines::Single;
  return x.stride[0] == 0 ? Lines::Repeat : x.stride[0] == 1 ? Lines::Row : Lines::Single;
}

int width_of(const Cluster& c) {
  size_t widest = 1;
  for (int k = 0; k < c.num_inputs; ++k) widest = std::max(widest, item_bytes(c.inputs[k].dtype));
  for (int k = 0; k < c.num_outputs; ++k) widest = std::max(widest, item_bytes(c.outputs[k].dtype));
  return widest == 1 ? 8 : int(16 / widest);
}

// A thread takes one pack after the other, then one of the elements that are left.
constexpr char kOneText[] =
    R"(  const Index threads = Index(gridDim.x) * blockDim.x;
  const Index mine = Index(blockIdx.x) * blockDim.x + threadIdx.x;
  const Index packs = Index(args.packs), total = Index(args.total);
  for (Index p = mine; p < packs; p += threads) step<W>(args, p * W);
  for (Index i = packs * W + mine; i < total; i += threads) step<1>(args, i);
)";
// A block belongs to the last part that begins at or before it, and takes a pack with each thread.
constexpr char kPartsText[] =
    R"(  int low = 0;
  for (int high = int(args.parts); high - low > 1;) {
    const int middle = (low + high) / 2;
    (args.part[middle].first <= blockIdx.x ? low : high) = middle;
  }
  const Part& part = args.part[low];
  const Index mine = (blockIdx.x - Index(part.first)) * blockDim.x + threadIdx.x;
  const Index packs = Index(part.packs), rest = packs * W + mine;
  if (mine < packs) step<W>(part, mine * W);
  if (rest < Index(part.total)) step<1>(part, rest);
)";

// Sets `at` to the place of element `r` in operand x, whose axes begin at `first`. Empty: it is 0.
std::string place_text(const ClusterOperand& x, int first) {
  int used = x.axes;
  while (used > 0 && x.stride[used - 1] == 0) --used;
  std::string s;
  for (int d = 0; d < used; ++d) {
    if (x.stride[d] != 0) {
      write(s, " at += r");
      if (d + 1 < x.axes) write(s, " % Index(args.size[", first + d, "])");
      if (x.stride[d] != 1) write(s, " * Index(args.stride[", first + d, "])");
      write(s, ";");
    }
    if (d + 1 < used) write(s, " r /= Index(args.size[", first + d, "]);");
  }
  return s;
}

// Reads operand k into the pack x<k>.
void write_load(std::string& s, const ClusterOperand& x, int k, int first, int width) {
  const char* type = stored_name(x.dtype);
  const Lines lines = lines_of(x, width);
  const std::string place = place_text(x, first);
  const auto load = [&](const char* function, const char* at) {
    write(s, "x", k, " = ", function, "<", type, ", W>(args.inputs[", k, "], ", at, ");");
  };
  write(s, "  Pack<", type, ", W> x", k, ";\n  ");
  if (lines == Lines::Dense) {
    load("load_pack", "i");
  } else if (lines == Lines::Single) {
    write(s, "\n#pragma unroll\n  for (int j = 0; j < W; ++j) { Index r = i + j, at = 0;", place,
          " x", k, ".v[j] = static_cast<const ", type, "*>(args.inputs[", k, "])[at]; }");
  } else if (place.empty()) {
    load("repeat_pack", "0");
  } else {
    write(s, "{ Index r = i, at = 0;", place, " ");
    load(lines == Lines::Row ? "load_pack" : "repeat_pack", "at");
    write(s, " }");
  }
  write(s, "\n");
}

// Sets v<result> from the values of the operands.
void write_step(std::string& s, const Step& step, int result) {
  const char* computed = computed_name(step.result);
  const uint8_t* args = step.args;
  write(s, "    ", computed, " v", result, ";\n    ");
  if (step.function == kWhere) {
    write(s, "v", result, " = v", args[0], " ? v", args[1], " : v", args[2], ";\n");
  } else if (step.function == kCast) {
    write(s, "v", result, " = Cast<", computed, ">::of(v", args[0], ");\n");
  } else {
    write(s, "{ typedef ", computed_name(step.type),
          " T; typedef Unsigned<T>::type U; const T a = v", args[0], ", b = v", args[1],
          "; (void)b; (void)U(0); v", result, " = ", computed, "(", info_of(step.function).value,
          "); }\n");
  }
  if (step.function == kCast && (step.wrap == DType::F16 || step.wrap == DType::BF16)) {
    write(s, "    v", result, " = widened(Narrow<", stored_name(step.wrap), ">::of(v", result,
          "));\n");
  } else if (step.result == Kind::I32 || step.result == Kind::I64) {  // a shorter integer wraps
    write(s, "    v", result, " = ", stored_name(step.wrap), "(v", result, ");\n");
  }
}

}  // namespace

ClusterSource source_of(const Cluster& c, bool parts) {
  ClusterSource source;
  source.width = width_of(c);
  int axes = 0;
  std::string loads, body, stores;
  for (int k = 0; k < c.num_inputs; ++k) {
    const ClusterOperand& x = c.inputs[k];
    write_load(loads, x, k, axes, source.width);
    axes += told_axes(x);
    write(body, "    const ", computed_name(kind_of(x.dtype)), " v", k, " = widened(x", k,
          ".v[j]);\n");
  }
  for (int k = 0; k < c.num_steps; ++k) write_step(body, c.steps[k], c.num_inputs + k);
  for (int k = 0; k < c.num_outputs; ++k) {
    const Result& y = c.outputs[k];
    const char* type = stored_name(y.dtype);
    write(loads, "  Pack<", type, ", W> y", k, ";\n");
    write(body, "    y", k, ".v[j] = ", is_special(y.dtype) ? "Narrow<" : "", type,
          is_special(y.dtype) ? ">::of(v" : "(v", y.value, ");\n");
    write(stores, "  store_pack<", type, ", W>(args.outputs[", k, "], i, y", k, ");\n");
  }
  source.words = 3 + c.num_inputs + c.num_outputs + 2 * axes;
  if (parts) source.parts = (kMaxWords - 1) / source.words;
  const bool wide = c.total >= int64_t(1) << 31;
  std::string& s = source.text;
  write(s, kTypesText, kHelperText, "\n", kPackText, "\ntypedef ", wide ? "uint64_t" : "uint32_t",
        " Index;\nstruct Part {\n  int64_t total, packs, first;  // elements; packs of them; its "
        "first block\n");
  if (c.num_inputs > 0) write(s, "  const void* inputs[", c.num_inputs, "];\n");
  write(s, "  void* outputs[", c.num_outputs, "];\n");
  if (axes > 0) write(s, "  int64_t size[", axes, "], stride[", axes, "];\n");
  write(s, "};\n");
  if (parts)
    write(s, "struct Arguments {\n  int64_t parts;\n  Part part[", source.parts, "];\n};\n");
  else
    write(s, "typedef Part Arguments;\n");
  write(s, R"(template <int W>
__device__ __forceinline__ void step(const Part& args, Index i) {
)",
        loads, "#pragma unroll\n  for (int j = 0; j < W; ++j) {\n", body, "  }\n", stores, R"(}
}
extern "C" {
__global__ void __launch_bounds__()",
        kThreads, ") ", kClusterKernel, R"((const __grid_constant__ hb::cuda::Arguments args) {
  using namespace hb::cuda;
  constexpr int W = )",
        source.width, ";\n", parts ? kPartsText : kOneText, "}\n}\n");
  return source;
}

// Fills in what the source calls a Part; returns the number of threads that have something to do.
static int64_t describe_part(const Cluster& c, const ClusterSource& s, int64_t first,
                             int64_t* words) {
  bool aligned = true;
  const auto see = [&](const void* data, DType dtype) {
    aligned &= reinterpret_cast<uintptr_t>(data) % (item_bytes(dtype) * size_t(s.width)) == 0;
    return int64_t(reinterpret_cast<uintptr_t>(data));
  };
  const int operands = c.num_inputs + c.num_outputs, axes = (s.words - 3 - operands) / 2;
  int64_t *at = words + 3, *sizes = at + operands, *strides = sizes + axes;
  for (int k = 0; k < c.num_inputs; ++k) {
    const ClusterOperand& x = c.inputs[k];
    const Lines lines = lines_of(x, s.width);
    *at++ = lines == Lines::Dense || lines == Lines::Row
                ? see(x.data, x.dtype)
                : int64_t(reinterpret_cast<uintptr_t>(x.data));
    for (int d = 0; d < told_axes(x); ++d) {
      *sizes++ = x.size[d];
      *strides++ = x.stride[d];
    }
  }
  for (int k = 0; k < c.num_outputs; ++k) *at++ = see(c.outputs[k].data, c.outputs[k].dtype);
  words[0] = c.total;
  words[1] = aligned ? c.total / s.width : 0;
  words[2] = first;
  return std::max(words[1], c.total - words[1] * s.width);
}

void arguments_of(const Cluster& c, const ClusterSource& s, ClusterLaunch* launch) {
  launch->grid = blocks_for(describe_part(c, s, 0, launch->words));
}

bool add_part(const Cluster& c, const ClusterSource& s, ClusterLaunch* launch) {
  int64_t& parts = launch->words[0];
  if (parts == s.parts) return false;
  const int64_t threads = describe_part(c, s, launch->grid.x, launch->words + 1 + parts * s.words);
  launch->grid.x += unsigned((threads + kThreads - 1) / kThreads);
  ++parts;
  return true;
}

}  // namespace hb::cuda
