// The launches around a program's kernels (gate.cu): the words of a run are set, read before the commit phase, told.
#pragma once
#include "../ops/types.h"

namespace macl {
namespace gpu {

// A run's words on the device.
struct Words {
  i32 skip;   // commit kernels read it
  u32 fault;  // launch.h: set_fault
  u32 stop;   // Stop of engine/walk.h
  u32 unused;
};
// Pinned memory of the host, which the device maps.
struct Told {
  u32 abort;  // set by the host
  u32 stop;   // set when a run has ended
  u32 fault;
  u32 unused;
};

void launch_begin(void* stream, Words* words);
// Between the phases: a fault, an abort or the guard (null: there is none) keep the commit kernels from writing.
void launch_gate(void* stream, Words* words, const i32* guard, const Told* told);
void launch_end(void* stream, const Words* words, Told* told);

}  // namespace gpu
}  // namespace macl
