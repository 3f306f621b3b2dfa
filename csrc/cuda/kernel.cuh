// What a CUDA kernel file (csrc/ops/*.cu) sees.
//
// To add a family of kernels:
//   1. Write csrc/ops/<family>.cu beside <family>.cc, with the same op names and the same contract
//   of
//      inputs, outputs and attributes. Include this header first; the build finds the file.
//   2. Write `__global__` functions as usual (threadIdx, __shared__, __syncthreads, shuffles). They
//      read tensors through `widened` and write through `narrowed` (types.cuh), so that float16 and
//      bfloat16 cost no second version. Sums go in an order that only sizes decide, without
//      floating-point atomics.
//   3. Write a struct with a constructor `Type(Prepare&)`, which reads attributes, checks and
//   chooses,
//      and `void run(const Call&) const`, which calls `launch(grid, block, c.stream, kernel,
//      args…)` and nothing else that waits. The pointers in Call are the device's: the host must
//      not read them. Scratch is asked for with `p.scratch_bytes`. `p.constants` is null.
//      What `run` starts is recorded into a graph and started again without calling it (device.h):
//      so it depends on the kernel and the pointers only. What is to be done once (choosing by
//      measurement, loading a module) is done in the constructor or the first run, which is never
//      recorded; a recorded run must neither allocate nor wait.
//   4. Register it: HB_CUDA_KERNEL(op, Type, kF32 | kF64). What it cannot do (shapes, attributes) a
//      `supports` function says (HB_CUDA_KERNEL_IF): then the composition runs, or the CPU does it.
//   5. tests/cuda/test_op_cases.py runs the OpCases of the op on it by itself: the same file,
//   compiled for the processor (emulate.h). An instruction in PTX has a second form for that, in
//   software (mma.cuh).
#pragma once
#include "core/kernel.h"

#ifdef HB_EMULATE
#include "cuda/emulate.h"
#else
#include <cuda_runtime.h>
#endif

#include "cuda/types.cuh"

namespace hb::cuda {

[[noreturn]] void fail_cuda(const char* what, cudaError_t error);

#ifndef HB_EMULATE
// Starts `kernel` and does not wait. `shared_bytes` is what HB_DYNAMIC_SHARED(name) has.
template <class... P, class... A>
void launch_shared(dim3 grid, dim3 block, size_t shared_bytes, void* stream, void (*kernel)(P...),
                   A... args) {
  cudaError_t error = cudaSuccess;
  if (shared_bytes > 48 << 10)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 int(shared_bytes));
  if (error == cudaSuccess) {
    kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(
        static_cast<P>(args)...);
    error = cudaGetLastError();
  }
  if (error != cudaSuccess) fail_cuda("kernel launch", error);
}
template <class... P, class... A>
void launch(dim3 grid, dim3 block, void* stream, void (*kernel)(P...), A... args) {
  launch_shared(grid, block, 0, stream, kernel, args...);
}
#define HB_UNROLL _Pragma("unroll")
#define HB_UNROLL_NOT _Pragma("unroll 1")
#define HB_UNROLL_BY(n) HB_PRAGMA(unroll n)
#define HB_PRAGMA(text) _Pragma(#text)
#define HB_DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#endif
inline void fill_zero(void* memory, size_t bytes, void* stream) {
  if (bytes == 0) return;
  const cudaError_t error = cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(stream));
  if (error != cudaSuccess) fail_cuda("memset", error);
}

// What kernels find wrong with values, which the host cannot see: an index out of range. The record
// lies in memory that both see; the next call that waits for the device throws it.
struct IndexError {
  int set, axis;
  int64_t index, size;
};
IndexError* index_error();
void throw_index_error();  // if there is one

__device__ inline void report_index(IndexError* e, int64_t index, int axis, int64_t size) {
  e->axis = axis;
  e->index = index;
  e->size = size;
  e->set = 1;
}

constexpr int kThreads = 256;               // of a block, where nothing speaks for another number
constexpr int64_t kMaxBlocks = 0x7fffffff;  // of the first axis of a grid

// Blocks for n independent elements with one thread each (kernels loop by the size of the grid, so
// more elements than this covers are done too).
inline dim3 blocks_for(int64_t n, int threads = kThreads) {
  const int64_t blocks = (n + threads - 1) / threads;
  return dim3(unsigned(blocks < 1 ? 1 : blocks > 65535 * 16 ? 65535 * 16 : blocks));
}

// for (int64_t i : every element of [0, n) that is this thread's)
#define HB_EACH(i, n)                                              \
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, \
               hb_step_##i = int64_t(gridDim.x) * blockDim.x;      \
       i < (n); i += hb_step_##i)

// An attribute that a kernel does not look at would be a wrong result: a pass may have put it there
// for the CPU's kernel. So while one is made, what it reads is noted. (To accept one without using
// it, ask attr_has.)
class AttributeCheck {
 public:
  explicit AttributeCheck(const Prepare& p);
  ~AttributeCheck();
  AttributeCheck(const AttributeCheck&) = delete;
  AttributeCheck& operator=(const AttributeCheck&) = delete;
  void expect_all_read() const;  // throws

 private:
  const Prepare& prepare_;
};
template <class Type>
void* create_checked(Prepare& p) {
  const AttributeCheck check(p);
  struct Owner {  // std::unique_ptr takes two seconds to compile, in every file
    Type* kernel;
    ~Owner() { delete kernel; }
  } made{new Type(p)};
  check.expect_all_read();
  Type* kernel = made.kernel;
  made.kernel = nullptr;
  return kernel;
}

// A list of what the file registers, read when the library is opened.
struct Registration {
  KernelDef def;
  const Registration* next;
  explicit Registration(const KernelDef& d);
};

}  // namespace hb::cuda

// Registers `Type` as the CUDA kernel of `op`, as HB_CPU_KERNEL does for the CPU.
#define HB_CUDA_KERNEL(op, Type, dtypes) HB_CUDA_KERNEL_IF(op, Type, dtypes, 0u, nullptr)
#define HB_CUDA_KERNEL_INPLACE(op, Type, dtypes) HB_CUDA_KERNEL_IF(op, Type, dtypes, 1u, nullptr)
#define HB_CUDA_KERNEL_IF(op, Type, dtypes, inplace, supports)                         \
  const ::hb::cuda::Registration registration_##op##_##Type({                          \
      #op,                                                                             \
      (dtypes),                                                                        \
      (inplace),                                                                       \
      (supports),                                                                      \
      ::hb::cuda::create_checked<Type>,                                                \
      [](const void* k, const ::hb::Call& c) { static_cast<const Type*>(k)->run(c); }, \
      [](void* k) { delete static_cast<Type*>(k); },                                   \
  });
