#include "runtime/rest.h"

#include <algorithm>
#include <set>

#include "core/allocator.h"
#include "core/denormals.h"
#include "core/error.h"
#include "runtime/program.h"

namespace hb {

Rest::Rest() = default;
Rest::~Rest() = default;

std::vector<uint64_t> Resting::versions(const VariableLease& variables) const {
  std::vector<uint64_t> all;
  for (int i : reads_) all.push_back(variables.version(size_t(i)));
  return all;
}

bool Resting::same(const std::vector<uint64_t>& versions, const VariableLease& variables) const {
  if (versions.empty()) return false;
  for (size_t k = 0; k < reads_.size(); ++k)
    if (!versions[k] || versions[k] != variables.version(size_t(reads_[k]))) return false;
  return true;
}

std::shared_ptr<const Rest> Resting::lose() {
  constexpr int kWorth = 8, kMost = 1024;
  needed_ = served_ < kWorth ? std::min(2 * needed_, kMost) : 2;
  served_ = runs_ = 0;
  return std::move(rest_);
}

std::shared_ptr<const Rest> Resting::find(const VariableLease& variables, bool* make) {
  std::shared_ptr<const Rest> old;  // outlives the lock
  const std::lock_guard lock(mutex_);
  if (never_) return nullptr;
  if (rest_) {
    if (same(rest_->versions, variables)) {
      ++served_;
      return rest_;
    }
    old = lose();
  }
  if (!same(seen_, variables)) {
    seen_ = versions(variables);
    runs_ = 0;
  }
  if (++runs_ >= needed_ && !making_) *make = making_ = true;
  return nullptr;
}

void Resting::made(std::shared_ptr<const Rest> rest) {
  const std::lock_guard lock(mutex_);
  making_ = false;
  never_ = !rest;
  rest_.swap(rest);
}

void Resting::drop() noexcept {
  std::shared_ptr<const Rest> old;
  const std::lock_guard lock(mutex_);
  if (rest_) old = lose();
}

std::shared_ptr<const Rest> Resting::current() {
  const std::lock_guard lock(mutex_);
  return rest_;
}

size_t Program::packed_bytes() const {
  const auto rest = resting_ ? resting_->current() : nullptr;
  if (!rest) return 0;
  size_t total = 0;
  for (const auto& instruction : rest->instructions)
    if (instruction)
      for (const auto& pack : instruction->packs) total += pack->memory->bytes();
  for (const auto& buffer : rest->kept) total += buffer->bytes();
  return total;
}

void Program::find_resting() {
  if (!spec_.inference) return;
  std::vector<int> reads;
  for (size_t i = 0; i < spec_.variables.size(); ++i)
    if (!writes_[i] && spec_.variables[i].second->device().is_host()) reads.push_back(int(i));
  if (!reads.empty()) resting_ = std::make_shared<Resting>(std::move(reads));
}

std::shared_ptr<const Rest> Program::rest_of(const VariableLease& variables) {
  if (!resting_) return nullptr;
  bool make = false;
  std::shared_ptr<const Rest> rest = resting_->find(variables, &make);
  if (!make) return rest;
  try {
    rest = make_rest(variables);
  } catch (const OutOfMemory&) {  // for copies that are not necessary
  } catch (...) {
    resting_->made(nullptr);
    throw;
  }
  resting_->made(rest);
  if (rest && !variables.watch(resting_->reads(), resting_)) resting_->drop();
  return rest;
}

// Null if nothing can be kept.
std::shared_ptr<const Rest> Program::make_rest(const VariableLease& variables) {
  auto rest = std::make_shared<Rest>();
  rest->versions = resting_->versions(variables);
  rest->instructions.resize(steps_.size());
  rest->done.resize(steps_.size());
  Constants constant = constants();
  for (int i : resting_->reads()) {
    const auto& [slot, variable] = spec_.variables[i];
    constant.data[slot] = variables.data(size_t(i));
    constant.sources[slot] = {variable.get(), variables.version(size_t(i)), true};
  }
  std::vector<bool> copied(spec_.slots.size());  // from the arena, after the last step
  for (const auto& [var, slot] : spec_.updates) copied[root(slot)] = true;
  for (int slot : spec_.outputs) copied[root(slot)] = true;

  bool gains = false;
  for (size_t i = 0; i < steps_.size(); ++i) {
    const InstructionSpec& in = spec_.instructions[i];
    if (!steps_[i].instruction) {  // a view
      constant.view(in.outputs[0], in.inputs[0]);
      continue;
    }
    if (steps_[i].device || !in.children.empty() || in.host || in.op == "copy") continue;
    size_t known = 0, of_variables = 0, bytes_in = 0, bytes_out = 0;
    bool stays = !in.inputs.empty();
    for (int s : in.inputs) {
      known += constant.data[s] != nullptr, of_variables += constant.sources[s].changes;
      bytes_in += num_bytes(spec_.slots[s]);
    }
    for (int s : in.outputs) {
      stays = stays && storage_[root(s)].kind == Storage::kArena && !copied[root(s)];
      bytes_out += num_bytes(spec_.slots[s]);
    }
    if (of_variables == 0) continue;
    if (stays && known == in.inputs.size() && bytes_out <= 2 * bytes_in) {
      keep_results(i, constant, *rest);
      gains = true;
      continue;
    }
    std::unique_ptr<Instruction> instruction = prepare(in, constant);
    if (instruction->packs.empty() ||
        instruction->scratch_bytes > steps_[i].instruction->scratch_bytes)
      continue;
    rest->instructions[i] = std::move(instruction);
    gains = true;
  }
  if (!gains) return nullptr;
  std::set<const void*> read;
  for (size_t i = 0; i < steps_.size(); ++i) {
    if (rest->done[i] || !steps_[i].instruction) continue;
    for (int k = 0; k < steps_[i].num_inputs; ++k) {
      const int s = root(spec_.instructions[i].inputs[k]);
      if (!constant.kept[s]) continue;
      rest->places.push_back({size_t(steps_[i].first_operand + k), constant.kept[s]});
      read.insert(constant.kept[s]);
    }
  }
  std::erase_if(rest->kept, [&](const auto& buffer) { return !read.count(buffer->data()); });
  return rest;
}

// Runs step i, whose operands are known, into memory that stays.
void Program::keep_results(size_t i, Constants& constant, Rest& rest) const {
  const InstructionSpec& in = spec_.instructions[i];
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
  for (int s : in.inputs) inputs.push_back(constant.data[s]);
  for (int s : in.outputs) {
    rest.kept.push_back(Buffer::allocate(num_bytes(spec_.slots[s])));
    outputs.push_back(rest.kept.back()->data());
    constant.data[s] = constant.kept[s] = outputs.back();
    constant.sources[s].changes = true;
  }
  const auto scratch = ArenaPool::instance().acquire(steps_[i].instruction->scratch_bytes);
  steps_[i].instruction->run({inputs.data(), outputs.data(), scratch.data(), nullptr});
  rest.done[i] = true;
}

}  // namespace hb
