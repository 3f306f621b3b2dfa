// State of models, shared by programs and threads.
//
// A variable's value is a tensor: `value()` hands it out without a copy, and programs write new
// values into its buffer in place where nobody else holds it (copy on write). Every write, when it
// begins and when it ends, gives the variable another version, and drops what was derived from the
// value before. Pointers and counters are guarded by one lock for all variables, which is never
// held while memory is given back (that may wait for the interpreter) or copied.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/tensor.h"

namespace hb {

// Something made of the values of variables.
class Derived {
 public:
  virtual ~Derived() = default;
  virtual void drop() noexcept = 0;  // a value changed: what was made is of no use any more
};

// What kernels made of a constant operand (packed weights); `layout` says who did, and how.
struct Pack {
  std::vector<int64_t> layout;
  std::shared_ptr<Buffer> memory;
};

class Variable {
 public:
  explicit Variable(Tensor value);
  const TensorSpec& spec() const { return spec_; }
  Device& device() const { return device_; }
  Tensor value() const;
  void set(Tensor value);  // stays on its device

  // The pack of this version of the value, if there is one, and a new one.
  std::shared_ptr<const Pack> find_pack(uint64_t version, const std::vector<int64_t>& layout);
  void add_pack(uint64_t version, const std::shared_ptr<const Pack>& pack);

 private:
  friend class VariableLease;
  using Lock = std::unique_lock<std::mutex>;
  // What must not be destroyed while the lock is held.
  struct Old {
    std::vector<Tensor> values;
    std::vector<std::weak_ptr<Derived>> derived;
    ~Old();
  };
  void begin_write(Lock& lock, Old& old);  // the buffer is then written by runs alone
  void changed(Old& old);

  const TensorSpec spec_;
  Device& device_;
  Tensor value_;
  int writers_ = 0;       // runs that hold the buffer and write it
  uint64_t version_ = 1;  // never 0
  std::vector<std::weak_ptr<Derived>> derived_;
  std::vector<std::weak_ptr<const Pack>> packs_;
};

using VariableSlots = std::vector<std::pair<int, std::shared_ptr<Variable>>>;

// What one run of a program holds of its variables: their buffers, so that they are neither given
// back nor overwritten meanwhile (but by runs that began to write before), and the right to write
// to some of them.
class VariableLease {
 public:
  VariableLease(const VariableSlots& variables, const std::vector<bool>& writes);
  ~VariableLease() { release(); }
  VariableLease(const VariableLease&) = delete;
  VariableLease& operator=(const VariableLease&) = delete;

  void* data(size_t i) const { return held_[i].buffer->data(); }
  // Of the value that is held; 0 if it is being written.
  uint64_t version(size_t i) const { return held_[i].version; }
  // Has `derived` dropped when one of the variables `which` changes; false if one did already.
  bool watch(const std::vector<int>& which, const std::shared_ptr<Derived>& derived) const;

 private:
  void release() noexcept;

  const VariableSlots& variables_;
  const std::vector<bool>& writes_;
  struct Held {
    std::shared_ptr<Buffer> buffer;
    uint64_t version;
  };
  std::vector<Held> held_;
};

}  // namespace hb
