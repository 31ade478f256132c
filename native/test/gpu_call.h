// Device kernels as a kernel table, so that the cases of host kernels run them too: signature, attributes and check are
// the plain host kernel's; one task runs the launcher, on the host executor.
#pragma once
#include "../cuda/launch.h"
#include "kernel_call.h"

namespace macl::testing {
namespace {

constexpr int kAdapters = 64;

struct Adapted {
  const gpu::GpuKernel* kernel = nullptr;
};
Adapted adapted[kAdapters];
int adapters = 0;
u32 gpu_fault = gpu::kNoFault;
const i32* gpu_skip = nullptr;  // what commit kernels look at

template <int Index>
i32 run_adapted(const Args& a, i32, i64 begin, i64 end) {
  if (begin == end) return kOk;
  gpu::OrderedList stream;
  gpu_fault = gpu::kNoFault;
  adapted[Index].kernel->launch(a, {&stream, gpu_skip, &gpu_fault, 0, 132});
  return gpu_fault == gpu::kNoFault ? i32(kOk) : i32(gpu_fault & 255);
}

using RunFn = i32 (*)(const Args&, i32, i64, i64);
template <int... Index>
RunFn adapter_run(int i, std::integer_sequence<int, Index...>) {
  static constexpr RunFn all[] = {run_adapted<Index>...};
  return all[i];
}

// The kernels of the families' arrays (each ends with a name of null) under `isa`; a later array's entry takes the place
// of an earlier one of its name. Lives as long as the process.
inline KernelTable gpu_table(const char* isa, const KernelTable& plain, const std::vector<const gpu::GpuKernel*>& families) {
  auto* kernels = new std::vector<Kernel>;
  for (const gpu::GpuKernel* g : families)
    for (; g->name; ++g) {
      if (adapters == kAdapters) std::abort();
      Kernel k = *find_kernel(plain, g->name);
      k.phases = 1;
      k.tasks = [](const Args&, i32) -> i64 { return 1; };
      k.bytes = g->bytes;
      adapted[adapters].kernel = g;
      k.run = adapter_run(adapters++, std::make_integer_sequence<int, kAdapters>());
      bool replaced = false;
      for (Kernel& old : *kernels)
        if (!std::strcmp(old.name, k.name)) old = k, replaced = true;
      if (!replaced) kernels->push_back(k);
    }
  return {isa, i32(kernels->size()), kernels->data()};
}

}  // namespace
}  // namespace macl::testing
