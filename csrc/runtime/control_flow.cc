#include "runtime/control_flow.h"

#include <algorithm>
#include <utility>

#include "core/allocator.h"
#include "core/error.h"

namespace hb {
namespace {

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

// The arena of the children, on the host: the end of the instruction's scratch, unless that lies on
// another device.
class Arena {
 public:
  Arena(const Device& device, char* scratch, size_t bytes) : data_(scratch) {
    if (device.is_host()) return;
    lease_ = ArenaPool::instance().acquire(bytes);
    data_ = static_cast<char*>(lease_.data());
  }
  operator char*() const { return data_; }

 private:
  ArenaPool::Lease lease_;
  char* data_;
};

size_t arena_bytes(const std::vector<std::shared_ptr<Program>>& children) {
  size_t most = 0;
  for (const auto& child : children) most = std::max(most, child->arena_bytes());
  return most;
}

class Cond : public Instruction {
 public:
  Cond(const std::vector<std::shared_ptr<Program>>& children, Device& device)
      : device_(device), children_(children), arena_bytes_(arena_bytes(children)) {
    if (device.is_host()) scratch_bytes = arena_bytes_;
    label = "cond";
  }
  void run(const Call& c) const override {
    const Arena arena(device_, static_cast<char*>(c.scratch), arena_bytes_);
    const bool taken = *static_cast<const uint8_t*>(c.inputs[0]);
    children_[taken ? 0 : 1]->run_raw(c.inputs + 1, c.outputs, arena);
  }

 private:
  Device& device_;
  std::vector<std::shared_ptr<Program>> children_;
  size_t arena_bytes_;
};

// The two places between which loop values alternate: each step reads one and writes the other.
class PingPong {
 public:
  PingPong(const TensorSpec* specs, int count) {
    for (int i = 0; i < count; ++i) {
      offsets_.push_back(half_bytes_);
      bytes_.push_back(num_bytes(specs[i]));
      half_bytes_ += aligned(bytes_.back());
    }
  }
  size_t total_bytes() const { return 2 * half_bytes_; }
  char* at(char* base, int half, int i) const {
    return base + size_t(half) * half_bytes_ + offsets_[i];
  }
  size_t bytes(int i) const { return bytes_[i]; }
  int count() const { return int(offsets_.size()); }

 private:
  std::vector<size_t> offsets_, bytes_;
  size_t half_bytes_ = 0;
};

class While : public Instruction {
 public:
  While(const std::vector<std::shared_ptr<Program>>& children, const Prepare& p, Device& device)
      : device_(device),
        condition_(children[0]),
        body_(children[1]),
        loop_(p.inputs, int(attr_int(*p.attrs, "num_loop"))),
        maximum_(attr_int(*p.attrs, "maximum_iterations")),
        num_inputs_(p.num_inputs),
        arena_bytes_(arena_bytes(children)) {
    scratch_bytes = loop_.total_bytes() + (device.is_host() ? arena_bytes_ : 0);
    label = "while_loop";
  }
  void run(const Call& c) const override {
    char* base = static_cast<char*>(c.scratch);
    const Arena arena(device_, base + loop_.total_bytes(), arena_bytes_);
    const int n = loop_.count();
    std::vector<const void*> in(c.inputs, c.inputs + num_inputs_);
    std::vector<void*> out(n);
    for (int64_t step = 0; maximum_ < 0 || step < maximum_; ++step) {
      uint8_t go_on = 0;
      void* flag = &go_on;
      condition_->run_raw(in.data(), &flag, arena);
      if (!go_on) break;
      for (int i = 0; i < n; ++i) out[i] = loop_.at(base, int(step & 1), i);
      body_->run_raw(in.data(), out.data(), arena);
      std::copy(out.begin(), out.end(), in.begin());
    }
    for (int i = 0; i < n; ++i) device_.copy_within(c.outputs[i], in[i], loop_.bytes(i), c.stream);
  }

 private:
  Device& device_;
  std::shared_ptr<Program> condition_, body_;
  PingPong loop_;
  int64_t maximum_;
  int num_inputs_;
  size_t arena_bytes_;
};

// On another device than the host the slices and the last carries have places of their own: of few
// addresses, which recordings want, and aligned.
class Scan : public Instruction {
 public:
  Scan(const std::vector<std::shared_ptr<Program>>& children, const Prepare& p, Device& device)
      : device_(device),
        body_(children[0]),
        carry_(p.inputs, int(attr_int(*p.attrs, "num_carry"))),
        num_xs_(int(attr_int(*p.attrs, "num_xs"))),
        length_(attr_int(*p.attrs, "length")),
        reverse_(attr_int(*p.attrs, "reverse") != 0),
        num_inputs_(p.num_inputs),
        num_outputs_(p.num_outputs) {
    const int64_t parts = std::max<int64_t>(length_, 1);
    for (int i = 0; i < num_xs_; ++i)
      x_bytes_.push_back(num_bytes(p.inputs[carry_.count() + i]) / parts);
    for (int i = carry_.count(); i < num_outputs_; ++i)
      y_bytes_.push_back(num_bytes(p.outputs[i]) / parts);
    scratch_bytes = carry_.total_bytes();
    if (device.is_host()) {
      scratch_bytes += body_->arena_bytes();
    } else {
      for (auto* list : {&x_bytes_, &y_bytes_})
        for (size_t bytes : *list) {
          places_.push_back(scratch_bytes);
          scratch_bytes += aligned(bytes);
        }
    }
    label = "scan";
    single_thread = body_->single_thread();
    seconds = double(length_) * body_->seconds();
  }
  void run(const Call& c) const override {
    char* base = static_cast<char*>(c.scratch);
    const Arena arena(device_, base + carry_.total_bytes(), body_->arena_bytes());
    const bool direct = device_.is_host();
    const int n = carry_.count(), num_ys = num_outputs_ - n;
    std::vector<const void*> in(c.inputs, c.inputs + num_inputs_);
    std::vector<void*> out(num_outputs_);
    for (int64_t step = 0; step < length_; ++step) {
      const int64_t t = reverse_ ? length_ - 1 - step : step;
      for (int i = 0; i < num_xs_; ++i) {
        const char* slice = static_cast<const char*>(c.inputs[n + i]) + t * x_bytes_[i];
        if (!direct) device_.copy_within(base + places_[i], slice, x_bytes_[i], c.stream);
        in[n + i] = direct ? slice : base + places_[i];
      }
      for (int i = 0; i < num_ys; ++i)
        out[n + i] = direct ? static_cast<char*>(c.outputs[n + i]) + t * y_bytes_[i]
                            : base + places_[num_xs_ + i];
      const bool last = step == length_ - 1;
      for (int i = 0; i < n; ++i)
        out[i] = last && direct ? c.outputs[i] : carry_.at(base, int(step & 1), i);
      body_->run_raw(in.data(), out.data(), arena);
      for (int i = 0; i < num_ys && !direct; ++i)
        device_.copy_within(static_cast<char*>(c.outputs[n + i]) + t * y_bytes_[i], out[n + i],
                            y_bytes_[i], c.stream);
      std::copy(out.begin(), out.begin() + n, in.begin());
    }
    if (length_ == 0 || !direct)
      for (int i = 0; i < n; ++i)
        device_.copy_within(c.outputs[i], in[i], carry_.bytes(i), c.stream);
  }

 private:
  Device& device_;
  std::shared_ptr<Program> body_;
  PingPong carry_;
  int num_xs_;
  int64_t length_;
  bool reverse_;
  int num_inputs_, num_outputs_;
  std::vector<size_t> x_bytes_, y_bytes_;
  std::vector<size_t> places_;  // in the scratch: of slices of xs, then of ys
};

}  // namespace

std::unique_ptr<Instruction> make_control_flow(
    const std::string& op, const std::vector<std::shared_ptr<Program>>& children, Prepare& p,
    Device& device) {
  for (const auto& child : children) {
    if (child->has_variables()) fail("expected a body to take variables as inputs");
    const bool condition = op == "while_loop" && child == children[0];
    for (int i = 0; i < child->num_outputs(); ++i)
      if (&child->output_device(i) != (condition ? &host_device() : &device))
        fail("a body gives a value on %s; expected %s", child->output_device(i).name().c_str(),
             device.name().c_str());
  }
  if (op == "cond") return std::make_unique<Cond>(children, device);
  if (op == "while_loop") return std::make_unique<While>(children, p, device);
  if (op == "scan") return std::make_unique<Scan>(children, p, device);
  return nullptr;
}

}  // namespace hb
