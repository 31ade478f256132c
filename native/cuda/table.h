// The device's kernel tables: names, signatures and checks of the plain host kernels, sizes and launches of ours.
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

// Whether the kernel does nothing where it is told to skip: only such may commit.
bool heeds_skip(const Kernel& kernel);

// `kernel` must be of one of kernel_tables (engine/tables.h).
void launch_kernel(const KernelTable& table, const Kernel* kernel, const Args& args, const LaunchPlace& place);

}  // namespace gpu
}  // namespace macl
