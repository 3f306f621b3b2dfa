// Attributes of a node: named values, read by kernels through the functions of kernel.h.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "core/kernel.h"

namespace hb {

class Attrs {
 public:
  // Booleans are ints. An empty list counts as a list of any type.
  using Value = std::variant<int64_t, double, std::string, std::vector<int64_t>,
                             std::vector<double>, std::vector<std::string>>;

  void set(std::string name, Value value);  // replaces a value of the same name

  struct Entry {
    Value value;
    std::vector<double> floats;  // the numbers of a list of ints, for attr_floats
  };
  const Entry* find(const char* name) const;  // null if there is none
  const Entry& get(const char* name) const;   // throws Error if there is none
  std::string names() const;                  // "axis, keepdims"
  const char* name_at(size_t i) const;        // null: there are not so many

 private:
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace hb
