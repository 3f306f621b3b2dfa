// A library with the names of cuDNN's convolutions and what its manual says of them, for tests:
// channels last, groups, filters [o, taps, c / groups]. It fails where a descriptor is not what
// hornbeam may ask for, and says on stderr what it computes: part, type, arithmetic, algorithm.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

namespace {
enum { kBadParam = 2000, kNotSupported = 3000 };
struct Tensor {
  int type, rank, size[5], stride[5];
};
struct Filter {
  int type, rank, size[5];
};
struct Convolution {
  int axes, padding[3], stride[3], dilation[3], groups = 1, math = 0;
};
struct Handle {
  void* stream = nullptr;
};

double get(int type, const void* p, int64_t i) {
  if (type == 0) return static_cast<const float*>(p)[i];
  if (type == 2) return double(static_cast<const _Float16*>(p)[i]);
  const uint32_t bits = uint32_t(static_cast<const uint16_t*>(p)[i]) << 16;  // bfloat16
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
void put(int type, void* p, int64_t i, double x) {
  const float f = float(x);
  if (type == 0) {
    static_cast<float*>(p)[i] = f;
  } else if (type == 2) {
    static_cast<_Float16*>(p)[i] = _Float16(f);
  } else {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    static_cast<uint16_t*>(p)[i] = uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}
long number(const char* variable, long otherwise) {
  const char* value = getenv(variable);
  return value ? atol(value) : otherwise;
}

// Whether these belong together, as the manual says.
int check(const Tensor& x, const Filter& w, const Convolution& c, const Tensor& y) {
  if (x.type != w.type || x.type != y.type || x.rank != w.rank || x.rank != y.rank ||
      x.rank != c.axes + 2)
    return kBadParam;
  if (x.size[0] != y.size[0] || y.size[1] != w.size[0] || x.size[1] != w.size[1] * c.groups ||
      w.size[0] % c.groups)
    return kBadParam;
  for (int a = 0; a < c.axes; ++a) {
    const int reach = (w.size[2 + a] - 1) * c.dilation[a] + 1;
    if (y.size[2 + a] != (x.size[2 + a] + 2 * c.padding[a] - reach) / c.stride[a] + 1)
      return kBadParam;
  }
  // bfloat16 and float16 on tensor cores; float32 by multiply-adds, or as it likes
  if (x.type == 0 ? c.math != 3 && c.math != 0 : c.math != 1) return kBadParam;
  return 0;
}
int workspace(const Tensor& x, const Filter& w, const Convolution& c, const Tensor& y, int wanted,
              int algorithm, size_t* bytes) {
  if (const int status = check(x, w, c, y)) return status;
  if (getenv("FAKE_CUDNN_REFUSES") || algorithm != wanted)
    return int(number("FAKE_CUDNN_REFUSES", kNotSupported));
  *bytes = size_t(number("FAKE_CUDNN_WORKSPACE", 4096));
  return 0;
}

// Calls f(index of x, of the filter, of y) for every product.
template <class F>
void each(const Tensor& x, const Filter& w, const Convolution& c, const Tensor& y, const F& f) {
  const int og = y.size[1] / c.groups, cg = w.size[1], axes = c.axes;
  int64_t taps = 1, places = 1;
  for (int a = 0; a < axes; ++a) taps *= w.size[2 + a], places *= y.size[2 + a];
  for (int64_t n = 0; n < x.size[0]; ++n)
    for (int64_t place = 0; place < places; ++place)
      for (int64_t tap = 0; tap < taps; ++tap) {
        int64_t at_x = n * x.stride[0], at_y = n * y.stride[0], p = place, t = tap;
        bool inside = true;
        for (int a = axes - 1; a >= 0; --a) {
          const int64_t out = p % y.size[2 + a], k = t % w.size[2 + a];
          p /= y.size[2 + a];
          t /= w.size[2 + a];
          const int64_t in = out * c.stride[a] - c.padding[a] + k * c.dilation[a];
          inside = inside && in >= 0 && in < x.size[2 + a];
          at_x += in * x.stride[2 + a];
          at_y += out * y.stride[2 + a];
        }
        if (!inside) continue;
        for (int o = 0; o < y.size[1]; ++o)
          for (int i = 0; i < cg; ++i)
            f(at_x + o / og * cg + i, (int64_t(o) * taps + tap) * cg + i, at_y + o);
      }
}
int64_t count(const int* size, int rank) {
  int64_t n = 1;
  for (int i = 0; i < rank; ++i) n *= size[i];
  return n;
}

// result[r] = sum of a b, where (r, a, b) is one of (y, x, w), (x, w, y), (w, x, y)
template <class F>
int compute(const char* part, const void* handle, const Tensor& x, const Filter& w,
            const Convolution& c, const Tensor& y, int wanted, int algorithm, void* scratch,
            size_t scratch_bytes, const void* alpha, const void* beta, void* result, int64_t size,
            const F& products) {
  size_t needed = 0;
  if (const int status = workspace(x, w, c, y, wanted, algorithm, &needed)) return status;
  if (!static_cast<const Handle*>(handle)->stream || scratch_bytes < needed ||
      (needed && uintptr_t(scratch) % 256))
    return kBadParam;
  if (*static_cast<const float*>(alpha) != 1 || *static_cast<const float*>(beta) != 0)
    return kBadParam;
  if (const long status = number("FAKE_CUDNN_STATUS", 0)) return int(status);
  memset(scratch, 0xff, needed);
  std::vector<double> sums(size_t(size), 0.0);
  products(sums.data());
  for (int64_t i = 0; i < size; ++i) put(x.type, result, i, sums[size_t(i)]);
  fprintf(stderr, "cudnn %s type %d math %d algorithm %d\n", part, x.type, c.math, algorithm);
  return 0;
}

template <class T>
int make(void** p) {
  *p = new T;
  return 0;
}
template <class T>
int drop(void* p) {
  memset(p, 0xff, sizeof(T));  // who still reads it fails
  delete static_cast<T*>(p);
  return 0;
}
template <class T>
T& as(void* p) {
  return *static_cast<T*>(p);
}
}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT size_t cudnnGetVersion() { return size_t(number("FAKE_CUDNN_VERSION", 91002)); }
EXPORT const char* cudnnGetErrorString(int status) {
  return status == 5000   ? "CUDNN_STATUS_EXECUTION_FAILED"
         : status == 1001 ? "CUDNN_STATUS_NOT_INITIALIZED"
                          : "CUDNN_STATUS_OTHER";
}
EXPORT int cudnnCreate(void** p) {
  if (const long status = number("FAKE_CUDNN_START", 0)) return int(status);
  return make<Handle>(p);
}
EXPORT int cudnnSetStream(void* handle, void* stream) {
  as<Handle>(handle).stream = stream;
  return 0;
}
EXPORT int cudnnCreateTensorDescriptor(void** p) { return make<Tensor>(p); }
EXPORT int cudnnDestroyTensorDescriptor(void* p) { return drop<Tensor>(p); }
EXPORT int cudnnSetTensorNdDescriptor(void* p, int type, int rank, const int* size,
                                      const int* stride) {
  if ((type != 0 && type != 2 && type != 9) || rank < 4 || rank > 5) return kBadParam;
  Tensor& t = as<Tensor>(p);
  t.type = type;
  t.rank = rank;
  int64_t step = size[1];  // channels last, nothing between
  if (stride[1] != 1) return kBadParam;
  for (int i = rank - 1; i >= 2; step *= size[i--])
    if (stride[i] != step) return kBadParam;
  if (stride[0] != step) return kBadParam;
  for (int i = 0; i < rank; ++i) {
    if (size[i] < 1) return kBadParam;
    t.size[i] = size[i];
    t.stride[i] = stride[i];
  }
  return 0;
}
EXPORT int cudnnCreateFilterDescriptor(void** p) { return make<Filter>(p); }
EXPORT int cudnnDestroyFilterDescriptor(void* p) { return drop<Filter>(p); }
EXPORT int cudnnSetFilterNdDescriptor(void* p, int type, int format, int rank, const int* size) {
  if (format != 1 || rank < 4 || rank > 5) return kBadParam;
  Filter& f = as<Filter>(p);
  f.type = type;
  f.rank = rank;
  memcpy(f.size, size, sizeof(int) * size_t(rank));
  return 0;
}
EXPORT int cudnnCreateConvolutionDescriptor(void** p) { return make<Convolution>(p); }
EXPORT int cudnnDestroyConvolutionDescriptor(void* p) { return drop<Convolution>(p); }
EXPORT int cudnnSetConvolutionNdDescriptor(void* p, int axes, const int* padding, const int* stride,
                                           const int* dilation, int mode, int type) {
  if (axes < 2 || axes > 3 || mode != 1 || type != 0) return kBadParam;
  Convolution& c = as<Convolution>(p);
  c.axes = axes;
  for (int a = 0; a < axes; ++a) {
    if (padding[a] < 0 || stride[a] < 1 || dilation[a] < 1) return kBadParam;
    c.padding[a] = padding[a];
    c.stride[a] = stride[a];
    c.dilation[a] = dilation[a];
  }
  return 0;
}
EXPORT int cudnnSetConvolutionGroupCount(void* p, int groups) {
  as<Convolution>(p).groups = groups;
  return groups < 1 ? kBadParam : 0;
}
EXPORT int cudnnSetConvolutionMathType(void* p, int math) {
  as<Convolution>(p).math = math;
  return 0;
}

EXPORT int cudnnGetConvolutionForwardWorkspaceSize(void*, void* x, void* w, void* c, void* y,
                                                   int algorithm, size_t* bytes) {
  const int wanted = int(number("FAKE_CUDNN_FORWARD", 1));
  return workspace(as<Tensor>(x), as<Filter>(w), as<Convolution>(c), as<Tensor>(y), wanted,
                   algorithm, bytes);
}
#ifndef WITHOUT_FORWARD
EXPORT int cudnnConvolutionForward(void* handle, const void* alpha, void* xd, const void* x,
                                   void* wd, const void* w, void* conv, int algorithm,
                                   void* scratch, size_t bytes, const void* beta, void* yd,
                                   void* y) {
  const Tensor &xt = as<Tensor>(xd), &yt = as<Tensor>(yd);
  const Filter& wt = as<Filter>(wd);
  const Convolution& c = as<Convolution>(conv);
  return compute("forward", handle, xt, wt, c, yt, int(number("FAKE_CUDNN_FORWARD", 1)), algorithm,
                 scratch, bytes, alpha, beta, y, count(yt.size, yt.rank), [&](double* sums) {
                   each(xt, wt, c, yt, [&](int64_t i, int64_t k, int64_t j) {
                     sums[j] += get(xt.type, x, i) * get(xt.type, w, k);
                   });
                 });
}
#endif
EXPORT int cudnnGetConvolutionBackwardDataWorkspaceSize(void*, void* w, void* y, void* c, void* x,
                                                        int algorithm, size_t* bytes) {
  return workspace(as<Tensor>(x), as<Filter>(w), as<Convolution>(c), as<Tensor>(y), 1, algorithm,
                   bytes);
}
EXPORT int cudnnConvolutionBackwardData(void* handle, const void* alpha, void* wd, const void* w,
                                        void* yd, const void* dy, void* conv, int algorithm,
                                        void* scratch, size_t bytes, const void* beta, void* xd,
                                        void* dx) {
  const Tensor &xt = as<Tensor>(xd), &yt = as<Tensor>(yd);
  const Filter& wt = as<Filter>(wd);
  const Convolution& c = as<Convolution>(conv);
  return compute("input", handle, xt, wt, c, yt, 1, algorithm, scratch, bytes, alpha, beta, dx,
                 count(xt.size, xt.rank), [&](double* sums) {
                   each(xt, wt, c, yt, [&](int64_t i, int64_t k, int64_t j) {
                     sums[i] += get(xt.type, dy, j) * get(xt.type, w, k);
                   });
                 });
}
EXPORT int cudnnGetConvolutionBackwardFilterWorkspaceSize(void*, void* x, void* y, void* c, void* w,
                                                          int algorithm, size_t* bytes) {
  return workspace(as<Tensor>(x), as<Filter>(w), as<Convolution>(c), as<Tensor>(y), 1, algorithm,
                   bytes);
}
EXPORT int cudnnConvolutionBackwardFilter(void* handle, const void* alpha, void* xd, const void* x,
                                          void* yd, const void* dy, void* conv, int algorithm,
                                          void* scratch, size_t bytes, const void* beta, void* wd,
                                          void* dw) {
  const Tensor &xt = as<Tensor>(xd), &yt = as<Tensor>(yd);
  const Filter& wt = as<Filter>(wd);
  const Convolution& c = as<Convolution>(conv);
  return compute("filter", handle, xt, wt, c, yt, 1, algorithm, scratch, bytes, alpha, beta, dw,
                 count(wt.size, wt.rank), [&](double* sums) {
                   each(xt, wt, c, yt, [&](int64_t i, int64_t k, int64_t j) {
                     sums[k] += get(xt.type, x, i) * get(xt.type, dy, j);
                   });
                 });
}
