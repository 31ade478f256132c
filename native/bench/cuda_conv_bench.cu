// The device's convolutions one by one, without Node: milliseconds and GFLOP/s of forward, dx and dw as JSON lines; small
// shapes are also compared with the kernels without tuning. Random data, buffers rotated so that the L2 cache does not hold
// them, medians of groups of launches between events. The counterpart in PyTorch is tools/bench/gpu_conv.py.
//   nvcc -O3 -std=c++17 -gencode arch=compute_90a,code=sm_90a -o cuda_conv_bench native/bench/cuda_conv_bench.cu
//     native/cuda/conv3d.cu native/cuda/upconv3d.cu
// Usage: cuda_conv_bench [fp32|tf32|plain …]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../cuda/launch.h"
#include "../ops/conv3d.h"
#include "../ops/upconv3d.h"

using namespace macl;
using namespace macl::gpu;

namespace {

void must(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(e));
  std::exit(1);
}

cudaStream_t stream;

f32* device_memory(i64 bytes) {
  void* p = nullptr;
  must(cudaMalloc(&p, size_t(std::max<i64>(bytes, 256))), "cudaMalloc");
  return static_cast<f32*>(p);
}

f32* device_random(i64 count, f32 scale) {
  static const std::vector<f32> pool = [] {
    std::vector<f32> v(1 << 22);
    std::mt19937 gen(1);
    std::normal_distribution<f32> normal;
    for (f32& f : v) f = normal(gen);
    return v;
  }();
  f32* p = device_memory(count * 4);
  std::vector<f32> scaled(pool);
  for (f32& f : scaled) f *= scale;
  for (i64 at = 0; at < count; at += i64(scaled.size()))
    must(cudaMemcpy(p + at, scaled.data(), size_t(std::min<i64>(count - at, i64(scaled.size()))) * 4, cudaMemcpyHostToDevice),
         "cudaMemcpy");
  return p;
}

Tensor tensor(void* data, i64 n, i64 d, i64 h, i64 w, i64 c) {
  return {data, {n, d, h, w, c}, c, kF32, kScratch};
}
Tensor opaque(i64 bytes) { return {bytes ? device_memory(bytes) : nullptr, {bytes, 1, 1, 1, 1}, 1, kU8, kScratch}; }
Tensor none() { return {nullptr, {0, 0, 0, 0, 0}, 0, kU8, -1}; }

const GpuKernel& find(const GpuKernel* family, const char* name) {
  for (; family->spec.name; ++family)
    if (!std::strcmp(family->spec.name, name)) return *family;
  std::fprintf(stderr, "no kernel %s\n", name);
  std::exit(1);
}

struct Call {
  const GpuKernel* kernel;
  std::vector<Tensor> t;
  std::vector<unsigned char> attrs;
  Args args() const { return {t.data(), i32(t.size()), attrs.data(), nullptr}; }
  void run() const { kernel->launch(args(), {stream, nullptr, nullptr, 0, 132}); }
};

template <class A>
std::vector<unsigned char> bytes_of(const A& a) {
  std::vector<unsigned char> b(sizeof a);
  std::memcpy(b.data(), &a, sizeof a);
  return b;
}

// Milliseconds of one launch: the median over groups, calls rotated.
f64 time_calls(const std::vector<Call>& calls) {
  cudaEvent_t a, b;
  must(cudaEventCreate(&a), "event"), must(cudaEventCreate(&b), "event");
  const auto group = [&](int count) {
    must(cudaEventRecord(a, stream), "record");
    for (int i = 0; i < count; ++i) calls[size_t(i) % calls.size()].run();
    must(cudaEventRecord(b, stream), "record");
    must(cudaEventSynchronize(b), "kernel");
    f32 ms = 0;
    must(cudaEventElapsedTime(&ms, a, b), "elapsed");
    return f64(ms) / count;
  };
  const f64 first = group(int(calls.size()) * 2);
  const int count = std::max(int(calls.size()), std::min(200, int(6.0 / first)));
  std::vector<f64> times;
  for (int i = 0; i < 5; ++i) times.push_back(group(count));
  std::sort(times.begin(), times.end());
  must(cudaGetLastError(), "launch");
  return times[times.size() / 2];
}

std::vector<f32> fetch(const void* p, i64 count) {
  std::vector<f32> v(static_cast<size_t>(count));
  must(cudaDeviceSynchronize(), "kernel");
  must(cudaMemcpy(v.data(), p, size_t(count) * 4, cudaMemcpyDeviceToHost), "cudaMemcpy");
  return v;
}

f64 difference(const std::vector<f32>& a, const std::vector<f32>& b) {
  f64 scale = 0, worst = 0;
  for (f32 v : b) scale = std::max(scale, f64(std::fabs(v)));
  for (size_t i = 0; i < a.size(); ++i) {
    const f64 e = std::fabs(f64(a[i]) - b[i]) / scale;
    if (!(e <= worst)) worst = std::isnan(e) ? 1e30 : e;
  }
  return worst;
}

struct Shape3 {
  i64 n, d, h, w, i, o, kd, k;  // k: kernel along H and W
  bool up;                      // upconv3d of stride 2: D, H, W of its input
};

struct Pass {
  const char* name;
  int output;  // index of the tensor that is compared
};

void bench(const char* table, const GpuKernel* family, const GpuKernel* plain, const Shape3& s) {
  const i64 taps = s.up ? 8 : s.kd * s.k * s.k, vx = s.n * s.d * s.h * s.w, m = s.up ? 2 : 1, vy = vx * m * m * m;
  const f64 flop = 2.0 * f64(vx) * f64(taps) * f64(s.i) * f64(s.o);
  const std::string op = s.up ? "upconv3d" : "conv3d";
  const i64 bytes = (vx * s.i + vy * s.o) * 4;
  const int sets = int(std::max<i64>(1, std::min<i64>(8, (200 << 20) / bytes + 1)));
  std::vector<void*> owned;
  f32* w = device_random(s.o * s.i * taps, 1.0f / std::sqrt(f32(s.i * taps)));
  f32* bias = device_random(s.o, 1);
  owned.push_back(w), owned.push_back(bias);
  const Conv3dAttrs conv{s.kd, s.k, s.k, 1, 1, 1, s.k == 3, 0, 0, 0};
  const Upconv3dAttrs up{2, 2, 2, 0};
  const auto pack = [&](const GpuKernel* f, i64 mode) {
    Call c{&find(f, (op + "_pack").c_str()), {}, {}};
    c.attrs = s.up ? bytes_of(Upconv3dPackAttrs{.mode = mode, .dtype = kF32})
                   : bytes_of(Conv3dPackAttrs{.mode = mode, .sd = 1, .sh = 1, .sw = 1, .dtype = kF32});
    c.t = {s.up ? tensor(w, s.i, s.o, 2, 2, 2) : tensor(w, s.o, s.i, s.kd, s.k, s.k), none()};
    c.t[1] = opaque(c.kernel->spec.bytes(c.args(), 1));
    owned.push_back(c.t[1].data);
    c.run();
    return c.t[1];
  };
  std::vector<f32*> xs, ys;
  for (int k = 0; k < sets; ++k) {
    xs.push_back(device_random(vx * s.i, 1)), ys.push_back(device_random(vy * s.o, 1));
    owned.push_back(xs.back()), owned.push_back(ys.back());
  }
  f32 *mean = device_memory(s.o * 4), *var = device_memory(s.o * 4), *dw = device_memory(s.o * s.i * taps * 4);
  f32* db = device_memory(s.o * 4);
  for (f32* p : {mean, var, dw, db}) owned.push_back(p);
  const auto call = [&](const GpuKernel* f, int pass, int set, const Tensor& wp) {
    static const char* const names[] = {"_fwd", "_bwd_x", "_bwd_w"};
    Call c{&find(f, (op + names[pass]).c_str()), {}, {}};
    const Tensor x = tensor(xs[size_t(set)], s.n, s.d, s.h, s.w, s.i);
    const Tensor y = tensor(ys[size_t(set)], s.n, s.d * m, s.h * m, s.w * m, s.o);
    const Tensor b = tensor(bias, s.o, 1, 1, 1, 1), o1 = tensor(mean, s.o, 1, 1, 1, 1), o2 = tensor(var, s.o, 1, 1, 1, 1);
    Conv3dAttrs at = conv;
    if (pass) at.stats = 0;
    c.attrs = s.up ? bytes_of(up) : bytes_of(at);
    if (pass == 0 && s.up) c.t = {x, wp, b, y, none()};
    if (pass == 0 && !s.up) c.t = {x, wp, b, y, at.stats ? o1 : none(), at.stats ? o2 : none(), none()};
    if (pass == 1) c.t = {y, wp, x, none()};
    const Tensor gradient = s.up ? tensor(dw, s.i, s.o, 2, 2, 2) : tensor(dw, s.o, s.i, s.kd, s.k, s.k);
    if (pass == 2) c.t = {x, y, gradient, tensor(db, s.o, 1, 1, 1, 1), none()};
    c.t.back() = opaque(c.kernel->spec.bytes(c.args(), i32(c.t.size()) - 1));
    if (c.t.back().data) owned.push_back(c.t.back().data);
    return c;
  };
  const Tensor wp[2] = {pack(family, 0), pack(family, 1)};
  const Tensor plainWp[2] = {pack(plain, 0), pack(plain, 1)};
  for (int pass = 0; pass < 3; ++pass) {
    if (pass == 1 && s.i <= 4) continue;  // the first layer has no dx
    f64 error = -1;
    if (flop < 3e10) {
      const Call mine = call(family, pass, 0, wp[pass & 1]), theirs = call(plain, pass, 0, plainWp[pass & 1]);
      const int out = pass == 0 ? 3 : 2;
      const i64 count = pass == 0 ? vy * s.o : pass == 1 ? vx * s.i : s.o * s.i * taps;
      // The output of one pass is the input of another: put back.
      const std::vector<f32> before = fetch(mine.t[size_t(out)].data, count);
      theirs.run();
      const std::vector<f32> expected = fetch(theirs.t[size_t(out)].data, count);
      must(cudaMemset(mine.t[size_t(out)].data, 0xff, size_t(count) * 4), "poison");
      mine.run();
      error = difference(fetch(mine.t[size_t(out)].data, count), expected);
      must(cudaMemcpy(mine.t[size_t(out)].data, before.data(), size_t(count) * 4, cudaMemcpyHostToDevice), "cudaMemcpy");
    }
    std::vector<Call> calls;
    for (int k = 0; k < sets; ++k) calls.push_back(call(family, pass, k, wp[pass & 1]));
    for (size_t k = 1; k < calls.size(); ++k) calls[k].t.back() = calls[0].t.back();  // one workspace
    const f64 ms = time_calls(calls);
    static const char* const names[] = {"fwd", "dx", "dw"};
    std::printf("{\"by\":\"macl\",\"op\":\"%s\",\"pass\":\"%s\",\"table\":\"%s\",\"size\":\"%lldx%lldx%lldx%lld\",\"in\":%lld,"
                "\"out\":%lld,\"kernel\":\"%lldx%lldx%lld\",\"ms\":%.4f,\"gflops\":%.0f",
                op.c_str(), names[pass], table, s.n, s.d, s.h, s.w, s.i, s.o, s.up ? 2 : s.kd, s.up ? 2 : s.k, s.up ? 2 : s.k,
                ms, flop / ms * 1e-6);
    if (error >= 0) std::printf(",\"error\":%.3g", error);
    std::printf("}\n");
    std::fflush(stdout);
  }
  must(cudaDeviceSynchronize(), "kernel");
  for (void* p : owned) must(cudaFree(p), "cudaFree");
}

}  // namespace

int main(int argc, char** argv) {
  must(cudaStreamCreate(&stream), "cudaStreamCreate");
  cudaDeviceProp p;
  must(cudaGetDeviceProperties(&p, 0), "device");
  std::printf("{\"device\":\"%s\",\"multiprocessors\":%d}\n", p.name, p.multiProcessorCount);
  const std::vector<Shape3> shapes = {
      {2, 96, 96, 96, 16, 16, 3, 3, false}, {2, 96, 96, 96, 32, 16, 3, 3, false}, {2, 96, 96, 96, 32, 32, 3, 3, false},
      {2, 64, 64, 64, 16, 16, 3, 3, false}, {2, 64, 64, 64, 32, 32, 3, 3, false}, {2, 64, 64, 64, 64, 64, 3, 3, false},
      {2, 48, 48, 48, 32, 32, 3, 3, false}, {2, 48, 48, 48, 64, 64, 3, 3, false}, {2, 48, 48, 48, 128, 128, 3, 3, false},
      {2, 24, 24, 24, 64, 64, 3, 3, false}, {2, 24, 24, 24, 128, 128, 3, 3, false}, {2, 12, 12, 12, 128, 128, 3, 3, false},
      {2, 96, 96, 96, 1, 16, 3, 3, false},  {2, 96, 96, 96, 16, 5, 1, 1, false},  {4, 1, 256, 256, 32, 32, 1, 3, false},
      {2, 48, 48, 48, 32, 16, 1, 1, true},  {2, 24, 24, 24, 64, 32, 1, 1, true},  {2, 12, 12, 12, 128, 64, 1, 1, true},
  };
  for (const char* table : {"fp32", "tf32", "plain"}) {
    bool wanted = argc == 1 && std::strcmp(table, "plain");
    for (int i = 1; i < argc; ++i) wanted |= !std::strcmp(argv[i], table);
    if (!wanted) continue;
    for (const Shape3& s : shapes) {
      const GpuKernel* conv = !std::strcmp(table, "fp32")   ? conv3d_gpu
                              : !std::strcmp(table, "tf32") ? conv3d_tf32_gpu
                                                            : conv3d_plain_gpu;
      bench(table, s.up ? upconv3d_gpu : conv, s.up ? upconv3d_gpu : conv3d_plain_gpu, s);
    }
  }
  return 0;
}
