// cuBLASLt (gemm_vendor.cuh). Its matrices are stored by columns: ours, by rows, are
// their transposes, so out^T = b^T a^T is asked for. The few functions and numbers that are needed
// are declared here, as the library's manual documents them.
#include "ops/gemm_vendor.cuh"
#include "ops/vendor.cuh"

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
    const SharedLibrary library("cuBLASLt", "HORNBEAM_CUBLASLT",
                                {{"libcublasLt.so.13", "cu13"}, {"libcublasLt.so.12", "cublas"}});
    library.find(version, "cublasLtGetVersion");
    library.find(create, "cublasLtCreate");
    library.find(desc_create, "cublasLtMatmulDescCreate");
    library.find(desc_set, "cublasLtMatmulDescSetAttribute");
    library.find(desc_destroy, "cublasLtMatmulDescDestroy");
    library.find(layout_destroy, "cublasLtMatrixLayoutDestroy");
    library.find(preference_destroy, "cublasLtMatmulPreferenceDestroy");
    library.find(layout_create, "cublasLtMatrixLayoutCreate");
    library.find(layout_set, "cublasLtMatrixLayoutSetAttribute");
    library.find(preference_create, "cublasLtMatmulPreferenceCreate");
    library.find(preference_set, "cublasLtMatmulPreferenceSetAttribute");
    library.find(heuristic, "cublasLtMatmulAlgoGetHeuristic");
    library.find(matmul, "cublasLtMatmul");
    if (version() < 120000)
      throw LibraryProblem("cuBLASLt " + std::to_string(version()) +
                           " is too old; expected 12.0 or newer");
    if (const int status = create(&handle); status != 0)
      throw LibraryProblem("cuBLASLt cannot start: status " + std::to_string(status));
  }
  static void check(int status, const char* what) {
    if (status != 0) fail("cuBLASLt: %s: status %d", what, status);
  }
};

class CublasLt : public VendorProduct, public std::enable_shared_from_this<CublasLt> {
 public:
  CublasLt(const Library& library, VendorUse use, DType dtype, bool tf32)
      : l(library), choice_(use), dtype_(dtype) {
    compute_ = dtype == DType::F64 ? kCompute64F : tf32 ? kCompute32FTf32 : kCompute32F;
  }
  ~CublasLt() override {
    if (desc_) l.desc_destroy(desc_);
    for (Handle layout : {a_, b_, out_})
      if (layout) l.layout_destroy(layout);
  }

  bool run(const MmaProduct& p, void* workspace, void* stream,
           const std::function<void()>& own) override {
    return choice_.run(
        stream, [&] { return prepare(p); }, own, [&] { start(p, workspace, stream); });
  }

 private:
  // What VendorChoice wants to know.
  VendorChoice::Key prepare(const MmaProduct& p) {
    for (const Operand* o : {&p.a, &p.b})
      if (o->lines != Lines::Matrix || o->step_in_line != 1) return {};
    const Epilogue& e = p.epilogue;
    if (p.axes > 1 || p.column_batch != 0 || p.batch > 0x7fffffff || e.scale || e.mask) return {};
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
    if (status != 0 || found == 0) return {};
    return {0,
            type,
            compute_,
            p.m,
            p.n,
            p.k,
            p.batch,
            transpose_a,
            transpose_b,
            p.a.stride,
            p.b.stride,
            p.axes > 0 ? p.a_stride[0] : 0,
            p.axes > 0 ? p.b_stride[0] : 0,
            e.bias != nullptr,
            e.residual != nullptr,
            e.relu,
            architecture()};
  }
  void set(int what, int value) {
    l.check(l.desc_set(desc_, what, &value, sizeof value), "attribute");
  }
  void set_bias(const MmaProduct& p) {
    const void* bias = p.epilogue.bias;
    if (bias) l.check(l.desc_set(desc_, kBiasPointer, &bias, sizeof bias), "bias");
  }
  // Lines are columns.
  void layout(Handle* to, int type, const Operand& o, int64_t rows, int64_t k, int64_t batch_stride,
              int64_t batch) {
    l.check(l.layout_create(to, type, uint64_t(o.by_k ? k : rows), uint64_t(o.by_k ? rows : k),
                            o.stride),
            "layout");
    const int32_t count = int32_t(batch);
    l.check(l.layout_set(*to, kBatchCount, &count, sizeof count), "batches");
    l.check(l.layout_set(*to, kBatchStride, &batch_stride, sizeof batch_stride), "batches");
  }
  void start(const MmaProduct& p, void* workspace, void* stream) {
    in_turn(stream, [=, this, alive = shared_from_this()] {
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

  const Library& l;
  VendorChoice choice_;
  DType dtype_;
  int compute_;
  Handle desc_ = nullptr, a_ = nullptr, b_ = nullptr, out_ = nullptr;
  Heuristic algorithm_{};
};

}  // namespace

std::shared_ptr<VendorProduct> VendorProduct::create(DType dtype, Float32Products float32) {
  const VendorUse use = vendor_use("cublaslt");
  // It has nothing between tf32 and float32.
  if (dtype == DType::F32 && float32 == Float32Products::Parts2) return nullptr;
  const Library* library = open_vendor<Library>(use);
  if (!library) return nullptr;
  const bool tf32 = dtype == DType::F32 && float32 == Float32Products::Tf32;
  return std::make_shared<CublasLt>(*library, use, dtype, tf32);
}

}  // namespace hb::cuda
