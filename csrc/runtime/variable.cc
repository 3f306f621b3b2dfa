#include "runtime/variable.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "core/error.h"
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace hb {
namespace {

std::mutex& variables_mutex() {
  static std::mutex* const mutex = [] {
    static std::mutex made;
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork([] { made.lock(); }, [] { made.unlock(); }, [] { made.unlock(); });
#endif
    return &made;
  }();
  return *mutex;
}

template <class T>
void add_live(std::vector<std::weak_ptr<T>>& list, const std::shared_ptr<T>& item) {
  std::erase_if(list, [](const auto& other) { return other.expired(); });
  list.push_back(item);
}

}  // namespace

Variable::Old::~Old() {
  for (const auto& weak : derived)
    if (const auto live = weak.lock()) live->drop();
}

Variable::Variable(Tensor value)
    : spec_(value.spec), device_(value.device()), value_(std::move(value)) {}

Tensor Variable::value() const {
  const Lock lock(variables_mutex());
  return value_;
}

void Variable::set(Tensor value) {
  if (!same_spec(value.spec, spec_))
    fail("assign: expected a value of %s, got %s", to_string(spec_).c_str(),
         to_string(value.spec).c_str());
  value = value.to(device_);
  Old old;
  const Lock lock(variables_mutex());
  if (value.buffer != value_.buffer) writers_ = 0;
  std::swap(value_, value);
  old.values.push_back(std::move(value));
  changed(old);
}

void Variable::changed(Old& old) {
  ++version_;
  packs_.clear();
  std::move(derived_.begin(), derived_.end(), std::back_inserter(old.derived));
  derived_.clear();
}

void Variable::begin_write(Lock& lock, Old& old) {
  while (value_.buffer.use_count() > 1 + writers_) {
    old.values.push_back(value_);
    const Tensor read = value_;
    lock.unlock();
    Tensor fresh = Tensor::allocate(spec_, device_);
    copy_bytes(device_, fresh.data(), device_, read.data(), read.bytes());
    lock.lock();
    if (value_.buffer != read.buffer) {
      old.values.push_back(std::move(fresh));
      continue;
    }
    value_ = std::move(fresh);
    writers_ = 0;
    break;
  }
  ++writers_;
  changed(old);
}

std::shared_ptr<const Pack> Variable::find_pack(uint64_t version,
                                                const std::vector<int64_t>& layout) {
  const Lock lock(variables_mutex());
  if (version != version_) return nullptr;
  for (const auto& weak : packs_)
    if (auto pack = weak.lock(); pack && pack->layout == layout) return pack;
  return nullptr;
}

void Variable::add_pack(uint64_t version, const std::shared_ptr<const Pack>& pack) {
  const Lock lock(variables_mutex());
  if (version == version_) add_live(packs_, pack);
}

VariableLease::VariableLease(const VariableSlots& variables, const std::vector<bool>& writes)
    : variables_(variables), writes_(writes) {
  const size_t n = variables.size();
  if (n == 0) return;
  held_.resize(n);
  Variable::Old old;
  try {
    Variable::Lock lock(variables_mutex());
    for (const bool writing : {true, false})
      for (size_t i = 0; i < n; ++i) {
        if (writes[i] != writing) continue;
        Variable& v = *variables[i].second;
        if (writing) v.begin_write(lock, old);
        held_[i] = {v.value_.buffer, v.writers_ ? 0 : v.version_};
      }
  } catch (...) {
    release();
    throw;
  }
}

void VariableLease::release() noexcept {
  if (std::find(writes_.begin(), writes_.end(), true) == writes_.end()) return;
  Variable::Old old;
  const Variable::Lock lock(variables_mutex());
  for (size_t i = 0; i < held_.size(); ++i) {
    if (!writes_[i] || !held_[i].buffer) continue;
    Variable& v = *variables_[i].second;
    if (v.value_.buffer == held_[i].buffer && v.writers_ > 0) --v.writers_;
    v.changed(old);
  }
}

bool VariableLease::watch(const std::vector<int>& which,
                          const std::shared_ptr<Derived>& derived) const {
  const Variable::Lock lock(variables_mutex());
  for (int i : which)
    if (variables_[i].second->version_ != held_[i].version) return false;
  for (int i : which) add_live(variables_[i].second->derived_, derived);
  return true;
}

}  // namespace hb
