#include "runtime/program.h"

#include <algorithm>
#include <set>
#include <sstream>

#include "core/allocator.h"
#include "core/cpu_info.h"
#include "core/denormals.h"
#include "core/error.h"
#include "core/registry.h"
#include "runtime/branches.h"
#include "runtime/control_flow.h"
#include "runtime/planner.h"

namespace hb {
namespace {

constexpr double kLeastBranch = 2e-5;  // seconds; less is not worth waking a thread

bool is_view(const InstructionSpec& in) { return in.op == "reshape"; }

class KernelInstruction : public Instruction {
 public:
  KernelInstruction(const KernelDef& def, const char* level, Prepare& p) : def_(def) {
    kernel_ = def.create(p);
    scratch_bytes = p.scratch_bytes;
    inplace = def.inplace;
    if (attr_has(*p.attrs, "parts")) parts = int(attr_int(*p.attrs, "parts"));
    single_thread = p.single_thread;
    label = std::string(def.op) + "/" + level;
  }
  ~KernelInstruction() override { def_.destroy(kernel_); }
  void run(const Call& call) const override { def_.run(kernel_, call); }

 private:
  const KernelDef& def_;
  void* kernel_;
};

class CopyInstruction : public Instruction {
 public:
  CopyInstruction(const Prepare& p, Device& to, Device& from)
      : bytes_(num_bytes(p.outputs[0])), to_(to), from_(from) {
    label = "copy";
    if (&to != &from) label += "[" + from.name() + " to " + to.name() + "]";
  }
  void run(const Call& c) const override {
    if (bytes_ == 0) return;
    if (&to_ == &from_)
      to_.copy_within(c.outputs[0], c.inputs[0], bytes_, c.stream);
    else
      copy_bytes(to_, c.outputs[0], from_, c.inputs[0], bytes_);
  }

 private:
  size_t bytes_;
  Device &to_, &from_;
};

class HostInstruction : public Instruction {
 public:
  explicit HostInstruction(std::function<void(const Call&)> f) : f_(std::move(f)) {
    label = "host";
  }
  void run(const Call& c) const override {
    const DenormalMode mode(false);
    f_(c);
  }

 private:
  std::function<void(const Call&)> f_;
};

std::string functions_of(const Attrs& attrs) {
  std::ostringstream text;
  const int64_t n = attr_strs_size(attrs, "fns");
  for (int64_t i = 0; i < n && i < 8; ++i)
    text << (i ? " " : " [") << attr_strs_at(attrs, "fns", i);
  text << (n > 8 ? " …]" : "]");
  if (attr_has(attrs, "parts")) text << " x " << attr_int(attrs, "parts");
  return text.str();
}

std::unique_ptr<Instruction> make_instruction(const InstructionSpec& in, Prepare& p,
                                              Device& device) {
  if (device.is_host() && in.op == "host") return std::make_unique<HostInstruction>(in.host);
  if (auto control = make_control_flow(in.op, in.children, p, device)) return control;
  int level = 0;
  const KernelDef* def = find_kernel(in.op.c_str(), p, isa_level(), &level, device.kind());
  if (!def)
    fail("no %s kernel for dtype %s", device.is_host() ? "CPU" : "CUDA",
         p.num_inputs ? dtype_name(p.inputs[0].dtype) : dtype_name(p.outputs[0].dtype));
  return std::make_unique<KernelInstruction>(*def, device.is_host() ? isa_name(level) : "cuda", p);
}

}  // namespace

Program::Program(ProgramSpec spec) : spec_(std::move(spec)) {
  prepare_instructions();
  move_copies();
  find_branches();
  plan();
  find_segments();
  find_feeds();
  find_resting();
  ArenaPool::instance().reserve(arena_bytes_);
}

Program::~Program() { ArenaPool::instance().unreserve(arena_bytes_); }

int Program::root(int slot) const {
  while (view_of_[slot] >= 0) slot = view_of_[slot];
  return slot;
}

Program::Constants Program::constants() const {
  const size_t n = spec_.slots.size();
  Constants all{std::vector<const void*>(n), std::vector<Source>(n), std::vector<void*>(n)};
  for (const auto& [slot, tensor] : spec_.constants)
    if (tensor.device().is_host()) all.data[slot] = tensor.data();
  return all;
}

std::unique_ptr<Instruction> Program::prepare(const InstructionSpec& in,
                                              const Constants& constants) const {
  Device& device = in.outputs.empty() ? host_device() : device_of(in.outputs[0]);
  std::vector<TensorSpec> ins, outs;
  std::vector<const void*> data;
  std::vector<Source> sources;
  for (int s : in.inputs) {
    ins.push_back(spec_.slots[s]);
    data.push_back(constants.data[s]);
    sources.push_back(constants.sources[s]);
  }
  for (int s : in.outputs) outs.push_back(spec_.slots[s]);
  Packs packs(std::move(sources));
  Prepare p{ins.data(), int(ins.size()), outs.data(), int(outs.size()), &in.attrs, data.data(), 0};
  p.packs = &packs;
  std::unique_ptr<Instruction> made;
  try {
    if (in.op == "copy") {
      made = std::make_unique<CopyInstruction>(p, device, device_of(in.inputs[0]));
    } else {
      for (const auto* operands : {&in.inputs, &in.outputs})
        for (const int& s : *operands) {
          const bool predicate = in.op == "cond" && &s == in.inputs.data();
          if (&device_of(s) == (predicate ? &host_device() : &device)) continue;
          fail("operands on different devices, %s and %s", device.name().c_str(),
               device_of(s).name().c_str());
        }
      made = make_instruction(in, p, device);
    }
    made->packs = packs.take();
    made->cost = instruction_cost(in.op, p);
    if (made->seconds == 0) made->seconds = made->cost.flops / 5e10 + made->cost.bytes / 2e10;
    if (in.op == "elementwise") made->label += functions_of(in.attrs);
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error& e) {
    rethrow(in, e.what());
  }
  return made;
}

void Program::prepare_instructions() {
  const size_t n = spec_.slots.size();
  view_of_.assign(n, -1);
  if (!spec_.devices.empty() && spec_.devices.size() != n)
    fail("program: expected %zu devices, got %zu", n, spec_.devices.size());
  auto expect_device = [&](int slot, Device& device, const char* what) {
    if (&device_of(slot) != &device)
      fail("program: a slot on %s is to hold a %s on %s", device_of(slot).name().c_str(), what,
           device.name().c_str());
  };
  for (const auto& [slot, tensor] : spec_.constants)
    expect_device(slot, tensor.device(), "constant");
  for (const auto& [slot, variable] : spec_.variables)
    expect_device(slot, variable->device(), "variable");

  Constants constant = constants();
  for (const InstructionSpec& in : spec_.instructions) {
    Step step{nullptr, 0, int(in.inputs.size()), int(in.outputs.size()), 0};
    Device& device = in.outputs.empty() ? host_device() : device_of(in.outputs[0]);
    if (!device.is_host()) {
      step.device = &device;
      step.arena = arena_of(device);
    }
    if (is_view(in)) {
      const int from = in.inputs[0], to = in.outputs[0];
      if (num_bytes(spec_.slots[from]) != num_bytes(spec_.slots[to]))
        fail("reshape: expected %s to hold as many elements as %s",
             to_string(spec_.slots[to]).c_str(), to_string(spec_.slots[from]).c_str());
      view_of_[to] = from;
      constant.view(to, from);
    } else {
      step.instruction = prepare(in, constant);
    }
    steps_.push_back(std::move(step));
  }
}

bool Program::single_thread() const {
  for (size_t i = 0; i < steps_.size(); ++i) {
    const Instruction* in = steps_[i].instruction.get();
    if (spec_.instructions[i].op == "host" || !spec_.instructions[i].children.empty()) return false;
    if (in && !in->single_thread && in->seconds > kLeastBranch) return false;
  }
  return device_arenas_.empty();
}

double Program::seconds() const {
  double total = 0;
  for (const Step& step : steps_)
    if (step.instruction) total += 3e-7 + step.instruction->seconds;
  return total;
}

// Moves instructions that run side by side next to each other.
void Program::find_branches() {
  if (num_threads() == 1) return;
  const size_t n = steps_.size();
  std::vector<int> producer(spec_.slots.size(), -1);
  std::vector<std::vector<int>> needs(n);
  std::vector<bool> single(n);
  bool any = false;
  for (size_t i = 0; i < n; ++i) {
    for (int s : spec_.instructions[i].inputs)
      if (producer[s] >= 0) needs[i].push_back(producer[s]);
    for (int s : spec_.instructions[i].outputs) producer[s] = int(i);
    const Instruction* in = steps_[i].instruction.get();
    single[i] = in && !steps_[i].device && in->single_thread && in->seconds >= kLeastBranch;
    any |= single[i];
  }
  if (!any) return;
  const Branches found = hb::find_branches(needs, single);
  reorder(found.order);
  for (size_t i = 0; i < n; ++i) steps_[i].together = found.together[i];
}

void Program::reorder(const std::vector<int>& order) {
  std::vector<Step> steps;
  std::vector<InstructionSpec> instructions;
  for (int i : order) {
    steps.push_back(std::move(steps_[i]));
    instructions.push_back(std::move(spec_.instructions[i]));
  }
  steps_ = std::move(steps);
  spec_.instructions = std::move(instructions);
}

// Copies between devices that need no instruction go first and those that no instruction needs go
// last: between them lies what a device can do alone.
void Program::move_copies() {
  if (spec_.devices.empty()) return;
  const int n = int(steps_.size());
  std::vector<bool> produced(spec_.slots.size()), read(spec_.slots.size());
  for (const InstructionSpec& in : spec_.instructions) {
    for (int s : in.inputs) read[s] = true;
    if (!is_view(in))
      for (int s : in.outputs) produced[s] = true;
  }
  std::vector<int> order[3];
  for (int i = 0; i < n; ++i) {
    const InstructionSpec& in = spec_.instructions[i];
    int place = 1;
    if (in.op == "copy" && &device_of(in.inputs[0]) != &device_of(in.outputs[0]))
      place = !produced[root(in.inputs[0])] ? 0 : !read[in.outputs[0]] ? 2 : 1;
    order[place].push_back(i);
  }
  for (int place : {1, 2})
    order[0].insert(order[0].end(), order[place].begin(), order[place].end());
  reorder(order[0]);
}

bool Program::recordable(size_t i) const {
  const Step& step = steps_[i];
  if (!step.device || !step.device->can_record() || !recordings_wanted()) return false;
  if (!spec_.instructions[i].children.empty()) return false;  // the host decides how it goes on
  for (int s : spec_.instructions[i].inputs)
    if (&device_of(s) != step.device) return false;
  return true;
}

// Such a result of a program that is recorded is copied to its place afterwards: its address, which
// changes with every run, is then no part of the recording.
bool Program::small_result(int slot) const {
  constexpr size_t kSmall = 256 << 10, kLeastSteps = 4;
  if (device_of(slot).is_host() || num_bytes(spec_.slots[slot]) > kSmall) return false;
  size_t count = 0;
  for (size_t i = 0; i < steps_.size(); ++i) count += steps_[i].instruction && recordable(i);
  return count >= kLeastSteps;
}

void Program::find_segments() {
  constexpr int kLeast = 2;  // instructions; one is started by itself as fast
  for (size_t i = 0; i < steps_.size(); ++i) {
    if (!steps_[i].instruction || !recordable(i)) continue;
    Segment segment{i, i, {}, std::make_unique<Replays>(*steps_[i].device)};
    int count = 0;
    for (size_t k = i; k < steps_.size(); ++k) {
      if (!steps_[k].instruction) continue;
      if (!recordable(k) || steps_[k].device != steps_[i].device) break;
      segment.last = k;
      ++count;
    }
    i = segment.last;
    if (count < kLeast) continue;
    segment.moving.push_back({Storage::kArena, 0, steps_[segment.first].arena});
    std::set<std::pair<int, size_t>> seen;
    for (size_t k = segment.first; k <= segment.last; ++k) {
      if (!steps_[k].instruction) continue;
      const int end = steps_[k].first_operand + steps_[k].num_inputs + steps_[k].num_outputs;
      for (int o = steps_[k].first_operand; o < end; ++o) {
        const Storage& s = operands_[o];
        if (s.kind != Storage::kArena && s.kind != Storage::kConstant &&
            seen.insert({s.kind, s.index}).second)
          segment.moving.push_back(s);
      }
    }
    segments_.push_back(std::move(segment));
  }
}

void Program::find_feeds() {
  feed_of_.assign(steps_.size(), -1);
  for (size_t i = 0; i < steps_.size(); ++i) {
    const InstructionSpec& in = spec_.instructions[i];
    if (in.op != "copy" || !steps_[i].device) continue;
    const Storage& from = storage_[root(in.inputs[0])];
    if (from.kind == Storage::kInput && input_device(int(from.index)).is_host())
      feed_of_[i] = int(from.index);
  }
}

ReplayCounts Program::replay_counts() const {
  ReplayCounts total;
  for (const Segment& segment : segments_) {
    const ReplayCounts c = segment.replays->counts();
    total.direct += c.direct;
    total.recorded += c.recorded;
    total.replayed += c.replayed;
  }
  return total;
}

// Virtual devices of the CPU share the arena of the host.
int Program::arena_of(Device& device) {
  if (device.is_host()) return 0;
  for (size_t i = 0; i < device_arenas_.size(); ++i)
    if (device_arenas_[i].device == &device) return int(i) + 1;
  device_arenas_.push_back({&device, 0});
  return int(device_arenas_.size());
}

void Program::plan() {
  const int n = int(spec_.slots.size()), num_steps = int(steps_.size());
  storage_.assign(n, {});
  std::vector<int> produced(n, -1), last_use(n, -1);  // of roots; -1: before the first step
  for (size_t i = 0; i < spec_.inputs.size(); ++i) storage_[spec_.inputs[i]] = {Storage::kInput, i};
  for (size_t i = 0; i < spec_.constants.size(); ++i)
    storage_[spec_.constants[i].first] = {Storage::kConstant, i};
  for (size_t i = 0; i < spec_.variables.size(); ++i)
    storage_[spec_.variables[i].first] = {Storage::kVariable, i};
  // Steps that run side by side hold what they read and write, and their scratch, all the while;
  // none of them writes in place.
  std::vector<int> begin(num_steps), end(num_steps);
  for (int i = 0; i < num_steps; ++i) {
    const bool leads = steps_[i].together > 0;
    begin[i] = leads ? i : begin[i - 1];
    end[i] = leads ? i + steps_[i].together - 1 : end[i - 1];
    if (begin[i] < end[i]) steps_[i].instruction->inplace = 0;
  }
  for (int i = 0; i < num_steps; ++i) {
    for (int s : spec_.instructions[i].inputs) last_use[root(s)] = end[i];
    if (steps_[i].instruction)
      for (int s : spec_.instructions[i].outputs) {
        produced[s] = begin[i];
        last_use[s] = std::max(last_use[s], end[i]);
      }
  }

  // May step i write output slot `out` over the root of one of its inputs, `in_root`?
  auto may_overwrite = [&](int i, int in_root, int out) {
    const uint32_t mask = steps_[i].instruction->inplace;
    const InstructionSpec& in = spec_.instructions[i];
    if (num_bytes(spec_.slots[in_root]) != num_bytes(spec_.slots[out])) return false;
    if (&device_of(in_root) != &device_of(out)) return false;
    const size_t parts = size_t(steps_[i].instruction->parts);
    const size_t o =
        size_t(std::find(in.outputs.begin(), in.outputs.end(), out) - in.outputs.begin());
    for (size_t k = 0; k < in.inputs.size(); ++k) {
      if (root(in.inputs[k]) != in_root) continue;
      if (k * parts / in.inputs.size() != o * parts / in.outputs.size()) return false;
      const bool ok =
          mask == ~0u ? num_elements(spec_.slots[in.inputs[k]]) == num_elements(spec_.slots[out])
                      : out == in.outputs[0] && k < 32 && (mask >> k & 1);
      if (!ok) return false;
    }
    return true;
  };

  // Outputs that are no results of instructions are copied out after the last one.
  for (int slot : spec_.outputs)
    if (storage_[root(slot)].kind != Storage::kUnset) last_use[root(slot)] = num_steps;
  // Updates: written straight into the variable if nobody reads the old value afterwards.
  writes_.assign(spec_.variables.size(), false);
  for (const auto& [var, slot] : spec_.updates) {
    const int r = root(slot), v = root(var);
    const size_t index = storage_[v].index;
    writes_[index] = true;
    const int p = produced[r];
    if (storage_[r].kind == Storage::kUnset && p >= 0 && &device_of(r) == &device_of(v) &&
        (last_use[v] < p || (last_use[v] == p && may_overwrite(p, v, r))))
      storage_[r] = {Storage::kVariable, index};
    else
      copies_.push_back({{},
                         {Storage::kVariable, index},
                         num_bytes(spec_.slots[var]),
                         &device_of(r),
                         &device_of(v)});
  }
  for (size_t k = 0; k < spec_.outputs.size(); ++k) {
    const int r = root(spec_.outputs[k]);
    if (storage_[r].kind == Storage::kUnset && produced[r] >= 0 && !small_result(r))
      storage_[r] = {Storage::kOutput, k};
    else
      last_use[r] = num_steps;
  }
  // A root that is copied out at the end lives until then.
  for (const auto& [var, slot] : spec_.updates) {
    const int r = root(slot);
    if (storage_[r].kind == Storage::kUnset) last_use[r] = num_steps;
  }

  // Element-wise results take over the memory of an operand that dies there. `home` joins such
  // roots: all of one home share one place.
  std::vector<int> home(n);
  for (int s = 0; s < n; ++s) home[s] = s;
  auto find = [&](int s) {
    while (home[s] != s) s = home[s];
    return s;
  };
  for (int i = 0; i < num_steps; ++i) {
    if (!steps_[i].instruction || !steps_[i].instruction->inplace) continue;
    std::vector<int> taken;
    for (int out : spec_.instructions[i].outputs) {
      if (storage_[out].kind != Storage::kUnset && storage_[out].kind != Storage::kOutput) continue;
      for (int slot : spec_.instructions[i].inputs) {
        const int r = root(slot);
        if (produced[r] < 0 || last_use[r] != i || storage_[r].kind != Storage::kUnset) continue;
        if (find(r) == find(out) || !may_overwrite(i, r, out)) continue;
        const Storage& home_storage = storage_[find(r)];
        if (home_storage.kind != Storage::kUnset) continue;  // lives in an output already
        if (std::find(taken.begin(), taken.end(), r) != taken.end()) continue;
        taken.push_back(r);
        home[find(r)] = out;
        break;
      }
    }
  }

  // Lifetimes of the homes that live in an arena, and of scratch; a list for each arena.
  for (int s = 0; s < n; ++s) arena_of(device_of(s));
  std::vector<std::vector<Lifetime>> lifetimes(1 + device_arenas_.size());
  std::vector<int> lifetime_of(n, -1);
  for (int s = 0; s < n; ++s) {
    if (produced[s] < 0 || storage_[s].kind != Storage::kUnset) continue;
    const int h = find(s);
    if (storage_[h].kind != Storage::kUnset) {
      storage_[s] = storage_[h];
      continue;
    }
    std::vector<Lifetime>& list = lifetimes[arena_of(device_of(s))];
    if (lifetime_of[h] < 0) {
      lifetime_of[h] = int(list.size());
      list.push_back({produced[s], last_use[s], num_bytes(spec_.slots[s])});
    } else {
      Lifetime& t = list[lifetime_of[h]];
      t.first = std::min(t.first, produced[s]);
      t.last = std::max(t.last, last_use[s]);
    }
  }
  std::vector<int> scratch_of(num_steps, -1);
  int num_operands = 0;
  for (int i = 0; i < num_steps; ++i) {
    if (!steps_[i].instruction) continue;
    steps_[i].first_operand = num_operands;
    num_operands += steps_[i].num_inputs + steps_[i].num_outputs;
    if (const size_t bytes = steps_[i].instruction->scratch_bytes) {
      std::vector<Lifetime>& list = lifetimes[steps_[i].arena];
      scratch_of[i] = int(list.size());
      list.push_back({begin[i], end[i], bytes});
    }
  }
  table_bytes_ = (size_t(num_operands) * sizeof(void*) + 63) / 64 * 64;
  arena_bytes_ = table_bytes_ + plan_arena(lifetimes[0]);
  for (size_t i = 0; i < device_arenas_.size(); ++i)
    device_arenas_[i].bytes = plan_arena(lifetimes[1 + i]);

  auto start_of = [&](int arena) { return arena == 0 ? table_bytes_ : size_t(0); };
  for (int s = 0; s < n; ++s)
    if (produced[s] >= 0 && storage_[s].kind == Storage::kUnset) {
      const int arena = arena_of(device_of(s));
      storage_[s] = {Storage::kArena,
                     start_of(arena) + lifetimes[arena][lifetime_of[find(s)]].offset, arena};
    }
  for (int i = 0; i < num_steps; ++i) {
    if (!steps_[i].instruction) continue;
    if (scratch_of[i] >= 0)
      steps_[i].scratch_offset =
          start_of(steps_[i].arena) + lifetimes[steps_[i].arena][scratch_of[i]].offset;
    for (int s : spec_.instructions[i].inputs) operands_.push_back(storage_[root(s)]);
    for (int s : spec_.instructions[i].outputs) operands_.push_back(storage_[root(s)]);
  }
  // Copies of the outputs read variables before the copies of updates overwrite them.
  std::vector<Copy> updates = std::move(copies_);
  copies_.clear();
  for (size_t k = 0; k < spec_.outputs.size(); ++k) {
    const int slot = spec_.outputs[k], r = root(slot);
    const Storage& s = storage_[r];
    if (s.kind != Storage::kOutput || s.index != k)
      copies_.push_back({s,
                         {Storage::kOutput, k},
                         num_bytes(spec_.slots[slot]),
                         &device_of(r),
                         &device_of(slot)});
  }
  size_t next = 0;
  for (const auto& [var, slot] : spec_.updates) {
    const Storage& s = storage_[root(slot)];
    const size_t index = storage_[root(var)].index;
    if (s.kind == Storage::kVariable && s.index == index) continue;
    updates[next].from = s;
    copies_.push_back(updates[next++]);
  }
}

void* Program::resolve(const Storage& s, const Places& places) const {
  switch (s.kind) {
    case Storage::kInput:
      return const_cast<void*>(places.inputs[s.index]);
    case Storage::kConstant:
      return spec_.constants[s.index].second.data();
    case Storage::kVariable:
      return places.variables->data(s.index);
    case Storage::kOutput:
      return places.outputs[s.index];
    default:
      return places.arenas[s.arena] + s.index;
  }
}

void Program::rethrow(const InstructionSpec& in, const char* what) const {
  std::ostringstream text;
  text << in.op << ": " << what << "\n  inputs:";
  for (int s : in.inputs) text << ' ' << to_string(spec_.slots[s]);
  text << "\n  outputs:";
  for (int s : in.outputs) text << ' ' << to_string(spec_.slots[s]);
  if (!in.where.empty()) text << "\n  written at: " << in.where;
  throw Error(text.str());
}

void Program::run_step(size_t i, void** table, const Places& places, void* stream) const {
  const Step& step = steps_[i];
  const Instruction* instruction = step.instruction.get();
  if (places.rest && places.rest->instructions[i]) instruction = places.rest->instructions[i].get();
  if (!instruction || (places.rest && places.rest->done[i])) return;
  void** operands = table + step.first_operand;
  try {
    instruction->run({operands, operands + step.num_inputs,
                      places.arenas[step.arena] + step.scratch_offset,
                      step.device && !stream ? step.device->stream() : stream});
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error& e) {
    rethrow(spec_.instructions[i], e.what());
  }
}

// As the step, from where the input is on the device already.
void Program::run_feed(size_t i, const void* fed, void** table) const {
  const size_t bytes = num_bytes(spec_.slots[spec_.instructions[i].outputs[0]]);
  if (bytes) steps_[i].device->copy_within(table[steps_[i].first_operand + 1], fed, bytes, nullptr);
}

void Program::run_step_profiled(size_t i, void** table, const Places& places) const {
  if (places.rest && places.rest->done[i]) return;
  const int64_t start = profile_clock_ns();
  run_step(i, table, places);
  if (steps_[i].device) steps_[i].device->synchronize();
  if (const Instruction* in = steps_[i].instruction.get())
    record_event({in->label, spec_.instructions[i].where, start, profile_clock_ns(), 0, in->cost});
}

namespace {

// Memory of a device for the time of a run. It may go back while the stream still works in it.
struct Lease {
  Lease(Device& d, size_t n) : device(d), bytes(n), data(n ? d.allocate_temporary(n) : nullptr) {}
  ~Lease() {
    if (data) device.deallocate(data, bytes);
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  Device& device;
  size_t bytes;
  void* data;
};

}  // namespace

void Program::run_with(const void* const* inputs, void* const* outputs, char* arena,
                       const void* const* fed, const VariableLease* variables,
                       const Rest* rest) const {
  if (device_arenas_.empty()) {
    run_in({inputs, outputs, &arena, variables, rest}, fed);
    return;
  }
  std::vector<std::unique_ptr<Lease>> leases;
  std::vector<char*> arenas{arena};
  for (const DeviceArena& a : device_arenas_) {
    leases.push_back(std::make_unique<Lease>(*a.device, a.bytes));
    arenas.push_back(static_cast<char*>(leases.back()->data));
  }
  run_in({inputs, outputs, arenas.data(), variables, rest}, fed);
}

void Program::run_in(const Places& places, const void* const* fed) const {
  void** table = reinterpret_cast<void**>(places.arenas[0]);
  for (size_t i = 0; i < operands_.size(); ++i) table[i] = resolve(operands_[i], places);
  if (places.rest)
    for (const auto& [operand, value] : places.rest->places) table[operand] = value;
  const bool profiled = profiling();
  const auto run = [&](size_t i) {
    if (fed && feed_of_[i] >= 0)
      run_feed(i, fed[feed_of_[i]], table);
    else
      profiled ? run_step_profiled(i, table, places) : run_step(i, table, places);
  };
  size_t next = 0;  // segment
  for (size_t i = 0; i < steps_.size(); i += size_t(steps_[i].together)) {
    if (!profiled && next < segments_.size() && segments_[next].first == i) {
      run_segment(segments_[next], table, places);
      i = segments_[next++].last;
    } else if (steps_[i].together == 1)
      run(i);
    else
      parallel_for(steps_[i].together, [&](int64_t task, int) { run(i + size_t(task)); });
  }
  for (const Copy& c : copies_) {
    const void* from = resolve(c.from, places);
    void* to = resolve(c.to, places);
    if (from != to) copy_bytes(*c.to_device, to, *c.from_device, from, c.bytes);
  }
}

void Program::run_segment(const Segment& segment, void** table, const Places& places) const {
  std::vector<const void*> addresses;
  addresses.reserve(segment.moving.size());
  for (const Storage& s : segment.moving) addresses.push_back(resolve(s, places));
  segment.replays->run(addresses, [&](void* stream) {
    for (size_t i = segment.first; i <= segment.last; ++i) run_step(i, table, places, stream);
  });
}

void Program::check_input(int i, const TensorSpec& got) const {
  if (!same_spec(got, input_spec(i)))
    fail("program: expected input %d to be %s, got %s", i, to_string(input_spec(i)).c_str(),
         to_string(got).c_str());
}

void Program::run_into(const void* const* inputs, void* const* outputs, const void* const* fed) {
  const VariableLease variables(spec_.variables, writes_);
  const DenormalMode mode(true);
  const auto rest = rest_of(variables);
  auto arena = ArenaPool::instance().acquire(arena_bytes_);
  run_with(inputs, outputs, static_cast<char*>(arena.data()), fed, &variables, rest.get());
}

std::vector<Tensor> Program::run(const std::vector<Tensor>& inputs) {
  if (int(inputs.size()) != num_inputs())
    fail("program: expected %d inputs, got %d", num_inputs(), int(inputs.size()));
  std::vector<const void*> in;
  std::vector<void*> out;
  std::vector<Tensor> result;
  for (size_t i = 0; i < inputs.size(); ++i) {
    check_input(int(i), inputs[i].spec);
    if (&inputs[i].device() != &input_device(int(i)))
      fail("program: expected input %d on %s, got one on %s", int(i),
           input_device(int(i)).name().c_str(), inputs[i].device().name().c_str());
    in.push_back(inputs[i].data());
  }
  for (int i = 0; i < num_outputs(); ++i) {
    result.push_back(Tensor::allocate(output_spec(i), output_device(i)));
    out.push_back(result.back().data());
  }
  run_into(in.data(), out.data());
  return result;
}

std::string Program::describe() const {
  std::ostringstream text;
  auto place = [&](const char* before, int slot) {
    static const char* names[] = {"?", "input", "constant", "variable", "output", "arena+"};
    const Storage& s = storage_[root(slot)];
    text << before << '%' << slot << ':' << to_string(spec_.slots[slot]) << '@' << names[s.kind]
         << s.index;
    if (!spec_.devices.empty()) text << " on " << device_of(slot).name();
  };
  text << "arena " << arena_bytes_ << " bytes, ";
  for (const DeviceArena& a : device_arenas_)
    text << "on " << a.device->name() << ' ' << a.bytes << " bytes, ";
  if (const size_t bytes = packed_bytes()) text << "packed weights " << bytes << " bytes, ";
  text << steps_.size() << " instructions\n";
  for (size_t i = 0; i < steps_.size(); ++i) {
    const InstructionSpec& in = spec_.instructions[i];
    text << "  " << i << (steps_[i].together == 1 ? ": " : " side by side: ");
    for (size_t k = 0; k < in.outputs.size(); ++k) place(k ? ", " : "", in.outputs[k]);
    text << " = " << (steps_[i].instruction ? steps_[i].instruction->label : in.op + " (view)");
    text << "(";
    for (size_t k = 0; k < in.inputs.size(); ++k) place(k ? ", " : "", in.inputs[k]);
    text << ")";
    if (steps_[i].instruction && steps_[i].instruction->scratch_bytes)
      text << " scratch " << steps_[i].instruction->scratch_bytes;
    text << "\n";
  }
  for (size_t i = 0; i < copies_.size(); ++i) text << "  copy " << copies_[i].bytes << " bytes\n";
  for (const Segment& segment : segments_) {
    const ReplayCounts c = segment.replays->counts();
    text << "  recording: " << segment.first << " to " << segment.last << " on "
         << steps_[segment.first].device->name() << " (" << c.direct << " run one by one, "
         << c.recorded << " recorded, " << c.replayed << " replayed)";
    if (const std::string why = segment.replays->refused(); !why.empty())
      text << "; cannot be recorded: " << why;
    text << "\n";
  }
  return text.str();
}

}  // namespace hb
