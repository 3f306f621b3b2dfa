// Stores past the caches, for results that are larger than them: no line is read before it is
// written, and what others keep in the caches stays there.
#pragma once
#include "simd/vec.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hb::HB_ISA {
namespace {

// A result of more bytes has left the caches when it is read next.
constexpr int64_t kStreamBytes = 16 << 20;

// To an address that is a multiple of the vector's size.
template <class T>
HB_INLINE void stream(T* p, Vec<T> v) {
#if HB_VEC_BYTES == 64
  _mm512_stream_si512((__m512i*)p, (__m512i)v);
#elif HB_VEC_BYTES == 32
  _mm256_stream_si256((__m256i*)p, (__m256i)v);
#elif defined(__x86_64__)
  _mm_stream_si128((__m128i*)p, (__m128i)v);
#else
  store(p, v);
#endif
}
HB_INLINE void stream_copy(void* to, const void* from, size_t bytes) {
  char* dst = static_cast<char*>(to);
  const char* src = static_cast<const char*>(from);
  for (; bytes >= HB_VEC_BYTES; bytes -= HB_VEC_BYTES, dst += HB_VEC_BYTES, src += HB_VEC_BYTES)
    stream(dst, load(src));
  memcpy(dst, src, bytes);
}
// Before other threads are told of what was streamed.
HB_INLINE void stream_fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace
}  // namespace hb::HB_ISA
