#include "runtime/profile.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>

namespace hb {
namespace {

std::atomic<bool> on{false};
std::mutex mutex;
std::vector<ProfileEvent> events;

int thread_number() {
  static std::atomic<int> next{0};
  thread_local const int mine = next++;
  return mine;
}

}  // namespace

Cost instruction_cost(const std::string& op, const Prepare& p) {
  Cost c;
  for (int i = 0; i < p.num_inputs; ++i)
    c.bytes += double(num_elements(p.inputs[i])) * item_bytes(p.inputs[i].dtype);
  for (int i = 0; i < p.num_outputs; ++i)
    c.bytes += double(num_elements(p.outputs[i])) * item_bytes(p.outputs[i].dtype);
  const double out = p.num_outputs ? double(num_elements(p.outputs[0])) : 0;
  if (op == "matmul") {
    const TensorSpec& a = p.inputs[0];
    const bool transposed = attr_has(*p.attrs, "transpose_a") && attr_int(*p.attrs, "transpose_a");
    c.flops = 2 * out * double(a.shape[a.rank - (transposed ? 2 : 1)]);
  } else if (op == "conv") {  // out[.., o] sums over a kernel of everything but o
    const TensorSpec& w = p.inputs[1];
    c.flops = 2 * out * double(num_elements(w)) / double(w.shape[w.rank - 1]);
  } else if (op == "conv_grad_input") {
    const TensorSpec& w = p.inputs[1];
    c.flops = 2 * double(num_elements(p.inputs[0])) * double(num_elements(w)) /
              double(w.shape[w.rank - 1]);
  } else if (op == "conv_grad_filter") {
    const TensorSpec& w = p.outputs[0];
    c.flops = 2 * double(num_elements(p.inputs[1])) * double(num_elements(w)) /
              double(w.shape[w.rank - 1]);
  } else if (op.rfind("lstm_sequence", 0) == 0 || op.rfind("gru_sequence", 0) == 0 ||
             op.rfind("gru_before_sequence", 0) == 0 || op.rfind("simple_sequence", 0) == 0) {
    // (steps, batch) rows times a matrix
    const bool grad = op.ends_with("_grad");
    const int at = op == "simple_sequence_grad" ? 1 : grad || op == "lstm_sequence" ? 3 : 2;
    const TensorSpec &rows = p.outputs[0], &w = p.inputs[at];
    c.flops = 2 * double(rows.shape[0]) * double(rows.shape[1]) * double(num_elements(w));
  } else if (op == "attention" || op == "attention_grad") {  // of all scores, masked or not
    const TensorSpec &q = p.inputs[0], &v = p.inputs[2];
    const double scores = double(num_elements(q)) / double(q.shape[3]) * double(v.shape[1]);
    const double h = double(q.shape[3]), e = double(v.shape[3]);
    c.flops = 2 * scores * (op == "attention" ? h + e : 3 * h + 2 * e);
  } else if (op == "elementwise") {
    c.flops = out * double(attr_strs_size(*p.attrs, "fns"));
  } else if (op.rfind("reduce_", 0) == 0 && p.num_inputs) {
    c.flops = double(num_elements(p.inputs[0]));
  }
  return c;
}

bool profiling() { return on.load(std::memory_order_relaxed); }

void start_profile() {
  std::lock_guard lock(mutex);
  events.clear();
  on = true;
}

std::vector<ProfileEvent> stop_profile() {
  on = false;
  std::lock_guard lock(mutex);
  return std::move(events);
}

int64_t profile_clock_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void record_event(ProfileEvent event) {
  event.thread = thread_number();
  std::lock_guard lock(mutex);
  if (on) events.push_back(std::move(event));
}

}  // namespace hb
