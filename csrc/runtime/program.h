// A compiled graph: a flat list of prepared instructions over one planned arena.
//
// Python lowers a graph to a ProgramSpec (slots with concrete shapes, instructions in order). The
// constructor prepares every kernel once, decides where each slot lives (input, constant, variable,
// output, or an offset in the arena; views share their source) and lets updates of variables and
// element-wise results be written in place where no reader is left. A run only fills a pointer
// table and calls the kernels: no allocation but the outputs, no lock but the arena's.
#pragma once
#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/attrs.h"
#include "runtime/packs.h"
#include "runtime/profile.h"
#include "runtime/replays.h"
#include "runtime/rest.h"
#include "runtime/tensor.h"

namespace hb {

class Program;

struct InstructionSpec {
  std::string op;
  std::vector<int> inputs, outputs;  // slots
  Attrs attrs;
  std::vector<std::shared_ptr<Program>> children;  // bodies of control flow
  std::function<void(const Call&)> host;           // op "host": runs in Python
  std::string where;                               // the user's line, for errors
};

struct ProgramSpec {
  std::vector<TensorSpec> slots;
  // Where each slot lives; empty: all on cpu:0. An instruction runs where its first output lives,
  // and all its operands live there: only "copy" goes from one device to another.
  std::vector<Device*> devices;
  std::vector<int> inputs;
  std::vector<std::pair<int, Tensor>> constants;
  VariableSlots variables;
  std::vector<InstructionSpec> instructions;
  std::vector<int> outputs;
  // (variable slot, slot of its new value). The new value is the result of an instruction and is
  // the update of one variable only (Python inserts a copy where that would not hold).
  std::vector<std::pair<int, int>> updates;
  // Writes no variable that is trained: weights may be packed once for many runs (rest.h).
  bool inference = false;
};

// One prepared step of a program.
class Instruction {
 public:
  virtual ~Instruction() = default;
  virtual void run(const Call& call) const = 0;
  size_t scratch_bytes = 0;
  uint32_t inplace = 0;  // as KernelDef::inplace
  // Equal pieces of work on operands of their own (attribute "parts"), side by side: an output may
  // use the buffer of inputs of its own part only.
  int parts = 1;
  bool single_thread = false;  // as Prepare::single_thread
  double seconds = 0;          // about, on one thread
  std::string label;           // op and level, for plans and profiles
  Cost cost;
  std::vector<std::shared_ptr<const Pack>> packs;  // what it made of constants
};

class Program {
 public:
  explicit Program(ProgramSpec spec);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  int num_inputs() const { return int(spec_.inputs.size()); }
  int num_outputs() const { return int(spec_.outputs.size()); }
  const TensorSpec& input_spec(int i) const { return spec_.slots[spec_.inputs[i]]; }
  const TensorSpec& output_spec(int i) const { return spec_.slots[spec_.outputs[i]]; }
  Device& input_device(int i) const { return device_of(spec_.inputs[i]); }
  Device& output_device(int i) const { return device_of(spec_.outputs[i]); }
  // The only device beside those of the processor, or null.
  Device* accelerator() const {
    return device_arenas_.size() == 1 ? device_arenas_[0].device : nullptr;
  }
  // Whether a run copies input i, which is on the host, to the accelerator first.
  bool feeds(int i) const {
    return std::find(feed_of_.begin(), feed_of_.end(), i) != feed_of_.end();
  }
  size_t arena_bytes() const { return arena_bytes_; }
  // Whether a run keeps no second thread busy, and about how long it takes then.
  bool single_thread() const;
  double seconds() const;

  // Checks the inputs, leases an arena, runs.
  std::vector<Tensor> run(const std::vector<Tensor>& inputs);
  // The same on raw memory of the devices of inputs and outputs: outputs are written to the given
  // buffers. `fed`, if not null: memory of the accelerator that holds every input that the program
  // feeds.
  void run_into(const void* const* inputs, void* const* outputs, const void* const* fed = nullptr);
  // The same inside an arena of the host that the caller holds (control flow); without variables.
  void run_raw(const void* const* inputs, void* const* outputs, char* arena) const {
    run_with(inputs, outputs, arena, nullptr, nullptr, nullptr);
  }
  void check_input(int i, const TensorSpec& got) const;

  // The plan in words: one line an instruction, with kernel, slots and where they live.
  std::string describe() const;
  // What is kept for variables at rest (rest.h); programs may share some of it.
  size_t packed_bytes() const;
  bool has_variables() const { return !spec_.variables.empty(); }
  ReplayCounts replay_counts() const;  // of all segments

 private:
  struct Storage {
    enum Kind { kUnset, kInput, kConstant, kVariable, kOutput, kArena } kind = kUnset;
    size_t index = 0;  // which input, constant, …; the offset for kArena
    int arena = 0;     // kArena: 0 is the host's, 1 + i that of device_arenas_[i]
  };
  struct Step {
    std::unique_ptr<Instruction> instruction;
    int first_operand, num_inputs, num_outputs;
    size_t scratch_offset;
    int arena = 0;             // that its scratch lies in
    Device* device = nullptr;  // null: the processor
    int together = 1;          // as Branches::together
  };
  // Operands whose values are known while instructions are prepared.
  struct Constants {
    std::vector<const void*> data;  // [slots], or null
    std::vector<Source> sources;    // [slots]
    std::vector<void*> kept;        // [slots] results of instructions, or null
    void view(int to, int from) { data[to] = data[from], sources[to] = sources[from]; }
  };
  // Where a run finds what storage speaks of. rest: null, or what it does otherwise.
  struct Places {
    const void* const* inputs;
    void* const* outputs;
    char* const* arenas;
    const VariableLease* variables;
    const Rest* rest;
  };
  struct Copy {  // after the last instruction: an output or update that is not written in place
    Storage from, to;
    size_t bytes;
    Device *from_device, *to_device;
  };
  struct DeviceArena {
    Device* device;
    size_t bytes;
  };
  // Steps in a row on one device that need nothing of the host: they are recorded (replays.h).
  struct Segment {
    size_t first, last;           // steps
    std::vector<Storage> moving;  // what they touch that is not at the same place in every run
    std::unique_ptr<Replays> replays;
  };

  Device& device_of(int slot) const {
    return spec_.devices.empty() ? host_device() : *spec_.devices[slot];
  }
  int arena_of(Device& device);
  void run_with(const void* const* inputs, void* const* outputs, char* arena,
                const void* const* fed, const VariableLease* variables, const Rest* rest) const;
  void run_in(const Places& places, const void* const* fed) const;
  void run_feed(size_t i, const void* fed, void** table) const;
  void find_feeds();
  void run_step(size_t i, void** table, const Places& places, void* stream = nullptr) const;
  void run_segment(const Segment& segment, void** table, const Places& places) const;
  void prepare_instructions();
  Constants constants() const;  // of the graph
  std::unique_ptr<Instruction> prepare(const InstructionSpec& in, const Constants& constants) const;
  void move_copies();
  void find_branches();
  void reorder(const std::vector<int>& order);
  bool recordable(size_t step) const;
  bool small_result(int slot) const;
  void find_segments();
  void run_step_profiled(size_t i, void** table, const Places& places) const;
  void plan();
  void find_resting();
  std::shared_ptr<const Rest> rest_of(const VariableLease& variables);
  std::shared_ptr<const Rest> make_rest(const VariableLease& variables);
  void keep_results(size_t step, Constants& constants, Rest& rest) const;
  int root(int slot) const;
  [[noreturn]] void rethrow(const InstructionSpec& in, const char* what) const;
  void* resolve(const Storage& s, const Places& places) const;

  ProgramSpec spec_;
  std::vector<int> view_of_;      // [slots] slot this one is a view of, or -1
  std::vector<Storage> storage_;  // [slots] of roots
  std::vector<Step> steps_;
  std::vector<Storage> operands_;  // of all steps, inputs then outputs
  std::vector<Copy> copies_;
  std::vector<bool> writes_;  // [variables] by the program
  size_t arena_bytes_ = 0;    // pointer table and temporaries
  size_t table_bytes_ = 0;
  std::vector<DeviceArena> device_arenas_;
  std::vector<Segment> segments_;
  std::shared_ptr<Resting> resting_;  // null: there is nothing to pack
  std::vector<int> feed_of_;  // [steps] which input the step copies to the accelerator, or -1
};

}  // namespace hb
