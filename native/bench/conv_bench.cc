// GFLOP/s of the convolution kernels of one table against the fp32 ceiling measured in the same run (ceiling.h).
// Usage: conv_bench isa [threads] [filter] [variant]; variant "all": each on shapes of many networks, best milliseconds alone,
// one JSON line a shape and variant (what src/ops/conv3d-variants.ts is made from). Random data; warm-up apart; best and median
// of several runs by the clock,
// and the best by processor time (what a run would reach on a machine that nobody else uses).
#include <time.h>

#include <algorithm>
#include <string>

#include "../ops/conv3d.h"
#include "../ops/upconv3d.h"
#include "../test/kernel_call.h"
#include "ceiling.h"

#define TABLES(X) X(ref64) X(plain) X(baseline) X(avx2) X(avx512) X(avx512bf16)
#define DECLARE(isa) extern "C" __attribute__((weak)) const macl::KernelTable macl_kernels_##isa;
TABLES(DECLARE)

using namespace macl;
using namespace macl::testing;
using namespace macl::bench;

namespace {

int threads = 2, runs = 7;
i64 variant = 0;
bool sweep = false;
double peak = 0;

double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

void time_call(const std::string& label, Call& c, double flop) {
  if (c.prepare() != kOk) {
    std::printf("%-44s refused\n", label.c_str());
    return;
  }
  c.run(threads);
  std::vector<double> t;
  double cpu = 1e30;
  for (int i = 0; i < runs; ++i) {
    const double start = seconds(), used = cpu_seconds();
    c.run(threads);
    cpu = std::min(cpu, (cpu_seconds() - used) / threads);
    t.push_back(seconds() - start);
  }
  std::sort(t.begin(), t.end());
  if (sweep) {
    std::printf(", \"%s\": %.4f", label.c_str() + label.rfind(' ') + 1, t[0] * 1e3);
    return;
  }
  const double best = flop / t[0] * 1e-9, median = flop / t[t.size() / 2] * 1e-9, alone = flop / cpu * 1e-9;
  std::printf("%-40s %8.2f ms  best %6.1f  median %6.1f  by processor time %6.1f GFLOP/s", label.c_str(),
              t[t.size() / 2] * 1e3, best, median, alone);
  if (peak > 0) std::printf("  %3.0f%% %3.0f%%", 100 * best / peak / threads, 100 * alone / peak / threads);
  std::printf("\n");
}

struct Case {
  i64 n, d, h, w, i, o, kd, kh, kw;
};

void conv(const KernelTable& table, const Case& c, const char* filter) {
  char shape[120];
  std::snprintf(shape, sizeof shape, "%lldx%lldx%lldx%lld %lld->%lld k%lld%lld%lld", c.n, c.d, c.h, c.w, c.i, c.o, c.kd,
                c.kh, c.kw);
  if (!std::strstr(shape, filter)) return;
  if (variant && ((variant < 200) != (c.kd == 1) || c.kh == 1)) return;
  const double flop = 2. * double(c.n * c.d * c.h * c.w * c.i * c.o * c.kd * c.kh * c.kw);
  const Conv3dAttrs stats{c.kd, c.kh, c.kw, 1, 1, 1, c.kd * c.kh * c.kw > 1, 0, 0, 0, variant};
  const Conv3dAttrs none{c.kd, c.kh, c.kw, 1, 1, 1, 0, 0, 0, 0, variant};
  Call p0(table, "conv3d_pack", false), p1(table, "conv3d_pack", false);
  for (Call* p : {&p0, &p1}) {
    p->attrs(Conv3dPackAttrs{.mode = p == &p1, .sd = 1, .sh = 1, .sw = 1, .variant = variant, .dtype = kF32});
    fill_random((*p)[p->add(c.o, c.i, c.kd, c.kh, c.kw)], 1);
    p->opaque();
    p->prepare();
    p->run();
  }
  time_call(std::string(shape) + " pack", p0, 0);
  Call f(table, "conv3d_fwd", false), g(table, "conv3d_bwd_x", false), h(table, "conv3d_bwd_w", false);
  f.attrs(stats), g.attrs(none), h.attrs(none);
  fill_random(f[f.add(c.n, c.d, c.h, c.w, c.i)], 2);
  f.opaque(&p0[1]);
  fill_random(f[f.add(c.o, 1, 1, 1, 1)], 3);
  f.add(c.n, c.d, c.h, c.w, c.o), f.add(c.o, 1, 1, 1, 1), f.add(c.o, 1, 1, 1, 1), f.opaque();
  time_call(std::string(shape) + " fwd", f, flop);
  if (c.i > 1) {
    fill_random(g[g.add(c.n, c.d, c.h, c.w, c.o)], 4);
    g.opaque(&p1[1]);
    g.add(c.n, c.d, c.h, c.w, c.i), g.opaque();
    time_call(std::string(shape) + " dx", g, flop);
  }
  fill_random(h[h.add(c.n, c.d, c.h, c.w, c.i)], 2);
  fill_random(h[h.add(c.n, c.d, c.h, c.w, c.o)], 4);
  h.add(c.o, c.i, c.kd, c.kh, c.kw), h.add(c.o, 1, 1, 1, 1), h.opaque();
  time_call(std::string(shape) + " dw", h, flop);
}

void upconv(const KernelTable& table, const Case& c, const char* filter) {
  char shape[120];
  std::snprintf(shape, sizeof shape, "%lldx%lldx%lldx%lld %lld->%lld up222", c.n, c.d, c.h, c.w, c.i, c.o);
  if (!std::strstr(shape, filter)) return;
  const double flop = 16. * double(c.n * c.d * c.h * c.w * c.i * c.o);
  const Upconv3dAttrs at{2, 2, 2, 0};
  Call p0(table, "upconv3d_pack", false), p1(table, "upconv3d_pack", false);
  for (Call* p : {&p0, &p1}) {
    p->attrs(Upconv3dPackAttrs{.mode = p == &p1, .dtype = kF32});
    fill_random((*p)[p->add(c.i, c.o, 2, 2, 2)], 1);
    p->opaque();
    p->prepare();
    p->run();
  }
  Call f(table, "upconv3d_fwd", false), g(table, "upconv3d_bwd_x", false), h(table, "upconv3d_bwd_w", false);
  f.attrs(at), g.attrs(at), h.attrs(at);
  fill_random(f[f.add(c.n, c.d, c.h, c.w, c.i)], 2);
  f.opaque(&p0[1]);
  fill_random(f[f.add(c.o, 1, 1, 1, 1)], 3);
  f.add(c.n, 2 * c.d, 2 * c.h, 2 * c.w, c.o), f.opaque();
  time_call(std::string(shape) + " fwd", f, flop);
  fill_random(g[g.add(c.n, 2 * c.d, 2 * c.h, 2 * c.w, c.o)], 4);
  g.opaque(&p1[1]);
  g.add(c.n, c.d, c.h, c.w, c.i), g.opaque();
  time_call(std::string(shape) + " dx", g, flop);
  fill_random(h[h.add(c.n, c.d, c.h, c.w, c.i)], 2);
  fill_random(h[h.add(c.n, 2 * c.d, 2 * c.h, 2 * c.w, c.o)], 4);
  h.add(c.i, c.o, 2, 2, 2), h.add(c.o, 1, 1, 1, 1), h.opaque();
  time_call(std::string(shape) + " dw", h, flop);
}

const Case cases[] = {
    {2, 48, 64, 48, 16, 16, 3, 3, 3}, {2, 24, 32, 24, 32, 32, 3, 3, 3}, {2, 12, 16, 12, 64, 64, 3, 3, 3},
    {2, 24, 32, 24, 16, 16, 3, 3, 3}, {2, 12, 16, 12, 16, 16, 3, 3, 3}, {2, 12, 16, 12, 32, 32, 3, 3, 3},
    {2, 48, 64, 48, 32, 32, 3, 3, 3}, {2, 24, 32, 24, 64, 64, 3, 3, 3}, {2, 48, 64, 48, 1, 16, 3, 3, 3},
    {2, 48, 64, 48, 32, 16, 3, 3, 3}, {2, 48, 64, 48, 16, 3, 1, 1, 1},  {2, 24, 32, 24, 48, 16, 3, 3, 3},
    {2, 24, 32, 24, 96, 32, 3, 3, 3}, {2, 6, 8, 6, 128, 128, 3, 3, 3},  {4, 1, 256, 256, 32, 32, 1, 3, 3},
    {4, 1, 64, 64, 128, 128, 1, 3, 3}, {2, 3, 4, 3, 128, 128, 3, 3, 3},   {2, 6, 8, 6, 256, 256, 3, 3, 3},
    {2, 12, 12, 12, 256, 256, 3, 3, 3}, {4, 1, 16, 16, 512, 512, 1, 3, 3}, {4, 1, 32, 32, 512, 256, 1, 3, 3},
    {4, 1, 32, 32, 256, 256, 1, 3, 3},
};

std::vector<Case> sweep_cases() {
  std::vector<Case> all;
  const i64 grids[][4] = {{2, 48, 64, 48}, {2, 32, 32, 16}, {2, 24, 32, 24}, {2, 12, 16, 12}, {2, 6, 8, 6}, {2, 3, 4, 3},
                          {16, 4, 4, 2},   {4, 1, 256, 256}, {4, 1, 128, 128}, {4, 1, 64, 64}, {4, 1, 32, 32}, {4, 1, 16, 16}};
  const i64 channels[][2] = {{8, 8}, {16, 16}, {32, 16}, {16, 32}, {32, 32}, {64, 32}, {64, 64}, {128, 64}, {128, 128}, {256, 128}, {256, 256}, {512, 512}};
  for (const auto& g : grids)
    for (const auto& c : channels) {
      const i64 kd = g[1] == 1 ? 1 : 3;
      const double flop = 2. * double(g[0] * g[1] * g[2] * g[3] * c[0] * c[1] * kd * 9);
      if (flop < 6e9 && flop > 3e6) all.push_back({g[0], g[1], g[2], g[3], c[0], c[1], kd, 3, 3});
    }
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  const KernelTable* tables[] = {
#define ADDRESS(isa) &macl_kernels_##isa,
      TABLES(ADDRESS)};
  const std::string isa = argc > 1 ? argv[1] : "avx2";
  if (argc > 2) threads = std::atoi(argv[2]);
  const char* filter = argc > 3 ? argv[3] : "";
  if (argc > 4) sweep = !std::strcmp(argv[4], "all"), variant = std::atoi(argv[4]);
  if (sweep) runs = 5;
  peak = ceiling(isa.starts_with("avx512") ? 512 : isa == "avx2" ? 256 : 128);
  if (!sweep)
    std::printf("%s, %d threads; fp32 multiply-add ceiling of a core: %.1f GFLOP/s\n", isa.c_str(), threads, peak);
  for (const KernelTable* t : tables) {
    if (!t || isa != t->isa) continue;
    if (sweep) {
      for (const Case& c : sweep_cases())
        for (i64 v : {0, 222, 242, 422, 442, 122, 142, 144}) {
          if (v && (v < 200) != (c.kd == 1)) continue;
          variant = v;
          std::printf("{\"n\": %lld, \"d\": %lld, \"h\": %lld, \"w\": %lld, \"i\": %lld, \"o\": %lld, \"depth\": %lld, \"variant\": %lld",
                      c.n, c.d, c.h, c.w, c.i, c.o, c.kd, v);
          conv(*t, c, "");
          std::printf("}\n");
          std::fflush(stdout);
        }
      continue;
    }
    for (const Case& c : cases) conv(*t, c, filter);
    if (variant) continue;
    upconv(*t, {2, 24, 32, 24, 32, 16, 0, 0, 0}, filter);
    upconv(*t, {2, 12, 16, 12, 64, 32, 0, 0, 0}, filter);
  }
}
