// Tensors: a shape and a reference-counted buffer. A Tensor is immutable by value; only a
// Variable's buffer (variable.h) is written in place, and only when nobody else holds it.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "core/device.h"
#include "core/kernel.h"

namespace hb {

// Memory and how to give it back: our own allocation or somebody else's (a NumPy array).
class Buffer {
 public:
  static std::shared_ptr<Buffer> allocate(size_t bytes, Device& device = host_device());
  static std::shared_ptr<Buffer> zeros(size_t bytes);  // on the host
  static std::shared_ptr<Buffer> borrow(void* data, size_t bytes, std::function<void()> release);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device& device() const { return *device_; }

 private:
  Buffer(void* data, size_t bytes, Device& device, std::function<void()> release)
      : data_(data), bytes_(bytes), device_(&device), release_(std::move(release)) {}
  void* data_;
  size_t bytes_;
  Device* device_;
  std::function<void()> release_;  // empty: the memory came from the device
};

inline size_t num_bytes(const TensorSpec& s) {
  return size_t(num_elements(s)) * item_bytes(s.dtype);
}
bool same_spec(const TensorSpec& a, const TensorSpec& b);
std::string to_string(const TensorSpec& s);  // float32[2, 3]

struct Tensor {
  TensorSpec spec;
  std::shared_ptr<Buffer> buffer;

  static Tensor allocate(const TensorSpec& spec, Device& device = host_device());
  static Tensor zeros(const TensorSpec& spec);  // on the host
  void* data() const { return buffer->data(); }
  size_t bytes() const { return num_bytes(spec); }
  Device& device() const { return buffer->device(); }
  Tensor to(Device& device) const;  // itself, or a copy there
};

}  // namespace hb
