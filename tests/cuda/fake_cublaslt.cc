// A library with the names of cuBLASLt and what its manual says of them, for tests: matrices by
// columns, batches with strides, an epilogue of bias and ReLU. It says on stderr when it is used.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

namespace {
struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t stride;
  int32_t batches = 1;
  int64_t batch_stride = 0;
};
struct Product {
  int compute, scale, transpose_a = 0, transpose_b = 0, epilogue = 1;
  const void* bias = nullptr;
};
double get(const Layout& l, const void* p, int64_t i) {
  if (l.type == 0) return static_cast<const float*>(p)[i];
  if (l.type == 1) return static_cast<const double*>(p)[i];
  const uint32_t bits = uint32_t(static_cast<const uint16_t*>(p)[i]) << 16;  // bfloat16
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
void put(const Layout& l, void* p, int64_t i, double x) {
  if (l.type == 0) {
    static_cast<float*>(p)[i] = float(x);
  } else if (l.type == 1) {
    static_cast<double*>(p)[i] = x;
  } else {
    const float f = float(x);
    uint32_t bits;
    memcpy(&bits, &f, 4);
    static_cast<uint16_t*>(p)[i] = uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}
}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT size_t cublasLtGetVersion() {
  const char* version = getenv("FAKE_CUBLASLT_VERSION");
  return version ? size_t(atol(version)) : 130000;
}
EXPORT int cublasLtCreate(void** handle) {
  *handle = new int;
  return 0;
}
EXPORT int cublasLtMatmulDescCreate(void** p, int compute, int scale) {
  *p = new Product{compute, scale};
  return 0;
}
EXPORT int cublasLtMatmulDescDestroy(void* p) {
  memset(p, 0xff, sizeof(Product));  // who still reads it fails
  delete static_cast<Product*>(p);
  return 0;
}
EXPORT int cublasLtMatmulDescSetAttribute(void* p, int what, const void* value, size_t size) {
  Product& d = *static_cast<Product*>(p);
  void* to = what == 3   ? static_cast<void*>(&d.transpose_a)
             : what == 4 ? &d.transpose_b
             : what == 7 ? &d.epilogue
             : what == 8 ? static_cast<void*>(&d.bias)
                         : nullptr;
  if (!to || size != (what == 8 ? 8 : 4)) return 7;
  memcpy(to, value, size);
  return 0;
}
EXPORT int cublasLtMatrixLayoutCreate(void** p, int type, uint64_t rows, uint64_t columns,
                                      int64_t stride) {
  *p = new Layout{type, rows, columns, stride};
  return stride >= int64_t(rows) ? 0 : 7;
}
EXPORT int cublasLtMatrixLayoutDestroy(void* p) {
  memset(p, 0xff, sizeof(Layout));  // who still reads it fails
  delete static_cast<Layout*>(p);
  return 0;
}
EXPORT int cublasLtMatrixLayoutSetAttribute(void* p, int what, const void* value, size_t size) {
  Layout& l = *static_cast<Layout*>(p);
  if (what == 5 && size == 4)
    memcpy(&l.batches, value, 4);
  else if (what == 6 && size == 8)
    memcpy(&l.batch_stride, value, 8);
  else
    return 7;
  return 0;
}
EXPORT int cublasLtMatmulPreferenceCreate(void** p) {
  *p = new int;
  return 0;
}
EXPORT int cublasLtMatmulPreferenceDestroy(void* p) {
  delete static_cast<int*>(p);
  return 0;
}
EXPORT int cublasLtMatmulPreferenceSetAttribute(void*, int what, const void*, size_t size) {
  return what == 1 && size == 8 ? 0 : 7;
}
EXPORT int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*,
                                          int wanted, void*, int* found) {
  *found = getenv("FAKE_CUBLASLT_DECLINES") ? 0 : wanted;
  return *found ? 0 : 15;
}
EXPORT int cublasLtMatmul(void*, void* desc, const void* alpha, const void* a, void* a_layout,
                          const void* b, void* b_layout, const void* beta, const void* c, void*,
                          void* d, void* d_layout, const void*, void* workspace, size_t, void*) {
  const Product& p = *static_cast<Product*>(desc);
  const Layout &la = *static_cast<Layout*>(a_layout), &lb = *static_cast<Layout*>(b_layout),
               &ld = *static_cast<Layout*>(d_layout);
  const auto factor = [&](const void* x) {
    return p.scale == 1 ? *static_cast<const double*>(x) : double(*static_cast<const float*>(x));
  };
  const double scale = factor(alpha), keep = factor(beta);
  const uint64_t depth = p.transpose_a ? la.rows : la.columns;
  if (!workspace || (p.transpose_b ? lb.columns : lb.rows) != depth) return 7;
  if ((p.transpose_a ? la.columns : la.rows) != ld.rows) return 7;
  if ((p.transpose_b ? lb.rows : lb.columns) != ld.columns) return 7;
  for (int64_t z = 0; z < ld.batches; ++z)
    for (uint64_t i = 0; i < ld.rows; ++i)
      for (uint64_t j = 0; j < ld.columns; ++j) {
        const int64_t at = z * ld.batch_stride + int64_t(j) * ld.stride + int64_t(i);
        double sum = 0;
        for (uint64_t k = 0; k < depth; ++k)
          sum += get(la, a,
                     z * la.batch_stride +
                         int64_t(p.transpose_a ? i * la.stride + k : k * la.stride + i)) *
                 get(lb, b,
                     z * lb.batch_stride +
                         int64_t(p.transpose_b ? k * lb.stride + j : j * lb.stride + k));
        sum *= scale;
        if (keep != 0) sum += keep * get(ld, c, at);
        if (p.epilogue & 4) sum += get(ld, p.bias, int64_t(i));
        if (p.epilogue & 2) sum = sum < 0 ? 0 : sum;
        put(ld, d, at, sum);
      }
  fputs("cublaslt\n", stderr);
  return 0;
}
