#include "check.h"
#include "core/attrs.h"

using namespace hb;

namespace {
Attrs sample() {
  Attrs a;
  a.set("axis", int64_t(-1));
  a.set("rate", 0.5);
  a.set("mode", std::string("same"));
  a.set("sizes", std::vector<int64_t>{2, 3});
  a.set("scales", std::vector<double>{0.25, 4});
  a.set("names", std::vector<std::string>{"a", "bc"});
  a.set("nothing", std::vector<int64_t>{});
  a.set("no_floats", std::vector<double>{});
  a.set("no_names", std::vector<std::string>{});
  return a;
}
}  // namespace

TEST(attrs_read) {
  const Attrs a = sample();
  CHECK(attr_has(a, "axis") && !attr_has(a, "axes"));
  CHECK(attr_int(a, "axis") == -1);
  CHECK(attr_float(a, "rate") == 0.5 && attr_float(a, "axis") == -1.0);
  CHECK(std::string(attr_str(a, "mode")) == "same");
  CHECK(attr_ints(a, "sizes").size == 2 && attr_ints(a, "sizes").data[1] == 3);
  CHECK(attr_floats(a, "scales").size == 2 && attr_floats(a, "scales").data[0] == 0.25);
  CHECK(attr_floats(a, "sizes").size == 2 && attr_floats(a, "sizes").data[1] == 3.0);
  CHECK(attr_strs_size(a, "names") == 2 && std::string(attr_strs_at(a, "names", 1)) == "bc");
  for (const char* name : {"nothing", "no_floats", "no_names"}) {
    CHECK(attr_ints(a, name).size == 0);
    CHECK(attr_floats(a, name).size == 0);
    CHECK(attr_strs_size(a, name) == 0);
  }
}

TEST(attrs_errors) {
  const Attrs a = sample();
  CHECK_THROWS(Error, "attribute 'axes' is missing; given are: axis, mode", attr_int(a, "axes"));
  CHECK_THROWS(Error, "given are: none", attr_int(Attrs(), "axis"));
  CHECK_THROWS(Error, "attribute 'rate' has the wrong type; expected an int, got a float",
               attr_int(a, "rate"));
  CHECK_THROWS(Error, "expected a float, got a string", attr_float(a, "mode"));
  CHECK_THROWS(Error, "expected a string, got an int", attr_str(a, "axis"));
  CHECK_THROWS(Error, "expected a list of ints, got a list of floats", attr_ints(a, "scales"));
  CHECK_THROWS(Error, "expected a list of ints, got an int", attr_ints(a, "axis"));
  CHECK_THROWS(Error, "expected a list of floats, got a list of strings", attr_floats(a, "names"));
  CHECK_THROWS(Error, "expected a list of strings, got a list of ints", attr_strs_size(a, "sizes"));
  CHECK_THROWS(Error, "index 2 is out of range", attr_strs_at(a, "names", 2));
  CHECK_THROWS(Error, "index 0 is out of range", attr_strs_at(a, "nothing", 0));
}

TEST(attrs_set_replaces) {
  Attrs a = sample();
  a.set("sizes", std::vector<int64_t>{7});
  CHECK(attr_ints(a, "sizes").size == 1 && attr_floats(a, "sizes").data[0] == 7.0);
  a.set("sizes", 1.5);
  CHECK(attr_float(a, "sizes") == 1.5);
}

TEST(dtype_names) {
  for (int i = 0; i < kNumDTypes; ++i) {
    const auto t = static_cast<DType>(i);
    CHECK(dtype_from_name(dtype_name(t)) == t);
  }
  CHECK(std::string(dtype_name(DType::BF16)) == "bfloat16");
  CHECK(std::string(dtype_name(DType::Bool)) == "bool");
  CHECK(dtype_from_name("uint16") == DType::U16 && item_bytes(DType::U16) == 2);
  CHECK_THROWS(Error, "float64, got 'float31'", dtype_from_name("float31"));
}

TEST(fail_formats) {
  const std::string lengthy(5000, 'x');
  CHECK_THROWS(Error, "3 of " + lengthy, fail("%d of %s", 3, lengthy.c_str()));
}
