// Products on the tensor cores of Hopper (sm_90a): wgmma on operands that TMA brings.
//
// A block makes tiles of 128 x kN, as many as fall to it: one warp copies stages of 128 bytes of k
// ahead, two warpgroups multiply 64 rows each. Barriers in shared memory say when a stage is there
// and when it is free; while a tile is stored, the stages of the next one come. Operands in lines
// of 128 bytes with swizzle, by k or not: descriptors say which. What is not a matrix of aligned
// lines goes to gemm_mma.cuh.
#include "cuda/hopper.cuh"
#include "ops/gemm_mma_kernel.cuh"

namespace hb::cuda {
namespace {

constexpr int kRows = 128, kConsumers = 2, kHopperThreads = 128 * (1 + kConsumers);
template <int kN>
constexpr int kStageBytes = (kRows + kN) * 128;
template <int kN>
constexpr int kHopperStages = kN == 256 ? 4 : 6;
template <int kN>
constexpr int kPartsAt = kHopperStages<kN> * (kStageBytes<kN> + 16);  // of the warps that multiply
template <int kN>
constexpr int kHopperShared = kPartsAt<kN> + kConsumers * 4 * kPartSums * 4;

struct HopperProduct {
  MmaProduct p;
  bool a_batch, b_batch;  // whether the operand has batches, else all have the same
  int row_tiles, column_tiles, tiles;
};

// What the copies and the products of a tile need to know.
struct HopperTile {
  int i0, j0, z, batch, k_begin, stages;
  __device__ __forceinline__ HopperTile(const HopperProduct& h, int tile, int columns, int depth) {
    const int of_z = h.row_tiles * h.column_tiles;
    z = tile / of_z;
    constexpr int kTogether = 8;  // as mma_tiles
    const int in_z = tile - z * of_z, band = in_z / (kTogether * h.column_tiles);
    const int in_band = in_z - band * kTogether * h.column_tiles;
    const int rows_of_band = smaller(h.row_tiles - band * kTogether, kTogether);
    i0 = (band * kTogether + in_band % rows_of_band) * kRows;
    j0 = in_band / rows_of_band * columns;
    const int part = z / int(h.p.batch);
    batch = z - part * int(h.p.batch);
    k_begin = part * h.p.part_k;
    stages = (smaller(h.p.k, k_begin + h.p.part_k) - k_begin + depth - 1) / depth;
  }
};

template <class T, int kN, bool kAByK, bool kBByK>
__global__ void __launch_bounds__(kHopperThreads, 1)
    hopper_tiles(const __grid_constant__ HopperProduct h, const __grid_constant__ TensorMap a_map,
                 const __grid_constant__ TensorMap b_map) {
#if defined(HB_EMULATE) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kItem = sizeof(T), kDepth = 128 / kItem, kStages = kHopperStages<kN>;
  constexpr int kBox = kDepth * 128;  // bytes of a box of an operand that is not by k: 64 x kDepth
  HB_DYNAMIC_SHARED(shared);
  SharedBarrier* full = reinterpret_cast<SharedBarrier*>(shared + kStages * kStageBytes<kN>);
  SharedBarrier* free = full + kStages;
  const int group = threadIdx.x / 128;
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      barrier_init(full + s, 1);
      barrier_init(free + s, kConsumers * 4);  // a warp each: others may still multiply
    }
    barrier_init_done();
  }
  __syncthreads();

  if (group == 0) {
    registers_down<40>();
    if (threadIdx.x != 0) return;
    int turn = 0;  // stages so far
    for (int tile = blockIdx.x; tile < h.tiles; tile += gridDim.x) {
      const HopperTile t(h, tile, kN, kDepth);
      for (int s = 0; s < t.stages; ++s, ++turn) {
        const int slot = turn % kStages, k = t.k_begin + s * kDepth;
        barrier_wait(free + slot, unsigned(turn / kStages & 1) ^ 1);
        unsigned char* a = shared + slot * kStageBytes<kN>;
        unsigned char* b = a + kRows * 128;
        SharedBarrier* there = full + slot;
        barrier_arrive_expecting(there, kStageBytes<kN>);
        const int a_z = h.a_batch ? t.batch : 0, b_z = h.b_batch ? t.batch : 0;
        if constexpr (kAByK)
          copy_box(a, &a_map, k, t.i0, a_z, there);
        else
          for (int r = 0; r < kRows; r += kDepth)
            copy_box(a + r * 128, &a_map, t.i0 + r, k, a_z, there);
        if constexpr (kBByK)
          copy_box(b, &b_map, k, t.j0, b_z, there);
        else
          for (int r = 0; r < kN; r += kDepth)
            copy_box(b + r * 128, &b_map, t.j0 + r, k, b_z, there);
      }
    }
    return;
  }

  registers_up<232>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
  int turn = 0;
  for (int tile = blockIdx.x; tile < h.tiles; tile += gridDim.x) {
    const HopperTile t(h, tile, kN, kDepth);
    float sums[kN / 2];
    for (int s = 0; s < t.stages; ++s, ++turn) {
      const int slot = turn % kStages;
      barrier_wait(full + slot, unsigned(turn / kStages & 1));
      const uint32_t stage = shared_address(shared + slot * kStageBytes<kN>);
      const uint32_t a = stage + uint32_t(group - 1) * 64 * 128, b = stage + kRows * 128;
      products_begin();
      HB_UNROLL
      for (int step = 0; step < 4; ++step) {  // 32 bytes of k
        const uint32_t along = uint32_t(step) * 32, lines = uint32_t(step) * (kDepth / 4) * 128;
        multiply_shared<T, kN, kAByK, kBByK>(
            sums, MatrixBits::of(a + (kAByK ? along : lines), kBox, 1024),
            MatrixBits::of(b + (kBByK ? along : lines), kBox, 1024), s > 0 || step > 0);
      }
      products_commit();
      if (s > 0) {
        products_wait<1>();
        if (lane == 0) barrier_arrive(free + (turn - 1) % kStages);
      }
    }
    products_wait<0>();
    products_are_there<kN / 2>(sums);
    if (lane == 0) barrier_arrive(free + (turn - 1) % kStages);

    float* part =
        reinterpret_cast<float*>(shared + kPartsAt<kN>) + ((group - 1) * 4 + warp) * kPartSums;
    HB_UNROLL
    for (int j = 0; j < kN / 8; j += 4) {
      HB_UNROLL
      for (int i = 0; i < 4; ++i) HB_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float* pair = sums + (j + i) * 4 + half * 2;
        put_pair(part, lane / 4 + half * 8, i * 8 + lane % 4 * 2, pair[0], pair[1]);
      }
      store_parts<T>(h.p, t.batch, t.z, t.i0 + (group - 1) * 64 + warp * 16, t.j0 + j * 8, part, 1);
    }
  }
#endif
}

// ------------------------------------------------------------------------------ host

#ifdef HB_EMULATE
TensorMap tensor_map(const Operand& o, DType, int item, const int64_t* extent, int64_t batch_stride,
                     int lines) {
  return {static_cast<const unsigned char*>(o.data),
          {extent[0], extent[1], extent[2]},
          {item, o.stride * item, batch_stride * item},
          {128 / item, lines, 1},
          item};
}
int multiprocessors() { return 2; }
#else
// The driver's function comes through the runtime: nothing links to libcuda.
typedef CUresult (*EncodeTiled)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*,
                                const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                                const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
EncodeTiled encode_tiled() {
  static const EncodeTiled function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault,
                                         &result) != cudaSuccess ||
        result != cudaDriverEntryPointSuccess)
      found = nullptr;
    return reinterpret_cast<EncodeTiled>(found);
  }();
  return function;
}
TensorMap tensor_map(const Operand& o, DType dtype, int item, const int64_t* extent,
                     int64_t batch_stride, int lines) {
  TensorMap map;
  const cuuint64_t size[3] = {cuuint64_t(extent[0]), cuuint64_t(extent[1]), cuuint64_t(extent[2])};
  const cuuint64_t stride[2] = {cuuint64_t(o.stride * item), cuuint64_t(batch_stride * item)};
  const cuuint32_t box[3] = {cuuint32_t(128 / item), cuuint32_t(lines), 1}, one[3] = {1, 1, 1};
  const CUtensorMapDataType type = dtype == DType::BF16  ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                   : dtype == DType::F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                         : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  const CUresult result =
      encode_tiled()(&map, type, 3, const_cast<void*>(o.data), size, stride, box, one,
                     CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                     CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) fail("CUDA: tensor map: error %d", int(result));
  return map;
}
int multiprocessors() {
  int device = 0, count = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess)
    return 1;
  return count;
}
#endif

template <class T, int kN>
void run_hopper_as(const MmaProduct& p, DType dtype, void* stream) {
  HopperProduct h;
  h.p = p;
  h.row_tiles = (p.m + kRows - 1) / kRows;
  h.column_tiles = (p.n + kN - 1) / kN;
  h.tiles = int(h.row_tiles * h.column_tiles * p.batch * p.parts);
  constexpr int kItem = sizeof(T), kDepth = 128 / kItem;
  h.a_batch = p.axes > 0 && p.a_stride[0] != 0;
  h.b_batch = p.axes > 0 && p.b_stride[0] != 0;
  const auto map = [&](const Operand& o, int rows, int tile_rows, bool batches, int64_t stride) {
    const int64_t extent[3] = {o.by_k ? p.k : rows, o.by_k ? rows : p.k, batches ? p.batch : 1};
    return tensor_map(o, dtype, kItem, extent, batches ? stride : extent[1] * o.stride,
                      o.by_k ? tile_rows : kDepth);
  };
  const TensorMap a_map = map(p.a, p.m, kRows, h.a_batch, p.axes > 0 ? p.a_stride[0] : 0);
  const TensorMap b_map = map(p.b, p.n, kN, h.b_batch, p.axes > 0 ? p.b_stride[0] : 0);
  const int blocks = smaller(multiprocessors(), h.tiles);
  const auto start = [&](void (*kernel)(HopperProduct, TensorMap, TensorMap)) {
    launch_shared(dim3(unsigned(blocks)), dim3(kHopperThreads), size_t(kHopperShared<kN>), stream,
                  kernel, h, a_map, b_map);
  };
  if constexpr (sizeof(T) == 4)
    start(hopper_tiles<T, kN, true, true>);
  else if (p.a.by_k)
    p.b.by_k ? start(hopper_tiles<T, kN, true, true>) : start(hopper_tiles<T, kN, true, false>);
  else
    start(hopper_tiles<T, kN, false, false>);
}

}  // namespace

bool run_hopper(const MmaProduct& p, DType dtype, void* stream) {
  const bool aligned = p.a.width == 16 && p.b.width == 16 && p.a.lines == Lines::Matrix &&
                       p.b.lines == Lines::Matrix && p.a.step_in_line == 1 && p.b.step_in_line == 1;
  // wgmma takes 32-bit operands by k only; (not by k, by k) is not compiled.
  const bool layout = dtype == DType::F32 ? p.a.by_k && p.b.by_k : p.a.by_k || !p.b.by_k;
  if (architecture() != 90 || !aligned || !layout || p.axes > 1 || p.k == 0) return false;
#ifndef HB_EMULATE
  if (!encode_tiled()) return false;  // a driver before CUDA 12
#endif
  const int64_t wide_tiles =
      int64_t((p.m + kRows - 1) / kRows) * ((p.n + 255) / 256) * p.batch * p.parts;
  const bool wide = p.n > 128 && wide_tiles >= 128;
  const auto run = [&]<class T>() {
    wide ? run_hopper_as<T, 256>(p, dtype, stream) : run_hopper_as<T, 128>(p, dtype, stream);
  };
  if (dtype == DType::BF16)
    run.template operator()<BHalf>();
  else if (dtype == DType::F16)
    run.template operator()<Half>();
  else
    run.template operator()<float>();
  return true;
}

}  // namespace hb::cuda
