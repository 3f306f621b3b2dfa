#include "runtime/control_flow.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace hb {
namespace {

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

class Cond : public Instruction {
 public:
  Cond(const std::vector<std::shared_ptr<Program>>& children) : children_(children) {
    scratch_bytes = std::max(children[0]->arena_bytes(), children[1]->arena_bytes());
    label = "cond";
  }
  void run(const Call& c) const override {
    const bool taken = *static_cast<const uint8_t*>(c.inputs[0]);
    children_[taken ? 0 : 1]->run_raw(c.inputs + 1, c.outputs, static_cast<char*>(c.scratch));
  }

 private:
  std::vector<std::shared_ptr<Program>> children_;
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
  While(const std::vector<std::shared_ptr<Program>>& children, const Prepare& p)
      : condition_(children[0]),
        body_(children[1]),
        loop_(p.inputs, int(attr_int(*p.attrs, "num_loop"))),
        maximum_(attr_int(*p.attrs, "maximum_iterations")),
        num_inputs_(p.num_inputs) {
    scratch_bytes = loop_.total_bytes() + std::max(condition_->arena_bytes(), body_->arena_bytes());
    label = "while_loop";
  }
  void run(const Call& c) const override {
    char* base = static_cast<char*>(c.scratch);
    char* arena = base + loop_.total_bytes();
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
    for (int i = 0; i < n; ++i) memcpy(c.outputs[i], in[i], loop_.bytes(i));
  }

 private:
  std::shared_ptr<Program> condition_, body_;
  PingPong loop_;
  int64_t maximum_;
  int num_inputs_;
};

class Scan : public Instruction {
 public:
  Scan(const std::vector<std::shared_ptr<Program>>& children, const Prepare& p)
      : body_(children[0]),
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
    scratch_bytes = carry_.total_bytes() + body_->arena_bytes();
    label = "scan";
    single_thread = body_->single_thread();
    seconds = double(length_) * body_->seconds();
  }
  void run(const Call& c) const override {
    char* base = static_cast<char*>(c.scratch);
    char* arena = base + carry_.total_bytes();
    const int n = carry_.count();
    std::vector<const void*> in(c.inputs, c.inputs + num_inputs_);
    std::vector<void*> out(num_outputs_);
    for (int64_t step = 0; step < length_; ++step) {
      const int64_t t = reverse_ ? length_ - 1 - step : step;
      for (int i = 0; i < num_xs_; ++i)
        in[n + i] = static_cast<const char*>(c.inputs[n + i]) + t * x_bytes_[i];
      for (int i = n; i < num_outputs_; ++i)
        out[i] = static_cast<char*>(c.outputs[i]) + t * y_bytes_[i - n];
      const bool last = step == length_ - 1;
      for (int i = 0; i < n; ++i) out[i] = last ? c.outputs[i] : carry_.at(base, int(step & 1), i);
      body_->run_raw(in.data(), out.data(), arena);
      std::copy(out.begin(), out.begin() + n, in.begin());
    }
    if (length_ == 0)
      for (int i = 0; i < n; ++i) memcpy(c.outputs[i], c.inputs[i], carry_.bytes(i));
  }

 private:
  std::shared_ptr<Program> body_;
  PingPong carry_;
  int num_xs_;
  int64_t length_;
  bool reverse_;
  int num_inputs_, num_outputs_;
  std::vector<size_t> x_bytes_, y_bytes_;
};

}  // namespace

std::unique_ptr<Instruction> make_control_flow(
    const std::string& op, const std::vector<std::shared_ptr<Program>>& children, Prepare& p) {
  if (op == "cond") return std::make_unique<Cond>(children);
  if (op == "while_loop") return std::make_unique<While>(children, p);
  if (op == "scan") return std::make_unique<Scan>(children, p);
  return nullptr;
}

}  // namespace hb
