// The vocabulary in which kernels (*.cu of this folder) are written: chosen here, once. nvcc compiles them for devices
// (gpu_cuda.h); an ordinary C++ compiler compiles the same sources for the host executor of tests (host/gpu_host.h), which
// runs one fiber a thread.
//
//   __global__ __device__ threadIdx blockIdx blockDim gridDim __syncthreads __syncwarp __shfl_*_sync   as CUDA has them
//   GPU_SHARED(T, name, count)    count elements of static shared memory; name is a T*
//   GPU_DYN_SHARED(T, name)       the launch's dynamic shared memory, 16-byte aligned; name is a T*
//   gpu::launch(Shape, kernel, arguments…)   instead of <<<>>>; arguments are converted to the parameters' types
//   GPU_UNROLL, GPU_ROLLED        before a loop: all its rounds one after the other; never several at once
//   cp_async16, cp_async_commit, cp_async_wait<N>, mma_*   wrapped instructions
//
// Kernels hold no asm, no branch on __CUDA_ARCH__, no bare __shared__ and no <<<>>>: what only nvcc sees is tested nowhere
// else. A return before a later __syncthreads is an error. Locals of kernels are trivially destructible.
#pragma once
#include "../ops/types.h"

#if defined(__CUDACC__)
#define GPU_UNROLL _Pragma("unroll")
#define GPU_ROLLED _Pragma("unroll 1")
#include "gpu_cuda.h"
#else
#define GPU_UNROLL
#define GPU_ROLLED
#include "host/gpu_host.h"
#endif
