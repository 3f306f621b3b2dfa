#include "core/error.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>

namespace hb {
namespace {

constexpr const char* kNames[kNumDTypes] = {"bool",     "int8",    "int16",  "int32",  "int64",
                                            "uint8",    "uint16",  "uint32", "uint64", "float16",
                                            "bfloat16", "float32", "float64"};

}  // namespace

void fail(const char* format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  const int size = std::vsnprintf(nullptr, 0, format, args);
  va_end(args);
  std::string text(size > 0 ? size_t(size) : 0, '\0');
  if (size > 0) std::vsnprintf(text.data(), text.size() + 1, format, again);
  va_end(again);
  throw Error(text);
}

const char* dtype_name(DType t) {
  const auto i = static_cast<size_t>(t);
  return i < size_t(kNumDTypes) ? kNames[i] : "invalid dtype";
}

DType dtype_from_name(const char* name) {
  std::string known;
  for (int i = 0; i < kNumDTypes; ++i) {
    if (std::strcmp(kNames[i], name) == 0) return static_cast<DType>(i);
    known += i ? ", " : "";
    known += kNames[i];
  }
  fail("unknown dtype; expected one of %s, got '%s'", known.c_str(), name);
}

}  // namespace hb
