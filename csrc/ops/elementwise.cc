// The tile engine: one node runs a cluster of element-wise instructions in one pass over memory.
//
// The output is walked in tiles of a few hundred elements. A tile's operands are pointers: straight
// into an input where it is dense and stored as it is computed, into a small expanded copy where it
// is a scalar or repeats a short period, otherwise into a slot of scratch that is filled by
// converting or by gathering rows. Each instruction is one call of a function over the tile; its
// result stays in a slot, so in L1, or goes straight into the output. Elements are independent: the
// split into tasks changes no result.
//
// An input may be a sum of rows (attribute `sparse`: an input of rows, their segments in ascending
// order, which rows these are): the gradient of an embedding table. A tile of it is zeros to which
// the rows that belong there are added. With the attribute `lazy` (of each output, the input that
// it keeps elsewhere) only rows with a sum that is not zero are computed at all.
//
// An output may lie in the buffer of an input of the same shape. A result is written there at once
// only if no later instruction of the tile reads that input; else it waits in its slot. So does one
// that is larger than the caches, to be stored past them.
#include "ops/elementwise.h"

#include "ops/segments.h"
#include "simd/stream.h"

namespace hb::HB_ISA {

void ElementwiseTable::add(const ElementwiseFn& fn) {
  if (size == int(sizeof fns / sizeof fns[0])) fail("table of functions is full");
  fns[size++] = fn;
}
const ElementwiseFn* ElementwiseTable::find(const char* name, Compute type) const {
  for (int i = 0; i < size; ++i)
    if (fns[i].type == type && __builtin_strcmp(fns[i].name, name) == 0) return &fns[i];
  return nullptr;
}
const ElementwiseTable& elementwise_table() {
  static const ElementwiseTable table = [] {
    ElementwiseTable t;
    add_float_functions(t);
    add_integer_functions(t);
    add_special_functions(t);
    return t;
  }();
  return table;
}

namespace {

constexpr const char* kComputeNames[] = {"bool", "int32", "int64", "uint64", "float32", "float64"};
constexpr int64_t kLongPeriod = 4096;     // elements; longer periods are read in place, by rows
constexpr int64_t kTileBytes = 24 << 10;  // of all slots and operands together
constexpr int64_t kRowsOfTask = 256, kAhead = 8;  // lazy: rows of a task, of a prefetch
constexpr int64_t kTaskCost = 1 << 17;            // additions that pay for handing work to a thread

template <class T>
class Array {
 public:
  explicit Array(int64_t size) : data_(new T[size_t(size > 0 ? size : 1)]()) {}
  ~Array() { delete[] data_; }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
  T* data_;
};

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

DType dtype_named(const char* name) {
  for (int i = 0; i < kNumDTypes; ++i)
    if (__builtin_strcmp(dtype_name(DType(i)), name) == 0) return DType(i);
  fail("unknown dtype %s", name);
}

enum class Access : uint8_t { Dense, Periodic, Rows, Sparse, Unread };

struct Input {
  Access access;
  TileFn load;  // stored -> computed, or null
  int item_bytes, compute_bytes;
  int64_t period;          // Periodic: elements of the input
  size_t expanded_offset;  // Periodic: where in scratch its copies are, `expanded` elements
  int64_t expanded;
  int rank;  // Rows: dimensions after merging; the last one has stride 0 or 1
  int64_t size[kMaxRank], stride[kMaxRank];
  int keys, order;      // Sparse: inputs with the segments and the rows
  int64_t rows, inner;  // Sparse: how many, of how many elements
  int slot, raw_slot;   // converted and gathered elements; -1: none
  int last_read;        // the last step that reads the input's own buffer
};

struct Step {
  TileFn fn;                            // null: `fused`, or else load the input value
  TileFn narrow;                        // applied to the result, or null
  const FusedFn* fused;                 // several instructions as one, or null
  int num_values, values[kMaxResults];  // ids of what the step makes: inputs or num_inputs + k
  int num_operands;
  int operands[kMaxOperands];
  int mask[kMaxOperands];  // fused: 0 for a scalar, which stays where it is; else -1

  bool loads() const { return fn == nullptr && fused == nullptr; }
  bool makes(int value) const {
    for (int i = 0; i < num_values; ++i)
      if (values[i] == value) return true;
    return false;
  }
};

// How a result gets into its output: the instruction writes it there, or it is copied.
enum class Way : uint8_t { Direct, Copy, Stream };

struct Output {
  int value, step;
  TileFn store;  // computed -> stored, or null
  int item_bytes;
};

template <class U>
void fill_segment(U* dst, const U* src, int64_t stride, int64_t n) {
  if (stride != 0) {
    memcpy(dst, src, size_t(n) * sizeof(U));
  } else {
    const U x = *src;
    for (int64_t i = 0; i < n; ++i) dst[i] = x;
  }
}

// Elements [pos, pos + n) of the broadcast input, row by row.
template <class U>
void gather(const Input& in, const U* base, int64_t pos, int n, U* dst) {
  const int last = in.rank - 1;
  const int64_t inner = in.size[last], inner_stride = in.stride[last];
  int64_t index[kMaxRank], rest = pos / inner, column = pos % inner, offset = 0;
  for (int d = last - 1; d >= 0; --d) {
    index[d] = rest % in.size[d];
    rest /= in.size[d];
    offset += index[d] * in.stride[d];
  }
  for (int64_t done = 0; done < n;) {
    const int64_t count = inner - column < n - done ? inner - column : n - done;
    fill_segment(dst + done, base + offset + column * inner_stride, inner_stride, count);
    done += count;
    column = 0;
    for (int d = last - 1; d >= 0; --d) {
      offset += in.stride[d];
      if (++index[d] < in.size[d]) break;
      offset -= in.stride[d] * in.size[d];
      index[d] = 0;
    }
  }
}
void gather_bytes(const Input& in, const void* base, int64_t pos, int n, void* dst) {
  switch (in.item_bytes) {
    case 1:
      return gather(in, (const uint8_t*)base, pos, n, (uint8_t*)dst);
    case 2:
      return gather(in, (const uint16_t*)base, pos, n, (uint16_t*)dst);
    case 4:
      return gather(in, (const uint32_t*)base, pos, n, (uint32_t*)dst);
    default:
      return gather(in, (const uint64_t*)base, pos, n, (uint64_t*)dst);
  }
}

class Elementwise {
 public:
  explicit Elementwise(Prepare& p)
      : num_inputs_(p.num_inputs),
        num_outputs_(p.num_outputs),
        num_values_(p.num_inputs + int(attr_strs_size(*p.attrs, "fns")) + p.num_outputs),
        total_(num_elements(p.outputs[0])),
        inputs_(num_inputs_),
        steps_(num_inputs_ + num_values_),
        outputs_(num_outputs_),
        compute_(num_values_),
        slots_(num_values_) {
    if (attr_has(*p.attrs, "sparse")) describe_sparse(p);
    for (int i = 0; i < num_inputs_; ++i)
      if (inputs_[i].access == Access::Dense) describe_input(i, p.inputs[i], p.outputs[0]);
    for (int v = 0; v < num_values_; ++v) slots_[v] = -1;
    read_program(p);
    place_slots();
    choose_tile(p);
  }

  void run(const Call& call) const {
    if (total_ == 0) return;
    char* scratch = (char*)call.scratch;
    for (int i = 0; i < num_inputs_; ++i)
      if (inputs_[i].access == Access::Periodic) expand(inputs_[i], call.inputs[i], scratch);
    Array<Way> ways(num_outputs_);
    bool streams = false;
    for (int o = 0; o < num_outputs_; ++o) {
      ways[o] = way_of(call, o);
      streams |= ways[o] == Way::Stream;
    }
    if (sparse_ >= 0) memset(scratch + zeros_offset_, 0, size_t(slot_bytes_));
    if (lazy_.size > 0) return run_rows(call, ways);
    parallel_for(num_tasks_, [&](int64_t task, int worker) {
      char* slots;
      void** at = worker_values(scratch, worker, &slots);
      const int64_t end = (task + 1) * task_elements_;
      for (int64_t pos = task * task_elements_; pos < end && pos < total_; pos += tile_) {
        if (fetches_ && pos + 2 * tile_ <= total_) fetch_tile(call, pos + tile_);
        run_tile(call, ways, pos, int(total_ - pos < tile_ ? total_ - pos : tile_), at, slots);
      }
      if (streams) stream_fence();
    });
  }

 private:
  // The operands of a tile, while the one before it is worked on: an instruction reads some of them
  // only, a page at a time, which is too short for the processor to fetch ahead. Inline: else the
  // compiler sees a function without effects and drops the call.
  HB_INLINE void fetch_tile(const Call& call, int64_t pos) const {
    for (int i = 0; i < num_inputs_; ++i) {
      if (inputs_[i].access != Access::Dense) continue;
      const char* from = (const char*)call.inputs[i] + pos * inputs_[i].item_bytes;
      for (int64_t at = 0; at < tile_ * inputs_[i].item_bytes; at += 64)
        __builtin_prefetch(from + at);
    }
  }

  Way way_of(const Call& call, int output) const {
    const Output& out = outputs_[output];
    if (out.store != nullptr) return Way::Copy;
    bool fresh = lazy_.size == 0;  // not in a cache because an operand was read there
    for (int i = 0; i < num_inputs_; ++i) {
      if (call.inputs[i] != call.outputs[output]) continue;
      if (inputs_[i].last_read > out.step) return Way::Copy;
      fresh = false;
    }
    const bool aligned = uintptr_t(call.outputs[output]) % HB_VEC_BYTES == 0;
    const bool large = total_ * out.item_bytes > kStreamBytes;
    return fresh && large && aligned ? Way::Stream : Way::Direct;
  }
  void** worker_values(char* scratch, int worker, char** slots) const {
    char* mine = scratch + worker_offset_ + size_t(worker) * worker_bytes_;
    void** at = (void**)mine;
    *slots = mine + round_up(num_values_ * int64_t(sizeof(void*)), 64);
    for (int v = 0; v < num_values_; ++v)
      if (slots_[v] >= 0) at[v] = *slots + slots_[v] * slot_bytes_;
    return at;
  }

  // The rows whose sum is not zero, in tasks of kRowsOfTask places of the sorted rows; a row
  // belongs to the task in which its first place is.
  void run_rows(const Call& call, const Array<Way>& ways) const {
    const Input& x = inputs_[sparse_];
    const int32_t* keys = (const int32_t*)call.inputs[x.keys];
    for (int o = 0; o < num_outputs_; ++o) {
      const char* old = (const char*)call.inputs[lazy_.data[o]];
      char* out = (char*)call.outputs[o];
      if (out == old) continue;
      const int64_t bytes = total_ * outputs_[o].item_bytes, part = 1 << 20;
      parallel_for((bytes + part - 1) / part, [&](int64_t task, int) {
        const int64_t from = task * part, rest = bytes - from;
        memcpy(out + from, old + from, size_t(rest < part ? rest : part));
      });
    }
    parallel_for((x.rows + kRowsOfTask - 1) / kRowsOfTask, [&](int64_t task, int worker) {
      char* slots;
      void** at = worker_values((char*)call.scratch, worker, &slots);
      int64_t k = task * kRowsOfTask;
      const int64_t end = smaller(x.rows, k + kRowsOfTask);
      while (k > 0 && k < end && keys[k] == keys[k - 1]) ++k;
      while (k < end && keys[k] * x.inner < total_) {
        const int64_t first = k, begin = keys[k] * x.inner;
        while (k < x.rows && keys[k] == keys[first]) ++k;
        if (k + kAhead < x.rows) prefetch_row(call, x, k + kAhead);
        bool zero = true;
        for (int64_t pos = begin; zero && pos < begin + x.inner; pos += tile_) {
          const int64_t n = smaller(tile_, begin + x.inner - pos);
          const float* sum = (const float*)sum_rows(call, x, sparse_, pos, int(n), slots, first);
          for (int64_t i = 0; i < n; ++i) zero &= sum[i] == 0.0f;
        }
        if (zero) continue;
        for (int64_t pos = begin; pos < begin + x.inner; pos += tile_)
          run_tile(call, ways, pos, int(smaller(tile_, begin + x.inner - pos)), at, slots, first);
      }
    });
  }
  // Inline: else the compiler sees a function without effects and drops the call.
  HB_INLINE void prefetch_row(const Call& call, const Input& sums, int64_t k) const {
    const int64_t pos = ((const int32_t*)call.inputs[sums.keys])[k] * sums.inner;
    const int64_t from = ((const int32_t*)call.inputs[sums.order])[k] * sums.inner;
    if (pos >= total_) return;
    for (int i = 0; i < num_inputs_; ++i) {
      const Input& x = inputs_[i];
      if (x.access != Access::Dense && x.access != Access::Sparse) continue;
      const int64_t first = x.access == Access::Sparse ? from : pos;
      const char* row = (const char*)call.inputs[i] + first * x.item_bytes;
      for (int64_t at = 0; at < sums.inner * x.item_bytes && at < 512; at += 64)
        __builtin_prefetch(row + at, 1);
    }
  }

  // Elements [pos, pos + n) of a sum of rows. k: the first place of the sorted rows that may be in
  // there, or -1.
  const void* sum_rows(const Call& call, const Input& x, int input, int64_t pos, int n, char* slots,
                       int64_t k) const {
    const int32_t *keys = (const int32_t*)call.inputs[x.keys],
                  *order = (const int32_t*)call.inputs[x.order];
    const float* rows = (const float*)call.inputs[input];
    const int64_t end = pos + n;
    if (k < 0) k = lower_bound(keys, x.rows, pos / x.inner);
    if (k == x.rows || keys[k] * x.inner >= end) return (char*)call.scratch + zeros_offset_;
    float* dst = (float*)(slots + x.slot * slot_bytes_);
    memset(dst, 0, size_t(n) * sizeof(float));
    for (; k < x.rows && keys[k] * x.inner < end; ++k) {
      const int64_t begin = keys[k] * x.inner, first = begin > pos ? begin : pos;
      const int64_t count = smaller(begin + x.inner, end) - first;
      const float* row = rows + order[k] * x.inner + (first - begin);
      float* to = dst + (first - pos);
      for (int64_t i = 0; i < count; ++i) to[i] += row[i];
    }
    return dst;
  }

  void describe_sparse(const Prepare& p) {
    const IntList list = attr_ints(*p.attrs, "sparse");
    const int64_t segments = p.outputs[0].shape[0];
    for (int64_t i = 0; i + 2 < list.size; i += 3) {
      sparse_ = int(list.data[i]);
      Input& x = inputs_[sparse_];
      x.access = Access::Sparse;
      x.keys = int(list.data[i + 1]);
      x.order = int(list.data[i + 2]);
      x.rows = num_elements(p.inputs[x.keys]);
      x.inner = segments > 0 ? total_ / segments : 0;
      if (p.inputs[sparse_].dtype != DType::F32 ||
          num_elements(p.inputs[sparse_]) != x.rows * x.inner)
        fail("input %d is no float32 rows of the output", sparse_);
      x.item_bytes = x.compute_bytes = int(sizeof(float));
      x.load = nullptr;
      x.slot = x.raw_slot = x.last_read = -1;
      compute_[sparse_] = Compute::F32;
      inputs_[x.keys].access = inputs_[x.order].access = Access::Unread;
    }
    if (!attr_has(*p.attrs, "lazy")) return;
    lazy_ = attr_ints(*p.attrs, "lazy");
    if (list.size != 3 || lazy_.size != num_outputs_) fail("rows of more than one sum");
  }

  void describe_input(int i, const TensorSpec& in, const TensorSpec& out) {
    Input& x = inputs_[i];
    compute_[i] = compute_type(in.dtype);
    x.load = load_tile(in.dtype);
    x.item_bytes = int(item_bytes(in.dtype));
    x.compute_bytes = kComputeBytes[int(compute_[i])];
    x.slot = x.raw_slot = x.last_read = -1;
    x.access = Access::Dense;
    const int64_t size = num_elements(in);
    if (in.rank > out.rank) fail("input %d has a higher rank than the output", i);
    if (size == total_) return;
    // Strides over the output's dimensions, neighbours merged where one step covers both.
    int64_t stride = 1, leading = 1;
    x.rank = 0;
    int64_t sizes[kMaxRank], strides[kMaxRank];  // innermost first
    for (int d = 0; d < out.rank; ++d) {
      const int64_t n = out.shape[out.rank - 1 - d];
      const int64_t m = d < in.rank ? in.shape[in.rank - 1 - d] : 1;
      if (m != n && m != 1) fail("input %d does not broadcast to the output", i);
      const int64_t s = m == 1 ? 0 : stride;
      stride *= m;
      if (n == 1) continue;
      const int r = x.rank;
      if (r > 0 && s == (strides[r - 1] == 0 ? 0 : strides[r - 1] * sizes[r - 1]) &&
          (s == 0) == (strides[r - 1] == 0)) {
        sizes[r - 1] *= n;
      } else {
        sizes[r] = n;
        strides[r] = s;
        ++x.rank;
      }
    }
    for (int d = 0; d < x.rank; ++d) {
      x.size[d] = sizes[x.rank - 1 - d];
      x.stride[d] = strides[x.rank - 1 - d];
    }
    for (int d = 0; d + 1 < x.rank; ++d) leading = x.stride[d] == 0 ? leading : 0;
    const bool repeats = size == 1 || (leading == 1 && x.stride[x.rank - 1] == 1);
    x.access = repeats && size <= kLongPeriod ? Access::Periodic : Access::Rows;
    x.period = size;
  }

  void read_program(const Prepare& p) {
    const Attrs& attrs = *p.attrs;
    if (attr_has(attrs, "parts")) fail("several clusters in one launch are for GPUs only");
    const int num_fns = int(attr_strs_size(attrs, "fns"));
    const IntList arity = attr_ints(attrs, "arity"), args = attr_ints(attrs, "args"),
                  outs = attr_ints(attrs, "outs");
    int64_t next_arg = 0;
    cost_ = num_inputs_ + num_outputs_;  // memory
    Array<Instruction> program(num_fns);
    Array<bool> is_float32(num_values_), is_output(num_values_);
    for (int i = 0; i < num_inputs_; ++i) is_float32[i] = compute_[i] == Compute::F32;
    for (int k = 0; k < num_fns; ++k) {
      Instruction& in = program[k];
      in.name = attr_strs_at(attrs, "fns", k);
      in.dtype = dtype_named(attr_strs_at(attrs, "dtypes", k));
      in.num_operands = int(arity.data[k]);
      if (in.num_operands < 1 || in.num_operands > 3) fail("%d operands", in.num_operands);
      for (int j = 0; j < in.num_operands; ++j) {
        in.operands[j] = int(args.data[next_arg++]);
        if (in.operands[j] < 0 || in.operands[j] >= num_inputs_ + k) fail("bad operand id");
      }
      is_float32[num_inputs_ + k] = compute_type(in.dtype) == Compute::F32;
    }
    for (int o = 0; o < num_outputs_; ++o) is_output[int(outs.data[o])] = true;
    Array<FusedMatch> fused(num_fns);
    match_fused(&program[0], num_fns, num_inputs_, &is_float32[0], &is_output[0], &fused[0]);
    for (int k = 0; k < num_fns; ++k) {
      const Instruction& in = program[k];
      if (fused[k].fused != nullptr)
        add_fused(fused[k]);
      else if (!in.taken)
        add_instruction(num_inputs_ + k, in.name, in.num_operands, in.operands, in.dtype);
    }
    for (int o = 0; o < num_outputs_; ++o) {
      int value = int(outs.data[o]);
      if (num_elements(p.outputs[o]) != total_) fail("outputs differ in shape");
      bool taken = value < num_inputs_;
      for (int before = 0; before < o; ++before) taken |= outputs_[before].value == value;
      const DType dtype = p.outputs[o].dtype;
      if (taken) {  // an input or a second use as an output: a copy makes it a result of its own
        const int copy = num_inputs_ + num_fns + o;
        add_instruction(copy, "copy", 1, &value, dtype);
        value = copy;
      }
      if (compute_[value] != compute_type(dtype))
        fail("output %d is %s but its value is computed as %s", o, dtype_name(dtype),
             kComputeNames[int(compute_[value])]);
      int step = 0;
      for (int s = 0; s < num_steps_; ++s)
        if (!steps_[s].loads() && steps_[s].makes(value)) step = s;
      outputs_[o] = {value, step, store_tile(dtype), int(item_bytes(dtype))};
    }
  }

  // An input that needs a load has it before its first use.
  void load_operands(int n, const int* operands) {
    for (int j = 0; j < n; ++j) {
      if (operands[j] >= num_inputs_) continue;
      Input& x = inputs_[operands[j]];
      const bool loads = x.access == Access::Rows || x.access == Access::Sparse ||
                         (x.access == Access::Dense && x.load != nullptr);
      if (!loads || x.last_read >= 0) continue;
      x.last_read = num_steps_;
      steps_[num_steps_++] = {nullptr, nullptr, nullptr, 1, {operands[j]}, 0, {}, {}};
    }
  }
  void finish_step(int n, const int* operands) {
    Step& step = steps_[num_steps_];
    step.num_operands = n;
    for (int j = 0; j < n; ++j) {
      step.operands[j] = operands[j];
      if (operands[j] < num_inputs_ && inputs_[operands[j]].access == Access::Dense &&
          inputs_[operands[j]].load == nullptr)
        inputs_[operands[j]].last_read = num_steps_;
    }
    ++num_steps_;
  }

  void add_fused(const FusedMatch& match) {
    load_operands(match.num_operands, match.operands);
    Step& step = steps_[num_steps_];
    step = {nullptr, nullptr, match.fused, match.num_results, {}, 0, {}, {}};
    for (int i = 0; i < match.num_results; ++i) {
      step.values[i] = match.results[i];
      compute_[match.results[i]] = Compute::F32;
    }
    cost_ += 4 * match.num_results;
    for (int j = 0; j < match.num_operands; ++j) {
      const int v = match.operands[j];
      step.mask[j] =
          v < num_inputs_ && inputs_[v].access == Access::Periodic && inputs_[v].period == 1 ? 0
                                                                                             : -1;
    }
    finish_step(match.num_operands, match.operands);
  }

  void add_instruction(int value, const char* name, int n, const int* operands, DType dtype) {
    load_operands(n, operands);
    Step& step = steps_[num_steps_];
    step = {nullptr, nullptr, nullptr, 1, {value}, 0, {}, {}};
    const Compute type = compute_[operands[n - 1]];
    const bool shorter_integer =
        compute_type(dtype) == Compute::I32 || compute_type(dtype) == Compute::I64;
    if (__builtin_strcmp(name, "cast") == 0) {
      step.fn = convert_tile(type, compute_type(dtype));
      step.narrow = narrow_tile(dtype);
      compute_[value] = compute_type(dtype);
      cost_ += 1;
    } else {
      const ElementwiseFn* fn = elementwise_table().find(name, type);
      if (fn == nullptr) fail("no function %s for %s", name, kComputeNames[int(type)]);
      if (fn->arity != n) fail("%s takes %d operands, got %d", name, fn->arity, n);
      for (int j = 0; j < n; ++j)
        if (compute_[operands[j]] != (n == 3 && j == 0 ? Compute::U8 : type))
          fail("%s of different dtypes", name);
      if (fn->result != compute_type(dtype))
        fail("%s gives %s, not %s", name, kComputeNames[int(fn->result)], dtype_name(dtype));
      step.fn = fn->fn;
      step.narrow = shorter_integer ? narrow_tile(dtype) : nullptr;
      compute_[value] = fn->result;
      cost_ += fn->cost;
    }
    finish_step(n, operands);
  }

  // Slots are reused once the last reader of their value is done; outputs keep theirs to the end.
  void place_slots() {
    Array<int> last_use(num_values_);
    for (int s = 0; s < num_steps_; ++s)
      for (int j = 0; j < steps_[s].num_operands; ++j) last_use[steps_[s].operands[j]] = s;
    for (int o = 0; o < num_outputs_; ++o) last_use[outputs_[o].value] = num_steps_;
    Array<int> busy_until(2 * num_values_ + 2);
    num_slots_ = 0;
    const auto take = [&](int s, int until) {
      int slot = 0;
      while (slot < num_slots_ && busy_until[slot] >= s) ++slot;
      if (slot == num_slots_) ++num_slots_;
      busy_until[slot] = until;
      return slot;
    };
    for (int s = 0; s < num_steps_; ++s) {
      for (int i = 0; i < steps_[s].num_values; ++i) {
        const int v = steps_[s].values[i];
        slots_[v] = take(s, last_use[v] > s ? last_use[v] : s);
      }
      if (steps_[s].loads()) {
        Input& x = inputs_[steps_[s].values[0]];
        x.slot = slots_[steps_[s].values[0]];
        if (x.access == Access::Rows && x.load != nullptr) x.raw_slot = take(s, s);
      }
    }
  }

  void choose_tile(Prepare& p) {
    int bytes = 4;
    for (int v = 0; v < num_values_; ++v)
      if (kComputeBytes[int(compute_[v])] > bytes) bytes = 8;
    int streams = num_slots_;  // what a tile touches, in tiles
    for (int i = 0; i < num_inputs_; ++i)
      streams += inputs_[i].access == Access::Dense || inputs_[i].access == Access::Periodic;
    tile_ = kTileBytes / bytes / (streams > 0 ? streams : 1) / 64 * 64;
    tile_ = tile_ < 256 ? 256 : tile_ > 1024 ? 1024 : tile_;
    if (total_ < tile_) tile_ = round_up(total_ > 0 ? total_ : 1, 64);
    slot_bytes_ = tile_ * bytes + 64;  // not a power of two: slots spread over the cache's sets
    int64_t tasks = total_ * cost_ / kTaskCost;
    const int64_t most = num_threads() == 1 ? 1 : 4 * num_threads();
    tasks = tasks < 1 ? 1 : tasks > most ? most : tasks;
    task_elements_ = round_up((total_ + tasks - 1) / tasks, tile_);
    if (task_elements_ < tile_) task_elements_ = tile_;
    num_tasks_ = (total_ + task_elements_ - 1) / task_elements_;

    int64_t dense = 0;  // bytes of an element of all operands
    for (int i = 0; i < num_inputs_; ++i)
      dense += inputs_[i].access == Access::Dense ? inputs_[i].item_bytes : 0;
    fetches_ = total_ * dense > 4 * int64_t(l2_bytes()) && num_steps_ > 1;

    size_t offset = 0;
    for (int i = 0; i < num_inputs_; ++i) {
      Input& x = inputs_[i];
      if (x.access != Access::Periodic) continue;
      x.expanded = x.period == 1 ? tile_ : x.period + tile_;
      x.expanded_offset = offset;
      offset += size_t(round_up(x.expanded * x.compute_bytes, 64));
    }
    zeros_offset_ = offset;
    if (sparse_ >= 0) offset += size_t(round_up(slot_bytes_, 64));
    worker_offset_ = offset;
    worker_bytes_ = size_t(round_up(num_values_ * int64_t(sizeof(void*)), 64) +
                           round_up(num_slots_ * slot_bytes_, 64));
    p.scratch_bytes = worker_offset_ + worker_bytes_ * size_t(num_threads());
  }

  // Repeats the input, converted, so that a tile can start anywhere in its period.
  void expand(const Input& x, const void* data, char* scratch) const {
    char* dst = scratch + x.expanded_offset;
    const size_t unit = size_t(x.compute_bytes);
    if (x.load != nullptr)
      x.load(dst, &data, int(x.period));
    else
      memcpy(dst, data, size_t(x.period) * unit);
    const int64_t wanted = x.expanded < total_ ? x.expanded : total_;
    for (int64_t done = x.period; done < wanted;) {  // doubles each time
      const int64_t count = wanted - done < done ? wanted - done : done;
      memcpy(dst + size_t(done) * unit, dst, size_t(count) * unit);
      done += count;
    }
  }

  void run_tile(const Call& call, const Array<Way>& ways, int64_t pos, int n, void** at,
                char* slots, int64_t row = -1) const {
    for (int i = 0; i < num_inputs_; ++i) {
      const Input& x = inputs_[i];
      if (x.access == Access::Periodic)
        at[i] = (char*)call.scratch + x.expanded_offset + (pos % x.period) * x.compute_bytes;
      else if (x.access == Access::Dense && x.load == nullptr)
        at[i] = (char*)call.inputs[i] + pos * x.item_bytes;
    }
    for (int o = 0; o < num_outputs_; ++o)
      if (ways[o] == Way::Direct)
        at[outputs_[o].value] = (char*)call.outputs[o] + pos * outputs_[o].item_bytes;
    for (int s = 0; s < num_steps_; ++s) {
      const Step& step = steps_[s];
      if (step.loads()) {
        const int i = step.values[0];
        at[i] = inputs_[i].access == Access::Sparse
                    ? const_cast<void*>(sum_rows(call, inputs_[i], i, pos, n, slots, row))
                    : load(inputs_[i], call.inputs[i], pos, n, slots);
        continue;
      }
      const void* src[kMaxOperands];
      for (int j = 0; j < step.num_operands; ++j) src[j] = at[step.operands[j]];
      if (step.fused != nullptr) {
        void* results[kMaxResults];
        for (int j = 0; j < step.num_values; ++j) results[j] = at[step.values[j]];
        step.fused->fn(results, src, step.mask, n);
        continue;
      }
      void* dst = at[step.values[0]];
      step.fn(dst, src, n);
      if (step.narrow != nullptr) {
        const void* result = dst;
        step.narrow(dst, &result, n);
      }
    }
    for (int o = 0; o < num_outputs_; ++o) {
      if (ways[o] == Way::Direct) continue;
      const Output& out = outputs_[o];
      char* dst = (char*)call.outputs[o] + pos * out.item_bytes;
      const void* src = at[out.value];
      if (out.store != nullptr)
        out.store(dst, &src, n);
      else if (ways[o] == Way::Stream)
        stream_copy(dst, src, size_t(n) * size_t(out.item_bytes));
      else
        memcpy(dst, src, size_t(n) * size_t(out.item_bytes));
    }
  }

  void* load(const Input& x, const void* data, int64_t pos, int n, char* slots) const {
    void* dst = slots + x.slot * slot_bytes_;
    const void* raw = (const char*)data + pos * x.item_bytes;
    if (x.access == Access::Rows) {
      // A tile inside one row is read in place.
      const int64_t inner = x.size[x.rank - 1], column = pos % inner;
      if (x.stride[x.rank - 1] == 1 && column + n <= inner) {
        int64_t rest = pos / inner, offset = column;
        for (int d = x.rank - 2; d >= 0; --d) {
          offset += rest % x.size[d] * x.stride[d];
          rest /= x.size[d];
        }
        raw = (const char*)data + offset * x.item_bytes;
        if (x.load == nullptr) return const_cast<void*>(raw);
      } else {
        void* gathered = x.load == nullptr ? dst : slots + x.raw_slot * slot_bytes_;
        gather_bytes(x, data, pos, n, gathered);
        if (x.load == nullptr) return dst;
        raw = gathered;
      }
    }
    x.load(dst, &raw, n);
    return dst;
  }

  int num_inputs_, num_outputs_, num_values_, num_steps_ = 0, num_slots_ = 0;
  int64_t total_, tile_ = 0, slot_bytes_ = 0, task_elements_ = 0, num_tasks_ = 0, cost_ = 0;
  size_t zeros_offset_ = 0, worker_offset_ = 0, worker_bytes_ = 0;
  bool fetches_ = false;  // operands come from far beyond L2
  int sparse_ = -1;       // an input that is a sum of rows (the last one)
  IntList lazy_{nullptr, 0};
  Array<Input> inputs_;
  Array<Step> steps_;
  Array<Output> outputs_;
  Array<Compute> compute_;
  Array<int> slots_;  // of each value; negative: it has none
};

HB_CPU_KERNEL_IF(elementwise, Elementwise, kAllDTypes, 0xFFFFFFFFu, nullptr)

}  // namespace
}  // namespace hb::HB_ISA

#if HB_ISA_LEVEL == 0
namespace hb {
int elementwise_function_names(const ElementwiseFunctionName** names) {
  const auto& table = HB_ISA::elementwise_table();
  constexpr int kTypes = sizeof HB_ISA::kComputeNames / sizeof HB_ISA::kComputeNames[0];
  static ElementwiseFunctionName list[sizeof table.fns / sizeof table.fns[0] + kTypes];
  for (int i = 0; i < table.size; ++i)
    list[i] = {table.fns[i].name, HB_ISA::kComputeNames[int(table.fns[i].type)]};
  for (int t = 0; t < kTypes; ++t) list[table.size + t] = {"cast", HB_ISA::kComputeNames[t]};
  *names = list;
  return table.size + kTypes;
}
}  // namespace hb
#endif
