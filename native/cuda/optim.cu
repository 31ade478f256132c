// gradnorm, sgd, adam over flat, dense ranges of n elements. Equations: native/ops/optim.h. Elements in fp32 with
// coefficients from float64, as the host's tuned kernels; one launch over the whole range.
#include "../ops/optim.h"

#include "launch.h"
#include "reduce.h"
#include "rows.h"

namespace macl {
namespace gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 5;  // of a processor, all at once: each walks over its share
constexpr i64 kChunk = 16384;

// Calls f(first, N) for packs of N = 4 of the n elements, then for what is left with N = 1; strided by the grid.
template <class F>
__device__ inline void each_element(i64 n, bool wide, F f) {
  const i64 id = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x, all = static_cast<i64>(gridDim.x) * blockDim.x;
  const i64 packs = wide ? n / 4 : 0;
  for (i64 i = id; i < packs; i += all) f(i * 4, Pack<f32, 4>{});
  for (i64 i = packs * 4 + id; i < n; i += all) f(i, Pack<f32, 1>{});
}
Shape range_shape(i64 n, const Launch& l) {
  const i64 wanted = ceil_div(n, kThreads * 4), most = static_cast<i64>(l.processors) * kBlocks;
  return {dim3(static_cast<unsigned>(wanted < most ? wanted : most)), dim3(kThreads), 0, l.stream};
}
bool is_wide(const Args& a, int first, int last) {
  for (int i = first; i <= last; ++i)
    if (reinterpret_cast<unsigned long long>(a.t[i].data) % 16 != 0) return false;
  return true;
}

// ---- gradnorm: a block's chunk of 16,384 squares into ws (float64), then all in order ----
template <int N>
__global__ void gradnorm_fwd_chunks_kernel(const f32* g, i64 n, f64* ws) {
  GPU_SHARED(f64, scratch, kWarp);
  const i64 first = static_cast<i64>(blockIdx.x) * kChunk, last = first + kChunk < n ? first + kChunk : n;
  f64 sum = 0;  // fp32 squares would overflow where the gradient does not
  i64 i = first + static_cast<i64>(threadIdx.x) * N;
  for (; i + N <= last; i += kThreads * N) {
    const Pack<f32, N> v = load_pack<N>(g + i);
    for (int j = 0; j < N; ++j) sum += static_cast<f64>(v.v[j]) * static_cast<f64>(v.v[j]);
  }
  for (; i < last; ++i) sum += static_cast<f64>(g[i]) * static_cast<f64>(g[i]);  // of the thread whose pack is cut short
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) ws[blockIdx.x] = sum;
}
__device__ inline bool is_finite(f64 x) { return x - x == 0; }
__global__ void gradnorm_fwd_combine_kernel(const f64* ws, i64 chunks, const f64* loss, f64 limit, f64* norm, f64* clip,
                                            i32* guard) {
  GPU_SHARED(f64, scratch, kWarp);
  f64 sum = 0;
  for (i64 k = threadIdx.x; k < chunks; k += blockDim.x) sum += ws[k];
  sum = block_sum(sum, scratch);
  if (threadIdx.x != 0) return;
  const f64 size = sqrt(sum), ratio = limit / (size + 1e-6);
  const bool bad = !is_finite(size) || !is_finite(*loss);
  *norm = size;
  *clip = limit > 0 && ratio < 1 ? ratio : 1.0;
  *guard = bad ? 1 : 0;
}
i64 gradnorm_bytes(const Args& a, i32) { return ceil_div(elements(a.t[GradnormFwd::g]), kChunk) * 8; }
void launch_gradnorm(const Args& a, const Launch& l) {
  using T = GradnormFwd;
  const i64 n = elements(a.t[T::g]), chunks = ceil_div(n, kChunk);
  f64* ws = pointer<f64>(a, T::ws);
  launch({dim3(static_cast<unsigned>(chunks)), dim3(kThreads), 0, l.stream},
         is_wide(a, T::g, T::g) ? gradnorm_fwd_chunks_kernel<4> : gradnorm_fwd_chunks_kernel<1>, pointer<f32>(a, T::g), n, ws);
  launch({dim3(1), dim3(512), 0, l.stream}, gradnorm_fwd_combine_kernel, ws, chunks, pointer<f64>(a, T::loss),
         attrs_of<GradnormAttrs>(a).maxNorm, pointer<f64>(a, T::norm), pointer<f64>(a, T::clip), pointer<i32>(a, T::guard));
}

// ---- sgd: w and m updated in place ----
__global__ void __launch_bounds__(kThreads, kBlocks) sgd_step_range_kernel(const f32* g, const f64* lr, const f64* clip, f32* w, f32* m, i64 n, f32 momentum,
                                      f32 decay, bool wide, const i32* skip) {
  if (skipped(skip)) return;
  const f32 rate = static_cast<f32>(*lr), scale = static_cast<f32>(*clip);
  each_element(n, wide, [&](i64 at, auto pack) {
    constexpr int N = sizeof(pack) / 4;
    const Pack<f32, N> gs = load_pack<N>(g + at);
    Pack<f32, N> ws = load_pack<N>(w + at), ms = load_pack<N>(m + at);
    for (int i = 0; i < N; ++i) {
      const f32 step = ms.v[i] * momentum + (gs.v[i] * scale + ws.v[i] * decay);
      ms.v[i] = step;
      ws.v[i] = ws.v[i] - step * rate;
    }
    store_pack<N>(m + at, ms);
    store_pack<N>(w + at, ws);
  });
}
void launch_sgd(const Args& a, const Launch& l) {
  using T = SgdStep;
  const auto& p = attrs_of<SgdAttrs>(a);
  const i64 n = elements(a.t[T::g]);
  launch(range_shape(n, l), sgd_step_range_kernel, pointer<f32>(a, T::g), pointer<f64>(a, T::lr), pointer<f64>(a, T::clip),
         pointer<f32>(a, T::w), pointer<f32>(a, T::m), n, p.momentum, p.weightDecay,
         is_wide(a, T::g, T::g) && is_wide(a, T::w, T::m), l.skip);
}

// ---- adam: w, m, v updated in place; a second launch counts the step in t ----
struct AdamCoefs {
  f32 clip, size, spread, keep, decay;
};
__global__ void __launch_bounds__(kThreads, kBlocks) adam_step_range_kernel(const f32* g, const f64* lr, const f64* clip, f32* w, f32* m, f32* v, const f64* t,
                                       i64 n, AdamAttrs p, bool wide, const i32* skip) {
  if (skipped(skip)) return;
  GPU_SHARED(AdamCoefs, shared, 1);
  if (threadIdx.x == 0) {
    const f64 steps = *t + 1, correct1 = 1 - pow(p.beta1, steps), correct2 = 1 - pow(p.beta2, steps);
    shared->clip = static_cast<f32>(*clip);
    shared->size = static_cast<f32>(*lr / correct1);
    shared->spread = static_cast<f32>(1 / sqrt(correct2));
    shared->keep = static_cast<f32>(p.decoupled ? 1 - *lr * p.weightDecay : 1.0);
    shared->decay = static_cast<f32>(p.decoupled ? 0.0 : p.weightDecay);
  }
  __syncthreads();
  const AdamCoefs k = *shared;
  const f32 beta1 = static_cast<f32>(p.beta1), rest1 = static_cast<f32>(1 - p.beta1);
  const f32 beta2 = static_cast<f32>(p.beta2), rest2 = static_cast<f32>(1 - p.beta2), eps = static_cast<f32>(p.eps);
  each_element(n, wide, [&](i64 at, auto pack) {
    constexpr int N = sizeof(pack) / 4;
    const Pack<f32, N> gs = load_pack<N>(g + at);
    Pack<f32, N> ws = load_pack<N>(w + at), ms = load_pack<N>(m + at), vs = load_pack<N>(v + at);
    for (int i = 0; i < N; ++i) {
      const f32 old = ws.v[i], grad = gs.v[i] * k.clip + old * k.decay;
      const f32 m1 = ms.v[i] * beta1 + grad * rest1, v1 = vs.v[i] * beta2 + grad * grad * rest2;
      ms.v[i] = m1;
      vs.v[i] = v1;
      ws.v[i] = old * k.keep - m1 * k.size / (sqrtf(v1) * k.spread + eps);
    }
    store_pack<N>(m + at, ms);
    store_pack<N>(v + at, vs);
    store_pack<N>(w + at, ws);
  });
}
__global__ void adam_step_count_kernel(f64* t, const i32* skip) {
  if (!skipped(skip)) *t += 1;
}
void launch_adam(const Args& a, const Launch& l) {
  using T = AdamStep;
  const i64 n = elements(a.t[T::g]);
  launch(range_shape(n, l), adam_step_range_kernel, pointer<f32>(a, T::g), pointer<f64>(a, T::lr), pointer<f64>(a, T::clip),
         pointer<f32>(a, T::w), pointer<f32>(a, T::m), pointer<f32>(a, T::v), pointer<f64>(a, T::t), n, attrs_of<AdamAttrs>(a),
         is_wide(a, T::g, T::g) && is_wide(a, T::w, T::v), l.skip);
  launch({dim3(1), dim3(1), 0, l.stream}, adam_step_count_kernel, pointer<f64>(a, T::t), l.skip);
}

}  // namespace

extern const GpuKernel optim_gpu[] = {MACL_GPU_KERNEL(gradnorm_fwd, GradnormAttrs, launch_gradnorm, gradnorm_bytes),
                                      MACL_GPU_COMMIT_KERNEL(sgd_step, SgdAttrs, launch_sgd, nullptr),
                                      MACL_GPU_COMMIT_KERNEL(adam_step, AdamAttrs, launch_adam, nullptr),
                                      {}};

}  // namespace gpu
}  // namespace macl
