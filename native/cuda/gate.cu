#include "gate.h"

#include "../engine/walk.h"
#include "launch.h"

namespace macl {
namespace gpu {
namespace {

__global__ void begin_kernel(Words* words) {
  words->skip = 0;
  words->fault = kNoFault;
  words->stop = kRunning;
}

// The order in which the walker of the host decides: a failure before an abort before the guard.
__global__ void gate_kernel(Words* words, const i32* guard, const volatile u32* abort) {
  u32 stop = kRunning;
  if (words->fault != kNoFault) stop = kFailed;
  else if (*abort != 0) stop = kStopAborted;
  else if (guard != nullptr && *guard != 0) stop = kSkipped;
  words->stop = stop;
  words->skip = stop == kRunning ? 0 : 1;
}

__global__ void end_kernel(const Words* words, Told* told) {
  told->stop = words->fault != kNoFault ? static_cast<u32>(kFailed) : words->stop;
  told->fault = words->fault;
}

Shape one_thread(void* stream) { return {dim3(1), dim3(1), 0, static_cast<Stream>(stream)}; }

}  // namespace

void launch_begin(void* stream, Words* words) { launch(one_thread(stream), begin_kernel, words); }
void launch_gate(void* stream, Words* words, const i32* guard, const Told* told) {
  launch(one_thread(stream), gate_kernel, words, guard, &told->abort);
}
void launch_end(void* stream, const Words* words, Told* told) { launch(one_thread(stream), end_kernel, words, told); }

}  // namespace gpu
}  // namespace macl
