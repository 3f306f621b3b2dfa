#include "runtime/staging.h"

namespace hb {
namespace {

constexpr size_t kAlign = 512;

}  // namespace

Staging::Staging(Program& program, Device& device, const std::vector<bool>& fetched)
    : device_(device), inputs_(program.num_inputs()), outputs_(program.num_outputs()) {
  const auto place = [](Place& p, size_t bytes, size_t& total) {
    p = {total, bytes, true};
    total += (bytes + kAlign - 1) / kAlign * kAlign;
  };
  for (int i = 0; i < program.num_inputs(); ++i)
    if (program.feeds(i)) place(inputs_[i], num_bytes(program.input_spec(i)), input_bytes_);
  for (int i = 0; i < program.num_outputs(); ++i)
    if (fetched[i]) place(outputs_[i], num_bytes(program.output_spec(i)), output_bytes_);
  try {
    for (Slot& s : slots_) {
      if (input_bytes_) {
        s.host_inputs = static_cast<char*>(device.allocate_pinned(input_bytes_));
        s.device_inputs = static_cast<char*>(device.allocate(input_bytes_));
      }
      if (output_bytes_) s.host_outputs = static_cast<char*>(device.allocate_pinned(output_bytes_));
      for (auto* fence : {&s.copied, &s.ran, &s.fetched}) *fence = device.make_fence();
      for (const Place& p : inputs_) s.received.push_back(at(s.device_inputs, p));
      // The device's memory may still be in use by work in the queue Compute that came before.
      device.mark(*s.ran, Queue::Compute);
    }
  } catch (...) {
    release();
    throw;
  }
}

// After this nothing touches the memory of the slots but the queue Compute, behind which it may be
// handed out again.
void Staging::finish() {
  for (Slot& s : slots_) device_.wait(*s.copied);
  finished_ = true;
}

Staging::~Staging() {
  try {
    if (!finished_) device_.synchronize();
  } catch (...) {  // not the first error; a device that fails here has ended its work
  }
  release();
}

void Staging::release() noexcept {
  for (Slot& s : slots_) {
    if (s.host_inputs) device_.deallocate_pinned(s.host_inputs);
    if (s.host_outputs) device_.deallocate_pinned(s.host_outputs);
    if (s.device_inputs) device_.deallocate(s.device_inputs, input_bytes_);
  }
}

void Staging::send(int64_t k) {
  Slot& s = slot(k);
  device_.wait(*s.ran, Queue::Copy);
  device_.start_copy_from_host(s.device_inputs, s.host_inputs, input_bytes_, Queue::Copy);
  device_.mark(*s.copied, Queue::Copy);
}

const void* const* Staging::receive(int64_t k) {
  Slot& s = slot(k);
  device_.wait(*s.copied, Queue::Compute);
  return s.received.data();
}

void Staging::ran(int64_t k, void* const* outputs) {
  Slot& s = slot(k);
  device_.mark(*s.ran, Queue::Compute);
  if (!output_bytes_) return;
  device_.wait(*s.ran, Queue::Copy);
  for (size_t i = 0; i < outputs_.size(); ++i)
    if (char* to = at(s.host_outputs, outputs_[i]))
      device_.start_copy_to_host(to, outputs[i], outputs_[i].bytes, Queue::Copy);
  device_.mark(*s.fetched, Queue::Copy);
}

}  // namespace hb
