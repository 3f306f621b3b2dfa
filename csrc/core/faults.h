// Runs what a machine may turn out not to be able to run.
#pragma once

namespace hb {

// check(), or false if it raises an illegal-instruction or memory fault in this thread (on Linux;
// elsewhere faults are not caught). For code without objects to destroy: a fault leaves it midway.
bool passes_without_fault(bool (*check)());

}  // namespace hb
