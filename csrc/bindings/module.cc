// The Python face of the core: Tensor, Variable, Program and what the machine is. Thin on purpose;
// calls in the step are positional and release the interpreter lock while kernels run.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>

#include "core/allocator.h"
#include "core/cpu_info.h"
#include "core/device.h"
#include "core/error.h"
#include "core/plugin.h"
#include "core/precision.h"
#include "core/registry.h"
#include "ops/elementwise.h"
#include "runtime/epoch.h"
#include "runtime/program.h"

namespace py = pybind11;

namespace {

using hb::Attrs;
using hb::DType;
using hb::Program;
using hb::Tensor;
using hb::TensorSpec;
using hb::Variable;

// NumPy's type codes of our dtypes. NumPy has no bfloat16: its bits travel as uint16.
const char* numpy_code(DType t) {
  static const char* codes[] = {"?",  "i1", "i2", "i4", "i8", "u1", "u2",
                                "u4", "u8", "f2", "u2", "f4", "f8"};
  return codes[int(t)];
}

// Made once for each: looking a code up takes NumPy longer than making an array.
const py::dtype& numpy_dtype(DType t) {
  static py::dtype* made[hb::kNumDTypes] = {};
  py::dtype*& d = made[int(t)];
  if (d == nullptr) d = new py::dtype(numpy_code(t));
  return *d;
}
std::vector<py::ssize_t> numpy_shape(const TensorSpec& s) { return {s.shape, s.shape + s.rank}; }

TensorSpec make_spec(const std::string& dtype, const std::vector<int64_t>& shape) {
  if (shape.size() > size_t(hb::kMaxRank))
    hb::fail("tensor: expected at most %d dimensions, got %d", hb::kMaxRank, int(shape.size()));
  TensorSpec spec{hb::dtype_from_name(dtype.c_str()), int(shape.size()), {}};
  int64_t n = int64_t(hb::item_bytes(spec.dtype));
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] < 0)
      hb::fail("tensor: expected sizes of 0 or more, got %lld", (long long)shape[i]);
    if (__builtin_mul_overflow(n, shape[i] ? shape[i] : 1, &n))
      hb::fail("tensor: the shape has more bytes than 64 bits can count");
    spec.shape[i] = shape[i];
  }
  return spec;
}

py::tuple shape_of(const TensorSpec& s) {
  py::tuple shape(s.rank);
  for (int i = 0; i < s.rank; ++i) shape[i] = s.shape[i];
  return shape;
}

// A dense NumPy array as a tensor of `dtype`, sharing memory unless `copy`.
Tensor from_numpy(const py::array& array, const std::string& dtype, bool copy) {
  const std::vector<int64_t> shape(array.shape(), array.shape() + array.ndim());
  const TensorSpec spec = make_spec(dtype, shape);
  if (!(array.flags() & py::array::c_style) ||
      size_t(array.itemsize()) != hb::item_bytes(spec.dtype))
    hb::fail("tensor: expected a C-contiguous array of %s", dtype.c_str());
  const size_t bytes = hb::num_bytes(spec);
  if (copy) {
    Tensor t = Tensor::allocate(spec);
    if (bytes) memcpy(t.data(), array.data(), bytes);
    return t;
  }
  auto* holder = new py::array(array);
  auto release = [holder] {
    py::gil_scoped_acquire gil;
    delete holder;
  };
  return {spec, hb::Buffer::borrow(const_cast<void*>(array.data()), bytes, release)};
}

// NumPy array over the tensor's memory (over a copy of it, from another device than the CPU); it
// keeps the buffer alive.
py::array to_numpy(const Tensor& tensor, bool writable) {
  const Tensor t = tensor.device().is_host() ? tensor : tensor.to(hb::host_device());
  auto* keep = new std::shared_ptr<hb::Buffer>(t.buffer);
  py::capsule owner(keep, [](void* p) { delete static_cast<std::shared_ptr<hb::Buffer>*>(p); });
  py::array a(numpy_dtype(t.spec.dtype), numpy_shape(t.spec), t.data(), owner);
  if (!writable)
    py::detail::array_proxy(a.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  return a;
}

// NumPy array with memory of its own.
py::array to_numpy_copy(const Tensor& tensor) {
  const Tensor t = tensor.device().is_host() ? tensor : tensor.to(hb::host_device());
  py::array a(numpy_dtype(t.spec.dtype), numpy_shape(t.spec));
  if (const size_t bytes = t.bytes()) memcpy(a.mutable_data(), t.data(), bytes);
  return a;
}

Attrs make_attrs(const py::dict& dict) {
  Attrs attrs;
  for (auto [key, value] : dict) {
    const std::string name = py::cast<std::string>(key);
    if (value.is_none()) continue;
    if (py::isinstance<py::bool_>(value) || py::isinstance<py::int_>(value)) {
      attrs.set(name, py::cast<int64_t>(value));
    } else if (py::isinstance<py::float_>(value)) {
      attrs.set(name, py::cast<double>(value));
    } else if (py::isinstance<py::str>(value)) {
      attrs.set(name, py::cast<std::string>(value));
    } else {
      auto items = py::cast<py::sequence>(value);
      bool floats = false, strings = false;
      for (auto item : items) {
        floats |= py::isinstance<py::float_>(item);
        strings |= py::isinstance<py::str>(item);
      }
      if (strings)
        attrs.set(name, py::cast<std::vector<std::string>>(items));
      else if (floats)
        attrs.set(name, py::cast<std::vector<double>>(items));
      else
        attrs.set(name, py::cast<std::vector<int64_t>>(items));
    }
  }
  return attrs;
}

// A Python function as an instruction: NumPy views of the inputs in, arrays copied out.
std::function<void(const hb::Call&)> make_host_call(py::function f, std::vector<TensorSpec> ins,
                                                    std::vector<TensorSpec> outs) {
  auto shared = std::shared_ptr<py::function>(new py::function(std::move(f)), [](py::function* p) {
    py::gil_scoped_acquire gil;
    delete p;
  });
  return [shared, ins, outs](const hb::Call& c) {
    py::gil_scoped_acquire gil;
    py::list args, results;
    auto view = [](const TensorSpec& s, void* data) {
      auto buffer = hb::Buffer::borrow(data, hb::num_bytes(s), [] {});
      return to_numpy({s, buffer}, true);
    };
    for (size_t i = 0; i < ins.size(); ++i)
      args.append(view(ins[i], const_cast<void*>(c.inputs[i])));
    for (size_t i = 0; i < outs.size(); ++i) results.append(view(outs[i], c.outputs[i]));
    (*shared)(args, results);
  };
}

// instructions: (op, input slots, output slots, attributes, child programs, host function or None,
// where)
std::shared_ptr<Program> make_program(
    const std::vector<std::pair<std::string, std::vector<int64_t>>>& slots, std::vector<int> inputs,
    std::vector<std::pair<int, Tensor>> constants,
    std::vector<std::pair<int, std::shared_ptr<Variable>>> variables,
    const std::vector<py::tuple>& instructions, std::vector<int> outputs,
    std::vector<std::pair<int, int>> updates, const std::vector<std::string>& devices,
    bool inference) {
  hb::ProgramSpec spec;
  for (const std::string& name : devices) spec.devices.push_back(&hb::find_device(name));
  for (const auto& [dtype, shape] : slots) spec.slots.push_back(make_spec(dtype, shape));
  spec.inputs = std::move(inputs);
  spec.constants = std::move(constants);
  spec.variables = std::move(variables);
  spec.outputs = std::move(outputs);
  spec.updates = std::move(updates);
  spec.inference = inference;
  auto pick = [&](const std::vector<int>& which) {
    std::vector<TensorSpec> out;
    for (int s : which) out.push_back(spec.slots.at(s));
    return out;
  };
  for (const py::tuple& t : instructions) {
    hb::InstructionSpec in;
    in.op = py::cast<std::string>(t[0]);
    in.inputs = py::cast<std::vector<int>>(t[1]);
    in.outputs = py::cast<std::vector<int>>(t[2]);
    in.attrs = make_attrs(t[3]);
    in.children = py::cast<std::vector<std::shared_ptr<Program>>>(t[4]);
    if (!t[5].is_none()) in.host = make_host_call(t[5], pick(in.inputs), pick(in.outputs));
    in.where = py::cast<std::string>(t[6]);
    spec.instructions.push_back(std::move(in));
  }
  return std::make_shared<Program>(std::move(spec));
}

// Whether a device of this kind has a kernel for the very operands.
bool has_kernel(const std::string& kind, const std::string& op,
                const std::vector<std::pair<std::string, std::vector<int64_t>>>& inputs,
                const std::vector<std::pair<std::string, std::vector<int64_t>>>& outputs,
                const py::dict& attributes) {
  std::vector<TensorSpec> ins, outs;
  for (const auto& [dtype, shape] : inputs) ins.push_back(make_spec(dtype, shape));
  for (const auto& [dtype, shape] : outputs) outs.push_back(make_spec(dtype, shape));
  const std::vector<const void*> constants(ins.size(), nullptr);
  const Attrs attrs = make_attrs(attributes);
  const hb::Prepare p{
      ins.data(), int(ins.size()), outs.data(), int(outs.size()), &attrs, constants.data(), 0};
  const bool cuda = kind == "cuda";
  return hb::find_kernel(op.c_str(), p, cuda ? 0 : hb::isa_level(), nullptr,
                         cuda ? hb::DeviceKind::Cuda : hb::DeviceKind::Cpu) != nullptr;
}

// Steps [first, end) over arrays, some at a time (runtime/epoch.h).
class Batches {
 public:
  Batches(std::shared_ptr<Program> program, std::vector<py::array> arrays,
          std::optional<py::array_t<int64_t, py::array::c_style>> index, int64_t batch,
          int64_t first, int64_t end, std::optional<std::vector<py::array>> outputs)
      : program_(std::move(program)),
        arrays_(std::move(arrays)),
        index_(std::move(index)),
        outputs_(std::move(outputs)) {
    make_epoch(batch, end);
    run_.emplace(*program_, epoch_, first, end);
  }
  std::vector<Tensor> run(int64_t count) {
    int64_t done = 0;
    bool interrupted = false;
    std::vector<Tensor> result;
    {
      py::gil_scoped_release nogil;
      auto keep_going = [&] {
        py::gil_scoped_acquire gil;
        interrupted = PyErr_CheckSignals() != 0;
        return !interrupted;
      };
      result = run_->run(count, keep_going, &done);
    }
    if (interrupted) throw py::error_already_set();
    return result;
  }

 private:
  void make_epoch(int64_t batch, int64_t end) {
    Program& program = *program_;
    const auto& arrays = arrays_;
    const auto& index = index_;
    const auto& outputs = outputs_;
    hb::Epoch& e = epoch_;
    e.num_samples = arrays.empty() ? end * batch : arrays[0].shape(0);
    e.batch = batch;
    e.index = index ? index->data() : nullptr;
    if (index && index->size() < end * batch)
      hb::fail("run_batches: expected an index of %lld rows or more, got %lld",
               (long long)(end * batch), (long long)index->size());
    if (int(arrays.size()) != program.num_inputs())
      hb::fail("run_batches: expected %d arrays, got %d", program.num_inputs(), int(arrays.size()));
    auto check_rows = [&](const py::array& a, const TensorSpec& spec, const char* what, size_t i) {
      bool ok = (a.flags() & py::array::c_style) && a.ndim() == spec.rank && spec.rank > 0 &&
                spec.shape[0] == batch && size_t(a.itemsize()) == hb::item_bytes(spec.dtype);
      for (int d = 1; ok && d < spec.rank; ++d) ok = a.shape(d) == spec.shape[d];
      if (!ok)
        hb::fail("run_batches: %s %d does not hold C-contiguous rows of %s", what, int(i),
                 hb::to_string(spec).c_str());
    };
    for (size_t i = 0; i < arrays.size(); ++i) {
      const TensorSpec& spec = program.input_spec(int(i));
      check_rows(arrays[i], spec, "array", i);
      if (arrays[i].shape(0) != e.num_samples)
        hb::fail("run_batches: array %d has %lld samples, the first has %lld", int(i),
                 (long long)arrays[i].shape(0), (long long)e.num_samples);
      e.arrays.push_back(static_cast<const char*>(arrays[i].data()));
      e.row_bytes.push_back(hb::num_bytes(spec) / std::max<int64_t>(batch, 1));
    }
    if (outputs) {
      if (int(outputs->size()) != program.num_outputs())
        hb::fail("run_batches: expected %d outputs", program.num_outputs());
      for (size_t i = 0; i < outputs->size(); ++i) {
        py::array a = (*outputs)[i];
        check_rows(a, program.output_spec(int(i)), "output", i);
        if (a.shape(0) < end * batch) hb::fail("run_batches: output %d has too few rows", int(i));
        e.outputs.push_back(static_cast<char*>(a.mutable_data()));
      }
    }
  }

  std::shared_ptr<Program> program_;
  std::vector<py::array> arrays_;
  std::optional<py::array_t<int64_t, py::array::c_style>> index_;
  std::optional<std::vector<py::array>> outputs_;
  hb::Epoch epoch_;
  std::optional<hb::EpochRun> run_;
};

// Runs on NumPy arrays without copies.
std::vector<Tensor> run_arrays(Program& program, const std::vector<py::array>& arrays) {
  if (int(arrays.size()) != program.num_inputs())
    hb::fail("program: expected %d inputs, got %d", program.num_inputs(), int(arrays.size()));
  std::vector<const void*> in;
  std::vector<void*> out;
  std::vector<Tensor> results;
  for (size_t i = 0; i < arrays.size(); ++i) {
    const py::array& a = arrays[i];
    TensorSpec got = program.input_spec(int(i));
    bool ok = (a.flags() & py::array::c_style) && a.ndim() == got.rank &&
              size_t(a.itemsize()) == hb::item_bytes(got.dtype);
    for (int d = 0; ok && d < got.rank; ++d) ok = a.shape(d) == got.shape[d];
    if (!ok)
      hb::fail("program: expected input %d to be a C-contiguous array of %s", int(i),
               hb::to_string(got).c_str());
    if (!program.input_device(int(i)).is_host())
      hb::fail("program: expected input %d on %s, got an array", int(i),
               program.input_device(int(i)).name().c_str());
    in.push_back(a.data());
  }
  for (int i = 0; i < program.num_outputs(); ++i) {
    results.push_back(Tensor::allocate(program.output_spec(i), program.output_device(i)));
    out.push_back(results.back().data());
  }
  {
    py::gil_scoped_release nogil;
    program.run_into(in.data(), out.data());
  }
  return results;
}

// As run_arrays; returns NumPy arrays that own their memory.
std::vector<py::array> run_numpy(Program& program, const std::vector<py::array>& arrays) {
  std::vector<py::array> arrays_out;
  for (const Tensor& t : run_arrays(program, arrays)) arrays_out.push_back(to_numpy(t, true));
  return arrays_out;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "hornbeam's compiled core";
  py::register_exception<hb::OutOfMemory>(m, "OutOfMemoryError", PyExc_MemoryError);
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const hb::OutOfMemory& e) {
      py::set_error(PyExc_MemoryError, e.what());
    } catch (const hb::Error& e) {
      py::set_error(PyExc_RuntimeError, e.what());
    }
  });

  py::class_<Tensor>(m, "Tensor")
      .def_static("from_numpy", &from_numpy, py::arg("array"), py::arg("dtype"), py::arg("copy"))
      .def_static(
          "zeros",
          [](const std::string& dtype, const std::vector<int64_t>& shape) {
            return Tensor::zeros(make_spec(dtype, shape));
          },
          py::arg("dtype"), py::arg("shape"))
      .def_property_readonly("shape", [](const Tensor& t) { return shape_of(t.spec); })
      .def_property_readonly("dtype", [](const Tensor& t) { return hb::dtype_name(t.spec.dtype); })
      .def_property_readonly("nbytes", &Tensor::bytes)
      .def_property_readonly("device", [](const Tensor& t) { return t.device().name(); })
      .def(
          "to",
          [](const Tensor& t, const std::string& device) { return t.to(hb::find_device(device)); },
          py::call_guard<py::gil_scoped_release>())
      .def("copy", &to_numpy_copy, "The values as a NumPy array of its own.")
      .def("array", &to_numpy, py::arg("writable") = false,
           "The values as a NumPy array without a copy (bfloat16: its bits as uint16).");

  py::class_<Variable, std::shared_ptr<Variable>>(m, "Variable")
      .def(py::init<Tensor>())
      .def("value", &Variable::value)
      .def("set", &Variable::set)
      .def_property_readonly("device", [](const Variable& v) { return v.device().name(); })
      .def_property_readonly("shape", [](const Variable& v) { return shape_of(v.spec()); })
      .def_property_readonly("dtype",
                             [](const Variable& v) { return hb::dtype_name(v.spec().dtype); });

  py::class_<Program, std::shared_ptr<Program>>(m, "Program")
      .def(py::init(&make_program), py::arg("slots"), py::arg("inputs"), py::arg("constants"),
           py::arg("variables"), py::arg("instructions"), py::arg("outputs"), py::arg("updates"),
           py::arg("devices") = std::vector<std::string>(), py::arg("inference") = false)
      .def(
          "run", [](Program& p, const std::vector<Tensor>& inputs) { return p.run(inputs); },
          py::call_guard<py::gil_scoped_release>())
      .def("run_arrays", &run_arrays)
      .def("run_numpy", &run_numpy)
      .def_property_readonly("arena_bytes", &Program::arena_bytes)
      .def_property_readonly("packed_bytes", &Program::packed_bytes)
      .def("describe", &Program::describe)
      .def_property_readonly("replay_counts", [](const Program& p) {
        const hb::ReplayCounts c = p.replay_counts();
        return py::make_tuple(c.direct, c.recorded, c.replayed);
      });

  py::class_<Batches>(m, "Batches")
      .def(py::init<std::shared_ptr<Program>, std::vector<py::array>,
                    std::optional<py::array_t<int64_t, py::array::c_style>>, int64_t, int64_t,
                    int64_t, std::optional<std::vector<py::array>>>())
      .def("run", &Batches::run);

  m.def("kernels", [] {
    py::list out;
    for (const hb::KernelInfo& k : hb::list_kernels()) {
      py::list dtypes;
      for (int d = 0; d < hb::kNumDTypes; ++d)
        if (k.dtypes >> d & 1) dtypes.append(hb::dtype_name(DType(d)));
      const bool cpu = k.kind == hb::DeviceKind::Cpu;
      out.append(py::make_tuple(k.op, dtypes, cpu ? hb::isa_name(k.level) : "cuda"));
    }
    return out;
  });
  m.def("has_kernel", &has_kernel);
  m.def("overwritten_operands",
        [] {  // op -> bits, as KernelDef::inplace, common to its CPU kernels
          std::map<std::string, uint32_t> masks;
          for (const hb::KernelInfo& k : hb::list_kernels())
            if (k.kind == hb::DeviceKind::Cpu)
              masks.try_emplace(k.op, ~0u).first->second &= k.inplace;
          return masks;
        });
  m.def("load_plugin", &hb::load_plugin);
  m.def("devices", [] {
    std::vector<std::string> names;
    for (int i = 0; i < hb::num_cpu_devices(); ++i) names.push_back("cpu:" + std::to_string(i));
    for (int i = 0; i < hb::num_cuda_devices(); ++i) names.push_back("cuda:" + std::to_string(i));
    return names;
  });
  m.def("set_num_cpu_devices", &hb::set_num_cpu_devices);
  m.def("device_description",
        [](const std::string& name) { return hb::find_device(name).description(); });
  m.def(
      "synchronize", [](const std::string& name) { hb::find_device(name).synchronize(); },
      py::call_guard<py::gil_scoped_release>());
  m.def("release_cached", [](const std::string& name) { hb::find_device(name).release_cached(); });
  m.def("memory_stats", [](const std::string& name) {
    const hb::MemoryStats s = hb::find_device(name).memory_stats();
    return py::dict(py::arg("current") = s.current, py::arg("peak") = s.peak,
                    py::arg("reserved") = s.reserved, py::arg("free") = s.free,
                    py::arg("largest") = s.largest,
                    py::arg("limit") = s.limit == SIZE_MAX ? py::none() : py::cast(s.limit));
  });
  m.def("set_device_memory_limit", [](const std::string& name, std::optional<size_t> bytes) {
    hb::find_device(name).set_memory_limit(bytes.value_or(SIZE_MAX));
  });
  m.def("elementwise_functions", [] {
    const hb::ElementwiseFunctionName* names;
    const int count = hb::elementwise_function_names(&names);
    py::list out;
    for (int i = 0; i < count; ++i) out.append(py::make_tuple(names[i].name, names[i].dtype));
    return out;
  });
  m.def("start_profile", &hb::start_profile);
  m.def("stop_profile", [] {
    py::list out;  // (name, user's line, start ns, end ns, thread, flops, bytes)
    for (const hb::ProfileEvent& e : hb::stop_profile())
      out.append(py::make_tuple(e.name, e.where, e.start_ns, e.end_ns, e.thread, e.cost.flops,
                                e.cost.bytes));
    return out;
  });
  m.def("num_threads", &hb::num_threads);
  m.def("set_matmul_precision", [](int level) {
    if (level < 0 || level > 2) hb::fail("set_matmul_precision: expected 0 to 2, got %d", level);
    hb::set_matmul_precision(static_cast<hb::Precision>(level));
  });
  m.def("matmul_precision", [] { return static_cast<int>(hb::matmul_precision()); });
  m.def("isa_level", [] { return hb::isa_name(hb::isa_level()); });
  m.def("machine_isa_level", [] { return hb::isa_name(hb::machine_isa_level()); });
  m.def("memory_in_use", &hb::memory_in_use);
  m.def("memory_peak", &hb::memory_peak);
  m.def("reset_memory_peak", &hb::reset_memory_peak);
  m.def("memory_limit", &hb::memory_limit);
  m.def("set_memory_limit", &hb::set_memory_limit);
  m.def("arena_free_bytes", [] { return hb::ArenaPool::instance().free_bytes(); });
  m.def("trim_memory", [] {
    hb::ArenaPool::instance().trim();
    hb::release_cached_blocks();
  });
}
