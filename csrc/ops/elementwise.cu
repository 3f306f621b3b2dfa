// Element-wise clusters on CUDA: one pass over memory, whatever the number of operations.
//
// Where NVRTC is found, a cluster is compiled as its kernel is made (elementwise_source.cu,
// cuda/jit.h). The pre-built form serves small tensors and machines without it: every thread
// interprets the cluster for its element, with all values in local memory (L1). Both have the same
// bits: neither joins multiplications and additions.
//
// The contract is that of elementwise.cc: attributes fns, arity, args, dtypes, outs; operands
// broadcast to the shape of the outputs; float16 and bfloat16 are computed in float32, short
// integers in int32. Not here: erfinv, digamma, i0, i1 (such a cluster runs on the CPU).
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "cuda/jit.h"
#include "ops/elementwise_cluster.cuh"
#include "ops/gemm_mma.cuh"

namespace hb::cuda {
namespace {

union Register {
  uint8_t u8;
  int32_t i32;
  int64_t i64;
  uint64_t u64;
  float f32;
  double f64;
};

template <class T>
__device__ bool compare(int f, T a, T b) {
  switch (f) {
#define F(name, n, value) \
  case kCompare_##name:   \
    return value;
    HB_COMPARISONS(F)
#undef F
  }
  return false;
}
template <class T>
__device__ bool test_float(int f, T a) {
  switch (f) {
#define F(name, n, value) \
  case kFloatTest_##name: \
    return value;
    HB_FLOAT_TESTS(F)
#undef F
  }
  return false;
}
template <class T>
__device__ T apply_float(int f, T a, T b) {
  switch (f) {
#define F(name, n, value) \
  case kFloat_##name:     \
    return value;
    HB_FLOAT_FUNCTIONS(F)
#undef F
  }
  return T(0);
}
template <class T>
__device__ T apply_int(int f, T a, T b) {
  typedef typename Unsigned<T>::type U;
  switch (f) {
#define F(name, n, value) \
  case kInt_##name:       \
    return T(value);
    HB_INT_FUNCTIONS(F)
#undef F
  }
  return T(0);
}
__device__ uint8_t apply_bool(int f, uint8_t a, uint8_t b) {
  switch (f) {
#define F(name, n, value) \
  case kBool_##name:      \
    return uint8_t(value);
    HB_BOOL_FUNCTIONS(F)
#undef F
  }
  return 0;
}

// ---------------------------------------------------------------------- the program of a cluster

template <class T>
__device__ T& part(Register& r);
template <>
__device__ uint8_t& part<uint8_t>(Register& r) {
  return r.u8;
}
template <>
__device__ int32_t& part<int32_t>(Register& r) {
  return r.i32;
}
template <>
__device__ int64_t& part<int64_t>(Register& r) {
  return r.i64;
}
template <>
__device__ uint64_t& part<uint64_t>(Register& r) {
  return r.u64;
}
template <>
__device__ float& part<float>(Register& r) {
  return r.f32;
}
template <>
__device__ double& part<double>(Register& r) {
  return r.f64;
}

__device__ Register load(const void* data, DType dtype, int64_t i) {
  Register r;
  r.u64 = 0;
  switch (dtype) {
    case DType::Bool:
      r.u8 = static_cast<const uint8_t*>(data)[i];
      break;
    case DType::I8:
      r.i32 = static_cast<const int8_t*>(data)[i];
      break;
    case DType::I16:
      r.i32 = static_cast<const int16_t*>(data)[i];
      break;
    case DType::I32:
      r.i32 = static_cast<const int32_t*>(data)[i];
      break;
    case DType::U8:
      r.i32 = static_cast<const uint8_t*>(data)[i];
      break;
    case DType::U16:
      r.i32 = static_cast<const uint16_t*>(data)[i];
      break;
    case DType::U32:
      r.i64 = static_cast<const uint32_t*>(data)[i];
      break;
    case DType::F16:
      r.f32 = widened(static_cast<const Half*>(data)[i]);
      break;
    case DType::BF16:
      r.f32 = widened(static_cast<const BHalf*>(data)[i]);
      break;
    case DType::F32:
      r.f32 = static_cast<const float*>(data)[i];
      break;
    default:  // 64 bits
      r.u64 = static_cast<const uint64_t*>(data)[i];
  }
  return r;
}
__device__ void store(void* data, DType dtype, int64_t i, Register r) {
  switch (dtype) {
    case DType::Bool:
      static_cast<uint8_t*>(data)[i] = r.u8 != 0;
      break;
    case DType::I8:
    case DType::U8:
      static_cast<uint8_t*>(data)[i] = uint8_t(r.i32);
      break;
    case DType::I16:
    case DType::U16:
      static_cast<uint16_t*>(data)[i] = uint16_t(r.i32);
      break;
    case DType::I32:
    case DType::F32:
      static_cast<int32_t*>(data)[i] = r.i32;
      break;
    case DType::U32:
      static_cast<uint32_t*>(data)[i] = uint32_t(r.i64);
      break;
    case DType::F16:
      static_cast<Half*>(data)[i] = narrowed<Half>(r.f32);
      break;
    case DType::BF16:
      static_cast<BHalf*>(data)[i] = narrowed<BHalf>(r.f32);
      break;
    default:
      static_cast<uint64_t*>(data)[i] = r.u64;
  }
}

// A result of a shorter integer wraps; a cast to a half type rounds.
__device__ void wrap(Register& r, DType dtype, bool cast) {
  switch (dtype) {
    case DType::I8:
      r.i32 = int8_t(r.i32);
      break;
    case DType::I16:
      r.i32 = int16_t(r.i32);
      break;
    case DType::U8:
      r.i32 = uint8_t(r.i32);
      break;
    case DType::U16:
      r.i32 = uint16_t(r.i32);
      break;
    case DType::U32:
      r.i64 = uint32_t(r.i64);
      break;
    case DType::F16:
      if (cast) r.f32 = widened(narrowed<Half>(r.f32));
      break;
    case DType::BF16:
      if (cast) r.f32 = widened(narrowed<BHalf>(r.f32));
      break;
    default:
      break;
  }
}

template <class From>
__device__ Register cast_to(Kind to, From x) {
  Register r;
  r.u64 = 0;
  switch (to) {
    case Kind::U8:
      r.u8 = Cast<uint8_t>::of(x);
      break;
    case Kind::I32:
      r.i32 = Cast<int32_t>::of(x);
      break;
    case Kind::I64:
      r.i64 = Cast<int64_t>::of(x);
      break;
    case Kind::U64:
      r.u64 = Cast<uint64_t>::of(x);
      break;
    case Kind::F32:
      r.f32 = Cast<float>::of(x);
      break;
    case Kind::F64:
      r.f64 = Cast<double>::of(x);
      break;
  }
  return r;
}

template <class T>
__device__ Register run_step(const Step& s, Register* values) {
  const T a = part<T>(values[s.args[0]]), b = part<T>(values[s.args[1]]);
  Register r;
  r.u64 = 0;
  if (s.function < kFloatTest_isnan) {
    r.u8 = compare<T>(s.function, a, b);
  } else if (s.function == kWhere) {
    part<T>(r) = values[s.args[0]].u8 ? b : part<T>(values[s.args[2]]);
  } else if (s.function == kCast) {
    r = cast_to<T>(s.result, a);
  } else if constexpr (T(0.5) != T(0)) {
    if (s.function < kIntTest_signbit)
      r.u8 = test_float<T>(s.function, a);
    else
      part<T>(r) = apply_float<T>(s.function, a, b);
  } else if constexpr (sizeof(T) == 1) {
    r.u8 = apply_bool(s.function, a, b);
  } else {
    if (s.function == kIntTest_signbit)
      r.u8 = a < T(0);
    else
      part<T>(r) = apply_int<T>(s.function, a, b);
  }
  return r;
}

__global__ void __launch_bounds__(kThreads) interpret(const Cluster c) {
  HB_EACH(i, c.total) {
    Register values[kMaxInputs + kMaxSteps];
    for (int k = 0; k < c.num_inputs; ++k) {
      const ClusterOperand& x = c.inputs[k];
      int64_t at = i;
      if (x.axes > 0) {
        int64_t rest = i;
        at = 0;
        for (int d = 0; d < x.axes; ++d) {
          at += rest % x.size[d] * x.stride[d];
          rest /= x.size[d];
        }
      }
      values[k] = load(x.data, x.dtype, at);
    }
    for (int k = 0; k < c.num_steps; ++k) {
      const Step& s = c.steps[k];
      Register r;
      switch (s.type) {
        case Kind::U8:
          r = run_step<uint8_t>(s, values);
          break;
        case Kind::I32:
          r = run_step<int32_t>(s, values);
          break;
        case Kind::I64:
          r = run_step<int64_t>(s, values);
          break;
        case Kind::U64:
          r = run_step<uint64_t>(s, values);
          break;
        case Kind::F32:
          r = run_step<float>(s, values);
          break;
        default:
          r = run_step<double>(s, values);
      }
      wrap(r, s.wrap, s.function == kCast);
      values[c.num_inputs + k] = r;
    }
    for (int k = 0; k < c.num_outputs; ++k)
      store(c.outputs[k].data, c.outputs[k].dtype, i, values[c.outputs[k].value]);
  }
}

// ---------------------------------------------------------------------- host

DType dtype_named(const char* name) {
  for (int i = 0; i < kNumDTypes; ++i)
    if (strcmp(dtype_name(DType(i)), name) == 0) return DType(i);
  fail("unknown dtype %s", name);
}

const FunctionInfo* find_function(const char* name, Kind type) {
  for (const FunctionInfo& f : kFunctions) {
    const bool fits = type >= Kind::F32 ? f.floats : type == Kind::U8 ? f.bools : f.ints;
    if (fits && strcmp(f.name, name) == 0) return &f;
  }
  return nullptr;
}

// Strides of an operand over the shape of the result, neighbouring axes merged where one step
// covers both. False if there are too many axes.
bool describe(const TensorSpec& in, const TensorSpec& out, ClusterOperand* x) {
  x->dtype = in.dtype;
  x->axes = 0;
  if (num_elements(in) == num_elements(out)) return true;
  int64_t stride = 1;
  int n = 0;
  for (int d = 0; d < out.rank; ++d) {  // innermost first
    const int64_t size = out.shape[out.rank - 1 - d];
    const int64_t own = d < in.rank ? in.shape[in.rank - 1 - d] : 1;
    if (own != size && own != 1) fail("operands do not broadcast to the shape of the result");
    const int64_t step = own == 1 ? 0 : stride;
    stride *= own;
    if (size == 1) continue;
    if (n > 0 && step == (x->stride[n - 1] == 0 ? 0 : x->stride[n - 1] * x->size[n - 1]) &&
        (step == 0) == (x->stride[n - 1] == 0)) {
      x->size[n - 1] *= size;
      continue;
    }
    if (n == kMaxAxes) return false;
    x->size[n] = size;
    x->stride[n] = step;
    ++n;
  }
  x->axes = uint8_t(n);
  return true;
}

// Attribute `parts`: several equal clusters, whose operands come one cluster after the other.
int parts_of(const Prepare& p) {
  return attr_has(*p.attrs, "parts") ? int(attr_int(*p.attrs, "parts")) : 1;
}

// Whether the operands of all parts lie as those of the first, dense or one element that repeats.
bool parts_fit(const Prepare& p, const Cluster& c) {
  for (int k = 0; k < p.num_inputs; ++k) {
    const ClusterOperand& first = c.inputs[k % c.num_inputs];
    ClusterOperand x;
    if (!describe(p.inputs[k], p.outputs[k / c.num_inputs * c.num_outputs], &x) ||
        told_axes(x) != 0 || (x.axes == 0) != (first.axes == 0) || x.dtype != first.dtype)
      return false;
  }
  return true;
}

// Fills `c` but for the pointers, for the first part. False if a function or the size is beyond
// this kernel.
bool translate(const Prepare& p, Cluster* c) {
  const int steps = int(attr_strs_size(*p.attrs, "fns")), parts = parts_of(p),
            inputs = p.num_inputs / parts, outputs = p.num_outputs / parts;
  if (inputs > kMaxInputs || outputs > kMaxOutputs || steps > kMaxSteps) return false;
  const IntList arity = attr_ints(*p.attrs, "arity"), args = attr_ints(*p.attrs, "args"),
                outs = attr_ints(*p.attrs, "outs");
  c->total = num_elements(p.outputs[0]);
  c->num_inputs = inputs;
  c->num_steps = steps;
  c->num_outputs = outputs;
  Kind kinds[kMaxInputs + kMaxSteps];
  for (int i = 0; i < inputs; ++i) {
    if (!describe(p.inputs[i], p.outputs[0], &c->inputs[i])) return false;
    kinds[i] = kind_of(p.inputs[i].dtype);
  }
  int64_t next = 0;
  for (int k = 0; k < steps; ++k) {
    Step& s = c->steps[k];
    const int n = int(arity.data[k]);
    if (n < 1 || n > 3) return false;
    s.args[0] = s.args[1] = s.args[2] = uint8_t(args.data[next]);
    for (int j = 0; j < n; ++j) s.args[j] = uint8_t(args.data[next++]);
    s.type = kinds[s.args[n - 1]];
    s.wrap = dtype_named(attr_strs_at(*p.attrs, "dtypes", k));
    const FunctionInfo* f = find_function(attr_strs_at(*p.attrs, "fns", k), s.type);
    if (!f || f->arity != n) return false;
    s.function = f->function;
    s.result = f->function == kCast ? kind_of(s.wrap) : f->test ? Kind::U8 : s.type;
    kinds[inputs + k] = s.result;
  }
  for (int o = 0; o < outputs; ++o) {
    c->outputs[o].dtype = p.outputs[o].dtype;
    c->outputs[o].value = uint8_t(outs.data[o]);
  }
  return parts == 1 || parts_fit(p, *c);
}

class Elementwise {
 public:
  explicit Elementwise(Prepare& p) {
    if (!translate(p, &cluster_)) fail("no CUDA kernel for this cluster");
    int64_t total = 0;
    for (int o = 0; o < p.num_outputs; o += cluster_.num_outputs) {
      totals_.push_back(num_elements(p.outputs[o]));
      total += totals_.back();
    }
    if (!compiles(total)) return;
    source_ = source_of(cluster_, totals_.size() > 1);
    compiled_ = compile(source_.text, kClusterKernel, architecture());
    source_.text.clear();
  }
  static bool supports(const Prepare& p) {
    Cluster c;
    return translate(p, &c);
  }
  void run(const Call& call) const {
    Cluster c = cluster_;
    ClusterLaunch launched = {{}, 0};
    const void* const* inputs = call.inputs;
    void* const* outputs = call.outputs;
    for (const int64_t total : totals_) {
      c.total = total;
      for (int i = 0; i < c.num_inputs; ++i) c.inputs[i].data = *inputs++;
      for (int i = 0; i < c.num_outputs; ++i) c.outputs[i].data = *outputs++;
      if (total == 0) continue;
      if (!compiled_) {
        launch(blocks_for(total), dim3(kThreads), call.stream, interpret, c);
      } else if (source_.parts == 0) {
        arguments_of(c, source_, &launched);
      } else if (!add_part(c, source_, &launched)) {
        start(&launched, call.stream);
        add_part(c, source_, &launched);
      }
    }
    if (launched.grid.x > 0) start(&launched, call.stream);
  }

 private:
  void start(ClusterLaunch* launched, void* stream) const {
    compiled_->launch(launched->grid, dim3(kThreads), stream, launched->words);
    *launched = {{}, 0};
  }
  // Compiling costs more than a small tensor gains; HORNBEAM_CUDA_COMPILE=all: nevertheless; 0:
  // never.
  static bool compiles(int64_t total) {
    const char* choice = getenv("HORNBEAM_CUDA_COMPILE");
    if (!choice || !*choice) return total >= 2048;
    if (strcmp(choice, "0") == 0) return false;
    if (strcmp(choice, "all") != 0)
      fail("HORNBEAM_CUDA_COMPILE: expected 0 or all, got %s", choice);
    return total > 0;
  }

  Cluster cluster_;              // the first part
  std::vector<int64_t> totals_;  // elements of each part
  ClusterSource source_;
  std::shared_ptr<const CompiledKernel> compiled_;  // null: interpreted
};
// A thread reads its element of every input before it writes: outputs may lie over inputs.
HB_CUDA_KERNEL_IF(elementwise, Elementwise, kAllDTypes, 0xFFFFFFFFu, Elementwise::supports)

}  // namespace
}  // namespace hb::cuda
