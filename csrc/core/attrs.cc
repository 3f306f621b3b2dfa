#include "core/attrs.h"

#include <utility>

#include "core/error.h"

namespace hb {
namespace {

using Ints = std::vector<int64_t>;
using Floats = std::vector<double>;
using Strings = std::vector<std::string>;

constexpr const char* kTypeNames[] = {"an int",         "a float",          "a string",
                                      "a list of ints", "a list of floats", "a list of strings"};
static_assert(std::size(kTypeNames) == std::variant_size_v<Attrs::Value>);

[[noreturn]] void wrong_type(const char* name, const Attrs::Value& value, const char* expected) {
  fail("attribute '%s' has the wrong type; expected %s, got %s", name, expected,
       kTypeNames[value.index()]);
}

bool is_empty_list(const Attrs::Value& value) {
  const auto empty = [](const auto* list) { return list && list->empty(); };
  return empty(std::get_if<Ints>(&value)) || empty(std::get_if<Floats>(&value)) ||
         empty(std::get_if<Strings>(&value));
}

// The strings of an attribute; null if it is an empty list of another type.
const Strings* strings_of(const Attrs& attrs, const char* name) {
  const Attrs::Value& value = attrs.get(name).value;
  if (const auto* list = std::get_if<Strings>(&value)) return list;
  if (!is_empty_list(value)) wrong_type(name, value, "a list of strings");
  return nullptr;
}

}  // namespace

void Attrs::set(std::string name, Value value) {
  Entry entry{std::move(value), {}};
  if (const auto* ints = std::get_if<Ints>(&entry.value)) {
    entry.floats.assign(ints->begin(), ints->end());
  }
  entries_.insert_or_assign(std::move(name), std::move(entry));
}

const Attrs::Entry* Attrs::find(const char* name) const {
  const auto entry = entries_.find(name);
  return entry == entries_.end() ? nullptr : &entry->second;
}

const Attrs::Entry& Attrs::get(const char* name) const {
  if (const Entry* entry = find(name)) return *entry;
  fail("attribute '%s' is missing; given are: %s", name,
       entries_.empty() ? "none" : names().c_str());
}

const char* Attrs::name_at(size_t i) const {
  for (const auto& [name, entry] : entries_)
    if (i-- == 0) return name.c_str();
  return nullptr;
}

std::string Attrs::names() const {
  std::string text;
  for (const auto& entry : entries_) text += (text.empty() ? "" : ", ") + entry.first;
  return text;
}

bool attr_has(const Attrs& attrs, const char* name) { return attrs.find(name) != nullptr; }

int64_t attr_int(const Attrs& attrs, const char* name) {
  const Attrs::Value& value = attrs.get(name).value;
  if (const auto* number = std::get_if<int64_t>(&value)) return *number;
  wrong_type(name, value, "an int");
}

double attr_float(const Attrs& attrs, const char* name) {
  const Attrs::Value& value = attrs.get(name).value;
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* number = std::get_if<int64_t>(&value)) return double(*number);
  wrong_type(name, value, "a float");
}

const char* attr_str(const Attrs& attrs, const char* name) {
  const Attrs::Value& value = attrs.get(name).value;
  if (const auto* text = std::get_if<std::string>(&value)) return text->c_str();
  wrong_type(name, value, "a string");
}

IntList attr_ints(const Attrs& attrs, const char* name) {
  const Attrs::Value& value = attrs.get(name).value;
  if (const auto* list = std::get_if<Ints>(&value)) return {list->data(), int64_t(list->size())};
  if (!is_empty_list(value)) wrong_type(name, value, "a list of ints");
  return {nullptr, 0};
}

FloatList attr_floats(const Attrs& attrs, const char* name) {
  const Attrs::Entry& entry = attrs.get(name);
  const auto* list = std::get_if<Floats>(&entry.value);
  if (!list && std::holds_alternative<Ints>(entry.value)) list = &entry.floats;
  if (list) return {list->data(), int64_t(list->size())};
  if (!is_empty_list(entry.value)) wrong_type(name, entry.value, "a list of floats");
  return {nullptr, 0};
}

int64_t attr_strs_size(const Attrs& attrs, const char* name) {
  const Strings* list = strings_of(attrs, name);
  return list ? int64_t(list->size()) : 0;
}

const char* attr_strs_at(const Attrs& attrs, const char* name, int64_t i) {
  const Strings* list = strings_of(attrs, name);
  const int64_t size = list ? int64_t(list->size()) : 0;
  if (i < 0 || i >= size) {
    fail("attribute '%s' has %lld strings, index %lld is out of range", name,
         static_cast<long long>(size), static_cast<long long>(i));
  }
  return (*list)[size_t(i)].c_str();
}

}  // namespace hb
