// Sizes of a convolution, for conv.cu and conv_vendor.cu: x [n, in.., c], filter [kernel.., c /
// groups, o], y [n, out.., o]. Three spatial axes; those that are not there, in front, have size 1.
#pragma once
#include <algorithm>

#include "ops/gemm_plan.cuh"

namespace hb::cuda {

struct ConvShape {
  int64_t n, c, o, groups, cg, og;  // cg, og: channels per group
  int64_t in[3], out[3], kernel[3], stride[3], dilation[3], lo[3];

  ConvShape(const TensorSpec& x, const TensorSpec& w, const TensorSpec& y, const Attrs& attrs) {
    const int spatial = x.rank - 2, lead = 3 - spatial;
    const IntList s = attr_ints(attrs, "strides"), pad = attr_ints(attrs, "padding"),
                  dil = attr_ints(attrs, "dilation");
    if (spatial < 1 || spatial > 3 || w.rank != x.rank || y.rank != x.rank || s.size != spatial ||
        dil.size != spatial || pad.size != 2 * spatial)
      fail("expected 1 to 3 spatial axes with strides, dilation and padding");
    for (int i = 0; i < 3; ++i) {
      const int a = i - lead;
      in[i] = a >= 0 ? x.shape[1 + a] : 1;
      out[i] = a >= 0 ? y.shape[1 + a] : 1;
      kernel[i] = a >= 0 ? w.shape[a] : 1;
      stride[i] = a >= 0 ? s.data[a] : 1;
      dilation[i] = a >= 0 ? dil.data[a] : 1;
      lo[i] = a >= 0 ? pad.data[2 * a] : 0;
      if (stride[i] < 1 || dilation[i] < 1) fail("expected positive strides and dilation");
    }
    n = x.shape[0];
    c = x.shape[x.rank - 1];
    o = y.shape[y.rank - 1];
    groups = attr_int(attrs, "groups");
    if (groups < 1 || c % groups || o % groups || w.shape[w.rank - 2] != c / groups ||
        w.shape[w.rank - 1] != o || y.shape[0] != n)
      fail("channels, filters and groups do not match");
    cg = c / groups;
    og = o / groups;
  }
  __host__ __device__ int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  __host__ __device__ int64_t in_size() const { return in[0] * in[1] * in[2]; }
  __host__ __device__ int64_t out_size() const { return out[0] * out[1] * out[2]; }

  // Groups for which tiles of a product would be nearly empty.
  bool direct() const { return groups > 1 && std::max(cg, og) < 8; }
  // 32-bit numbers for lines: the caller has asked MmaPlan whether the sizes allow them.
  Operand patches(const void* x, DType t) const {
    Operand r;
    r.data = x;
    r.lines = Lines::Patches;
    r.width = copy_width(t, cg);
    r.stride = c;
    r.channels = FastDivide(cg);
    for (int a = 0; a < 3; ++a) {
      r.place[a] = FastDivide(out[a]);
      r.kernel[a] = FastDivide(kernel[a]);
      r.limit[a] = int(in[a]);
      r.step[a] = int(stride[a]);
      r.dilation[a] = int(dilation[a]);
      r.lo[a] = int(lo[a]);
    }
    return r;
  }
  // [rows, o]: the filter of conv, or dy.
  Operand rows(const void* data, DType t) const {
    Operand r;
    r.data = data;
    r.stride = o;
    r.width = copy_width(t, og);
    return r;
  }
  // Strides of groups in a and b, and in the result.
  MmaProduct product(const Operand& a, const Operand& b, void* result, const Call& c,
                     int64_t a_group, int64_t b_group, int64_t result_group,
                     int64_t result_channels) const {
    MmaProduct p;
    p.a = a;
    p.b = b;
    p.batch = groups;
    p.axes = 1;
    p.extent[0] = groups;
    p.a_stride[0] = a_group;
    p.b_stride[0] = b_group;
    p.out = result;
    p.out_batch = result_group;
    p.out_stride = result_channels;
    p.partial = c.scratch;
    return p;
  }

  // Which pixel of x output position q (of all samples) reads for a tap; -1: the border.
  __device__ int64_t read(int64_t q, int64_t tap) const {
    int64_t place[3], t[3];
    split(q, out, place);
    split(tap, kernel, t);
    for (int a = 0; a < 3; ++a) {
      place[a] = place[a] * stride[a] - lo[a] + t[a] * dilation[a];
      if (place[a] < 0 || place[a] >= in[a]) return -1;
    }
    return ((q / out_size() * in[0] + place[0]) * in[1] + place[1]) * in[2] + place[2];
  }
  // Which output position reads input pixel q for a tap; -1: none.
  __device__ int64_t reader(int64_t q, int64_t tap) const {
    int64_t place[3], t[3];
    split(q, in, place);
    split(tap, kernel, t);
    for (int a = 0; a < 3; ++a) {
      place[a] += lo[a] - t[a] * dilation[a];
      if (place[a] < 0 || place[a] % stride[a] != 0) return -1;
      place[a] /= stride[a];
      if (place[a] >= out[a]) return -1;
    }
    return ((q / in_size() * out[0] + place[0]) * out[1] + place[1]) * out[2] + place[2];
  }

 private:
  static __device__ void split(int64_t i, const int64_t* extent, int64_t* at) {
    at[2] = i % extent[2];
    at[1] = i / extent[2] % extent[1];
    at[0] = i / extent[2] / extent[1] % extent[0];
  }
};

}  // namespace hb::cuda
