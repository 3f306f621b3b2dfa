#include "runtime/program.h"

#include <algorithm>
#include <cstring>
#include <sstream>

#include "core/allocator.h"
#include "core/cpu_info.h"
#include "core/error.h"
#include "core/registry.h"
#include "runtime/control_flow.h"
#include "runtime/planner.h"

namespace hb {
namespace {

bool is_view(const InstructionSpec& in) { return in.op == "reshape"; }

class KernelInstruction : public Instruction {
 public:
  KernelInstruction(const KernelDef& def, int level, Prepare& p) : def_(def) {
    kernel_ = def.create(p);
    scratch_bytes = p.scratch_bytes;
    inplace = def.inplace;
    label = std::string(def.op) + "/" + isa_name(level);
  }
  ~KernelInstruction() override { def_.destroy(kernel_); }
  void run(const Call& call) const override { def_.run(kernel_, call); }

 private:
  const KernelDef& def_;
  void* kernel_;
};

class CopyInstruction : public Instruction {
 public:
  explicit CopyInstruction(const Prepare& p) : bytes_(num_bytes(p.outputs[0])) { label = "copy"; }
  void run(const Call& c) const override { memcpy(c.outputs[0], c.inputs[0], bytes_); }

 private:
  size_t bytes_;
};

class HostInstruction : public Instruction {
 public:
  explicit HostInstruction(std::function<void(const Call&)> f) : f_(std::move(f)) {
    label = "host";
  }
  void run(const Call& c) const override { f_(c); }

 private:
  std::function<void(const Call&)> f_;
};

std::string functions_of(const Attrs& attrs) {
  std::ostringstream text;
  const int64_t n = attr_strs_size(attrs, "fns");
  for (int64_t i = 0; i < n && i < 8; ++i)
    text << (i ? " " : " [") << attr_strs_at(attrs, "fns", i);
  text << (n > 8 ? " …]" : "]");
  return text.str();
}

std::unique_ptr<Instruction> make_instruction(InstructionSpec& in, Prepare& p) {
  if (in.op == "copy") return std::make_unique<CopyInstruction>(p);
  if (in.op == "host") return std::make_unique<HostInstruction>(in.host);
  if (auto control = make_control_flow(in.op, in.children, p)) return control;
  int level = 0;
  const KernelDef* def = find_kernel(in.op.c_str(), p, isa_level(), &level);
  if (!def)
    fail("no CPU kernel for dtype %s",
         p.num_inputs ? dtype_name(p.inputs[0].dtype) : dtype_name(p.outputs[0].dtype));
  return std::make_unique<KernelInstruction>(*def, level, p);
}

}  // namespace

Program::Program(ProgramSpec spec) : spec_(std::move(spec)) {
  prepare_instructions();
  plan();
  ArenaPool::instance().reserve(arena_bytes_);
}

Program::~Program() { ArenaPool::instance().unreserve(arena_bytes_); }

int Program::root(int slot) const {
  while (view_of_[slot] >= 0) slot = view_of_[slot];
  return slot;
}

void Program::prepare_instructions() {
  const size_t n = spec_.slots.size();
  view_of_.assign(n, -1);
  std::vector<const void*> constant(n, nullptr);
  for (const auto& [slot, tensor] : spec_.constants) constant[slot] = tensor.data();

  for (size_t i = 0; i < spec_.instructions.size(); ++i) {
    InstructionSpec& in = spec_.instructions[i];
    Step step{nullptr, 0, int(in.inputs.size()), int(in.outputs.size()), 0};
    if (is_view(in)) {
      const int from = in.inputs[0], to = in.outputs[0];
      if (num_bytes(spec_.slots[from]) != num_bytes(spec_.slots[to]))
        fail("reshape: expected %s to hold as many elements as %s",
             to_string(spec_.slots[to]).c_str(), to_string(spec_.slots[from]).c_str());
      view_of_[to] = from;
      constant[to] = constant[from];
    } else {
      std::vector<TensorSpec> ins, outs;
      std::vector<const void*> constants;
      for (int s : in.inputs) {
        ins.push_back(spec_.slots[s]);
        constants.push_back(constant[s]);
      }
      for (int s : in.outputs) outs.push_back(spec_.slots[s]);
      Prepare p{
          ins.data(), int(ins.size()), outs.data(), int(outs.size()), &in.attrs, constants.data(),
          0};
      try {
        step.instruction = make_instruction(in, p);
        step.instruction->cost = instruction_cost(in.op, p);
        if (in.op == "elementwise") step.instruction->label += functions_of(in.attrs);
      } catch (const OutOfMemory&) {
        throw;
      } catch (const Error& e) {
        rethrow(int(i), e.what());
      }
    }
    steps_.push_back(std::move(step));
  }
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
  for (int i = 0; i < num_steps; ++i) {
    for (int s : spec_.instructions[i].inputs) last_use[root(s)] = i;
    if (steps_[i].instruction)
      for (int s : spec_.instructions[i].outputs) {
        produced[s] = i;
        last_use[s] = std::max(last_use[s], i);
      }
  }

  // May step i write output slot `out` over the root of one of its inputs, `in_root`?
  auto may_overwrite = [&](int i, int in_root, int out) {
    const uint32_t mask = steps_[i].instruction->inplace;
    const InstructionSpec& in = spec_.instructions[i];
    if (num_bytes(spec_.slots[in_root]) != num_bytes(spec_.slots[out])) return false;
    for (size_t k = 0; k < in.inputs.size(); ++k) {
      if (root(in.inputs[k]) != in_root) continue;
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
  for (const auto& [var, slot] : spec_.updates) {
    const int r = root(slot), v = root(var);
    const size_t index = storage_[v].index;
    updated_variables_.push_back(int(index));
    const int p = produced[r];
    if (storage_[r].kind == Storage::kUnset && p >= 0 &&
        (last_use[v] < p || (last_use[v] == p && may_overwrite(p, v, r))))
      storage_[r] = {Storage::kVariable, index};
    else
      copies_.push_back({{}, {Storage::kVariable, index}, num_bytes(spec_.slots[var])});
  }
  for (size_t k = 0; k < spec_.outputs.size(); ++k) {
    const int r = root(spec_.outputs[k]);
    if (storage_[r].kind == Storage::kUnset && produced[r] >= 0)
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

  // Lifetimes of the homes that live in the arena, and of scratch.
  std::vector<Lifetime> lifetimes;
  std::vector<int> lifetime_of(n, -1);
  for (int s = 0; s < n; ++s) {
    if (produced[s] < 0 || storage_[s].kind != Storage::kUnset) continue;
    const int h = find(s);
    if (storage_[h].kind != Storage::kUnset) {
      storage_[s] = storage_[h];
      continue;
    }
    if (lifetime_of[h] < 0) {
      lifetime_of[h] = int(lifetimes.size());
      lifetimes.push_back({produced[s], last_use[s], num_bytes(spec_.slots[s])});
    } else {
      Lifetime& t = lifetimes[lifetime_of[h]];
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
      scratch_of[i] = int(lifetimes.size());
      lifetimes.push_back({i, i, bytes});
    }
  }
  table_bytes_ = (size_t(num_operands) * sizeof(void*) + 63) / 64 * 64;
  arena_bytes_ = table_bytes_ + plan_arena(lifetimes);

  for (int s = 0; s < n; ++s)
    if (produced[s] >= 0 && storage_[s].kind == Storage::kUnset)
      storage_[s] = {Storage::kArena, table_bytes_ + lifetimes[lifetime_of[find(s)]].offset};
  for (int i = 0; i < num_steps; ++i) {
    if (!steps_[i].instruction) continue;
    if (scratch_of[i] >= 0)
      steps_[i].scratch_offset = table_bytes_ + lifetimes[scratch_of[i]].offset;
    for (int s : spec_.instructions[i].inputs) operands_.push_back(storage_[root(s)]);
    for (int s : spec_.instructions[i].outputs) operands_.push_back(storage_[root(s)]);
  }
  // Copies of the outputs read variables before the copies of updates overwrite them.
  std::vector<Copy> updates = std::move(copies_);
  copies_.clear();
  for (size_t k = 0; k < spec_.outputs.size(); ++k) {
    const Storage& s = storage_[root(spec_.outputs[k])];
    if (s.kind != Storage::kOutput || s.index != k)
      copies_.push_back({s, {Storage::kOutput, k}, num_bytes(spec_.slots[spec_.outputs[k]])});
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

void* Program::resolve(const Storage& s, const void* const* inputs, void* const* outputs,
                       char* arena) const {
  switch (s.kind) {
    case Storage::kInput:
      return const_cast<void*>(inputs[s.index]);
    case Storage::kConstant:
      return spec_.constants[s.index].second.data();
    case Storage::kVariable:
      return spec_.variables[s.index].second->data();
    case Storage::kOutput:
      return outputs[s.index];
    default:
      return arena + s.index;
  }
}

void Program::rethrow(int i, const char* what) const {
  const InstructionSpec& in = spec_.instructions[i];
  std::ostringstream text;
  text << in.op << ": " << what << "\n  inputs:";
  for (int s : in.inputs) text << ' ' << to_string(spec_.slots[s]);
  text << "\n  outputs:";
  for (int s : in.outputs) text << ' ' << to_string(spec_.slots[s]);
  if (!in.where.empty()) text << "\n  written at: " << in.where;
  throw Error(text.str());
}

void Program::run_step(size_t i, void** table, char* arena) const {
  const Step& step = steps_[i];
  if (!step.instruction) return;
  void** operands = table + step.first_operand;
  try {
    step.instruction->run({operands, operands + step.num_inputs, arena + step.scratch_offset});
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error& e) {
    rethrow(int(i), e.what());
  }
}

void Program::run_raw(const void* const* inputs, void* const* outputs, char* arena) const {
  void** table = reinterpret_cast<void**>(arena);
  for (size_t i = 0; i < operands_.size(); ++i)
    table[i] = resolve(operands_[i], inputs, outputs, arena);
  if (profiling()) {
    for (size_t i = 0; i < steps_.size(); ++i) {
      const int64_t start = profile_clock_ns();
      run_step(i, table, arena);
      if (const Instruction* in = steps_[i].instruction.get())
        record_event(
            {in->label, spec_.instructions[i].where, start, profile_clock_ns(), 0, in->cost});
    }
  } else {
    for (size_t i = 0; i < steps_.size(); ++i) run_step(i, table, arena);
  }
  for (const Copy& c : copies_) {
    const void* from = resolve(c.from, inputs, outputs, arena);
    void* to = resolve(c.to, inputs, outputs, arena);
    if (from != to) memcpy(to, from, c.bytes);
  }
}

void Program::check_input(int i, const TensorSpec& got) const {
  if (!same_spec(got, input_spec(i)))
    fail("program: expected input %d to be %s, got %s", i, to_string(input_spec(i)).c_str(),
         to_string(got).c_str());
}

void Program::run_into(const void* const* inputs, void* const* outputs) {
  for (int v : updated_variables_) spec_.variables[v].second->own(true);
  auto arena = ArenaPool::instance().acquire(arena_bytes_);
  run_raw(inputs, outputs, static_cast<char*>(arena.data()));
}

std::vector<Tensor> Program::run(const std::vector<Tensor>& inputs) {
  if (int(inputs.size()) != num_inputs())
    fail("program: expected %d inputs, got %d", num_inputs(), int(inputs.size()));
  std::vector<const void*> in;
  std::vector<void*> out;
  std::vector<Tensor> result;
  for (size_t i = 0; i < inputs.size(); ++i) {
    check_input(int(i), inputs[i].spec);
    in.push_back(inputs[i].data());
  }
  for (int i = 0; i < num_outputs(); ++i) {
    result.push_back(Tensor::allocate(output_spec(i)));
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
  };
  text << "arena " << arena_bytes_ << " bytes, " << steps_.size() << " instructions\n";
  for (size_t i = 0; i < steps_.size(); ++i) {
    const InstructionSpec& in = spec_.instructions[i];
    text << "  " << i << ": ";
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
  return text.str();
}

}  // namespace hb
