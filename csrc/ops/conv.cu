// Convolution and its gradients on CUDA: implicit products, one to three spatial axes, channels
// last, groups. The contract and the formulas are those of conv.cc, conv_grad_input.cc and
// conv_grad_filter.cc; patches are read in place.
//
// Tensor cores (gemm_mma.cuh) take groups of some channels and filters; depthwise convolutions and
// their like are summed directly, a thread for each result; the plain product of gemm.cuh is for
// devices and sizes that have neither. The gradient to the input multiplies by the zeros between
// strides, on tensor cores it does not: it is one product for each place within a stride, of the
// taps that meet it. The filter gradient cuts its long sum into parts, by size only, and adds them
// in order.
#include <algorithm>
#include <numeric>
#include <vector>

#include "ops/conv_vendor.cuh"
#include "ops/gemm.cuh"

namespace hb::cuda {
namespace {

// y [positions, og] = patches [positions, taps cg] w [taps cg, og]
template <class T>
struct Forward {
  const T *x, *w;
  T* y;
  ConvShape s;
  Epilogue epilogue;
  int64_t group;
  typedef Compute<T> C;
  __device__ C a(int64_t i, int64_t k) const {
    const int64_t pixel = s.read(i, k / s.cg);
    return pixel < 0 ? C(0) : widened(x[pixel * s.c + group * s.cg + k % s.cg]);
  }
  __device__ C b(int64_t k, int64_t j) const { return widened(w[k * s.o + group * s.og + j]); }
  __device__ bool a_by_k() const { return true; }
  __device__ bool b_by_k() const { return false; }
  __device__ void store(int64_t i, int64_t j, C sum) const {
    const int64_t channel = group * s.og + j, at = i * s.o + channel;
    epilogue.apply<T, 1>(&sum, channel, at);
    y[at] = narrowed<T>(sum);
  }
};
// dx [pixels, cg] = patches of dy [pixels, taps og] w transposed [taps og, cg]
template <class T>
struct GradInput {
  const T *dy, *w;
  T* dx;
  ConvShape s;
  Epilogue epilogue;
  int64_t group;
  typedef Compute<T> C;
  __device__ C a(int64_t i, int64_t k) const {
    const int64_t position = s.reader(i, k / s.og);
    return position < 0 ? C(0) : widened(dy[position * s.o + group * s.og + k % s.og]);
  }
  __device__ C b(int64_t k, int64_t j) const {
    return widened(w[(k / s.og * s.cg + j) * s.o + group * s.og + k % s.og]);
  }
  __device__ bool a_by_k() const { return true; }
  __device__ bool b_by_k() const { return true; }
  __device__ void store(int64_t i, int64_t j, C sum) const {
    const int64_t channel = group * s.cg + j, at = i * s.c + channel;
    epilogue.apply<T, 1>(&sum, channel, at);
    dx[at] = narrowed<T>(sum);
  }
};
// dw [taps cg, og] = patches transposed [taps cg, positions] dy [positions, og]
template <class T>
struct GradFilter {
  const T *x, *dy;
  T* dw;
  Compute<T>* partial;  // [parts, taps, cg, o], or null: there is one part
  ConvShape s;
  int64_t group, part;
  typedef Compute<T> C;
  __device__ C a(int64_t i, int64_t k) const {
    const int64_t pixel = s.read(k, i / s.cg);
    return pixel < 0 ? C(0) : widened(x[pixel * s.c + group * s.cg + i % s.cg]);
  }
  __device__ C b(int64_t k, int64_t j) const { return widened(dy[k * s.o + group * s.og + j]); }
  __device__ bool a_by_k() const { return false; }
  __device__ bool b_by_k() const { return false; }
  __device__ void store(int64_t i, int64_t j, C sum) const {
    const int64_t at = i * s.o + group * s.og + j;
    if (partial)
      partial[part * s.taps() * s.cg * s.o + at] = sum;
    else
      dw[at] = narrowed<T>(sum);
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads) conv_forward(Forward<T> p) {
  for (p.group = blockIdx.z; p.group < p.s.groups; p.group += gridDim.z)
    gemm_tile<Compute<T>>(p, p.s.n * p.s.out_size(), p.s.og, 0, p.s.taps() * p.s.cg);
}
template <class T>
__global__ void __launch_bounds__(kThreads) conv_input(GradInput<T> p) {
  for (p.group = blockIdx.z; p.group < p.s.groups; p.group += gridDim.z)
    gemm_tile<Compute<T>>(p, p.s.n * p.s.in_size(), p.s.cg, 0, p.s.taps() * p.s.og);
}
template <class T>
__global__ void __launch_bounds__(kThreads) conv_filter(GradFilter<T> p, int64_t parts) {
  const int64_t positions = p.s.n * p.s.out_size(), size = (positions + parts - 1) / parts;
  for (int64_t z = blockIdx.z; z < p.s.groups * parts; z += gridDim.z) {
    p.group = z / parts;
    p.part = z % parts;
    const int64_t begin = p.part * size, end = begin + size;
    gemm_tile<Compute<T>>(p, p.s.taps() * p.s.cg, p.s.og, begin, end < positions ? end : positions);
  }
}
// The sum of one result over [k_begin, k_end) of its product.
template <class P>
__device__ typename P::C direct_sum(const P& p, int64_t i, int64_t j, int64_t k_begin,
                                    int64_t k_end) {
  typename P::C sum = 0;
  for (int64_t k = k_begin; k < k_end; ++k) sum += p.a(i, k) * p.b(k, j);
  return sum;
}
template <class T>
__global__ void __launch_bounds__(kThreads) conv_forward_direct(Forward<T> p, int64_t n) {
  HB_EACH(e, n) {
    const int64_t i = e / p.s.o, channel = e % p.s.o;
    p.group = channel / p.s.og;
    p.store(i, channel % p.s.og, direct_sum(p, i, channel % p.s.og, 0, p.s.taps() * p.s.cg));
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads) conv_input_direct(GradInput<T> p, int64_t n) {
  HB_EACH(e, n) {
    const int64_t i = e / p.s.c, channel = e % p.s.c;
    p.group = channel / p.s.cg;
    p.store(i, channel % p.s.cg, direct_sum(p, i, channel % p.s.cg, 0, p.s.taps() * p.s.og));
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    conv_filter_direct(GradFilter<T> p, int64_t parts, int64_t n) {
  const int64_t positions = p.s.n * p.s.out_size(), size = (positions + parts - 1) / parts;
  HB_EACH(e, n * parts) {
    p.part = e / n;
    const int64_t i = e % n / p.s.o, channel = e % n % p.s.o;
    const int64_t begin = p.part * size, end = begin + size;
    p.group = channel / p.s.og;
    p.store(i, channel % p.s.og,
            direct_sum(p, i, channel % p.s.og, begin, end < positions ? end : positions));
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    add_parts(T* y, const Compute<T>* partial, int64_t n, int64_t parts) {
  HB_EACH(i, n) {
    Compute<T> sum = partial[i];
    for (int64_t k = 1; k < parts; ++k) sum += partial[k * n + i];
    y[i] = narrowed<T>(sum);
  }
}

size_t scratch_for(size_t own, const std::shared_ptr<VendorConvolution>& vendor) {
  return vendor ? std::max(own, vendor->scratch_bytes()) : own;
}
template <class F>
void run_either(const std::shared_ptr<VendorConvolution>& vendor, const Call& c,
                const Epilogue& epilogue, const F& own) {
  if (!vendor || !vendor->run(c, epilogue, own)) own();
}

struct Conv {
  ConvShape s;
  DType dtype;
  EpilogueOperands epilogue;
  MmaPlan plan;
  std::shared_ptr<VendorConvolution> vendor;
  explicit Conv(Prepare& p)
      : s(p.inputs[0], p.inputs[1], p.outputs[0], *p.attrs),
        dtype(p.inputs[0].dtype),
        epilogue(p, 2),
        plan(dtype, s.n * s.out_size(), s.og, s.taps() * s.cg, s.groups),
        vendor(VendorConvolution::create(ConvPart::Forward, s, dtype)) {
    p.scratch_bytes = scratch_for(plan.partial_bytes(), vendor);
  }
  void run(const Call& c) const {
    if (s.n * s.out_size() == 0 || s.og == 0) return;
    run_either(vendor, c, Epilogue(epilogue, c), [&] { run_own(c); });
  }
  void run_own(const Call& c) const {
    const int64_t positions = s.n * s.out_size();
    if (plan.possible() && has_mma() && !s.direct()) {
      Operand patches = s.patches(c.inputs[0], dtype);
      patches.by_k = true;
      MmaProduct p =
          s.product(patches, s.rows(c.inputs[1], dtype), c.outputs[0], c, s.cg, s.og, s.og, s.o);
      p.m = int(positions);
      p.n = int(s.og);
      p.k = int(s.taps() * s.cg);
      p.epilogue = Epilogue(epilogue, c);
      p.column_batch = s.og;
      return plan.run(p, c.stream);
    }
    with_float_type(dtype, [&]<class T>() {
      const Forward<T> p{static_cast<const T*>(c.inputs[0]),
                         static_cast<const T*>(c.inputs[1]),
                         static_cast<T*>(c.outputs[0]),
                         s,
                         Epilogue(epilogue, c),
                         0};
      if (s.direct())
        launch(blocks_for(positions * s.o), dim3(kThreads), c.stream, conv_forward_direct<T>, p,
               positions * s.o);
      else
        launch(gemm_grid(positions, s.og, s.groups), dim3(kThreads), c.stream, conv_forward<T>, p);
    });
  }
};
HB_CUDA_KERNEL(conv, Conv, kAllFloat)

// The input pixels at `first` and every stride behind it, and the taps that meet them. Pixel
// first + i stride is read through tap t0 + j jump by the output at place i + base - j back.
struct Phase {
  int64_t first[3], pixels[3], t0[3], taps[3], jump[3], base[3], back[3];
  Phase(const ConvShape& s, int64_t index) {
    for (int a = 2; a >= 0; --a) {
      const int64_t step = s.stride[a], d = s.dilation[a];
      first[a] = index % step;
      index /= step;
      pixels[a] = first[a] < s.in[a] ? (s.in[a] - first[a] + step - 1) / step : 0;
      jump[a] = step / std::gcd(step, d);
      back[a] = jump[a] * d / step;
      t0[a] = base[a] = taps[a] = 0;
      for (int64_t t = 0; t < std::min(jump[a], s.kernel[a]); ++t) {
        const int64_t x = first[a] + s.lo[a] - t * d;
        if (x % step != 0) continue;
        t0[a] = t;
        base[a] = x / step;
        taps[a] = (s.kernel[a] - t + jump[a] - 1) / jump[a];
        break;
      }
    }
  }
  int64_t rows(const ConvShape& s) const { return s.n * pixels[0] * pixels[1] * pixels[2]; }
  int64_t depth(const ConvShape& s) const { return taps[0] * taps[1] * taps[2] * s.og; }
};

struct ConvGradInput {
  ConvShape s;
  DType dtype;
  EpilogueOperands epilogue;
  struct Part {
    Phase phase;
    MmaPlan plan;
  };
  std::vector<Part> parts;  // none: not on tensor cores
  std::shared_ptr<VendorConvolution> vendor;
  explicit ConvGradInput(Prepare& p)
      : s(p.outputs[0], p.inputs[1], p.inputs[0], *p.attrs),
        dtype(p.inputs[0].dtype),
        epilogue(p, 2),
        vendor(VendorConvolution::create(ConvPart::GradInput, s, dtype)) {
    p.scratch_bytes = scratch_for(0, vendor);
    if (s.direct() || !MmaPlan(dtype, s.n * s.in_size(), s.cg, s.taps() * s.og, 1).possible())
      return;
    for (int64_t i = 0; i < s.stride[0] * s.stride[1] * s.stride[2]; ++i) {
      const Phase phase(s, i);
      if (phase.rows(s) == 0) continue;
      parts.push_back({phase, {dtype, phase.rows(s), s.cg, phase.depth(s), s.groups}});
      p.scratch_bytes = std::max(p.scratch_bytes, parts.back().plan.partial_bytes());
    }
  }
  MmaProduct product(const Phase& phase, const Call& c) const {
    const int64_t item = int64_t(item_bytes(dtype)), tap = s.cg * s.o;
    const int64_t tap_stride[3] = {s.kernel[1] * s.kernel[2] * tap, s.kernel[2] * tap, tap};
    const int64_t pixel_stride[3] = {s.in[1] * s.in[2] * s.c, s.in[2] * s.c, s.c};
    int64_t filter_at = 0, dx_at = 0;
    Operand readers, filter;
    for (int a = 0; a < 3; ++a) {
      readers.place[a] = FastDivide(phase.pixels[a]);
      readers.kernel[a] = filter.kernel[a] = FastDivide(phase.taps[a]);
      readers.limit[a] = int(s.out[a]);
      readers.step[a] = 1;
      readers.lo[a] = int(-phase.base[a]);
      readers.dilation[a] = int(-phase.back[a]);
      filter.tap_stride[a] = phase.jump[a] * tap_stride[a];
      filter_at += phase.t0[a] * tap_stride[a];
      dx_at += phase.first[a] * pixel_stride[a];
    }
    readers.data = c.inputs[0];
    readers.lines = Lines::Patches;
    filter.data = static_cast<const char*>(c.inputs[1]) + filter_at * item;
    filter.lines = Lines::Filter;
    readers.channels = filter.channels = FastDivide(s.og);
    readers.stride = filter.stride = s.o;
    readers.by_k = filter.by_k = true;
    readers.width = filter.width = copy_width(dtype, s.og);
    MmaProduct p = s.product(readers, filter, static_cast<char*>(c.outputs[0]) + dx_at * item, c,
                             s.og, s.og, s.cg, s.in_size() * s.c);
    p.m = int(phase.rows(s));
    p.n = int(s.cg);
    p.k = int(phase.depth(s));
    p.epilogue = Epilogue(epilogue, c).behind(dx_at * item);
    p.column_batch = s.cg;
    p.grid = true;
    for (int a = 0; a < 3; ++a) {
      p.grid_extent[a] = FastDivide(phase.pixels[a]);
      p.grid_stride[a] = s.stride[a] * pixel_stride[a];
    }
    return p;
  }
  void run(const Call& c) const {
    if (s.n * s.in_size() == 0 || s.cg == 0) return;
    run_either(vendor, c, Epilogue(epilogue, c), [&] { run_own(c); });
  }
  void run_own(const Call& c) const {
    const int64_t pixels = s.n * s.in_size();
    if (!parts.empty() && has_mma()) {
      for (const Part& part : parts) part.plan.run(product(part.phase, c), c.stream);
      return;
    }
    with_float_type(dtype, [&]<class T>() {
      const GradInput<T> p{static_cast<const T*>(c.inputs[0]),
                           static_cast<const T*>(c.inputs[1]),
                           static_cast<T*>(c.outputs[0]),
                           s,
                           Epilogue(epilogue, c),
                           0};
      if (s.direct())
        launch(blocks_for(pixels * s.c), dim3(kThreads), c.stream, conv_input_direct<T>, p,
               pixels * s.c);
      else
        launch(gemm_grid(pixels, s.cg, s.groups), dim3(kThreads), c.stream, conv_input<T>, p);
    });
  }
};
HB_CUDA_KERNEL(conv_grad_input, ConvGradInput, kAllFloat)

struct ConvGradFilter {
  ConvShape s;
  DType dtype;
  int64_t size, parts;
  MmaPlan plan;
  std::shared_ptr<VendorConvolution> vendor;
  explicit ConvGradFilter(Prepare& p)
      : s(p.inputs[0], p.outputs[0], p.inputs[1], *p.attrs),
        dtype(p.inputs[0].dtype),
        size(num_elements(p.outputs[0])),
        plan(dtype, s.taps() * s.cg, s.og, s.n * s.out_size(), s.groups),
        vendor(VendorConvolution::create(ConvPart::GradFilter, s, dtype)) {
    const int64_t tiles = (s.taps() * s.cg + kGemmTile - 1) / kGemmTile *
                          ((s.og + kGemmTile - 1) / kGemmTile) * s.groups;
    int64_t wanted = 512 / (tiles > 0 ? tiles : 1), most = s.n * s.out_size() / 512;
    if (s.direct()) {  // a thread, not a block, for each result
      wanted = (1 << 17) / (size > 0 ? size : 1);
      most = s.n * s.out_size() / 64;
    }
    parts = wanted < most ? wanted : most;
    if (parts < 1) parts = 1;
    if (parts > 1) p.scratch_bytes = size_t(parts * size) * (dtype == DType::F64 ? 8 : 4);
    p.scratch_bytes = scratch_for(std::max(p.scratch_bytes, plan.partial_bytes()), vendor);
  }
  void run(const Call& c) const {
    if (size != 0) run_either(vendor, c, Epilogue(), [&] { run_own(c); });
  }
  void run_own(const Call& c) const {
    if (plan.possible() && has_mma() && !s.direct()) {
      MmaProduct p = s.product(s.patches(c.inputs[0], dtype), s.rows(c.inputs[1], dtype),
                               c.outputs[0], c, s.cg, s.og, s.og, s.o);
      p.m = int(s.taps() * s.cg);
      p.n = int(s.og);
      p.k = int(s.n * s.out_size());
      return plan.run(p, c.stream);
    }
    with_float_type(dtype, [&]<class T>() {
      typedef Compute<T> C;
      T* dw = static_cast<T*>(c.outputs[0]);
      C* partial = parts > 1 ? static_cast<C*>(c.scratch) : nullptr;
      const GradFilter<T> p{static_cast<const T*>(c.inputs[0]),
                            static_cast<const T*>(c.inputs[1]),
                            dw,
                            partial,
                            s,
                            0,
                            0};
      if (s.direct())
        launch(blocks_for(size * parts), dim3(kThreads), c.stream, conv_filter_direct<T>, p, parts,
               size);
      else
        launch(gemm_grid(s.taps() * s.cg, s.og, s.groups * parts), dim3(kThreads), c.stream,
               conv_filter<T>, p, parts);
      if (parts > 1)
        launch(blocks_for(size), dim3(kThreads), c.stream, add_parts<T>, dw,
               static_cast<const C*>(partial), size, parts);
    });
  }
};
HB_CUDA_KERNEL(conv_grad_filter, ConvGradFilter, kAllFloat)

}  // namespace
}  // namespace hb::cuda
