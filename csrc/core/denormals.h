// Denormal numbers count as zero while programs run, as in TensorFlow: operands (DAZ) and results
// (FTZ) below 2^-126 (float) or 2^-1022 (double). Arithmetic on them is up to a hundred times
// slower, depending on the processor, and optimizer state and activations drift into them by
// themselves.
//
// The mode belongs to a thread: threads of the pool keep it, a calling thread has it during a run
// and gets its own back, also around Python functions that a program calls.
#pragma once
#include <stdint.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace hb {

class DenormalMode {
 public:
  explicit DenormalMode(bool flush) : before_(get()) {
    set(flush ? before_ | kBits : before_ & ~kBits);
  }
  ~DenormalMode() { set(before_); }
  DenormalMode(const DenormalMode&) = delete;

 private:
#if defined(__x86_64__)
  static constexpr uint64_t kBits = 0x8040;  // flush to zero, denormals are zero
  static uint64_t get() { return _mm_getcsr(); }
  static void set(uint64_t mode) { _mm_setcsr(uint32_t(mode)); }
#elif defined(__aarch64__)
  static constexpr uint64_t kBits = uint64_t(1) << 24;  // FZ
  static uint64_t get() {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
  }
  static void set(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
  static constexpr uint64_t kBits = 0;
  static uint64_t get() { return 0; }
  static void set(uint64_t) {}
#endif
  const uint64_t before_;
};

}  // namespace hb
