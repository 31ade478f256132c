// The device's kernels other than convolutions, without Node: microseconds and GB/s as JSON lines. Random data, sets of
// tensors rotated so that the L2 cache does not hold them, a graph of all sets replayed between events, medians. GB/s counts
// each tensor once for every pass that must read or write it. The counterpart in PyTorch is tools/bench/gpu_ops.py.
//   nvcc -O3 -std=c++17 -gencode arch=compute_90a,code=sm_90a -o cuda_ops_bench native/bench/cuda_ops_bench.cu
//     native/cuda/{normact,pool,resize3d,supcon,losses,warp3d,optim}.cu
// Usage: cuda_ops_bench [part of a name …]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "../cuda/launch.h"
#include "../ops/losses.h"
#include "../ops/normact.h"
#include "../ops/optim.h"
#include "../ops/pool.h"
#include "../ops/resize3d.h"
#include "../ops/supcon.h"
#include "../ops/warp3d.h"

using namespace macl;
using namespace macl::gpu;

namespace {

void must(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(e));
  std::exit(1);
}

cudaStream_t stream;
int processors = 0;
u32* fault = nullptr;
std::vector<void*> owned;
std::vector<const char*> wanted;

void* device_memory(i64 bytes) {
  void* p = nullptr;
  must(cudaMalloc(&p, size_t(std::max<i64>(bytes, 256))), "cudaMalloc");
  owned.push_back(p);
  return p;
}
template <class T>
T* device_copy(const std::vector<T>& v) {
  auto* p = static_cast<T*>(device_memory(i64(v.size() * sizeof(T))));
  must(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  return p;
}
// `count` numbers of a pool that repeats every 4 M elements.
template <class T>
T* device_random(i64 count, f32 low, f32 high) {
  static std::mt19937 gen(1);
  std::uniform_real_distribution<f32> u(low, high);
  std::vector<T> pool(size_t(std::min<i64>(count, 1 << 22)));
  for (T& v : pool) v = T(u(gen));
  auto* p = static_cast<T*>(device_memory(count * i64(sizeof(T))));
  for (i64 at = 0; at < count; at += i64(pool.size()))
    must(cudaMemcpy(p + at, pool.data(), size_t(std::min<i64>(count - at, i64(pool.size()))) * sizeof(T),
                    cudaMemcpyHostToDevice),
         "cudaMemcpy");
  return p;
}

struct Size {
  i64 n, d, h, w, c;
  i64 count() const { return n * d * h * w * c; }
  std::string text() const {
    std::string s = std::to_string(n);
    for (i64 v : {d, h, w, c}) s += "x" + std::to_string(v);
    return s;
  }
};
Tensor tensor(void* data, const Size& s, i32 dtype = kF32) {
  return {data, {s.n, s.d, s.h, s.w, s.c}, s.c, dtype, kScratch};
}
Tensor values(const Size& s, f32 low = -1, f32 high = 1) { return tensor(device_random<f32>(s.count(), low, high), s); }
Tensor vector(i64 n, f32 low, f32 high) { return values({1, 1, 1, 1, n}, low, high); }
Tensor scalars(const std::vector<f64>& v) { return tensor(device_copy(v), {1, 1, 1, 1, i64(v.size())}, kF64); }
Tensor labels(const Size& s, i64 classes) {
  return tensor(device_random<i32>(s.n * s.d * s.h * s.w, 0, f32(classes) - 0.01f), {s.n, s.d, s.h, s.w, 1}, kI32);
}
Tensor space() { return {nullptr, {0, 1, 1, 1, 1}, 1, kU8, kScratch}; }  // sized by its call
Tensor none() { return {nullptr, {0, 0, 0, 0, 0}, 0, kU8, -1}; }

struct Call {
  const GpuKernel* kernel = nullptr;
  std::vector<Tensor> t;
  std::vector<unsigned char> attrs;
  Segment segments[kSegments] = {};
  void run() const {
    kernel->launch({t.data(), i32(t.size()), attrs.data(), segments}, {stream, nullptr, fault, 0, processors});
  }
};
template <class A>
Call call(const GpuKernel* family, const char* name, const A& attrs, const std::vector<Tensor>& t) {
  Call c;
  for (; family->spec.name; ++family)
    if (!std::strcmp(family->spec.name, name)) c.kernel = family;
  if (!c.kernel) std::fprintf(stderr, "no kernel %s\n", name), std::exit(1);
  c.t = t;
  c.attrs.resize(sizeof attrs);
  std::memcpy(c.attrs.data(), &attrs, sizeof attrs);
  for (size_t i = 0; i < t.size(); ++i)
    if (t[i].dtype == kU8 && t[i].segment >= 0)
      c.t[i].data = device_memory(c.kernel->spec.bytes({c.t.data(), i32(t.size()), c.attrs.data(), nullptr}, i32(i)));
  return c;
}

// Each set's calls in order, all sets in one graph: microseconds of one set, and GB/s of `bytes`.
void bench(const char* op, const std::string& size, f64 bytes, int sets, const std::function<std::vector<Call>(int)>& make) {
  bool run = wanted.empty();
  for (const char* w : wanted) run |= std::strstr(op, w) != nullptr;
  if (!run) return;
  std::vector<std::vector<Call>> calls;
  for (int i = 0; i < sets; ++i) calls.push_back(make(i));
  const auto all = [&]() {
    for (const auto& set : calls)
      for (const Call& c : set) c.run();
  };
  all();
  must(cudaStreamSynchronize(stream), op);
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  all();
  must(cudaStreamEndCapture(stream, &graph), "capture");
  must(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  cudaEvent_t a, b;
  must(cudaEventCreate(&a), "event"), must(cudaEventCreate(&b), "event");
  const auto group = [&](int count) {
    must(cudaEventRecord(a, stream), "record");
    for (int i = 0; i < count; ++i) must(cudaGraphLaunch(exec, stream), "graph");
    must(cudaEventRecord(b, stream), "record");
    must(cudaEventSynchronize(b), op);
    f32 ms = 0;
    must(cudaEventElapsedTime(&ms, a, b), "elapsed");
    return f64(ms) * 1e3 / count / sets;
  };
  const f64 first = group(2);
  const int count = std::max(1, std::min(200, int(8000 / (first * sets))));
  std::vector<f64> us;
  for (int i = 0; i < 7; ++i) us.push_back(group(count));
  std::sort(us.begin(), us.end());
  u32 seen = kNoFault;
  must(cudaMemcpy(&seen, fault, 4, cudaMemcpyDeviceToHost), "fault");
  std::printf("{\"by\":\"macl\",\"op\":\"%s\",\"size\":\"%s\",\"us\":%.2f,\"least\":%.2f,\"gbs\":%.0f%s}\n", op, size.c_str(),
              us[us.size() / 2], us[0], bytes / us[us.size() / 2] * 1e-3, seen == kNoFault ? "" : ",\"fault\":true");
  std::fflush(stdout);
  must(cudaGraphExecDestroy(exec), "graph"), must(cudaGraphDestroy(graph), "graph");
  for (void* p : owned)
    if (p != fault) must(cudaFree(p), "cudaFree");
  owned.clear();
}

void normact() {
  for (const Size& s : {Size{2, 96, 96, 96, 32}, Size{2, 96, 96, 96, 16}, Size{2, 24, 24, 24, 128}}) {
    const f64 whole = f64(s.count()) * 4;
    const int sets = whole > 1e8 ? 2 : 8;
    const Size p{s.n, s.d / 2, s.h / 2, s.w / 2, s.c};
    const NormactFwdAttrs at{kOwnNorm, 1e-5, 0.01, 2, 2, 2};
    const auto sums = [&] { return vector(s.c * 4, 0, 1); };  // as many bytes as 2 · C float64
    const auto channel = [&](f32 low, f32 high) { return vector(s.c, low, high); };
    bench("normact stats", s.text(), whole, sets, [&](int) -> std::vector<Call> {
      return {call(normact_gpu, "normact_stats", NormactStatsAttrs{0}, {values(s), channel(0, 1), channel(0, 1), space()})};
    });
    bench("normact stats+fwd", s.text(), whole * 3, sets, [&](int) -> std::vector<Call> {
      const Tensor x = values(s), mean = channel(0, 1), var = channel(1, 2);
      return {call(normact_gpu, "normact_stats", NormactStatsAttrs{0}, {x, mean, var, space()}),
              call(normact_gpu, "normact_fwd", at, {x, mean, var, channel(1, 2), channel(-1, 1), values(s), none()})};
    });
    bench("normact fwd", s.text(), whole * 2, sets, [&](int) -> std::vector<Call> {
      return {call(normact_gpu, "normact_fwd", at,
                   {values(s), channel(0, 1), channel(1, 2), channel(1, 2), channel(-1, 1), values(s), none()})};
    });
    bench("normact fwd pooled", s.text(), whole * 2.125, sets, [&](int) -> std::vector<Call> {
      return {call(normact_gpu, "normact_fwd", at,
                   {values(s), channel(0, 1), channel(1, 2), channel(1, 2), channel(-1, 1), values(s), values(p)})};
    });
    bench("normact bwd", s.text(), whole * 5, sets, [&](int) -> std::vector<Call> {
      const Tensor dy = values(s), x = values(s), mean = channel(0, 1), var = channel(1, 2), gamma = channel(1, 2),
                   beta = channel(-1, 1), of = sums();
      return {call(normact_gpu, "normact_sums", NormactSumsAttrs{1e-5, 0.01, 0},
                   {dy, x, mean, var, gamma, beta, of, channel(0, 1), channel(0, 1), space()}),
              call(normact_gpu, "normact_bwd", NormactBwdAttrs{kOwnNorm, 1e-5, 0.01, f64(s.count() / s.c), 0},
                   {dy, x, mean, var, gamma, beta, of, values(s)})};
    });
    bench("maxpool3d fwd", s.text(), whole * 1.125, sets, [&](int) -> std::vector<Call> {
      return {call(pool_gpu, "maxpool3d_fwd", Maxpool3dAttrs{2, 2, 2, 0}, {values(s), values(p)})};
    });
    bench("maxpool3d bwd", s.text(), whole * 2.125, sets, [&](int) -> std::vector<Call> {
      return {call(pool_gpu, "maxpool3d_bwd", Maxpool3dAttrs{2, 2, 2, 0}, {values(s), values(p), values(s)})};
    });
  }
}

void losses() {
  for (const i64 classes : {2, 5, 16}) {
    const Size s{2, 96, 96, 96, classes};
    const f64 x = f64(s.count()) * 4, y = f64(s.count() / classes) * 4;
    const auto ce = [&](const Tensor& logits, const Tensor& y_, const Tensor& dx) {
      return call(losses_gpu, "softmaxce_fwdbwd", SoftmaxceAttrs{255, 0},
                  {logits, y_, none(), scalars({1}), scalars({0}), scalars({0}), dx, space()});
    };
    const auto dice = [&](const Tensor& logits, const Tensor& y_, const Tensor& dx) {
      return call(losses_gpu, "dice_fwdbwd", DiceAttrs{255, 0, 0, 1e-5, 1},
                  {logits, y_, scalars({1}), scalars({0}), scalars(std::vector<f64>(size_t(classes * 3))), dx, space()});
    };
    bench("softmaxce fwd+bwd", s.text(), x * 2 + y * 2, 3, [&](int) -> std::vector<Call> {
      return {ce(values(s, -4, 4), labels(s, classes), values(s))};
    });
    bench("dice fwd+bwd", s.text(), x * 4 + y * 2, 3, [&](int) -> std::vector<Call> {
      return {dice(values(s, -4, 4), labels(s, classes), values(s))};
    });
    bench("softmaxce+dice fwd+bwd", s.text(), x * 6 + y * 4, 3, [&](int) -> std::vector<Call> {
      const Tensor logits = values(s, -4, 4), y_ = labels(s, classes), dx = values(s);
      return {ce(logits, y_, dx), dice(logits, y_, dx)};
    });
  }
  const Size s{16, 8, 16, 8, 128};
  bench("l1 fwd+bwd", s.text(), f64(s.count()) * 16, 8, [&](int) -> std::vector<Call> {
    return {call(losses_gpu, "l1_fwdbwd", L1Attrs{0, 0},
                 {values(s), values(s), scalars({1}), scalars({0}), scalars({0, 0}), none(), values(s), values(s), space()})};
  });
}

void supcon() {
  for (const Size& s : {Size{16, 8, 16, 8, 128}, Size{32, 8, 16, 8, 128}, Size{16, 1, 1, 1, 128}, Size{64, 1, 1, 1, 128}})
    bench("supcon fwd+bwd", s.text(), f64(s.count()) * 16, 8, [&](int) -> std::vector<Call> {
      const Tensor pos = tensor(device_random<f64>(s.n, 0, 1), {s.n, 1, 1, 1, 1}, kF64);
      return {call(supcon_gpu, "supcon_fwdbwd", SupconAttrs{0.1, 1, 0.1, 0.1, 0.1, 0},
                   {values(s), values(s), pos, scalars({1}), scalars({0}), scalars({0}), values(s), values(s), space()})};
    });
}

void resize() {
  const Size s{2, 24, 24, 24, 64}, to{2, 48, 48, 48, 64};
  const f64 bytes = f64(s.count() + to.count()) * 4;
  bench("resize3d fwd", s.text(), bytes, 4, [&](int) -> std::vector<Call> {
    return {call(resize3d_gpu, "resize3d_fwd", Resize3dAttrs{0}, {values(s), values(to)})};
  });
  bench("resize3d bwd", s.text(), bytes, 4, [&](int) -> std::vector<Call> {
    return {call(resize3d_gpu, "resize3d_bwd", Resize3dAttrs{0}, {values(to), values(s)})};
  });
}

// Crops of 96³ out of 128³ int16, turned by a small angle.
void warp() {
  const Size s{4, 96, 96, 96, 1};
  const i64 side = 128, volume = side * side * side;
  for (const i64 interp : {0, 1, 2}) {
    static const char* const names[] = {"warp3d nearest", "warp3d linear", "warp3d cubic"};
    for (const f64 noise : {0.0, 0.1}) {
      if (noise > 0 && interp != 1) continue;
      bench(noise > 0 ? "warp3d linear noise" : names[interp], s.text(), f64(s.count()) * 6, 8, [&](int set) -> std::vector<Call> {
        std::vector<f64> words(size_t(s.n * kWarpWords));
        for (i64 k = 0; k < s.n; ++k) {
          f64* w = words.data() + k * kWarpWords;
          const f64 c = 0.9848, n = 0.1736;
          const f64 head[] = {f64(k * volume * 2), 128, 128, 128, 128 * 128, 128, 1, kI16, 0.001, 0};
          const f64 affine[] = {1, 0, 0, 16.3, 0, c, -n, 24.7, 0, n, c, 8.1};
          const f64 tail[] = {1.1, -0.2, noise, f64(set), f64(k), 0};
          std::memcpy(w, head, sizeof head), std::memcpy(w + 10, affine, sizeof affine), std::memcpy(w + 22, tail, sizeof tail);
        }
        Call c = call(warp3d_gpu, "warp3d_fwd", Warp3dAttrs{interp}, {tensor(device_copy(words), {s.n, 1, kWarpWords, 1, 1}, kF64), values(s)});
        c.segments[kStore] = {reinterpret_cast<u8*>(device_random<i16>(s.n * volume, -1000, 1000)), s.n * volume * 2};
        return {c};
      });
    }
  }
}

void optimisers() {
  const i64 n = 30'000'000;
  const std::string size = std::to_string(n);
  bench("gradnorm", size, f64(n) * 4, 2, [&](int) -> std::vector<Call> {
    const Tensor guard = tensor(device_memory(4), {1, 1, 1, 1, 1}, kI32);
    return {call(optim_gpu, "gradnorm_fwd", GradnormAttrs{1}, {vector(n, -1, 1), scalars({1}), scalars({0}), scalars({0}), guard, space()})};
  });
  bench("sgd", size, f64(n) * 20, 1, [&](int) -> std::vector<Call> {
    return {call(optim_gpu, "sgd_step", SgdAttrs{0.9, 1e-4},
                 {vector(n, -1, 1), scalars({1e-3}), scalars({1}), vector(n, -1, 1), vector(n, -1, 1)})};
  });
  bench("adam", size, f64(n) * 28, 1, [&](int) -> std::vector<Call> {
    return {call(optim_gpu, "adam_step", AdamAttrs{0.9, 0.999, 1e-8, 0, 0},
                 {vector(n, -1, 1), scalars({1e-3}), scalars({1}), vector(n, -1, 1), vector(n, -1, 1), vector(n, 0, 1), scalars({0})})};
  });
}

}  // namespace

int main(int argc, char** argv) {
  wanted.assign(argv + 1, argv + argc);
  must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  cudaDeviceProp p;
  must(cudaGetDeviceProperties(&p, 0), "device");
  processors = p.multiProcessorCount;
  must(cudaMalloc(&fault, 4), "cudaMalloc");
  must(cudaMemset(fault, 0xff, 4), "cudaMemset");
  std::printf("{\"device\":\"%s\",\"multiprocessors\":%d}\n", p.name, processors);
  supcon();
  normact();
  losses();
  warp();
  optimisers();
  resize();
  return 0;
}
