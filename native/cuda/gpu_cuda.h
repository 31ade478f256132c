// gpu.h for nvcc: launches and PTX wrappers. The only file of kernels that holds asm.
#pragma once
#include <cuda_runtime.h>

namespace macl {
namespace gpu {

using Stream = cudaStream_t;

struct Shape {
  dim3 grid;
  dim3 block;
  i64 shared;  // bytes of dynamic shared memory
  Stream stream;
};

template <class... P, class... A>
inline void launch(const Shape& s, void (*kernel)(P...), A&&... arguments) {
  if (s.shared > 48 * 1024) {
    const void* f = reinterpret_cast<const void*>(kernel);
    cudaFuncSetAttribute(f, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(s.shared));
    cudaFuncSetAttribute(f, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
  }
  kernel<<<s.grid, s.block, static_cast<size_t>(s.shared), s.stream>>>(static_cast<P>(arguments)...);
}

}  // namespace gpu

#define GPU_SHARED(T, name, count)                                          \
  __shared__ __align__(16) unsigned char name##_bytes[sizeof(T) * (count)]; \
  T* name = reinterpret_cast<T*>(name##_bytes)

#define GPU_DYN_SHARED(T, name)                                     \
  extern __shared__ __align__(16) unsigned char gpu_dynamic_bytes[]; \
  T* name = reinterpret_cast<T*>(gpu_dynamic_bytes)

// 16 bytes from global to shared memory; both 16-byte aligned. They are there after cp_async_wait of their group and a
// barrier. `bytes` < 16: only so many are read, the rest becomes 0.
__device__ __forceinline__ void cp_async16(void* to, const void* from, int bytes = 16) {
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(at), "l"(from), "r"(bytes) : "memory");
}
// 4 bytes, both 4-byte aligned; `bytes` 0 writes 0.
__device__ __forceinline__ void cp_async4(void* to, const void* from, int bytes = 4) {
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(at), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Waits until at most N of this thread's groups are under way.
template <int N>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

// fp32 → tf32, rounded to nearest with ties away from zero; the result is an fp32 number whose low 13 bits are 0.
__device__ __forceinline__ u32 to_tf32(f32 v) {
  u32 r;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(r) : "f"(v));
  return r;
}

// d += a·b, 16×8×8, a row-major, b column-major, over one warp. Lane l: group g = l / 4, t = l % 4;
// a: (g, t) (g+8, t) (g, t+4) (g+8, t+4); b: (k = t, n = g) (t+4, g); d: (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1).
__device__ __forceinline__ void mma_tf32_16x8x8(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same, 16×8×16 of bf16 pairs (low half first). a: (g, 2t…) (g+8, 2t…) (g, 2t+8…) (g+8, 2t+8…); b: (2t…, g) (2t+8…, g).
__device__ __forceinline__ void mma_bf16_16x8x16(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace macl
