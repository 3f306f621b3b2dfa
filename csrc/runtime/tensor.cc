#include "runtime/tensor.h"

#include <string>

#include "core/allocator.h"

namespace hb {

std::shared_ptr<Buffer> Buffer::allocate(size_t bytes, Device& device) {
  return std::shared_ptr<Buffer>(new Buffer(device.allocate(bytes), bytes, device, {}));
}

std::shared_ptr<Buffer> Buffer::zeros(size_t bytes) {
  return std::shared_ptr<Buffer>(new Buffer(allocate_zeros(bytes), bytes, host_device(), {}));
}

std::shared_ptr<Buffer> Buffer::borrow(void* data, size_t bytes, std::function<void()> release) {
  return std::shared_ptr<Buffer>(new Buffer(data, bytes, host_device(), std::move(release)));
}

Buffer::~Buffer() {
  if (release_)
    release_();
  else
    device_->deallocate(data_, bytes_);
}

bool same_spec(const TensorSpec& a, const TensorSpec& b) {
  if (a.dtype != b.dtype || a.rank != b.rank) return false;
  for (int i = 0; i < a.rank; ++i)
    if (a.shape[i] != b.shape[i]) return false;
  return true;
}

std::string to_string(const TensorSpec& s) {
  std::string out = dtype_name(s.dtype);
  out += '[';
  for (int i = 0; i < s.rank; ++i) {
    if (i) out += ", ";
    out += std::to_string(s.shape[i]);
  }
  return out + ']';
}

Tensor Tensor::allocate(const TensorSpec& spec, Device& device) {
  return {spec, Buffer::allocate(num_bytes(spec), device)};
}

Tensor Tensor::zeros(const TensorSpec& spec) { return {spec, Buffer::zeros(num_bytes(spec))}; }

Tensor Tensor::to(Device& to) const {
  if (&to == &device()) return *this;
  Tensor copy = allocate(spec, to);
  copy_bytes(to, copy.data(), device(), data(), bytes());
  return copy;
}

}  // namespace hb
