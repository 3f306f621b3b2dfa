// The library's entry, and the functions of the core that kernels call (see core/plugin.h).
#include "core/plugin.h"

#include <stdarg.h>
#include <stdio.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cuda/library.h"

namespace hb {
namespace {
const CoreFunctions* core = nullptr;
thread_local std::vector<std::string>* names_read = nullptr;
}  // namespace

namespace cuda {
namespace {
void note_attribute(const char* name) {
  if (names_read) names_read->push_back(name);
}
}  // namespace
}  // namespace cuda

bool attr_has(const Attrs& a, const char* name) {
  cuda::note_attribute(name);
  return core->attr_has(a, name);
}
int64_t attr_int(const Attrs& a, const char* name) {
  cuda::note_attribute(name);
  return core->attr_int(a, name);
}
double attr_float(const Attrs& a, const char* name) {
  cuda::note_attribute(name);
  return core->attr_float(a, name);
}
const char* attr_str(const Attrs& a, const char* name) {
  cuda::note_attribute(name);
  return core->attr_str(a, name);
}
IntList attr_ints(const Attrs& a, const char* name) {
  cuda::note_attribute(name);
  return core->attr_ints(a, name);
}
FloatList attr_floats(const Attrs& a, const char* name) {
  cuda::note_attribute(name);
  return core->attr_floats(a, name);
}
int64_t attr_strs_size(const Attrs& a, const char* name) {
  cuda::note_attribute(name);
  return core->attr_strs_size(a, name);
}
const char* attr_strs_at(const Attrs& a, const char* name, int64_t i) {
  cuda::note_attribute(name);
  return core->attr_strs_at(a, name, i);
}
const char* dtype_name(DType t) { return core->dtype_name(t); }
Precision matmul_precision() { return core->matmul_precision(); }

void fail(const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  core->fail(text);
  __builtin_unreachable();
}

namespace cuda {
namespace {
const Registration* first = nullptr;
}

Registration::Registration(const KernelDef& d) : def(d), next(first) { first = this; }

AttributeCheck::AttributeCheck(const Prepare& p) : prepare_(p) {
  names_read = new std::vector<std::string>;
}
AttributeCheck::~AttributeCheck() {
  delete names_read;
  names_read = nullptr;
}
// They only say the shape or dtype of the outputs, which kernels have from there.
constexpr const char* kOfOutputs[] = {"dtype",       "filter_shape", "hi",
                                      "input_shape", "keepdims",     "num_segments",
                                      "shape",       "size",         "sizes"};

void AttributeCheck::expect_all_read() const {
  for (const char* name : kOfOutputs) note_attribute(name);
  for (size_t i = 0; const char* name = core->attr_name(*prepare_.attrs, i); ++i)
    if (std::find(names_read->begin(), names_read->end(), name) == names_read->end())
      fail("the CUDA kernel does not know attribute %s", name);
}

void throw_index_error() {
  IndexError* record = index_error();
  if (!record || !record->set) return;
  const IndexError e = *record;
  record->set = 0;
  fail(
      "index %lld is out of range for axis %d of size %lld; expected %lld <= index < %lld (found "
      "on "
      "the GPU after the operation had been started)",
      (long long)e.index, e.axis, (long long)e.size, (long long)-e.size, (long long)e.size);
}

void fail_out_of_memory(const char* text) {
  core->out_of_memory(text);
  __builtin_unreachable();
}

}  // namespace cuda
}  // namespace hb

extern "C" __attribute__((visibility("default"))) const char* hornbeam_plugin(
    int version, const hb::CoreFunctions* functions) {
  if (version != hb::kPluginVersion)
    return "_cuda.so was built from other sources than the core: install again";
  hb::core = functions;
  if (const char* problem = hb::cuda::open_devices(functions->add_device)) return problem;
  for (const auto* r = hb::cuda::first; r; r = r->next)
    functions->register_kernel(r->def, 0, hb::DeviceKind::Cuda);
  return nullptr;
}
