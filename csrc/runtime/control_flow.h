// cond, while_loop and scan: instructions whose bodies are programs of their own.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "runtime/program.h"

namespace hb {

// The instruction for op, or null if op is no control flow. Bodies take every value that they use
// as an input (captures last) and share the scratch of the instruction as their arena. All values
// are on the device, but for the predicate and what a condition gives: these the host reads.
//   cond        inputs (predicate, captures…); children true, false: captures → outputs
//   while_loop  inputs (loop values…, captures…); children condition → bool, body → loop values;
//               attrs num_loop, maximum_iterations (< 0: none)
//   scan        inputs (carries…, xs…, captures…); child (carries, x slices, captures) →
//               (carries, y slices); attrs num_carry, num_xs, length, reverse. Outputs: carries,
//               ys.
std::unique_ptr<Instruction> make_control_flow(
    const std::string& op, const std::vector<std::shared_ptr<Program>>& children, Prepare& p,
    Device& device);

}  // namespace hb
