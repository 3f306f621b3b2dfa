// The functions of the tile engine (elementwise.cc): what a tile is computed in, and how a function
// over tiles is declared. A function is one line in elementwise_float.cc, elementwise_integer.cc
// or elementwise_special.cc; nothing else lists them.
#pragma once
#include "core/kernel.h"

namespace hb {

// For the bindings: every (name, dtype it is computed in) of the portable level.
struct ElementwiseFunctionName {
  const char* name;
  const char* dtype;
};
int elementwise_function_names(const ElementwiseFunctionName** names);

}  // namespace hb

#ifdef HB_ISA
#include "simd/math.h"
#include "simd/vec.h"

namespace hb::HB_ISA {

// What the elements of a tile are while computing: bool as bytes 0 and 1, integers shorter than
// 32 bits as I32, uint32 as I64, float16 and bfloat16 as F32.
enum class Compute : uint8_t { U8, I32, I64, U64, F32, F64 };
Compute compute_type(DType dtype);

// dst[i] = f(src[0][i], src[1][i], ...) for i < n. dst may be one of the sources if their elements
// have the same size.
typedef void (*TileFn)(void* dst, const void* const* src, int n);

struct ElementwiseFn {
  const char* name;
  Compute type;    // of the operands (of the last one: the condition of `where` is U8)
  Compute result;  // type of the result
  int arity;
  int cost;  // rough, in additions
  TileFn fn;
};

class ElementwiseTable {
 public:
  ElementwiseFn fns[480];
  int size = 0;
  void add(const ElementwiseFn& fn);
  const ElementwiseFn* find(const char* name, Compute type) const;
};
void add_float_functions(ElementwiseTable& table);
void add_integer_functions(ElementwiseTable& table);
void add_special_functions(ElementwiseTable& table);
const ElementwiseTable& elementwise_table();

// Several instructions done as one, from registers to registers, with several results. What they
// are is written as a formula: `M = m + (g - m) * a; W = w - M * r` takes m, g, a, w, r (in the
// order of their first use) and gives M and W. The last result leads to all others. For float32.
constexpr int kMaxOperands = 10, kMaxResults = 3;
struct FusedFn {
  const char* formula;
  // element i of operand k is src[k][i & mask[k]]: -1, or 0 for a scalar, repeated for a vector
  void (*fn)(void* const* dst, const void* const* src, const int* mask, int n);
};

// An instruction of a cluster as the graph has it; its result is value num_inputs + its place.
struct Instruction {
  const char* name;
  DType dtype;
  int num_operands;
  int operands[3];
  bool taken;  // part of a fused one
};
struct FusedMatch {
  const FusedFn* fused;
  int num_operands, num_results;
  int operands[kMaxOperands], results[kMaxResults];  // ids of values
};
// Finds fused functions in the program. matches[k] is set (fused != null) for the instruction k in
// whose place one runs; all its instructions are marked as taken. `is_float32(value)` tells whether
// a value is computed in float32 throughout, `is_output` whether it is wanted outside.
void match_fused(Instruction* program, int size, int num_inputs, const bool* is_float32,
                 const bool* is_output, FusedMatch* matches);

TileFn convert_tile(Compute from, Compute to);
TileFn load_tile(DType from);  // stored -> computed; null if they are the same
TileFn store_tile(DType to);   // computed -> stored; null if they are the same
TileFn narrow_tile(DType to);  // wraps to a shorter integer (also float16: rounds); null if none
constexpr int kComputeBytes[] = {1, 4, 8, 8, 4, 8};

namespace {

template <class T>
constexpr Compute kComputeOf = Compute::U8;
template <>
constexpr Compute kComputeOf<int32_t> = Compute::I32;
template <>
constexpr Compute kComputeOf<int64_t> = Compute::I64;
template <>
constexpr Compute kComputeOf<uint64_t> = Compute::U64;
template <>
constexpr Compute kComputeOf<float> = Compute::F32;
template <>
constexpr Compute kComputeOf<double> = Compute::F64;

// One byte per lane of a vector of T.
template <class T>
struct Bytes {
  typedef uint8_t type __attribute__((vector_size(kLanes<T>)));
};
template <class T>
struct MaskOf {
  typedef decltype(Vec<T>{} < Vec<T>{}) type;
};

// The lanes of a vector of T whose byte is not 0. By intrinsics: GCC widens bytes to words one lane
// after the other.
template <class T>
HB_INLINE typename MaskOf<T>::type lanes_where(const uint8_t* bytes) {
  typedef typename MaskOf<T>::type Mask;
  typename Bytes<T>::type b;
  memcpy(&b, bytes, sizeof b);
#if defined(__SSE4_1__)
  __m128i x{};
  memcpy(&x, bytes, sizeof b < sizeof x ? sizeof b : sizeof x);
#if HB_VEC_BYTES == 64
  if constexpr (sizeof(T) == 4) return (Mask)_mm512_maskz_cvtepu8_epi32(0xffff, x) != 0;
  if constexpr (sizeof(T) == 8) return (Mask)_mm512_maskz_cvtepu8_epi64(0xff, x) != 0;
#elif HB_VEC_BYTES == 32
  if constexpr (sizeof(T) == 4) return (Mask)_mm256_cvtepu8_epi32(x) != 0;
  if constexpr (sizeof(T) == 8) return (Mask)_mm256_cvtepu8_epi64(x) != 0;
#else
  if constexpr (sizeof(T) == 4) return (Mask)_mm_cvtepu8_epi32(x) != 0;
  if constexpr (sizeof(T) == 8) return (Mask)_mm_cvtepu8_epi64(x) != 0;
#endif
#endif
  return __builtin_convertvector(b, Mask) != 0;
}

// Runs fn.template operator()<T>() for each type.
template <class... Ts, class F>
void each(const F& fn) {
  (fn.template operator()<Ts>(), ...);
}

// The rest of a tile, shorter than a vector, goes through a vector on the stack.
template <class T>
HB_INLINE Vec<T> load_some(const T* p, int n) {
  Vec<T> v = splat<T>(T(1));  // harmless for division and logarithm
  memcpy(&v, p, size_t(n) * sizeof(T));
  return v;
}

// Functions by vectors. F is a lambda without captures, so a type is enough to call it.
template <class T, class F>
void unary_tile(void* dst, const void* const* src, int n) {
  const T* a = (const T*)src[0];
  T* d = (T*)dst;
  int i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store(d + i, F{}(load(a + i)));
  if (i < n) {
    const Vec<T> y = F{}(load_some(a + i, n - i));
    memcpy(d + i, &y, size_t(n - i) * sizeof(T));
  }
}
template <class T, class F>
void binary_tile(void* dst, const void* const* src, int n) {
  const T *a = (const T*)src[0], *b = (const T*)src[1];
  T* d = (T*)dst;
  int i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store(d + i, F{}(load(a + i), load(b + i)));
  if (i < n) {
    const Vec<T> y = F{}(load_some(a + i, n - i), load_some(b + i, n - i));
    memcpy(d + i, &y, size_t(n - i) * sizeof(T));
  }
}
// F returns a mask of lanes; 0 or 1 is stored.
template <class T, class F>
void compare_tile(void* dst, const void* const* src, int n) {
  const T *a = (const T*)src[0], *b = (const T*)src[1];
  uint8_t* d = (uint8_t*)dst;
  typedef typename Bytes<T>::type B;
  int i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) {
    const B y = __builtin_convertvector(F{}(load(a + i), load(b + i)), B) & 1;
    memcpy(d + i, &y, sizeof y);
  }
  if (i < n) {
    const B y =
        __builtin_convertvector(F{}(load_some(a + i, n - i), load_some(b + i, n - i)), B) & 1;
    memcpy(d + i, &y, size_t(n - i));
  }
}
template <class T, class F>
void test_tile(void* dst, const void* const* src, int n) {
  const T* a = (const T*)src[0];
  uint8_t* d = (uint8_t*)dst;
  typedef typename Bytes<T>::type B;
  int i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) {
    const B y = __builtin_convertvector(F{}(load(a + i)), B) & 1;
    memcpy(d + i, &y, sizeof y);
  }
  if (i < n) {
    const B y = __builtin_convertvector(F{}(load_some(a + i, n - i)), B) & 1;
    memcpy(d + i, &y, size_t(n - i));
  }
}
// Functions element by element.
template <class T, class F>
void scalar_unary_tile(void* dst, const void* const* src, int n) {
  const T* a = (const T*)src[0];
  T* d = (T*)dst;
  for (int i = 0; i < n; ++i) d[i] = F{}(a[i]);
}
template <class T, class F>
void scalar_binary_tile(void* dst, const void* const* src, int n) {
  const T *a = (const T*)src[0], *b = (const T*)src[1];
  T* d = (T*)dst;
  for (int i = 0; i < n; ++i) d[i] = F{}(a[i], b[i]);
}

// Declarations: unary<float>(table, "exp", 12, [](Vec<float> x) { return vexp<float>(x); }),
// where 12 is the cost.
// Type U, when given, is what the elements of a tile of T are read as (unsigned arithmetic wraps).
template <class T, class U = T, class F>
void unary(ElementwiseTable& table, const char* name, int cost, F) {
  table.add({name, kComputeOf<T>, kComputeOf<T>, 1, cost, unary_tile<U, F>});
}
template <class T, class U = T, class F>
void binary(ElementwiseTable& table, const char* name, int cost, F) {
  table.add({name, kComputeOf<T>, kComputeOf<T>, 2, cost, binary_tile<U, F>});
}
template <class T, class U = T, class F>
void unary(ElementwiseTable& table, const char* name, F f) {
  unary<T, U>(table, name, 1, f);
}
template <class T, class U = T, class F>
void binary(ElementwiseTable& table, const char* name, F f) {
  binary<T, U>(table, name, 1, f);
}
template <class T, class F>
void compare(ElementwiseTable& table, const char* name, F) {
  table.add({name, kComputeOf<T>, Compute::U8, 2, 1, compare_tile<T, F>});
}
template <class T, class F>
void test(ElementwiseTable& table, const char* name, F) {
  table.add({name, kComputeOf<T>, Compute::U8, 1, 1, test_tile<T, F>});
}
template <class T, class F>
void scalar_unary(ElementwiseTable& table, const char* name, int cost, F) {
  table.add({name, kComputeOf<T>, kComputeOf<T>, 1, cost, scalar_unary_tile<T, F>});
}
template <class T, class F>
void scalar_binary(ElementwiseTable& table, const char* name, int cost, F) {
  table.add({name, kComputeOf<T>, kComputeOf<T>, 2, cost, scalar_binary_tile<T, F>});
}

// Equality, order, choice: for every type.
template <class T>
void add_comparisons(ElementwiseTable& table) {
  compare<T>(table, "equal", [](Vec<T> a, Vec<T> b) { return a == b; });
  compare<T>(table, "not_equal", [](Vec<T> a, Vec<T> b) { return a != b; });
  compare<T>(table, "less", [](Vec<T> a, Vec<T> b) { return a < b; });
  compare<T>(table, "less_equal", [](Vec<T> a, Vec<T> b) { return a <= b; });
  compare<T>(table, "greater", [](Vec<T> a, Vec<T> b) { return a > b; });
  compare<T>(table, "greater_equal", [](Vec<T> a, Vec<T> b) { return a >= b; });
  compare<T>(table, "logical_and", [](Vec<T> a, Vec<T> b) { return (a != T(0)) & (b != T(0)); });
  compare<T>(table, "logical_or", [](Vec<T> a, Vec<T> b) { return (a != T(0)) | (b != T(0)); });
  compare<T>(table, "logical_xor", [](Vec<T> a, Vec<T> b) { return (a != T(0)) ^ (b != T(0)); });
  test<T>(table, "logical_not", [](Vec<T> a) { return a == T(0); });
  unary<T>(table, "copy", [](Vec<T> a) { return a; });          // of an input to an output
  unary<T>(table, "broadcast_to", [](Vec<T> a) { return a; });  // the engine broadcasts operands
  table.add(
      {"where", kComputeOf<T>, kComputeOf<T>, 3, 1, [](void* dst, const void* const* src, int n) {
         const uint8_t* c = (const uint8_t*)src[0];
         const T *a = (const T*)src[1], *b = (const T*)src[2];
         T* d = (T*)dst;
         int i = 0;
         for (; i + kLanes<T> <= n; i += kLanes<T>)
           store(d + i, lanes_where<T>(c + i) ? load(a + i) : load(b + i));
         for (; i < n; ++i) d[i] = c[i] ? a[i] : b[i];
       }});
}

}  // namespace
}  // namespace hb::HB_ISA
#endif  // HB_ISA
