// Many steps of one program over in-memory arrays, without Python in between.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "runtime/program.h"

namespace hb {

// Arrays with the samples along the first axis, dense. Step k takes the rows
// index[k·batch … (k+1)·batch) of every array (in order, and without a copy, if index is null) as
// the inputs of the program.
struct Epoch {
  std::vector<const char*> arrays;
  std::vector<size_t> row_bytes;
  int64_t num_samples;
  const int64_t* index;  // [≥ (first + count)·batch] or null
  int64_t batch;
  // For each output of the program, where its rows go ([num_samples or more, …]), or null.
  std::vector<char*> outputs;
};

// Steps [first, end) of an epoch, some at a time. An accelerator has its next batch before a step
// is over, whoever looks at the results in between; so the arrays must be there until the last.
class EpochRun {
 public:
  EpochRun(Program& program, const Epoch& epoch, int64_t first, int64_t end);
  ~EpochRun();
  EpochRun(const EpochRun&) = delete;
  EpochRun& operator=(const EpochRun&) = delete;
  // The next `count` steps; returns the outputs of the last one. `keep_going` is asked between
  // steps, at most every 50 ms; when it says no, the run ends early. `done` counts steps.
  std::vector<Tensor> run(int64_t count, const std::function<bool()>& keep_going, int64_t* done);

 private:
  class Runner;
  std::unique_ptr<Runner> runner_;
};

}  // namespace hb
