// Element-wise clusters on CUDA: one pass over memory, whatever the number of operations.
//
// This is the pre-built form: every thread interprets the cluster for its element, with all values
// in local memory (L1). It serves every cluster without a compiler on the machine. The lists of
// functions below are also what one that generates source from a cluster has to cover.
//
// The contract is that of elementwise.cc: attributes fns, arity, args, dtypes, outs; operands
// broadcast to the shape of the outputs; float16 and bfloat16 are computed in float32, short
// integers in int32. Not here: erfinv, digamma, i0, i1 (such a cluster runs on the CPU).
#include "cuda/kernel.cuh"

namespace hb::cuda {
namespace {

enum class Kind : uint8_t { U8, I32, I64, U64, F32, F64 };
union Register {
  uint8_t u8;
  int32_t i32;
  int64_t i64;
  uint64_t u64;
  float f32;
  double f64;
};

template <class T>
struct Unsigned {
  typedef uint64_t type;
};
template <>
struct Unsigned<int32_t> {
  typedef uint32_t type;
};

// ---------------------------------------------------------------------- functions

template <class T>
__device__ T pick_max(T a, T b) {  // NaN wins
  return a > b || a != a ? a : b;
}
template <class T>
__device__ T pick_min(T a, T b) {
  return a < b || a != a ? a : b;
}
template <class T>
__device__ T sign_of(T a) {
  return a > T(0) ? T(1) : a < T(0) ? T(-1) : a;
}
template <class T>
__device__ T remainder_of(T a, T b) {  // with the sign of the divisor
  const T r = fmod(a, b);
  if (r == T(0)) return copysign(T(0), b);
  return (r < T(0)) != (b < T(0)) ? r + b : r;
}
template <class T>
__device__ T quotient_of(T a, T b) {  // rounded down
  if (b == T(0)) return a / b;
  const T r = fmod(a, b);
  T q = (a - r) / b;
  if (r != T(0) && (r < T(0)) != (b < T(0))) q -= T(1);
  if (q == T(0)) return copysign(T(0), a / b);
  const T down = floor(q);
  return q - down > T(0.5) ? down + T(1) : down;
}
template <class T>
__device__ T log_of_sum(T a, T b) {  // log(e^a + e^b)
  if (a == b) return a + T(0.69314718055994530942);
  return pick_max(a, b) + log1p(exp(-fabs(a - b)));
}
template <class T>
__device__ T gelu_of(T a) {        // a Phi(a)
  if (a < T(-40)) return T(-0.0);  // not -inf * 0
  return T(0.5) * a * erfc(-a * T(0.70710678118654752440));
}
template <class T>
__device__ T gelu_slope_of(T a) {
  const T density = T(0.39894228040143267794) * exp(T(-0.5) * a * a);
  const T below = T(0.5) * erfc(-a * T(0.70710678118654752440));
  return density == T(0) ? below : below + a * density;
}
template <class T>
__device__ T gelu_tanh_exponent(T a) {
  return T(1.5957691216057308) * (a + T(0.044715) * (a * a * a));
}
template <class T>
__device__ T gelu_tanh_of(T a) {
  return a < T(-40) ? T(-0.0) : a / (T(1) + exp(-gelu_tanh_exponent(a)));
}
template <class T>
__device__ T gelu_tanh_slope_of(T a) {
  if (fabs(a) > T(30)) return a > T(0) ? T(1) : T(0);
  const T s = T(1) / (T(1) + exp(-gelu_tanh_exponent(a)));
  const T steep = T(1.5957691216057308) * (T(1) + T(3 * 0.044715) * (a * a));
  return s + a * s * (T(1) - s) * steep;
}
template <class T>
__device__ T step_of(T a, T b) {
  return a != a ? a : a == T(0) ? b : a > T(0) ? T(1) : T(0);
}

template <class T>
__device__ T int_mod(T a, T b) {  // with the sign of the dividend; by zero: 0, as NumPy
  return b == T(0) || (T(-1) < T(0) && b == T(-1)) ? T(0) : T(a % b);
}
template <class T>
__device__ T int_floor_mod(T a, T b) {
  const T r = int_mod(a, b);
  return r != T(0) && (r < T(0)) != (b < T(0)) ? T(r + b) : r;
}
template <class T>
__device__ T int_floor_div(T a, T b) {
  if (b == T(0)) return T(0);
  if (T(-1) < T(0) && b == T(-1)) return T(typename Unsigned<T>::type(0) - a);
  const T q = a / b;
  return q * b != a && (a < T(0)) != (b < T(0)) ? T(q - 1) : q;
}
template <class T>
__device__ T int_power(T base, T exponent) {
  typedef typename Unsigned<T>::type U;
  if (T(-1) < T(0) && exponent < T(0)) {
    if (base == T(1)) return T(1);
    return base == T(-1) ? (exponent & 1 ? T(-1) : T(1)) : T(0);
  }
  U y = 1, b = U(base);
  for (U e = U(exponent); e != 0; e >>= 1, b *= b)
    if (e & 1) y *= b;
  return T(y);
}
template <class T>
__device__ typename Unsigned<T>::type size_of(T a) {
  typedef typename Unsigned<T>::type U;
  return a < T(0) ? U(0) - U(a) : U(a);
}
template <class T>
__device__ T int_gcd(T a, T b) {
  auto x = size_of(a), y = size_of(b);
  while (y != 0) {
    const auto r = x % y;
    x = y;
    y = r;
  }
  return T(x);
}
template <class T>
__device__ T int_lcm(T a, T b) {
  const auto g = size_of(int_gcd(a, b));
  return g == 0 ? T(0) : T(size_of(a) / g * size_of(b));
}
template <class T>
__device__ T shift_up(T a, T b) {
  typedef typename Unsigned<T>::type U;
  return U(b) < sizeof(T) * 8 ? T(U(a) << U(b)) : T(0);
}
template <class T>
__device__ T shift_down(T a, T b) {
  typedef typename Unsigned<T>::type U;
  return U(b) < sizeof(T) * 8 ? T(a >> U(b)) : (a < T(0) ? T(-1) : T(0));
}

// Function, number of operands, value for operands a and b of type T (U: unsigned, it wraps).
#define HB_COMPARISONS(F)                      \
  F(equal, 2, a == b)                          \
  F(not_equal, 2, a != b)                      \
  F(less, 2, a < b)                            \
  F(less_equal, 2, a <= b)                     \
  F(greater, 2, a > b)                         \
  F(greater_equal, 2, a >= b)                  \
  F(logical_and, 2, (a != T(0)) & (b != T(0))) \
  F(logical_or, 2, (a != T(0)) | (b != T(0)))  \
  F(logical_xor, 2, (a != T(0)) ^ (b != T(0))) \
  F(logical_not, 1, a == T(0))
#define HB_FLOAT_TESTS(F)               \
  F(isnan, 1, a != a)                   \
  F(isinf, 1, fabs(a) == T(HUGE_VAL))   \
  F(isfinite, 1, fabs(a) < T(HUGE_VAL)) \
  F(signbit, 1, copysign(T(1), a) < T(0))
#define HB_FLOAT_FUNCTIONS(F)                  \
  F(add, 2, a + b)                             \
  F(subtract, 2, a - b)                        \
  F(multiply, 2, a* b)                         \
  F(divide, 2, a / b)                          \
  F(maximum, 2, pick_max(a, b))                \
  F(minimum, 2, pick_min(a, b))                \
  F(heaviside, 2, step_of(a, b))               \
  F(negative, 1, -a)                           \
  F(abs, 1, fabs(a))                           \
  F(sign, 1, sign_of(a))                       \
  F(square, 1, a* a)                           \
  F(sqrt, 1, sqrt(a))                          \
  F(rsqrt, 1, T(1) / sqrt(a))                  \
  F(reciprocal, 1, T(1) / a)                   \
  F(floor, 1, floor(a))                        \
  F(ceil, 1, ceil(a))                          \
  F(trunc, 1, trunc(a))                        \
  F(round, 1, rint(a))                         \
  F(exp, 1, exp(a))                            \
  F(expm1, 1, expm1(a))                        \
  F(log, 1, log(a))                            \
  F(log2, 1, log2(a))                          \
  F(log1p, 1, log1p(a))                        \
  F(tanh, 1, tanh(a))                          \
  F(sigmoid, 1, T(1) / (T(1) + exp(-a)))       \
  F(logaddexp, 2, log_of_sum(a, b))            \
  F(gelu, 1, gelu_of(a))                       \
  F(gelu_slope, 1, gelu_slope_of(a))           \
  F(gelu_tanh, 1, gelu_tanh_of(a))             \
  F(gelu_tanh_slope, 1, gelu_tanh_slope_of(a)) \
  F(sin, 1, sin(a))                            \
  F(cos, 1, cos(a))                            \
  F(erf, 1, erf(a))                            \
  F(tan, 1, tan(a))                            \
  F(arcsin, 1, asin(a))                        \
  F(arccos, 1, acos(a))                        \
  F(arctan, 1, atan(a))                        \
  F(sinh, 1, sinh(a))                          \
  F(cosh, 1, cosh(a))                          \
  F(arcsinh, 1, asinh(a))                      \
  F(arccosh, 1, acosh(a))                      \
  F(arctanh, 1, atanh(a))                      \
  F(erfc, 1, erfc(a))                          \
  F(exp2, 1, exp2(a))                          \
  F(log10, 1, log10(a))                        \
  F(cbrt, 1, cbrt(a))                          \
  F(lgamma, 1, lgamma(a))                      \
  F(power, 2, pow(a, b))                       \
  F(arctan2, 2, atan2(a, b))                   \
  F(hypot, 2, hypot(a, b))                     \
  F(nextafter, 2, nextafter(a, b))             \
  F(fmod, 2, fmod(a, b))                       \
  F(mod, 2, remainder_of(a, b))                \
  F(floor_divide, 2, quotient_of(a, b))        \
  F(copy, 1, a)                                \
  F(broadcast_to, 1, a)
#define HB_INT_TESTS(F) F(signbit, 1, a < T(0))
#define HB_INT_FUNCTIONS(F)                          \
  F(add, 2, U(a) + U(b))                             \
  F(subtract, 2, U(a) - U(b))                        \
  F(multiply, 2, U(a) * U(b))                        \
  F(negative, 1, U(0) - U(a))                        \
  F(square, 1, U(a) * U(a))                          \
  F(maximum, 2, a > b ? a : b)                       \
  F(minimum, 2, a < b ? a : b)                       \
  F(bitwise_and, 2, a& b)                            \
  F(bitwise_or, 2, a | b)                            \
  F(bitwise_xor, 2, a ^ b)                           \
  F(bitwise_not, 1, ~a)                              \
  F(abs, 1, size_of(a))                              \
  F(sign, 1, a > T(0) ? 1 : a < T(0) ? T(-1) : T(0)) \
  F(floor_divide, 2, int_floor_div(a, b))            \
  F(mod, 2, int_floor_mod(a, b))                     \
  F(fmod, 2, int_mod(a, b))                          \
  F(power, 2, int_power(a, b))                       \
  F(gcd, 2, int_gcd(a, b))                           \
  F(lcm, 2, int_lcm(a, b))                           \
  F(left_shift, 2, shift_up(a, b))                   \
  F(right_shift, 2, shift_down(a, b))                \
  F(copy, 1, a)                                      \
  F(broadcast_to, 1, a)
// Booleans: a sum is "or", a product "and".
#define HB_BOOL_FUNCTIONS(F) \
  F(add, 2, a | b)           \
  F(maximum, 2, a | b)       \
  F(bitwise_or, 2, a | b)    \
  F(multiply, 2, a& b)       \
  F(minimum, 2, a& b)        \
  F(bitwise_and, 2, a& b)    \
  F(bitwise_xor, 2, a ^ b)   \
  F(bitwise_not, 1, a ^ 1)   \
  F(abs, 1, a)               \
  F(sign, 1, a)              \
  F(square, 1, a)            \
  F(copy, 1, a)              \
  F(broadcast_to, 1, a)

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
  bool test;
  bool floats, ints, bools;
};
const FunctionInfo kFunctions[] = {
#define F(name, n, value) {#name, n, kCompare_##name, true, true, true, true},
    HB_COMPARISONS(F)
#undef F
#define F(name, n, value) {#name, n, kFloatTest_##name, true, true, false, false},
        HB_FLOAT_TESTS(F)
#undef F
#define F(name, n, value) {#name, n, kIntTest_##name, true, false, true, false},
            HB_INT_TESTS(F)
#undef F
#define F(name, n, value) {#name, n, kFloat_##name, false, true, false, false},
                HB_FLOAT_FUNCTIONS(F)
#undef F
#define F(name, n, value) {#name, n, kInt_##name, false, false, true, false},
                    HB_INT_FUNCTIONS(F)
#undef F
#define F(name, n, value) {#name, n, kBool_##name, false, false, false, true},
                        HB_BOOL_FUNCTIONS(F)
#undef F
                            {"where", 3, kWhere, false, true, true, true},
    {"cast", 1, kCast, false, true, true, true},
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

constexpr int kMaxInputs = 24, kMaxOutputs = 24, kMaxSteps = 64, kMaxAxes = 6;

struct Operand {
  const void* data;
  DType dtype;
  uint8_t axes;  // 0: dense; else merged axes, innermost first; stride 0 repeats
  int64_t size[kMaxAxes], stride[kMaxAxes];
};
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
  Operand inputs[kMaxInputs];
  Step steps[kMaxSteps];
  Result outputs[kMaxOutputs];
};

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

template <class To, class From>
__device__ To convert(From x) {
  return To(x);
}
template <class From>
__device__ Register cast_to(Kind to, From x) {
  Register r;
  r.u64 = 0;
  switch (to) {
    case Kind::U8:
      r.u8 = x != From(0);
      break;
    case Kind::I32:
      // by way of 64 bits: what does not fit wraps, as on the processor
      r.i32 = int32_t(int64_t(x));
      break;
    case Kind::I64:
      r.i64 = int64_t(x);
      break;
    case Kind::U64:  // a negative float wraps
      r.u64 = x < From(0) ? uint64_t(int64_t(x)) : uint64_t(x);
      break;
    case Kind::F32:
      r.f32 = float(x);
      break;
    case Kind::F64:
      r.f64 = double(x);
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
      const Operand& x = c.inputs[k];
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

Kind kind_of(DType t) {
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
bool describe(const TensorSpec& in, const TensorSpec& out, Operand* x) {
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

// Fills `c` but for the pointers. False if a function or the size is beyond this kernel.
bool translate(const Prepare& p, Cluster* c) {
  const int steps = int(attr_strs_size(*p.attrs, "fns"));
  if (p.num_inputs > kMaxInputs || p.num_outputs > kMaxOutputs || steps > kMaxSteps) return false;
  const IntList arity = attr_ints(*p.attrs, "arity"), args = attr_ints(*p.attrs, "args"),
                outs = attr_ints(*p.attrs, "outs");
  c->total = num_elements(p.outputs[0]);
  c->num_inputs = p.num_inputs;
  c->num_steps = steps;
  c->num_outputs = p.num_outputs;
  Kind kinds[kMaxInputs + kMaxSteps];
  for (int i = 0; i < p.num_inputs; ++i) {
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
    kinds[p.num_inputs + k] = s.result;
  }
  for (int o = 0; o < p.num_outputs; ++o) {
    c->outputs[o].dtype = p.outputs[o].dtype;
    c->outputs[o].value = uint8_t(outs.data[o]);
  }
  return true;
}

struct Elementwise {
  Cluster cluster;
  explicit Elementwise(Prepare& p) {
    if (!translate(p, &cluster)) fail("no CUDA kernel for this cluster");
  }
  static bool supports(const Prepare& p) {
    Cluster c;
    return translate(p, &c);
  }
  void run(const Call& call) const {
    if (cluster.total == 0) return;
    Cluster c = cluster;
    for (int i = 0; i < c.num_inputs; ++i) c.inputs[i].data = call.inputs[i];
    for (int i = 0; i < c.num_outputs; ++i) c.outputs[i].data = call.outputs[i];
    launch(blocks_for(c.total), dim3(kThreads), call.stream, interpret, c);
  }
};
// A thread reads its element of every input before it writes: outputs may lie over inputs.
HB_CUDA_KERNEL_IF(elementwise, Elementwise, kAllDTypes, 0xFFFFFFFFu, Elementwise::supports)

}  // namespace
}  // namespace hb::cuda
