// CUDA C++ for the host compiler: the same kernel sources run on the processor, for tests.
//
// Every thread of a block is a fiber. A fiber runs until it waits at a barrier or a warp function,
// and goes on when all that it waits for have come; blocks run one after another. So a missing
// barrier shows as a wrong result when the threads run in the other order
// (HORNBEAM_EMULATE_ORDER=reverse), and one that not all threads reach is an error. Device memory
// cannot be read or written outside of kernels and copies: a host that follows a device pointer
// ends with a fault. Streams, graphs and memory are in emulate_runtime.h.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>

#include "cuda/emulate_runtime.h"

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__ static
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __grid_constant__
#define __noinline__
#define HB_UNROLL
#define HB_UNROLL_BY(n)
#define HB_UNROLL_NOT
#define HB_DYNAMIC_SHARED(name) unsigned char* const name = ::hb::emulate::dynamic_shared()

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace hb::emulate {

struct Position {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
extern Position at;  // of the thread that runs

void barrier();
// All lanes of `mask` come with their bits; returns what lane `source` brought (own bits where that
// lane is not in the mask).
uint64_t exchange(unsigned mask, uint64_t bits, int source);
unsigned ballot(unsigned mask, bool flag);
int lane();
// Every lane of a whole warp brings some bytes; then `brought` reads those of any lane, until the
// next but one call. Returns what `brought` wants as `turn`.
int bring(const void* data, size_t bytes);
const void* brought(int lane, int turn);

// cp.async: the latest that is allowed, when the thread waits for the group that it is in.
void copy_later(void* to, const void* from, size_t size, size_t valid);  // zeros from valid on
void commit_copies();
void wait_copies(size_t groups_left);

// What runs when it must be done: copies into shared memory when their barrier is asked, work in
// groups as copies above.
void copy_box_later(const void* barrier, std::function<void()> copy);
void copy_boxes(const void* barrier);
void work_later(std::function<void()> work);
void commit_work();
void wait_work(size_t groups_left);
// Lets other threads run, until what this one waits for has come; then `went_on`.
void pause();
void went_on();

unsigned char* dynamic_shared();

// Runs body(context) for every thread of the grid.
void run_grid(dim3 grid, dim3 block, size_t dynamic_shared_bytes, void (*body)(void*),
              void* context);
void check_launch(dim3 grid, dim3 block, size_t dynamic_shared_bytes);  // throws as a launch fails

template <class T>
T shuffle(unsigned mask, T x, int source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);  // as in CUDA
  uint64_t bits = 0;
  memcpy(&bits, &x, sizeof x);
  bits = exchange(mask, bits, source);
  memcpy(&x, &bits, sizeof x);
  return x;
}

}  // namespace hb::emulate

#define threadIdx (::hb::emulate::at.thread)
#define blockIdx (::hb::emulate::at.block)
#define blockDim (::hb::emulate::at.block_size)
#define gridDim (::hb::emulate::at.grid_size)

inline void __syncthreads() { hb::emulate::barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { hb::emulate::exchange(mask, 0, 0); }
template <class T>
T __shfl_sync(unsigned mask, T x, int source) {
  return hb::emulate::shuffle(mask, x, source & 31);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T x, int bits) {
  return hb::emulate::shuffle(mask, x, hb::emulate::lane() ^ bits);
}
template <class T>
T __shfl_down_sync(unsigned mask, T x, unsigned by) {
  const int source = hb::emulate::lane() + int(by);
  return hb::emulate::shuffle(mask, x, source < 32 ? source : hb::emulate::lane());
}
template <class T>
T __shfl_up_sync(unsigned mask, T x, unsigned by) {
  const int source = hb::emulate::lane() - int(by);
  return hb::emulate::shuffle(mask, x, source >= 0 ? source : hb::emulate::lane());
}
inline unsigned __ballot_sync(unsigned mask, bool flag) { return hb::emulate::ballot(mask, flag); }
inline bool __any_sync(unsigned mask, bool flag) { return __ballot_sync(mask, flag) != 0; }
inline bool __all_sync(unsigned mask, bool flag) { return __ballot_sync(mask, !flag) == 0; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
  return uint64_t((unsigned __int128)a * b >> 64);
}
template <class T>
T atomicAdd(T* p, T x) {  // one fiber runs at a time
  const T old = *p;
  *p += x;
  return old;
}
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
// One rounding each; the compiler may not join them.
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline int __float_as_int(float x) {
  int bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float __int_as_float(int bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// Code that is loaded at run time (emulate_library.cc): after kEmulatedCode a library for the
// processor, which has a function `<kernel>_emulated` of (argument, Position) and a number
// `<kernel>_bytes`, the size of the argument.
typedef struct CUlib_st* cudaLibrary_t;
typedef struct CUkern_st* cudaKernel_t;
typedef int cudaJitOption, cudaLibraryOption;
constexpr char kEmulatedCode[8] = {'e', 'm', 'u', 'l', 'a', 't', 'e', 'd'};  // then its size
cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void* code, cudaJitOption*, void**,
                                unsigned, cudaLibraryOption*, void**, unsigned);
cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t library, const char* name);
cudaError_t cudaLibraryUnload(cudaLibrary_t library);
cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments,
                             size_t shared_bytes, cudaStream_t stream);

namespace hb::cuda {

template <class... P, class... A>
void launch_shared(dim3 grid, dim3 block, size_t shared_bytes, void* stream, void (*kernel)(P...),
                   A... args) {
  ::hb::emulate::check_launch(grid, block, shared_bytes);
  const auto queue = static_cast<cudaStream_t>(stream);
  ::hb::emulate::bound_queue(queue);
  ::hb::emulate::enqueue(queue, [=] {
    auto body = [&] { kernel(static_cast<P>(args)...); };
    ::hb::emulate::run_grid(
        grid, block, shared_bytes, [](void* f) { (*static_cast<decltype(body)*>(f))(); }, &body);
  });
}
template <class... P, class... A>
void launch(dim3 grid, dim3 block, void* stream, void (*kernel)(P...), A... args) {
  launch_shared(grid, block, 0, stream, kernel, args...);
}

}  // namespace hb::cuda
