// Programs whose variables are at rest: what is computed from weights alone, and what kernels make
// of them (packed copies), is made once and kept until one of them changes.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/variable.h"

namespace hb {

class Instruction;

// How a program runs with given values of its variables.
struct Rest {
  Rest();
  ~Rest();
  std::vector<uint64_t> versions;  // of the variables that are read
  // [steps]: prepared with those values as constants, or null: as ever
  std::vector<std::unique_ptr<Instruction>> instructions;
  std::vector<bool> done;                        // [steps]: its results are in `places`
  std::vector<std::pair<size_t, void*>> places;  // (operand of the program, kept value)
  std::vector<std::shared_ptr<Buffer>> kept;
};

// Decides when to make it. The second run in a row that finds the same values does; where that did
// not serve long, more runs must find them the next time, so that a program between whose runs
// weights keep changing soon does nothing of it.
class Resting : public Derived {
 public:
  explicit Resting(std::vector<int> reads) : reads_(std::move(reads)) {}

  // What a run with such variables uses, or null. *make: it is to be made, and given to `made`.
  std::shared_ptr<const Rest> find(const VariableLease& variables, bool* make);
  // Null: there is nothing to gain, or no memory; it is not tried again.
  void made(std::shared_ptr<const Rest> rest);
  void drop() noexcept override;
  std::shared_ptr<const Rest> current();
  const std::vector<int>& reads() const { return reads_; }  // variables that matter
  std::vector<uint64_t> versions(const VariableLease& variables) const;

 private:
  bool same(const std::vector<uint64_t>& versions, const VariableLease& variables) const;
  std::shared_ptr<const Rest> lose();

  const std::vector<int> reads_;
  std::mutex mutex_;
  std::vector<uint64_t> seen_;  // by the run before
  int runs_ = 0;                // in a row that saw them
  int needed_ = 2, served_ = 0;
  bool making_ = false, never_ = false;
  std::shared_ptr<const Rest> rest_;
};

}  // namespace hb
