// Sums over a warp and over a block whose order does not depend on anything but the block's size: the same bits each run.
#pragma once
#include "gpu.h"

namespace macl {
namespace gpu {

constexpr int kWarp = 32;

template <class T>
__device__ inline T warp_sum(T v) {
  for (int step = kWarp / 2; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
  return v;
}
template <class T>
__device__ inline T warp_max(T v) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const T other = __shfl_xor_sync(0xffffffffu, v, step);
    v = other > v ? other : v;
  }
  return v;
}

// Over a block of a multiple of 32 threads (at most 1,024) along x; every thread gets the sum. `scratch`: 32 elements of
// shared memory, free again after the call's last barrier.
template <class T>
__device__ inline T block_sum(T v, T* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  v = warp_sum(v);
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  v = warp_sum(lane < warps ? scratch[lane] : T(0));
  __syncthreads();
  return v;
}

}  // namespace gpu
}  // namespace macl
