// What the files of the library know of each other.
#pragma once
#include "core/device.h"
#include "cuda/kernel.cuh"

namespace hb::cuda {

// Finds the devices and adds each. Returns why there are none, or null.
const char* open_devices(void (*add)(Device*));

[[noreturn]] void fail_out_of_memory(const char* text);

}  // namespace hb::cuda
