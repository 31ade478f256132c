// What a kernel's launcher is given, and its entry in the device's table. A launcher runs once, while a program is loaded
// (its launches are captured into a graph), and again only where the program is loaded again.
#pragma once
#include "gpu.h"

namespace macl {
namespace gpu {

struct Launch {
  Stream stream;
  const i32* skip;   // null in the compute phase; commit kernels do nothing where it points at something other than 0
  u32* fault;        // the first instruction that failed: report with set_fault
  i32 instruction;
  i32 processors;    // of the device: what fills it. Never decides the order of a sum
};

struct GpuKernel {
  KernelSpec spec;  // without a check: the plain host kernel's is everybody's (table.cu)
  void (*launch)(const Args&, const Launch&);
  bool commits;     // it does nothing where Launch::skip says so: only such may write state
};
#define MACL_GPU_KERNEL(name, Attrs, launch, bytes) {MACL_SPEC(name, Attrs, nullptr, bytes, nullptr), launch, false}
#define MACL_GPU_COMMIT_KERNEL(name, Attrs, launch, bytes) {MACL_SPEC(name, Attrs, nullptr, bytes, nullptr), launch, true}

// One family's kernels; the last entry's name is null.
extern const GpuKernel conv3d_gpu[], upconv3d_gpu[], linear_gpu[], normact_gpu[], pool_gpu[], resize3d_gpu[], supcon_gpu[],
    losses_gpu[], elementwise_gpu[], warp3d_gpu[], boxmix_gpu[], optim_gpu[];
// The same names for other tables: whatever the shape, the kernels without tuning; and the tensor cores' (tf32).
extern const GpuKernel conv3d_plain_gpu[], upconv3d_plain_gpu[], conv3d_tf32_gpu[];

constexpr u32 kNoFault = 0xffffffffu;

// A status other than kOk of this instruction. The lowest instruction's is told; later ones work on what it left, so
// kernels must not read outside their tensors whatever the data.
__device__ inline void set_fault(u32* fault, i32 instruction, i32 status) {
  atomicMin(fault, static_cast<u32>(instruction) << 8 | static_cast<u32>(status));
}

inline __device__ bool skipped(const i32* skip) { return skip != nullptr && *skip != 0; }

template <class T>
inline const T& attrs_of(const Args& a) {
  return *static_cast<const T*>(a.attrs);
}
inline bool given(const Args& a, int i) { return i < a.count && a.t[i].data != nullptr; }
template <class T>
inline T* pointer(const Args& a, int i) {
  return i < a.count ? static_cast<T*>(a.t[i].data) : nullptr;
}
inline i64 voxels(const Tensor& t) { return t.s[0] * t.s[1] * t.s[2] * t.s[3]; }
inline i64 elements(const Tensor& t) { return voxels(t) * t.s[4]; }
inline i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }
// Blocks of `threads` for n items, at most 2^31 − 1: kernels over more walk with a stride of the grid.
inline unsigned blocks_for(i64 n, i64 threads) {
  const i64 b = ceil_div(n, threads);
  return static_cast<unsigned>(b < 1 ? 1 : b > 0x7fffffff ? 0x7fffffff : b);
}

}  // namespace gpu
}  // namespace macl
