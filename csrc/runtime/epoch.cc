#include "runtime/epoch.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/error.h"
#include "runtime/staging.h"

namespace hb {
namespace {

// rows[i] = array[index[i]] (array[i] if index is null), in tasks of about 64 KiB.
void gather_rows(char* rows, const char* array, const int64_t* index, int64_t n, size_t row_bytes) {
  const int64_t chunk = std::max<int64_t>(1, int64_t(65536 / std::max<size_t>(row_bytes, 1)));
  parallel_for((n + chunk - 1) / chunk, [&](int64_t task, int) {
    const int64_t first = task * chunk, end = std::min(n, first + chunk);
    if (!index)
      memcpy(rows + first * row_bytes, array + first * row_bytes, (end - first) * row_bytes);
    for (int64_t i = first; index && i < end; ++i)
      memcpy(rows + i * row_bytes, array + index[i] * row_bytes, row_bytes);
  });
}

void check(const Program& program, const Epoch& e, int64_t first, int64_t count) {
  if (int(e.arrays.size()) != program.num_inputs())
    fail("run_batches: expected %d arrays, got %d", program.num_inputs(), int(e.arrays.size()));
  if (first < 0 || (!e.index && (first + count) * e.batch > e.num_samples))
    fail("run_batches: steps up to %lld of %lld samples do not fit in %lld samples",
         (long long)(first + count), (long long)e.batch, (long long)e.num_samples);
  if (e.index)
    for (int64_t i = first * e.batch; i < (first + count) * e.batch; ++i)
      if (e.index[i] < 0 || e.index[i] >= e.num_samples)
        fail("run_batches: index %lld is outside of %lld samples", (long long)e.index[i],
             (long long)e.num_samples);
  for (int i = 0; i < program.num_inputs(); ++i)
    if (!program.input_device(i).is_host()) fail("run_batches: expected input %d on the CPU", i);
}

}  // namespace

class EpochRun::Runner {
 public:
  // Step k is step first + k of the epoch.
  Runner(Program& program, const Epoch& e, int64_t first, int64_t count)
      : program_(program), e_(e), first_(first), count_(count), in_(program.num_inputs()) {
    const int num_outputs = program.num_outputs();
    std::vector<bool> fetched(num_outputs);
    for (int i = 0; i < num_outputs; ++i)
      fetched[i] = rows_of(0, i) && !program.output_device(i).is_host();
    fetches_ = std::find(fetched.begin(), fetched.end(), true) != fetched.end();
    // A single step has nothing to overlap with, and a profile shows copies one by one.
    Device* accelerator = count > 1 && !profiling() ? program.accelerator() : nullptr;
    if (accelerator) try {
        staging_ = std::make_unique<Staging>(program, *accelerator, fetched);
      } catch (const OutOfMemory&) {  // for two batches: step by step then
      }
    for (int i = 0; i < program.num_inputs(); ++i)
      rows_.push_back(e.index && !ahead(i) ? Tensor::allocate(program.input_spec(i)) : Tensor());
    out_.resize(num_outputs);
  }

  std::vector<Tensor> run(int64_t count, const std::function<bool()>& keep_going, int64_t* done) {
    *done = 0;
    if (broken_) fail("run_batches: a step before these has failed");
    if (count < 0 || count > count_ - next_)
      fail("run_batches: %lld steps are wanted, %lld are left", (long long)count,
           (long long)(count_ - next_));
    broken_ = true;
    outputs_.clear();  // those of the steps before belong to the caller
    for (int set = 0; set < (staging_ && fetches_ ? 2 : 1); ++set) {
      outputs_.emplace_back();
      for (int i = 0; i < program_.num_outputs(); ++i)
        outputs_[set].push_back(
            Tensor::allocate(program_.output_spec(i), program_.output_device(i)));
    }
    using Clock = std::chrono::steady_clock;
    auto asked = Clock::now();
    while (*done < count) {
      step(next_, *done > 0);
      ++next_;
      ++*done;
      const auto now = Clock::now();
      if (*done < count && now - asked > std::chrono::milliseconds(50)) {
        asked = now;
        if (!keep_going()) break;
      }
    }
    if (staging_ && *done) receive_results(next_ - 1);
    if (staging_ && next_ == count_) staging_->finish();
    broken_ = false;
    std::vector<Tensor>& outputs =
        outputs_[size_t(std::max<int64_t>(next_ - 1, 0)) % outputs_.size()];
    for (size_t i = 0; i < outputs.size() && *done; ++i)
      if (out_[i] != outputs[i].data()) memcpy(outputs[i].data(), out_[i], outputs[i].bytes());
    return std::move(outputs);
  }

 private:
  // `before`: results of the step before are to be received.
  void step(int64_t k, bool before) {
    if (k == 0) send_ahead(0);
    send_ahead(k + 1);
    for (int i = 0; i < program_.num_inputs(); ++i) {
      const int64_t begin = (first_ + k) * e_.batch;
      if (ahead(i)) {
        in_[i] = staging_->input(k, i);
      } else if (e_.index) {
        bring(static_cast<char*>(rows_[i].data()), i, k);
        in_[i] = rows_[i].data();
      } else {
        in_[i] = e_.arrays[i] + begin * e_.row_bytes[i];
      }
    }
    std::vector<Tensor>& outputs = outputs_[size_t(k) % outputs_.size()];
    for (size_t i = 0; i < outputs.size(); ++i) {
      char* rows = rows_of(k, int(i));
      out_[i] = rows && outputs[i].device().is_host() ? rows : outputs[i].data();
    }
    program_.run_into(in_.data(), out_.data(), staging_ ? staging_->receive(k) : nullptr);
    if (staging_) {
      staging_->ran(k, out_.data());
      if (before) receive_results(k - 1);
      return;
    }
    for (size_t i = 0; i < outputs.size(); ++i)
      if (char* rows = outputs[i].device().is_host() ? nullptr : rows_of(k, int(i)))
        copy_bytes(host_device(), rows, outputs[i].device(), out_[i], outputs[i].bytes());
  }

  bool ahead(int i) const { return staging_ && program_.feeds(i); }
  // Where the caller wants output i of step k, or null.
  char* rows_of(int64_t k, int i) const {
    char* rows = e_.outputs.empty() ? nullptr : e_.outputs[i];
    return rows ? rows + (first_ + k) * num_bytes(program_.output_spec(i)) : nullptr;
  }
  void bring(char* to, int i, int64_t k) const {
    const int64_t begin = (first_ + k) * e_.batch;
    if (e_.index)
      gather_rows(to, e_.arrays[i], e_.index + begin, e_.batch, e_.row_bytes[i]);
    else
      gather_rows(to, e_.arrays[i] + begin * e_.row_bytes[i], nullptr, e_.batch, e_.row_bytes[i]);
  }
  void send_ahead(int64_t k) {
    if (!staging_ || k >= count_) return;
    staging_->make_room(k);
    for (int i = 0; i < program_.num_inputs(); ++i)
      if (char* to = staging_->input(k, i)) bring(to, i, k);
    staging_->send(k);
  }
  void receive_results(int64_t k) {
    if (!fetches_) return;
    staging_->receive_results(k);
    for (int i = 0; i < program_.num_outputs(); ++i)
      if (const char* values = staging_->output(k, i))
        gather_rows(rows_of(k, i), values, nullptr, e_.batch,
                    num_bytes(program_.output_spec(i)) / std::max<int64_t>(e_.batch, 1));
  }

  Program& program_;
  const Epoch& e_;
  int64_t first_, count_, next_ = 0;
  bool fetches_;         // results of the accelerator
  bool broken_ = false;  // by a step that failed
  std::vector<const void*> in_;
  std::vector<void*> out_;
  std::vector<Tensor> rows_;                  // gathered, of the inputs that are not staged
  std::vector<std::vector<Tensor>> outputs_;  // of steps in turn
  std::unique_ptr<Staging> staging_;          // null: every step waits for its copies
};

EpochRun::EpochRun(Program& program, const Epoch& e, int64_t first, int64_t end) {
  check(program, e, first, end - first);
  runner_ = std::make_unique<Runner>(program, e, first, end - first);
}
EpochRun::~EpochRun() = default;
std::vector<Tensor> EpochRun::run(int64_t count, const std::function<bool()>& keep_going,
                                  int64_t* done) {
  return runner_->run(count, keep_going, done);
}

}  // namespace hb
