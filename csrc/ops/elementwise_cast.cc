// Conversions of tiles: between compute types, from and to the stored dtypes, and the wrap of a
// result to a shorter integer. Plain loops: the compiler makes vector code of them.
#include "ops/elementwise.h"
#include "simd/half.h"

namespace hb::HB_ISA {
namespace {

template <class To, class From>
struct Convert {
  static To apply(From x) { return To(x); }
};
// A float that does not fit gives what the machine's conversion gives (the smallest integer on
// x86); unsigned 64-bit goes through signed in two halves.
template <class From>
  requires(From(0.5) != From(0))
struct Convert<uint64_t, From> {
  static uint64_t apply(From x) {
    const From half = From(0x1p63);
    return x >= half ? uint64_t(int64_t(x - half)) ^ (uint64_t(1) << 63) : uint64_t(int64_t(x));
  }
};
template <class From>
struct Convert<bool, From> {
  static uint8_t apply(From x) { return x != From(0); }
};

// `Kind` is the stored type, or bool for the bytes of truth values.
template <class Kind>
struct Stored {
  typedef Kind type;
};
template <>
struct Stored<bool> {
  typedef uint8_t type;
};
template <class To, class From>
void convert(void* dst, const void* const* src, int n) {
  const typename Stored<From>::type* a = (const typename Stored<From>::type*)src[0];
  typename Stored<To>::type* d = (typename Stored<To>::type*)dst;
  for (int i = 0; i < n; ++i) d[i] = Convert<To, typename Stored<From>::type>::apply(a[i]);
}

template <class From>
TileFn convert_from(Compute to) {
  switch (to) {
    case Compute::U8:
      return convert<bool, From>;
    case Compute::I32:
      return convert<int32_t, From>;
    case Compute::I64:
      return convert<int64_t, From>;
    case Compute::U64:
      return convert<uint64_t, From>;
    case Compute::F32:
      return convert<float, From>;
    default:
      return convert<double, From>;
  }
}

// Types of 16 bits.
template <class H>
void load_half(void* dst, const void* const* src, int n) {
  const H* a = (const H*)src[0];
  float* d = (float*)dst;
  int i = 0;
  for (; i + kLanes<float> <= n; i += kLanes<float>) store(d + i, load_as<float>(a + i));
  for (; i < n; ++i) d[i] = widen(a[i]);
}
template <class H>
void store_half(void* dst, const void* const* src, int n) {
  const float* a = (const float*)src[0];
  H* d = (H*)dst;
  int i = 0;
  for (; i + kLanes<float> <= n; i += kLanes<float>) store_as(d + i, load(a + i));
  for (; i < n; ++i) narrow(a[i], d[i]);
}
template <class H>
void round_half(void* dst, const void* const* src, int n) {
  const float* a = (const float*)src[0];
  float* d = (float*)dst;
  H rounded[kLanes<float>];
  int i = 0;
  for (; i + kLanes<float> <= n; i += kLanes<float>) {
    store_as(rounded, load(a + i));
    store(d + i, load_as<float>(rounded));
  }
  for (; i < n; ++i) {
    narrow(a[i], rounded[0]);
    d[i] = widen(rounded[0]);
  }
}
// T(x) for x computed in C and kept in it
template <class T, class C>
void wrap(void* dst, const void* const* src, int n) {
  const C* a = (const C*)src[0];
  C* d = (C*)dst;
  for (int i = 0; i < n; ++i) d[i] = C(T(a[i]));
}

}  // namespace

Compute compute_type(DType dtype) {
  switch (dtype) {
    case DType::Bool:
      return Compute::U8;
    case DType::I8:
    case DType::I16:
    case DType::I32:
    case DType::U8:
    case DType::U16:
      return Compute::I32;
    case DType::U32:
    case DType::I64:
      return Compute::I64;
    case DType::U64:
      return Compute::U64;
    case DType::F16:
    case DType::BF16:
    case DType::F32:
      return Compute::F32;
    case DType::F64:
      break;
  }
  return Compute::F64;
}

TileFn convert_tile(Compute from, Compute to) {
  switch (from) {
    case Compute::U8:
      return convert_from<bool>(to);
    case Compute::I32:
      return convert_from<int32_t>(to);
    case Compute::I64:
      return convert_from<int64_t>(to);
    case Compute::U64:
      return convert_from<uint64_t>(to);
    case Compute::F32:
      return convert_from<float>(to);
    default:
      return convert_from<double>(to);
  }
}

TileFn load_tile(DType from) {
  switch (from) {
    case DType::I8:
      return convert<int32_t, int8_t>;
    case DType::I16:
      return convert<int32_t, int16_t>;
    case DType::U8:
      return convert<int32_t, uint8_t>;
    case DType::U16:
      return convert<int32_t, uint16_t>;
    case DType::U32:
      return convert<int64_t, uint32_t>;
    case DType::F16:
      return load_half<f16>;
    case DType::BF16:
      return load_half<bf16>;
    default:
      return nullptr;
  }
}

TileFn store_tile(DType to) {
  switch (to) {
    case DType::I8:
      return convert<int8_t, int32_t>;
    case DType::I16:
      return convert<int16_t, int32_t>;
    case DType::U8:
      return convert<uint8_t, int32_t>;
    case DType::U16:
      return convert<uint16_t, int32_t>;
    case DType::U32:
      return convert<uint32_t, int64_t>;
    case DType::F16:
      return store_half<f16>;
    case DType::BF16:
      return store_half<bf16>;
    default:
      return nullptr;
  }
}

TileFn narrow_tile(DType to) {
  switch (to) {
    case DType::I8:
      return wrap<int8_t, int32_t>;
    case DType::I16:
      return wrap<int16_t, int32_t>;
    case DType::U8:
      return wrap<uint8_t, int32_t>;
    case DType::U16:
      return wrap<uint16_t, int32_t>;
    case DType::U32:
      return wrap<uint32_t, int64_t>;
    case DType::F16:
      return round_half<f16>;
    case DType::BF16:
      return round_half<bf16>;
    default:
      return nullptr;
  }
}

}  // namespace hb::HB_ISA
