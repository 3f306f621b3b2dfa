// cuDNN (conv_vendor.cuh): the functions for single convolutions, which versions 8 and 9 have. Its
// filters are [o, taps, c / groups], the transpose of ours, so they are copied. The few functions
// and numbers that are needed are declared here, as the library's manual documents them.
//
// Only algorithms that sum products as they are, and in an order that sizes decide: no
// transformations (which lose bits), no atomic additions.
#include <limits.h>

#include <map>
#include <vector>

#include "ops/conv_vendor.cuh"
#include "ops/transpose.cuh"
#include "ops/vendor.cuh"

namespace hb::cuda {
namespace {

typedef void* Handle;
// clang-format off
enum : int {
  kFloat = 0, kHalf = 2, kBfloat16 = 9,                                   // cudnnDataType_t
  kNhwc = 1,                                                              // cudnnTensorFormat_t
  kCrossCorrelation = 1,                                                  // cudnnConvolutionMode_t
  kDefaultMath = 0, kTensorOpMath = 1, kFmaMath = 3,                      // cudnnMathType_t
  kForwardPrecomputed = 1, kForwardImplicit = 0,                          // algorithms
  kGradInput1 = 1, kGradFilter1 = 1,
  kNotSupported8 = 9, kNotSupported9 = 3000, kNotSupported9End = 4000,    // cudnnStatus_t
};
// clang-format on
constexpr size_t kWorkspace = size_t(32) << 20, kAlignment = 256;

struct Library {
  size_t (*version)();
  const char* (*error_string)(int);
  int (*create)(Handle*);
  int (*set_stream)(Handle, void* stream);
  int (*tensor_create)(Handle*);
  int (*tensor_set)(Handle, int type, int rank, const int* sizes, const int* strides);
  int (*tensor_destroy)(Handle);
  int (*filter_create)(Handle*);
  int (*filter_set)(Handle, int type, int format, int rank, const int* sizes);
  int (*filter_destroy)(Handle);
  int (*conv_create)(Handle*);
  int (*conv_set)(Handle, int axes, const int* padding, const int* strides, const int* dilation,
                  int mode, int type);
  int (*conv_set_groups)(Handle, int);
  int (*conv_set_math)(Handle, int);
  int (*conv_destroy)(Handle);
  // of x, filter, convolution, y
  int (*forward_workspace)(Handle, Handle, Handle, Handle, Handle, int algorithm, size_t*);
  int (*forward)(Handle, const void* alpha, Handle, const void* x, Handle, const void* w, Handle,
                 int algorithm, void* workspace, size_t, const void* beta, Handle, void* y);
  // of filter, dy, convolution, dx
  int (*grad_input_workspace)(Handle, Handle, Handle, Handle, Handle, int algorithm, size_t*);
  int (*grad_input)(Handle, const void* alpha, Handle, const void* w, Handle, const void* dy,
                    Handle, int algorithm, void* workspace, size_t, const void* beta, Handle,
                    void* dx);
  // of x, dy, convolution, filter
  int (*grad_filter_workspace)(Handle, Handle, Handle, Handle, Handle, int algorithm, size_t*);
  int (*grad_filter)(Handle, const void* alpha, Handle, const void* x, Handle, const void* dy,
                     Handle, int algorithm, void* workspace, size_t, const void* beta, Handle,
                     void* dw);

  Library() {
    const SharedLibrary library("cuDNN", "HORNBEAM_CUDNN",
                                {{"libcudnn.so.9", "cudnn"}, {"libcudnn.so.8", "cudnn"}});
    library.find(version, "cudnnGetVersion");
    library.find(error_string, "cudnnGetErrorString");
    library.find(create, "cudnnCreate");
    library.find(set_stream, "cudnnSetStream");
    library.find(tensor_create, "cudnnCreateTensorDescriptor");
    library.find(tensor_set, "cudnnSetTensorNdDescriptor");
    library.find(tensor_destroy, "cudnnDestroyTensorDescriptor");
    library.find(filter_create, "cudnnCreateFilterDescriptor");
    library.find(filter_set, "cudnnSetFilterNdDescriptor");
    library.find(filter_destroy, "cudnnDestroyFilterDescriptor");
    library.find(conv_create, "cudnnCreateConvolutionDescriptor");
    library.find(conv_set, "cudnnSetConvolutionNdDescriptor");
    library.find(conv_set_groups, "cudnnSetConvolutionGroupCount");
    library.find(conv_set_math, "cudnnSetConvolutionMathType");
    library.find(conv_destroy, "cudnnDestroyConvolutionDescriptor");
    library.find(forward_workspace, "cudnnGetConvolutionForwardWorkspaceSize");
    library.find(forward, "cudnnConvolutionForward");
    library.find(grad_input_workspace, "cudnnGetConvolutionBackwardDataWorkspaceSize");
    library.find(grad_input, "cudnnConvolutionBackwardData");
    library.find(grad_filter_workspace, "cudnnGetConvolutionBackwardFilterWorkspaceSize");
    library.find(grad_filter, "cudnnConvolutionBackwardFilter");
    // 8907 is 8.9.7, 91002 is 9.10.2; bfloat16 came with 8.1.
    if (version() < 8100)
      throw LibraryProblem("cuDNN " + std::to_string(version()) +
                           " is too old; expected 8.1 or newer");
  }
  void check(int status, const char* what) const {
    if (status != 0) fail("cuDNN: %s: %s (%d)", what, error_string(status), status);
  }
  static bool refused(int status) {
    return status == kNotSupported8 || (status >= kNotSupported9 && status < kNotSupported9End);
  }
};

// A handle belongs to a device, and to one thread at a time.
struct DeviceHandle {
  std::mutex mutex;
  Handle handle = nullptr;
};
DeviceHandle& handle_of_device(const Library& library) {
  static std::mutex mutex;
  static auto& handles = *new std::map<int, DeviceHandle>;
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess)
    fail_cuda("the current device", error);
  std::lock_guard lock(mutex);
  DeviceHandle& mine = handles[device];
  if (!mine.handle) {
    const int status = library.create(&mine.handle);
    if (status != 0)
      throw LibraryProblem(std::string("cuDNN cannot start: ") + library.error_string(status));
  }
  return mine;
}

// What is done to a result that has been stored.
template <class T>
__global__ void __launch_bounds__(kThreads)
    finish_stored(T* y, const Epilogue epilogue, int64_t n, int64_t columns) {
  constexpr int kCount = kPack<T>;
  HB_EACH(i, (n + kCount - 1) / kCount) {
    const int64_t at = i * kCount, column = at % columns;
    const int left = n - at < kCount ? int(n - at) : kCount;
    const bool whole = left == kCount && columns % kCount == 0 && uintptr_t(y) % 16 == 0 &&
                       epilogue.is_aligned<T, kCount>(column, at);
    Compute<T> sums[kCount];
    load_pack(sums, y + at, whole, left);
    if (whole) {
      epilogue.apply<T, kCount>(sums, column, at);
    } else {
      HB_UNROLL_NOT
      for (int e = 0; e < left; ++e) epilogue.apply<T, 1>(sums + e, (at + e) % columns, at + e);
    }
    store_pack(y + at, sums, whole, left);
  }
}

class Cudnn : public VendorConvolution, public std::enable_shared_from_this<Cudnn> {
 public:
  Cudnn(const Library& library, VendorUse use, ConvPart part, const ConvShape& shape, DType dtype,
        int math)
      : l(library), choice_(use), part_(part), s(shape), dtype_(dtype), math_(math) {}
  ~Cudnn() override {
    if (x_) l.tensor_destroy(x_);
    if (y_) l.tensor_destroy(y_);
    if (filter_) l.filter_destroy(filter_);
    if (conv_) l.conv_destroy(conv_);
  }
  size_t scratch_bytes() const override { return kAlignment + filter_bytes() + kWorkspace; }

  bool run(const Call& c, const Epilogue& epilogue, const std::function<void()>& own) override {
    return choice_.run(
        c.stream, [&] { return prepare(epilogue); }, own, [&] { start(c, epilogue); });
  }

  // Whether its sizes can be said to cuDNN: padding is the same in front and behind, or what is
  // different behind is not read; numbers have 31 bits.
  static bool can_say(const ConvShape& s) {
    for (int a = 0; a < 3; ++a) {
      const int64_t reach = (s.kernel[a] - 1) * s.dilation[a] + 1;
      if (s.lo[a] < 0 || s.in[a] + 2 * s.lo[a] < reach ||
          (s.in[a] + 2 * s.lo[a] - reach) / s.stride[a] + 1 != s.out[a])
        return false;
    }
    const int64_t x = s.n * s.in_size() * s.c, y = s.n * s.out_size() * s.o,
                  w = s.taps() * s.cg * s.o;
    return x > 0 && y > 0 && w > 0 && x <= INT_MAX && y <= INT_MAX && w <= INT_MAX;
  }

 private:
  size_t filter_bytes() const {
    const size_t bytes = size_t(s.taps() * s.cg * s.o) * item_bytes(dtype_);
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  // Two axes, or three; cuDNN has no convolution of one.
  int axes() const {
    return s.in[0] == 1 && s.out[0] == 1 && s.kernel[0] == 1 && s.lo[0] == 0 ? 2 : 3;
  }
  void set_tensor(Handle* tensor, const int64_t* extent, int64_t channels) const {
    const int rank = axes() + 2;
    int sizes[5] = {int(s.n), int(channels)}, strides[5] = {0, 1};
    int64_t step = channels;
    for (int i = rank - 1; i >= 2; --i) {
      sizes[i] = int(extent[i - rank + 3]);
      strides[i] = int(step);
      step *= sizes[i];
    }
    strides[0] = int(step);
    l.check(l.tensor_create(tensor), "tensor");
    l.check(l.tensor_set(*tensor, type(), rank, sizes, strides), "tensor");
  }
  int type() const {
    return dtype_ == DType::F32 ? kFloat : dtype_ == DType::F16 ? kHalf : kBfloat16;
  }
  VendorChoice::Key prepare(const Epilogue& e) {
    const int num = axes(), first = 3 - num;
    set_tensor(&x_, s.in, s.c);
    set_tensor(&y_, s.out, s.o);
    int filter[5] = {int(s.o), int(s.cg)}, padding[3], strides[3], dilation[3];
    for (int i = 0; i < num; ++i) {
      filter[2 + i] = int(s.kernel[first + i]);
      padding[i] = int(s.lo[first + i]);
      strides[i] = int(s.stride[first + i]);
      dilation[i] = int(s.dilation[first + i]);
    }
    l.check(l.filter_create(&filter_), "filter");
    l.check(l.filter_set(filter_, type(), kNhwc, num + 2, filter), "filter");
    l.check(l.conv_create(&conv_), "convolution");
    l.check(l.conv_set(conv_, num, padding, strides, dilation, kCrossCorrelation, kFloat),
            "convolution");
    l.check(l.conv_set_groups(conv_, int(s.groups)), "groups");
    l.check(l.conv_set_math(conv_, math_), "arithmetic");
    if (!find_algorithm()) return {};
    VendorChoice::Key key = {1,   int64_t(part_), type(),  math_,         s.n, s.c,
                             s.o, s.groups,       e.any(), architecture()};
    for (const int64_t* all : {s.in, s.out, s.kernel, s.stride, s.dilation, s.lo})
      key.insert(key.end(), all, all + 3);
    return key;
  }
  // The first that it can do in the workspace.
  bool find_algorithm() {
    DeviceHandle& device = handle_of_device(l);
    std::lock_guard lock(device.mutex);
    static const std::vector<int> forward = {kForwardPrecomputed, kForwardImplicit},
                                  grad_input = {kGradInput1}, grad_filter = {kGradFilter1};
    for (const int algorithm : part_ == ConvPart::Forward     ? forward
                               : part_ == ConvPart::GradInput ? grad_input
                                                              : grad_filter) {
      size_t bytes = 0;
      const int status =
          part_ == ConvPart::Forward
              ? l.forward_workspace(device.handle, x_, filter_, conv_, y_, algorithm, &bytes)
          : part_ == ConvPart::GradInput
              ? l.grad_input_workspace(device.handle, filter_, y_, conv_, x_, algorithm, &bytes)
              : l.grad_filter_workspace(device.handle, x_, y_, conv_, filter_, algorithm, &bytes);
      if (Library::refused(status)) continue;
      l.check(status, "workspace");
      if (bytes > kWorkspace) continue;
      algorithm_ = algorithm;
      workspace_ = bytes;
      return true;
    }
    return false;
  }

  void start(const Call& c, const Epilogue& epilogue) {
    char* filter = static_cast<char*>(c.scratch);
    filter += (kAlignment - uintptr_t(filter) % kAlignment) % kAlignment;
    void* workspace = workspace_ ? filter + filter_bytes() : nullptr;
    const int64_t rows = s.taps() * s.cg;  // of our filter
    if (part_ != ConvPart::GradFilter)
      transpose_matrices(filter, c.inputs[1], dtype_, 1, rows, s.o, c.stream);
    DeviceHandle& device = handle_of_device(l);
    in_turn(c.stream, [=, this, &device, alive = shared_from_this(), from = c.inputs[0],
                       dy = part_ == ConvPart::GradFilter ? c.inputs[1] : nullptr,
                       to = c.outputs[0], stream = c.stream] {
      const float one = 1, zero = 0;
      std::lock_guard lock(device.mutex);
      const Handle handle = device.handle;
      l.check(l.set_stream(handle, stream), "stream");
      if (part_ == ConvPart::Forward)
        l.check(l.forward(handle, &one, x_, from, filter_, filter, conv_, algorithm_, workspace,
                          workspace_, &zero, y_, to),
                "convolution");
      else if (part_ == ConvPart::GradInput)
        l.check(l.grad_input(handle, &one, filter_, filter, y_, from, conv_, algorithm_, workspace,
                             workspace_, &zero, x_, to),
                "gradient to the input");
      else
        l.check(l.grad_filter(handle, &one, x_, from, y_, dy, conv_, algorithm_, workspace,
                              workspace_, &zero, filter_, filter),
                "gradient to the filter");
    });
    if (part_ == ConvPart::GradFilter) {
      transpose_matrices(c.outputs[0], filter, dtype_, 1, s.o, rows, c.stream);
    } else if (epilogue.any()) {
      const bool forward = part_ == ConvPart::Forward;
      const int64_t columns = forward ? s.o : s.c;
      const int64_t n = s.n * (forward ? s.out_size() : s.in_size()) * columns;
      const auto finish = [&]<class T>(T* result) {
        launch(blocks_for(n / kPack<T> + 1), dim3(kThreads), c.stream, finish_stored<T>, result,
               epilogue, n, columns);
      };
      void* const result = c.outputs[0];
      if (dtype_ == DType::F32)
        finish(static_cast<float*>(result));
      else if (dtype_ == DType::F16)
        finish(static_cast<Half*>(result));
      else
        finish(static_cast<BHalf*>(result));
    }
  }

  const Library& l;
  VendorChoice choice_;
  ConvPart part_;
  ConvShape s;
  DType dtype_;
  int math_, algorithm_ = 0;
  size_t workspace_ = 0;
  Handle x_ = nullptr, y_ = nullptr, filter_ = nullptr, conv_ = nullptr;
};

}  // namespace

std::shared_ptr<VendorConvolution> VendorConvolution::create(ConvPart part, const ConvShape& s,
                                                             DType dtype) {
  const VendorUse use = vendor_use("cudnn");
  if (use == VendorUse::Never) return nullptr;
  int math = kTensorOpMath;
  if (dtype == DType::F32) {
    const Precision precision = matmul_precision();
    // It has nothing between tf32 and float32. What it calls default may be tf32.
    if (precision == Precision::High) return nullptr;
    math = precision == Precision::Highest ? kFmaMath : kDefaultMath;
  } else if (dtype != DType::F16 && dtype != DType::BF16) {
    return nullptr;
  }
  const Library* library = open_vendor<Library>(use);
  if (!library || !Cudnn::can_say(s)) return nullptr;
  return std::make_shared<Cudnn>(*library, use, part, s, dtype, math);
}

}  // namespace hb::cuda
