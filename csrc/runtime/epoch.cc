#include "runtime/epoch.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace hb {
namespace {

// rows[i] = array[index[i]], in tasks of about 64 KiB.
void gather_rows(char* rows, const char* array, const int64_t* index, int64_t n, size_t row_bytes) {
  const int64_t chunk = std::max<int64_t>(1, int64_t(65536 / std::max<size_t>(row_bytes, 1)));
  parallel_for((n + chunk - 1) / chunk, [&](int64_t task, int) {
    const int64_t end = std::min(n, (task + 1) * chunk);
    for (int64_t i = task * chunk; i < end; ++i)
      memcpy(rows + i * row_bytes, array + index[i] * row_bytes, row_bytes);
  });
}

}  // namespace

std::vector<Tensor> run_epoch(Program& program, const Epoch& e, int64_t first, int64_t count,
                              const std::function<bool()>& keep_going, int64_t* done) {
  const int num_inputs = program.num_inputs(), num_outputs = program.num_outputs();
  if (int(e.arrays.size()) != num_inputs)
    fail("run_batches: expected %d arrays, got %d", num_inputs, int(e.arrays.size()));
  if (first < 0 || (!e.index && (first + count) * e.batch > e.num_samples))
    fail("run_batches: steps up to %lld of %lld samples do not fit in %lld samples",
         (long long)(first + count), (long long)e.batch, (long long)e.num_samples);
  if (e.index)
    for (int64_t i = first * e.batch; i < (first + count) * e.batch; ++i)
      if (e.index[i] < 0 || e.index[i] >= e.num_samples)
        fail("run_batches: index %lld is outside of %lld samples", (long long)e.index[i],
             (long long)e.num_samples);

  std::vector<Tensor> staging, outputs;
  std::vector<const void*> in(num_inputs);
  std::vector<void*> out(num_outputs);
  if (e.index)
    for (int i = 0; i < num_inputs; ++i) {
      staging.push_back(Tensor::allocate(program.input_spec(i)));
      in[i] = staging[i].data();
    }
  for (int i = 0; i < num_outputs; ++i)
    outputs.push_back(Tensor::allocate(program.output_spec(i), program.output_device(i)));
  for (int i = 0; i < num_inputs; ++i)
    if (!program.input_device(i).is_host()) fail("run_batches: expected input %d on the CPU", i);

  // Where the caller wants output i of the step whose first sample is `begin`, or null.
  auto rows_of = [&](int i, int64_t begin) -> char* {
    char* rows = e.outputs.empty() ? nullptr : e.outputs[i];
    return rows ? rows + begin / e.batch * num_bytes(program.output_spec(i)) : nullptr;
  };

  using Clock = std::chrono::steady_clock;
  auto asked = Clock::now();
  for (*done = 0; *done < count;) {
    const int64_t begin = (first + *done) * e.batch;
    for (int i = 0; i < num_inputs; ++i) {
      if (e.index)
        gather_rows(static_cast<char*>(staging[i].data()), e.arrays[i], e.index + begin, e.batch,
                    e.row_bytes[i]);
      else
        in[i] = e.arrays[i] + begin * e.row_bytes[i];
    }
    for (int i = 0; i < num_outputs; ++i) {
      out[i] = rows_of(i, begin);
      if (!out[i] || !outputs[i].device().is_host()) out[i] = outputs[i].data();
    }
    program.run_into(in.data(), out.data());
    for (int i = 0; i < num_outputs; ++i)
      if (char* rows = outputs[i].device().is_host() ? nullptr : rows_of(i, begin))
        copy_bytes(host_device(), rows, outputs[i].device(), out[i], outputs[i].bytes());
    ++*done;
    const auto now = Clock::now();
    if (*done < count && now - asked > std::chrono::milliseconds(50)) {
      asked = now;
      if (!keep_going()) break;
    }
  }
  for (int i = 0; i < num_outputs && *done; ++i)
    if (out[i] != outputs[i].data()) memcpy(outputs[i].data(), out[i], outputs[i].bytes());
  return outputs;
}

}  // namespace hb
