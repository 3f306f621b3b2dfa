// What only Hopper has (sm_90a): wgmma, tensor maps (TMA), barriers in shared memory.
//
// As mma.cuh: inline PTX for the device, and for the emulation the documented layouts in software.
// There a copy by TMA is done when a thread asks the barrier that it belongs to, and a product when
// the thread waits for its group: the latest moments that are allowed, so that what does not wait
// reads old values, and what is given free too early is overwritten.
#pragma once
#include "cuda/mma.cuh"

#ifndef HB_EMULATE
#include <cuda.h>
#endif

namespace hb::cuda {

// Bits of the descriptor of a matrix in shared memory, whose lines of 128 bytes are swizzled (the
// 16 bytes at c of line l lie at c ^ l % 8) and which begins at a multiple of 1024. By k: line =
// row, `step` bytes between eight rows. Otherwise line = k, `step` bytes between eight values of k,
// `leap` bytes between 64 rows.
struct MatrixBits {
  static __device__ __forceinline__ uint64_t of(uint32_t address, uint32_t leap, uint32_t step) {
    return uint64_t((address & 0x3ffff) >> 4) | uint64_t(leap >> 4) << 16 |
           uint64_t(step >> 4) << 32 | uint64_t(1) << 62;
  }
};

#ifndef HB_EMULATE
typedef CUtensorMap TensorMap;
typedef uint64_t SharedBarrier;

__device__ __forceinline__ void barrier_init(SharedBarrier* b, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals));
}
// After barrier_init, before __syncthreads: also for the engine that copies.
__device__ __forceinline__ void barrier_init_done() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void barrier_arrive(SharedBarrier* b) {
  asm volatile(
      "{\n .reg .b64 s;\n mbarrier.arrive.shared::cta.b64 s, [%0];\n}" ::"r"(shared_address(b))
      : "memory");
}
__device__ __forceinline__ void barrier_arrive_expecting(SharedBarrier* b, unsigned bytes) {
  asm volatile("{\n .reg .b64 s;\n mbarrier.arrive.expect_tx.shared::cta.b64 s, [%0], %1;\n}" ::"r"(
                   shared_address(b)),
               "r"(bytes)
               : "memory");
}
// Waits until the phase of that parity is over.
__device__ __forceinline__ void barrier_wait(SharedBarrier* b, unsigned parity) {
  uint32_t done;
  do {
    asm volatile(
        "{\n .reg .pred p;\n mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n selp.u32 %0, "
        "1, "
        "0, p;\n}"
        : "=r"(done)
        : "r"(shared_address(b)), "r"(parity)
        : "memory");
  } while (!done);
}

// Starts to copy the box at (x, y, z); its bytes count for the barrier.
__device__ __forceinline__ void copy_box(void* shared, const TensorMap* map, int x, int y, int z,
                                         SharedBarrier* b) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4, %5}], [%2];" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(b)), "r"(x), "r"(y), "r"(z)
      : "memory");
}

// Registers move from warpgroups that copy to those that compute.
template <int kCount>
__device__ __forceinline__ void registers_down() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void registers_up() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

__device__ __forceinline__ void products_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void products_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kGroupsLeft>
__device__ __forceinline__ void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroupsLeft) : "memory");
}

// Behind the last wait: nothing that uses the sums may be moved before it.
template <int kCount>
__device__ __forceinline__ void products_are_there(float* d) {
  HB_UNROLL
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

#define HB_REGISTERS_0_63                                                            \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define HB_REGISTERS_64_127                                                                      \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define HB_SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define HB_SUMS_16(i) HB_SUMS_4(i), HB_SUMS_4(i + 4), HB_SUMS_4(i + 8), HB_SUMS_4(i + 12)
#define HB_SUMS_64(i) HB_SUMS_16(i), HB_SUMS_16(i + 16), HB_SUMS_16(i + 32), HB_SUMS_16(i + 48)
#define HB_WGMMA_256(shape, types, more, ...)                                                      \
  asm volatile("{\n .reg .pred p;\n setp.ne.b32 p, %130, 0;\n wgmma.mma_async.sync.aligned." shape \
               "." types " {" HB_REGISTERS_0_63 ", " HB_REGISTERS_64_127                           \
               "}, %128, %129, p, 1, 1" more ";\n}"                                                \
               : HB_SUMS_64(0), HB_SUMS_64(64)                                                     \
               : "l"(a), "l"(b), "r"(keep)__VA_OPT__(, ) __VA_ARGS__)
#define HB_WGMMA_128(shape, types, more, ...)                                                     \
  asm volatile("{\n .reg .pred p;\n setp.ne.b32 p, %66, 0;\n wgmma.mma_async.sync.aligned." shape \
               "." types " {" HB_REGISTERS_0_63 "}, %64, %65, p, 1, 1" more ";\n}"                \
               : HB_SUMS_64(0)                                                                    \
               : "l"(a), "l"(b), "r"(keep)__VA_OPT__(, ) __VA_ARGS__)

// d [64 x kN] = (keep ? d : 0) + a [64 x k] b [k x kN], 32 bytes of k, for a warpgroup. Warp w has
// rows from 16 w on; d[4 j ..] are the sums of columns from 8 j on, as of mma.
template <class T, int kN, bool kAByK, bool kBByK>
__device__ __forceinline__ void multiply_shared(float* d, uint64_t a, uint64_t b, int keep) {
  static_assert(kN == 128 || kN == 256);
  static_assert(sizeof(T) == 2 || (kAByK && kBByK));
  constexpr int kA = !kAByK, kB = !kBByK;  // 1: not by k
  if constexpr (std::is_same_v<T, BHalf> && kN == 256)
    HB_WGMMA_256("m64n256k16", "f32.bf16.bf16", ", %131, %132", "n"(kA), "n"(kB));
  else if constexpr (std::is_same_v<T, BHalf>)
    HB_WGMMA_128("m64n128k16", "f32.bf16.bf16", ", %67, %68", "n"(kA), "n"(kB));
  else if constexpr (std::is_same_v<T, Half> && kN == 256)
    HB_WGMMA_256("m64n256k16", "f32.f16.f16", ", %131, %132", "n"(kA), "n"(kB));
  else if constexpr (std::is_same_v<T, Half>)
    HB_WGMMA_128("m64n128k16", "f32.f16.f16", ", %67, %68", "n"(kA), "n"(kB));
  else if constexpr (kN == 256)
    HB_WGMMA_256("m64n256k8", "f32.tf32.tf32", "");
  else
    HB_WGMMA_128("m64n128k8", "f32.tf32.tf32", "");
}
#undef HB_WGMMA_128
#undef HB_WGMMA_256
#undef HB_SUMS_64
#undef HB_SUMS_16
#undef HB_SUMS_4
#undef HB_REGISTERS_64_127
#undef HB_REGISTERS_0_63

#else

// What a tensor map says, of three axes, innermost first.
struct TensorMap {
  const unsigned char* data;
  int64_t extent[3], stride[3];  // stride in bytes
  int box[3], item;
};

inline uint32_t shared_address(const void* p) {
  return uint32_t(static_cast<const unsigned char*>(p) - emulate::dynamic_shared());
}

struct SharedBarrier {
  uint8_t arrivals, left, phase, kind;
  int32_t bytes;
  void check() {
    if (left == 0 && bytes == 0) {
      phase ^= 1;
      left = arrivals;
    }
  }
};
static_assert(sizeof(SharedBarrier) == 8);
inline void barrier_init(SharedBarrier* b, unsigned arrivals) {
  *b = {uint8_t(arrivals), uint8_t(arrivals), 0, 0, 0};
}
inline void barrier_init_done() {}
inline void barrier_arrive(SharedBarrier* b) {
  if (b->left == 0) fail("mbarrier: more arrivals than it was made for");
  --b->left;
  b->check();
}
inline void barrier_arrive_expecting(SharedBarrier* b, unsigned bytes) {
  b->bytes += int32_t(bytes);
  barrier_arrive(b);
}
inline void barrier_wait(SharedBarrier* b, unsigned parity) {
  const auto over = [&] {
    emulate::copy_boxes(b);
    return b->phase != parity;
  };
  while (!over()) emulate::pause();
  emulate::went_on();
}

inline void copy_box(void* shared, const TensorMap* map, int x, int y, int z, SharedBarrier* b) {
  emulate::copy_box_later(b, [shared, map = *map, x, y, z, b] {
    const int line = map.box[0] * map.item;
    if (line != 128 || shared_address(shared) % 1024 != 0) fail("TMA: box not aligned to 1024");
    int l = 0;
    for (int bz = 0; bz < map.box[2]; ++bz)
      for (int by = 0; by < map.box[1]; ++by, ++l)
        for (int byte = 0; byte < line; ++byte) {
          const int64_t at[3] = {x + byte / map.item, y + by, z + bz};
          bool inside = true;
          for (int d = 0; d < 3; ++d) inside = inside && at[d] >= 0 && at[d] < map.extent[d];
          static_cast<unsigned char*>(
              shared)[l * 128 + ((byte >> 4 ^ (l & 7)) << 4) + (byte & 15)] =
              inside ? map.data[at[0] * map.item + byte % map.item + at[1] * map.stride[1] +
                                at[2] * map.stride[2]]
                     : 0;
        }
    b->bytes -= l * line;
    b->check();
  });
}

template <int>
void registers_down() {}
template <int>
void registers_up() {}
inline void products_begin() {}
inline void products_commit() { emulate::commit_work(); }
template <int kGroupsLeft>
void products_wait() {
  emulate::wait_work(kGroupsLeft);
}

template <int>
void products_are_there(float*) {}

// Number (row, k) of a matrix that a descriptor names: the layout of swizzled lines of 128 bytes.
template <class T, bool kByK>
float shared_number(uint64_t bits, int row, int k) {
  const uint32_t start = uint32_t(bits & 0x3fff) << 4, leap = uint32_t(bits >> 16 & 0x3fff) << 4,
                 step = uint32_t(bits >> 32 & 0x3fff) << 4;
  if (bits >> 62 != 1) fail("wgmma: a matrix that is not swizzled in lines of 128 bytes");
  constexpr int kCount = 128 / int(sizeof(T));
  uint32_t at = start;
  if constexpr (kByK)
    at += uint32_t(row / 8) * step + uint32_t(row % 8 * 128 + k * int(sizeof(T)));
  else
    at += uint32_t(row / kCount) * leap + uint32_t(k / 8) * step +
          uint32_t(k % 8 * 128 + row % kCount * int(sizeof(T)));
  at ^= (at >> 7 & 7) << 4;
  const unsigned char* p = emulate::dynamic_shared() + at;
  uint32_t number = 0;
  memcpy(&number, p, sizeof(T));
  return number_of(T(), &number, 0);
}

template <class T, int kN, bool kAByK, bool kBByK>
void multiply_shared(float* d, uint64_t a, uint64_t b, int keep) {
  const int thread = int(threadIdx.x) % 128;
  emulate::work_later([=] {
    constexpr int kDepth = 32 / int(sizeof(T));
    const int g = thread / 32 * 16 + thread % 32 / 4, t = thread % 4;
    float x[2][kDepth];
    for (int half = 0; half < 2; ++half)
      for (int k = 0; k < kDepth; ++k) x[half][k] = shared_number<T, kAByK>(a, g + half * 8, k);
    for (int j = 0; j < kN / 8; ++j)
      for (int c = 0; c < 2; ++c) {
        double sum[2] = {keep ? d[j * 4 + c] : 0.0f, keep ? d[j * 4 + 2 + c] : 0.0f};
        for (int k = 0; k < kDepth; ++k) {
          const double y = shared_number<T, kBByK>(b, j * 8 + t * 2 + c, k);
          sum[0] += x[0][k] * y;
          sum[1] += x[1][k] * y;
        }
        d[j * 4 + c] = toward_zero(sum[0]);
        d[j * 4 + 2 + c] = toward_zero(sum[1]);
      }
  });
}

#endif

}  // namespace hb::cuda
