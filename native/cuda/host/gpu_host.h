// gpu.h for an ordinary C++ compiler: kernels run on the processor, one fiber a CUDA thread, blocks one after the other.
// For tests and the device `cuda-host` only: it says what a kernel computes, never how fast.
//
// What it catches beside wrong results: barriers and warp operations that threads reach at different places or not at all,
// threads that leave before a barrier, shared memory read before it is written (filled with NaN), writes past the end of a
// shared array (canaries), asynchronous copies read before their wait (poisoned until then), launches beyond a device's
// limits. It does not catch: races within a warp, memory order between blocks. Three orders of threads (set_order) show
// missing barriers as different results.
#pragma once
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <tuple>
#include <vector>

#include "../../ops/types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)

// Vector types with the alignment that CUDA gives them.
struct alignas(8) float2 { float x, y; };
struct float3 { float x, y, z; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct uint3 { unsigned x, y, z; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz) {}
};

namespace macl {
namespace gpu {

// A stream: launches run at once, or are kept in order while it records (what a graph is here).
struct OrderedList {
  bool recording = false;
  std::vector<std::function<void()>> launches;
};
using Stream = OrderedList*;

struct Shape {
  dim3 grid;
  dim3 block;
  i64 shared;
  Stream stream;
};

namespace host {

struct Lane;
extern thread_local Lane* lane;  // the CUDA thread that runs now
const dim3& thread_index();
const dim3& block_index();
const dim3& block_size();
const dim3& grid_size();

// Where in the kernel: two collectives are the same one if they stand at the same place.
struct Site {
  const char* file;
  int line;
};

void barrier(Site site);
// Static shared memory of this block, by the address of the declaration's own static.
void* shared(const void* declaration, i64 bytes);
void* dynamic_shared();

constexpr int kSlotBytes = 64;
struct Slots {
  alignas(16) u8 in[32][kSlotBytes];
  alignas(16) u8 out[32][kSlotBytes];
  u32 mask;
};
// All lanes of `mask` meet; the last to arrive runs `compute` for all of them.
void collective(Site site, u32 mask, const void* in, int inBytes, void (*compute)(Slots&), void* out, int outBytes);

void copy_async(void* to, const void* from, int size, int bytes);
void copy_commit();
void copy_wait(int groups);

// Runs a whole grid now. Throws std::runtime_error with block, thread and reason.
void run_grid(const Shape& shape, const std::function<void()>& body);

enum Order { kForward = 0, kBackward = 1, kShuffled = 2 };
void set_order(Order order);

template <class T>
struct Shuffle {
  T value;
  int from;
};
template <class T>
void shuffle_all(Slots& s) {
  for (int l = 0; l < 32; ++l) {
    if ((s.mask >> l & 1) == 0) continue;
    Shuffle<T> mine;
    std::memcpy(&mine, s.in[l], sizeof mine);
    const int from = mine.from >= 0 && mine.from < 32 && (s.mask >> mine.from & 1) ? mine.from : l;
    std::memcpy(s.out[l], s.in[from], sizeof(T));
  }
}
template <class T>
T shuffle(Site site, u32 mask, T v, int from) {
  static_assert(sizeof(Shuffle<T>) <= kSlotBytes, "a shuffle of at most 32 bytes");
  const Shuffle<T> mine{v, from};
  T result;
  collective(site, mask, &mine, sizeof mine, shuffle_all<T>, &result, sizeof result);
  return result;
}
int lane_number();
u32 ballot(Site site, u32 mask, bool predicate);
void mma_tf32(Slots& s);
void mma_bf16(Slots& s);

}  // namespace host

template <class... P, class... A>
inline void launch(const Shape& s, void (*kernel)(P...), A&&... arguments) {
  const Shape shape = s;
  std::tuple<std::decay_t<P>...> values(static_cast<P>(arguments)...);
  std::function<void()> body = [kernel, values]() { std::apply(kernel, values); };
  if (s.stream && s.stream->recording)
    s.stream->launches.push_back([=]() { host::run_grid(shape, body); });
  else
    host::run_grid(shape, body);
}

}  // namespace gpu
}  // namespace macl

#define threadIdx (macl::gpu::host::thread_index())
#define blockIdx (macl::gpu::host::block_index())
#define blockDim (macl::gpu::host::block_size())
#define gridDim (macl::gpu::host::grid_size())

#define GPU_SITE \
  macl::gpu::host::Site { file, line }
#define GPU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(GPU_HERE) { macl::gpu::host::barrier(GPU_SITE); }
inline void __syncwarp(unsigned mask = 0xffffffffu, GPU_HERE) {
  macl::gpu::host::collective(GPU_SITE, mask, nullptr, 0, [](macl::gpu::host::Slots&) {}, nullptr, 0);
}
template <class T>
T __shfl_sync(unsigned mask, T v, int from, int width = 32, GPU_HERE) {
  const int l = macl::gpu::host::lane_number();
  return macl::gpu::host::shuffle(GPU_SITE, mask, v, l / width * width + (from & (width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, GPU_HERE) {
  const int l = macl::gpu::host::lane_number(), from = l ^ bits;
  return macl::gpu::host::shuffle(GPU_SITE, mask, v, from / width > l / width ? l : from);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, int delta, int width = 32, GPU_HERE) {
  const int l = macl::gpu::host::lane_number(), from = l + delta;
  return macl::gpu::host::shuffle(GPU_SITE, mask, v, from / width == l / width ? from : l);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, int delta, int width = 32, GPU_HERE) {
  const int l = macl::gpu::host::lane_number(), from = l - delta;
  return macl::gpu::host::shuffle(GPU_SITE, mask, v, from >= 0 && from / width == l / width ? from : l);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, GPU_HERE) {
  return macl::gpu::host::ballot(GPU_SITE, mask, predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate, GPU_HERE) {
  return macl::gpu::host::ballot(GPU_SITE, mask, predicate != 0) != 0;
}
inline int __all_sync(unsigned mask, int predicate, GPU_HERE) {
  return macl::gpu::host::ballot(GPU_SITE, mask, predicate == 0) == 0;
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// One host thread runs all blocks, so these are whole as they stand.
template <class T>
T atomicAdd(T* p, T v) { const T old = *p; *p = old + v; return old; }
template <class T>
T atomicMin(T* p, T v) { const T old = *p; if (v < old) *p = v; return old; }
template <class T>
T atomicMax(T* p, T v) { const T old = *p; if (v > old) *p = v; return old; }
template <class T>
T atomicExch(T* p, T v) { const T old = *p; *p = v; return old; }
template <class T>
T atomicCAS(T* p, T expected, T v) { const T old = *p; if (old == expected) *p = v; return old; }
template <class T>
T atomicOr(T* p, T v) { const T old = *p; *p = old | v; return old; }

template <class T>
T __ldg(const T* p) { return *p; }
inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
inline double rsqrt(double v) { return 1.0 / std::sqrt(v); }
inline float __expf(float v) { return std::exp(v); }
inline float __logf(float v) { return std::log(v); }
inline float __fdividef(float a, float b) { return a / b; }
template <class To, class From>
inline To gpu_bits(From v) {
  static_assert(sizeof(To) == sizeof(From), "the same size");
  To r;
  std::memcpy(&r, &v, sizeof r);
  return r;
}
inline unsigned __float_as_uint(float v) { return gpu_bits<unsigned>(v); }
inline int __float_as_int(float v) { return gpu_bits<int>(v); }
inline float __uint_as_float(unsigned v) { return gpu_bits<float>(v); }
inline float __int_as_float(int v) { return gpu_bits<float>(v); }
inline long long __double_as_longlong(double v) { return gpu_bits<long long>(v); }
inline double __longlong_as_double(long long v) { return gpu_bits<double>(v); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz(static_cast<unsigned>(v)); }
inline int __ffs(int v) { return __builtin_ffs(v); }

// CUDA's overloads of min and max, in the global namespace.
#define GPU_MIN_MAX(T)                             \
  inline T min(T a, T b) { return b < a ? b : a; } \
  inline T max(T a, T b) { return a < b ? b : a; }
GPU_MIN_MAX(int)
GPU_MIN_MAX(unsigned)
GPU_MIN_MAX(long long)
GPU_MIN_MAX(unsigned long long)
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }
#undef GPU_MIN_MAX

#define GPU_SHARED(T, name, count)     \
  static const char name##_declared = 0; \
  T* name = static_cast<T*>(macl::gpu::host::shared(&name##_declared, static_cast<macl::i64>(sizeof(T)) * (count)))
#define GPU_DYN_SHARED(T, name) T* name = static_cast<T*>(macl::gpu::host::dynamic_shared())

namespace macl {

inline void cp_async16(void* to, const void* from, int bytes = 16) { gpu::host::copy_async(to, from, 16, bytes); }
inline void cp_async4(void* to, const void* from, int bytes = 4) { gpu::host::copy_async(to, from, 4, bytes); }
inline void cp_async_commit() { gpu::host::copy_commit(); }
template <int N>
inline void cp_async_wait() {
  gpu::host::copy_wait(N);
}

inline u32 to_tf32(f32 v) {
  const u32 bits = __float_as_uint(v);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & 0xffffe000u;
}

struct MmaOperands {
  f32 d[4];
  u32 a[4];
  u32 b[2];
};
static_assert(sizeof(MmaOperands) <= gpu::host::kSlotBytes, "a slot holds a lane's operands");

inline void mma_lanes(void (*compute)(gpu::host::Slots&), f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2], const char* file,
                      int line) {
  const MmaOperands mine = {{d[0], d[1], d[2], d[3]}, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  gpu::host::collective(GPU_SITE, 0xffffffffu, &mine, sizeof mine, compute, d, sizeof d);
}
inline void mma_tf32_16x8x8(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2], GPU_HERE) {
  mma_lanes(gpu::host::mma_tf32, d, a, b, file, line);
}
inline void mma_bf16_16x8x16(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2], GPU_HERE) {
  mma_lanes(gpu::host::mma_bf16, d, a, b, file, line);
}

}  // namespace macl
