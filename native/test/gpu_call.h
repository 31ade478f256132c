// Device kernels as a kernel table, so that the cases of host kernels run them too: signature, attributes and check are
// the plain host kernel's; one task runs the launcher, on the host executor, or (compiled by nvcc) on a device.
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

#if defined(__CUDACC__)
// On a device: tensors are copied there (each at its own offset from 256 bytes, so that what is not aligned stays so) and
// back.
class DeviceMemory {
 public:
  DeviceMemory() {
    must(cudaStreamCreate(&stream));
    must(cudaMalloc(reinterpret_cast<void**>(&memory_), kBytes));
    must(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0));
  }
  static void must(cudaError_t e) {
    if (e != cudaSuccess) std::printf("CUDA: %s\n", cudaGetErrorString(e)), std::exit(2);
  }
  void clear() { used_ = 0; }
  template <class T>
  T* take(const T* from, i64 bytes) {
    if (from == nullptr) return nullptr;
    used_ = (used_ + 511) / 256 * 256;
    unsigned char* p = memory_ + used_ + reinterpret_cast<unsigned long long>(from) % 256;
    used_ += bytes + 256;
    if (used_ > kBytes) std::printf("a case of more than %lld bytes\n", kBytes), std::exit(2);
    must(cudaMemcpy(p, from, size_t(bytes), cudaMemcpyHostToDevice));
    return reinterpret_cast<T*>(p);
  }
  cudaStream_t stream;
  int processors = 0;

 private:
  static constexpr i64 kBytes = i64(1) << 29;
  unsigned char* memory_ = nullptr;
  i64 used_ = 0;
};
inline i64 extent(const Tensor& t) {
  const i64 item = t.dtype == kF64 ? 8 : t.dtype == kU8 ? 1 : t.dtype == kI16 || t.dtype == kF16 || t.dtype == kBF16 ? 2 : 4;
  return ((t.s[0] * t.s[1] * t.s[2] * t.s[3] - 1) * t.ld + t.s[4]) * item;
}
inline void launch_adapted(const gpu::GpuKernel& kernel, const Args& a) {
  static DeviceMemory device;
  device.clear();
  std::vector<Tensor> t(a.t, a.t + a.count);
  for (Tensor& v : t)
    if (v.data && extent(v) > 0) v.data = device.take(static_cast<unsigned char*>(v.data), extent(v));
  Segment segments[kSegments] = {};
  if (a.segments) segments[kStore] = {device.take(a.segments[kStore].data, a.segments[kStore].bytes), a.segments[kStore].bytes};
  u32* fault = device.take(&gpu_fault, 4);
  const i32* skip = device.take(gpu_skip, 4);
  kernel.launch({t.data(), a.count, a.attrs, segments}, {device.stream, skip, fault, 0, device.processors});
  DeviceMemory::must(cudaGetLastError());
  DeviceMemory::must(cudaStreamSynchronize(device.stream));
  for (i32 i = 0; i < a.count; ++i)
    if (a.t[i].data && extent(a.t[i]) > 0)
      DeviceMemory::must(cudaMemcpy(a.t[i].data, t[size_t(i)].data, size_t(extent(a.t[i])), cudaMemcpyDeviceToHost));
  DeviceMemory::must(cudaMemcpy(&gpu_fault, fault, 4, cudaMemcpyDeviceToHost));
}
#else
inline void launch_adapted(const gpu::GpuKernel& kernel, const Args& a) {
  gpu::OrderedList stream;
  kernel.launch(a, {&stream, gpu_skip, &gpu_fault, 0, 132});
}
#endif

template <int Index>
i32 run_adapted(const Args& a, i32, i64 begin, i64 end) {
  if (begin == end) return kOk;
  gpu_fault = gpu::kNoFault;
  launch_adapted(*adapted[Index].kernel, a);
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
  auto* specs = new std::vector<KernelSpec>;
  for (const gpu::GpuKernel* g : families)
    for (; g->spec.name; ++g) {
      if (adapters == kAdapters) std::abort();
      Kernel k = {g->spec, 1, [](const Args&, i32) -> i64 { return 1; }, nullptr};
      k.spec.check = find_kernel(plain, g->spec.name)->spec.check;
      adapted[adapters].kernel = g;
      k.run = adapter_run(adapters++, std::make_integer_sequence<int, kAdapters>());
      bool replaced = false;
      for (Kernel& old : *kernels)
        if (!std::strcmp(old.spec.name, k.spec.name)) old = k, replaced = true;
      if (!replaced) kernels->push_back(k);
    }
  for (const Kernel& k : *kernels) specs->push_back(k.spec);
  return {isa, i32(kernels->size()), specs->data(), kernels->data()};
}

}  // namespace
}  // namespace macl::testing
