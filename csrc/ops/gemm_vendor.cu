// cuBLASLt by dlopen (gemm_vendor.cuh). Its matrices are stored by columns: ours, by rows, are
// their transposes, so out^T = b^T a^T is asked for. The few functions and numbers that are needed
// are declared here, as the library's manual documents them.
#include <dlfcn.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <mutex>

#include "ops/gemm_vendor.cuh"

namespace hb::cuda {
namespace {

typedef void* Handle;
struct Heuristic {
  uint64_t algorithm[8];
  size_t workspace;
  int status;
  float waves;
  int reserved[4];
};
// clang-format off
enum : int {
  kCompute32F = 68, kCompute32FTf32 = 77, kCompute64F = 70,              // cublasComputeType_t
  kReal32F = 0, kReal64F = 1, kReal16F = 2, kReal16BF = 14,              // cudaDataType
  kTransA = 3, kTransB = 4, kEpilogue = 7, kBiasPointer = 8,             // of a product
  kBatchCount = 5, kBatchStride = 6,                                     // of a layout
  kMaxWorkspace = 1,                                                     // of a preference
  kEpilogueDefault = 1, kEpilogueRelu = 2, kEpilogueBias = 4,            // added up
};
// clang-format on

struct Library {
  size_t (*version)();
  int (*create)(Handle*);
  int (*desc_create)(Handle*, int compute, int scale);
  int (*desc_set)(Handle, int what, const void*, size_t);
  int (*desc_destroy)(Handle);
  int (*layout_create)(Handle*, int type, uint64_t rows, uint64_t columns, int64_t stride);
  int (*layout_set)(Handle, int what, const void*, size_t);
  int (*layout_destroy)(Handle);
  int (*preference_create)(Handle*);
  int (*preference_destroy)(Handle);
  int (*preference_set)(Handle, int what, const void*, size_t);
  int (*heuristic)(Handle, Handle desc, Handle a, Handle b, Handle c, Handle d, Handle preference,
                   int wanted, Heuristic*, int* found);
  int (*matmul)(Handle, Handle desc, const void* alpha, const void* a, Handle, const void* b,
                Handle, const void* beta, const void* c, Handle, void* d, Handle,
                const void* algorithm, void* workspace, size_t, void* stream);
  Handle handle = nullptr;

  Library() {
    void* opened = nullptr;
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"})
      if (!opened) opened = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!opened) fail("HORNBEAM_CUDA_PRODUCTS: cuBLASLt was not found: %s", dlerror());
    const auto find = [&]<class F>(F*& function, const char* name) {
      function = reinterpret_cast<F*>(dlsym(opened, name));
      if (!function) fail("HORNBEAM_CUDA_PRODUCTS: cuBLASLt has no %s", name);
    };
    find(version, "cublasLtGetVersion");
    find(create, "cublasLtCreate");
    find(desc_create, "cublasLtMatmulDescCreate");
    find(desc_set, "cublasLtMatmulDescSetAttribute");
    find(desc_destroy, "cublasLtMatmulDescDestroy");
    find(layout_destroy, "cublasLtMatrixLayoutDestroy");
    find(preference_destroy, "cublasLtMatmulPreferenceDestroy");
    find(layout_create, "cublasLtMatrixLayoutCreate");
    find(layout_set, "cublasLtMatrixLayoutSetAttribute");
    find(preference_create, "cublasLtMatmulPreferenceCreate");
    find(preference_set, "cublasLtMatmulPreferenceSetAttribute");
    find(heuristic, "cublasLtMatmulAlgoGetHeuristic");
    find(matmul, "cublasLtMatmul");
    if (version() < 120000)
      fail("HORNBEAM_CUDA_PRODUCTS: cuBLASLt %zu is too old; expected 12.0 or newer", version());
    check(create(&handle), "create");
  }
  static void check(int status, const char* what) {
    if (status != 0) fail("cuBLASLt: %s: status %d", what, status);
  }
};
const Library& library() {
  static const Library opened;  // a failure is thrown again by the next call
  return opened;
}

#ifdef HB_EMULATE
// When the stream comes to it, and where device memory can be read: in a kernel of one thread.
template <class F>
void in_turn(void* stream, F f) {
  launch(dim3(1), dim3(1), stream, +[](F g) { g(); }, f);
}
bool may_wait(void*) { return true; }
class Clock {
 public:
  explicit Clock(void*) {}
  void start() { start_ = std::chrono::steady_clock::now(); }
  double stop() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_;
};
#else
template <class F>
void in_turn(void*, F f) {  // the library waits for its turn itself
  f();
}
bool may_wait(void* stream) {  // not while a graph is captured
  cudaStreamCaptureStatus status;
  return cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &status) == cudaSuccess &&
         status == cudaStreamCaptureStatusNone;
}
class Clock {
 public:
  explicit Clock(void* stream) : stream_(static_cast<cudaStream_t>(stream)) {
    check(cudaEventCreate(&begin_));
    check(cudaEventCreate(&end_));
  }
  ~Clock() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  void start() { check(cudaEventRecord(begin_, stream_)); }
  double stop() {
    float milliseconds = 0;
    check(cudaEventRecord(end_, stream_));
    check(cudaEventSynchronize(end_));
    check(cudaEventElapsedTime(&milliseconds, begin_, end_));
    return milliseconds;
  }

 private:
  static void check(cudaError_t error) {
    if (error != cudaSuccess) fail_cuda("measuring a product", error);
  }
  cudaStream_t stream_;
  cudaEvent_t begin_, end_;
};
#endif

class CublasLt : public VendorProduct {
 public:
  CublasLt(DType dtype, bool tf32, bool measure) : dtype_(dtype), measure_(measure) {
    compute_ = dtype == DType::F64 ? kCompute64F : tf32 ? kCompute32FTf32 : kCompute32F;
    library();
  }
  ~CublasLt() override {
    if (desc_) library().desc_destroy(desc_);
    for (Handle layout : {a_, b_, out_})
      if (layout) library().layout_destroy(layout);
  }

  bool run(const MmaProduct& p, void* workspace, void* stream,
           const std::function<void()>& own) override {
    std::lock_guard lock(mutex_);  // the descriptor holds the pointer of the bias
    if (state_ == State::New) state_ = prepare(p) ? State::Ready : State::Declined;
    if (state_ == State::Declined) return false;
    if (measure_ && may_wait(stream)) {
      const double ours = time(stream, own);
      const double theirs = time(stream, [&] { start(p, workspace, stream); });
      measure_ = false;
      if (ours <= theirs) state_ = State::Declined;
      return true;  // both have written the result
    }
    start(p, workspace, stream);
    return true;
  }

 private:
  enum class State { New, Ready, Declined };

  template <class F>
  static double time(void* stream, const F& f) {
    f();  // what is only done once
    Clock clock(stream);
    double best = HUGE_VAL;
    for (int i = 0; i < 3; ++i) {
      clock.start();
      f();
      best = std::min(best, clock.stop());
    }
    return best;
  }

  bool prepare(const MmaProduct& p) {
    for (const Operand* o : {&p.a, &p.b})
      if (o->lines != Lines::Matrix || o->step_in_line != 1) return false;
    const Epilogue& e = p.epilogue;
    if (p.axes > 1 || p.column_batch != 0 || p.batch > 0x7fffffff || e.scale || e.mask)
      return false;
    const Library& l = library();
    const int type = dtype_ == DType::F64    ? kReal64F
                     : dtype_ == DType::F32  ? kReal32F
                     : dtype_ == DType::BF16 ? kReal16BF
                                             : kReal16F;
    l.check(l.desc_create(&desc_, compute_, dtype_ == DType::F64 ? kReal64F : kReal32F), "product");
    const int transpose_b = p.b.by_k, transpose_a = !p.a.by_k;  // their A is our b
    set(kTransA, transpose_b);
    set(kTransB, transpose_a);
    set(kEpilogue, e.bias   ? kEpilogueBias + (e.relu ? kEpilogueRelu : 0)
                   : e.relu ? kEpilogueRelu
                            : kEpilogueDefault);
    layout(&b_, type, p.b, p.n, p.k, p.axes > 0 ? p.b_stride[0] : 0, p.batch);
    layout(&a_, type, p.a, p.m, p.k, p.axes > 0 ? p.a_stride[0] : 0, p.batch);
    Operand out;
    out.stride = p.out_stride;
    out.by_k = true;
    layout(&out_, type, out, p.m, p.n, p.out_batch, p.batch);
    set_bias(p);
    Handle preference;
    l.check(l.preference_create(&preference), "preference");
    const uint64_t most = kWorkspace;
    l.check(l.preference_set(preference, kMaxWorkspace, &most, sizeof most), "workspace");
    int found = 0;
    const int status =
        l.heuristic(l.handle, desc_, b_, a_, out_, out_, preference, 1, &algorithm_, &found);
    l.preference_destroy(preference);
    return status == 0 && found > 0;
  }
  void set(int what, int value) {
    library().check(library().desc_set(desc_, what, &value, sizeof value), "attribute");
  }
  void set_bias(const MmaProduct& p) {
    const void* bias = p.epilogue.bias;
    if (bias) library().check(library().desc_set(desc_, kBiasPointer, &bias, sizeof bias), "bias");
  }
  // Lines are columns.
  static void layout(Handle* to, int type, const Operand& o, int64_t rows, int64_t k,
                     int64_t batch_stride, int64_t batch) {
    const Library& l = library();
    l.check(l.layout_create(to, type, uint64_t(o.by_k ? k : rows), uint64_t(o.by_k ? rows : k),
                            o.stride),
            "layout");
    const int32_t count = int32_t(batch);
    l.check(l.layout_set(*to, kBatchCount, &count, sizeof count), "batches");
    l.check(l.layout_set(*to, kBatchStride, &batch_stride, sizeof batch_stride), "batches");
  }
  void start(const MmaProduct& p, void* workspace, void* stream) {
    in_turn(stream, [=, this] {
      const Library& l = library();
      // act(a b + beta residual + bias)
      const void* residual = p.epilogue.residual;
      const double alpha64 = 1, beta64 = residual ? 1 : 0;
      const float alpha = 1, beta = float(beta64);
      const bool f64 = dtype_ == DType::F64;
      set_bias(p);
      l.check(l.matmul(l.handle, desc_, f64 ? static_cast<const void*>(&alpha64) : &alpha, p.b.data,
                       b_, p.a.data, a_, f64 ? static_cast<const void*>(&beta64) : &beta,
                       residual ? residual : p.out, out_, p.out, out_, algorithm_.algorithm,
                       workspace, kWorkspace, stream),
              "product");
    });
  }

  DType dtype_;
  bool measure_;
  int compute_;
  std::mutex mutex_;
  State state_ = State::New;
  Handle desc_ = nullptr, a_ = nullptr, b_ = nullptr, out_ = nullptr;
  Heuristic algorithm_{};
};

}  // namespace

std::shared_ptr<VendorProduct> VendorProduct::create(DType dtype, Float32Products float32) {
  const char* choice = getenv("HORNBEAM_CUDA_PRODUCTS");
  if (!choice || !*choice || strcmp(choice, "own") == 0) return nullptr;
  const bool measure = strcmp(choice, "measure") == 0;
  if (!measure && strcmp(choice, "cublaslt") != 0)
    fail("HORNBEAM_CUDA_PRODUCTS: expected own, cublaslt or measure, got %s", choice);
  // It has nothing between tf32 and float32.
  if (dtype == DType::F32 && float32 == Float32Products::Parts2) return nullptr;
  return std::make_shared<CublasLt>(dtype, dtype == DType::F32 && float32 == Float32Products::Tf32,
                                    measure);
}

}  // namespace hb::cuda
