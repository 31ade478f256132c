// The device's kernel tables: checks of the plain host kernels, the rest of ours.
#pragma once
#include "../ops/types.h"

namespace macl {
namespace gpu {

// What launch.h's Launch is made of, without a CUDA header.
struct LaunchPlace {
  void* stream;
  const i32* skip;
  u32* fault;
  i32 instruction;
  i32 processors;
};

// `table` is one of kernel_tables (engine/tables.h), `spec` one of its specs.
// Whether the kernel does nothing where it is told to skip: only such may commit.
bool heeds_skip(const KernelTable& table, const KernelSpec* spec);
void launch_kernel(const KernelTable& table, const KernelSpec* spec, const Args& args, const LaunchPlace& place);

}  // namespace gpu
}  // namespace macl
