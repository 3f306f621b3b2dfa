// Exceptions of the core and the names of dtypes.
#pragma once
#include <stdexcept>

#include "core/kernel.h"

namespace hb {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class OutOfMemory : public Error {
 public:
  using Error::Error;
};

// "bool", "int8", …, "float16", "bfloat16", "float32", "float64". Throws Error for another name.
DType dtype_from_name(const char* name);

}  // namespace hb
