// Kernels with the mistakes that the emulation is to find (test_emulation.py).
#include "cuda/kernel.cuh"

namespace hb::cuda {
namespace {

// y[i] = x[n - 1 - i] by way of shared memory. kFault says what is wrong.
enum Fault { kNone, kNoBarrier, kBarrierOfSome, kLaneMissing, kHostPointer };

template <Fault kFault>
__global__ void reverse(float* y, const float* x) {
  __shared__ float shared[64];
  const int i = threadIdx.x;
  shared[i] = x[i];
  if (kFault == kBarrierOfSome) {
    if (i < 40) __syncthreads();
  } else if (kFault == kLaneMissing) {
    if (i != 5) __shfl_sync(0xffffffffu, x[i], 0);
  } else if (kFault != kNoBarrier) {
    __syncthreads();
  }
  y[i] = shared[63 - i];
}

template <Fault kFault>
struct Reverse {
  explicit Reverse(Prepare&) {}
  void run(const Call& c) const {
    const float* x = static_cast<const float*>(c.inputs[0]);
    if (kFault == kHostPointer && *x == 1) fail("the host read memory of the device");
    launch(dim3(1), dim3(64), c.stream, reverse<kFault>, static_cast<float*>(c.outputs[0]), x);
  }
};
typedef Reverse<kNone> Right;
typedef Reverse<kNoBarrier> NoBarrier;
typedef Reverse<kBarrierOfSome> BarrierOfSome;
typedef Reverse<kLaneMissing> LaneMissing;
typedef Reverse<kHostPointer> HostPointer;
HB_CUDA_KERNEL(right, Right, kF32)
HB_CUDA_KERNEL(no_barrier, NoBarrier, kF32)
HB_CUDA_KERNEL(barrier_of_some, BarrierOfSome, kF32)
HB_CUDA_KERNEL(lane_missing, LaneMissing, kF32)
HB_CUDA_KERNEL(host_pointer, HostPointer, kF32)

}  // namespace
}  // namespace hb::cuda
