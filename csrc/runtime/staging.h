// Batches on their way to an accelerator while it works on the one before, and results on their way
// back while it works on the next.
//
// Two slots are used in turn: step k has slot k mod 2. A slot is pinned host memory, which the
// device copies from and to by itself, and device memory for the inputs; a step copies its inputs
// from there to where its recording reads them. What happens, and what waits for what:
//
//   host            writes the pinned inputs of k + 1     after the copy of k - 1 has read them
//   queue Copy      inputs of k + 1 to the device         after step k - 1 has read that memory
//   queue Compute   step k                                after the copy of its inputs
//   queue Copy      results of step k to pinned memory    after step k
//   host            reads the pinned results of k - 1     after that copy, while step k runs
#pragma once
#include <memory>
#include <vector>

#include "runtime/program.h"

namespace hb {

class Staging {
 public:
  // `fetched[i]`: output i, which is on the device, is wanted on the host. Throws OutOfMemory.
  Staging(Program& program, Device& device, const std::vector<bool>& fetched);
  // Without finish(), after an error: waits until the device has nothing to do.
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Waits until the inputs of step k may be written.
  void make_room(int64_t k) { device_.wait(*slot(k).copied); }
  // Host memory of input i of step k; null: the program does not copy it to the device first.
  char* input(int64_t k, int i) { return at(slot(k).host_inputs, inputs_[i]); }
  void send(int64_t k);
  // As Program::run_into wants it. What the queue Compute gets from now on finds the inputs.
  const void* const* receive(int64_t k);
  // The step was given to the device; its results lie at `outputs` until they were received.
  void ran(int64_t k, void* const* outputs);
  // Waits for the results of step k.
  void receive_results(int64_t k) { device_.wait(*slot(k).fetched); }
  const char* output(int64_t k, int i) { return at(slot(k).host_outputs, outputs_[i]); }
  // After the last step, when all results were received: waits until nothing is copied any more.
  void finish();

 private:
  struct Place {
    size_t offset, bytes;
    bool used = false;
  };
  struct Slot {
    char *host_inputs = nullptr, *device_inputs = nullptr, *host_outputs = nullptr;
    std::unique_ptr<Fence> copied, ran, fetched;
    std::vector<const void*> received;
  };
  static char* at(char* base, const Place& p) { return p.used ? base + p.offset : nullptr; }
  Slot& slot(int64_t k) { return slots_[k & 1]; }
  void release() noexcept;

  Device& device_;
  std::vector<Place> inputs_, outputs_;
  size_t input_bytes_ = 0, output_bytes_ = 0;  // of a slot
  Slot slots_[2];
  bool finished_ = false;
};

}  // namespace hb
