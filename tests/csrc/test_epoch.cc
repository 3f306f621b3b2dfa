// Epochs on a device whose queues are threads: what a fence does not order is a race, which
// ThreadSanitizer finds, and memory that goes too early is found by AddressSanitizer.
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <set>
#include <thread>

#include "check.h"
#include "core/device.h"
#include "runtime/epoch.h"

using namespace hb;

namespace {

class WorkQueue {
 public:
  WorkQueue() : thread_([this] { loop(); }) {}
  ~WorkQueue() {
    give({});
    thread_.join();
  }
  void give(std::function<void()> work) {  // empty: the end
    std::lock_guard lock(mutex_);
    work_.push_back(std::move(work));
    changed_.notify_all();
  }

 private:
  void loop() {
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return !work_.empty(); });
      const auto work = std::move(work_.front());
      work_.pop_front();
      lock.unlock();
      if (!work) return;
      work();
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;
  std::thread thread_;
};

struct Count {  // of the marks of a fence that were given, and that were reached
  std::mutex mutex;
  std::condition_variable changed;
  int given = 0, reached = 0;
  void reach(int mark) {
    std::lock_guard lock(mutex);
    reached = mark;
    changed.notify_all();
  }
  void wait_for(int mark) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return reached >= mark; });
  }
};
struct CountFence : Fence {
  std::shared_ptr<Count> count = std::make_shared<Count>();
};

class ThreadedDevice : public Device {
 public:
  ThreadedDevice() : Device(DeviceKind::Cuda, 0) {}
  std::string description() const override { return "two threads"; }
  void* allocate(size_t bytes) override { return new char[bytes + 1]; }
  void deallocate(void* memory, size_t) noexcept override {
    compute_.give([=] { delete[] static_cast<char*>(memory); });  // behind the work there
  }
  void copy_from_host(void* to, const void* from, size_t bytes) override {
    start_copy_from_host(to, from, bytes, Queue::Compute);
    synchronize();
  }
  void copy_to_host(void* to, const void* from, size_t bytes) override {
    start_copy_to_host(to, from, bytes, Queue::Compute);
    synchronize();
  }
  void copy_within(void* to, const void* from, size_t bytes, void*) override {
    compute_.give([=] { memcpy(to, from, bytes); });
  }
  void* stream() override { return &compute_; }
  void synchronize() override {
    for (Queue queue : {Queue::Copy, Queue::Compute}) {
      CountFence fence;
      record(fence, queue);
      fence.count->wait_for(1);
    }
  }
  MemoryStats memory_stats() const override { return {}; }
  void set_memory_limit(size_t) override {}
  void* allocate_pinned(size_t bytes) override {
    void* memory = new char[bytes];
    pinned.insert(memory);
    return memory;
  }
  void deallocate_pinned(void* memory) noexcept override {
    pinned.erase(memory);
    delete[] static_cast<char*>(memory);
  }
  void start_copy_from_host(void* to, const void* from, size_t bytes, Queue queue) override {
    count_call();
    of(queue).give([=] { memcpy(to, from, bytes); });
  }
  void start_copy_to_host(void* to, const void* from, size_t bytes, Queue queue) override {
    count_call();
    of(queue).give([=] { memcpy(to, from, bytes); });
  }
  std::unique_ptr<Fence> make_fence() override { return std::make_unique<CountFence>(); }
  void mark(Fence& fence, Queue queue) override {
    count_call();
    record(static_cast<CountFence&>(fence), queue);
  }
  void wait(const Fence& fence, Queue queue) override {
    count_call();
    const auto count = static_cast<const CountFence&>(fence).count;
    of(queue).give([=, mark = given(*count)] { count->wait_for(mark); });
  }
  void wait(const Fence& fence) override {
    count_call();
    Count& count = *static_cast<const CountFence&>(fence).count;
    count.wait_for(given(count));
  }

  std::set<void*> pinned;
  int calls = 0, fails_at = -1;  // which call is to fail

 private:
  WorkQueue& of(Queue queue) { return queue == Queue::Copy ? copies_ : compute_; }
  static int given(Count& count) {
    std::lock_guard lock(count.mutex);
    return count.given;
  }
  void record(CountFence& fence, Queue queue) {
    const auto count = fence.count;
    int mark;
    {
      std::lock_guard lock(count->mutex);
      mark = ++count->given;
    }
    of(queue).give([=] { count->reach(mark); });
  }
  void count_call() {
    if (++calls == fails_at) fail("call %d of the device fails", calls);
  }
  WorkQueue copies_, compute_;
};
ThreadedDevice& device() {
  static auto* d = [] {
    auto* made = new ThreadedDevice;
    add_device(made);
    return made;
  }();
  return *d;
}

constexpr int64_t kBatch = 8, kWidth = 5000, kSteps = 9, kSamples = 80;

// (x, n) -> (x + n, n + 1), for float32.
struct Advance {
  static void run(const void*, const Call& c) {
    const auto *x = static_cast<const float*>(c.inputs[0]),
               *n = static_cast<const float*>(c.inputs[1]);
    auto *y = static_cast<float*>(c.outputs[0]), *next = static_cast<float*>(c.outputs[1]);
    static_cast<WorkQueue*>(c.stream)->give([=] {
      for (int64_t i = 0; i < kBatch * kWidth; ++i) y[i] = x[i] + *n;
      *next = *n + 1;
    });
  }
};
const struct RegisterAdvance {
  RegisterAdvance() {
    register_kernel({"t_advance", kF32, 0, nullptr, [](Prepare&) -> void* { return nullptr; },
                     Advance::run, [](void*) {}},
                    0, DeviceKind::Cuda);
  }
} register_advance;

struct Setup {
  std::shared_ptr<Variable> count;
  std::unique_ptr<Program> program;
  std::vector<float> x, y;
  std::vector<int64_t> index;
  Epoch epoch;

  explicit Setup(bool shuffled) : x(kSamples * kWidth), y(kSamples * kWidth, -1.f) {
    const TensorSpec batch{DType::F32, 2, {kBatch, kWidth}}, scalar{DType::F32, 0, {}};
    for (size_t i = 0; i < x.size(); ++i) x[i] = float(i % 1013);
    for (int64_t i = 0; i < kSamples; ++i) index.push_back(i * 37 % kSamples);
    const float zero = 0;
    Tensor start = Tensor::allocate(scalar, device());
    device().copy_from_host(start.data(), &zero, sizeof zero);
    count = std::make_shared<Variable>(start);
    ProgramSpec spec;
    Device *host = &host_device(), *there = &device();
    spec.slots = {batch, batch, scalar, batch, scalar};
    spec.devices = {host, there, there, there, there};
    spec.inputs = {0};
    spec.variables = {{2, count}};
    InstructionSpec copy, advance;
    copy.op = "copy";
    copy.inputs = {0};
    copy.outputs = {1};
    advance.op = "t_advance";
    advance.inputs = {1, 2};
    advance.outputs = {3, 4};
    spec.instructions = {copy, advance};
    spec.outputs = {3};
    spec.updates = {{2, 4}};
    program = std::make_unique<Program>(std::move(spec));
    epoch = {{reinterpret_cast<const char*>(x.data())},
             {kWidth * sizeof(float)},
             kSamples,
             shuffled ? index.data() : nullptr,
             kBatch,
             {reinterpret_cast<char*>(y.data())}};
  }
  void run(int64_t first, int64_t count, const std::function<bool()>& keep_going, int64_t* done) {
    EpochRun(*program, epoch, first, first + count).run(count, keep_going, done);
  }
  // Rows of steps [first, last) were written by step number `number` and those after it.
  void check(int64_t first, int64_t last, int64_t number) const {
    for (int64_t row = first * kBatch; row < last * kBatch; ++row) {
      const int64_t sample = epoch.index ? index[size_t(row)] : row;
      const float add = float(number + row / kBatch - first);
      for (int64_t i = 0; i < kWidth; ++i)
        CHECK(y[size_t(row * kWidth + i)] == x[size_t(sample * kWidth + i)] + add);
    }
  }
};
const auto always = [] { return true; };

}  // namespace

TEST(epoch_on_a_device_has_the_rows_of_every_step) {
  for (const bool shuffled : {false, true}) {
    Setup s(shuffled);
    CHECK(s.program->accelerator() == &device() && s.program->feeds(0));
    int64_t done = 0;
    s.run(0, kSteps, always, &done);
    CHECK(done == kSteps && device().pinned.empty());
    s.check(0, kSteps, 0);
    s.run(2, 1, always, &done);  // one step: there is nothing to copy ahead
    s.check(2, 3, kSteps);
    s.run(3, 2, always, &done);
    s.check(3, 5, kSteps + 1);
  }
}

TEST(epoch_in_pieces_has_the_next_batch_between_them) {
  for (const bool shuffled : {false, true}) {
    Setup s(shuffled);
    int64_t done = 0;
    {
      EpochRun run(*s.program, s.epoch, 0, kSteps);
      for (int64_t k = 0; k < kSteps; k += done) {
        const std::vector<Tensor> last =
            run.run(std::min<int64_t>(k + 1, kSteps - k), always, &done);
        s.check(0, k + done, 0);
        std::vector<float> y(size_t(kBatch * kWidth));
        copy_bytes(host_device(), y.data(), last[0].device(), last[0].data(), last[0].bytes());
        CHECK(memcmp(y.data(), &s.y[size_t((k + done - 1) * kBatch * kWidth)], last[0].bytes()) ==
              0);
        CHECK(!device().pinned.empty());
      }
      CHECK_THROWS(Error, "1 steps are wanted, 0 are left", run.run(1, always, &done));
    }
    CHECK(device().pinned.empty());
    EpochRun(*s.program, s.epoch, 0, kSteps).run(2, always, &done);  // who leaves early
    CHECK(device().pinned.empty());
    s.check(0, 2, kSteps);
  }
}

TEST(epoch_without_results_ends_when_its_batches_are_copied) {
  Setup s(false);
  const auto rows = std::move(s.epoch.outputs);
  s.epoch.outputs.clear();
  int64_t done = 0;
  for (int i = 0; i < 20; ++i) s.run(0, 2, always, &done);
  s.epoch.outputs = rows;
  s.run(0, kSteps, always, &done);
  s.check(0, kSteps, 40);
}

TEST(epoch_that_stops_early_has_the_rows_so_far) {
  Setup s(true);
  int64_t done = 0, steps = 0;
  while (steps < 3) {  // asked at most every 50 ms, so it may not be asked at all
    s.run(0, kSteps, [] { return false; }, &done);
    s.check(0, done, steps);
    steps += done;
  }
  CHECK(device().pinned.empty());
}

TEST(epoch_with_an_error_leaves_nothing_in_flight) {
  Setup s(true);
  int64_t done = 0;
  device().calls = 0;
  s.run(0, kSteps, always, &done);
  const int calls = device().calls;
  CHECK(calls > 10 * kSteps - 10);
  for (int at = 1; at <= calls; ++at) {
    device().calls = 0;
    device().fails_at = at;
    CHECK_THROWS(Error, "of the device fails", s.run(0, kSteps, always, &done));
    device().fails_at = -1;
    CHECK(device().pinned.empty());  // given back, and no copy touches it (AddressSanitizer)
  }
  const float zero = 0;
  const Tensor start = Tensor::allocate(s.count->spec(), s.count->device());
  device().copy_from_host(start.data(), &zero, sizeof zero);
  s.count->set(start);
  s.run(0, kSteps, always, &done);
  s.check(0, kSteps, 0);
}
