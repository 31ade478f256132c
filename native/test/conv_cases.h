// Cases of convolutions (conv3d, upconv3d, linear) of any kernel table against sums written straight from the equations in
// native/ops (float64): shapes that are odd, smaller than a tile, no multiple of the vector; channel slices; strides;
// accumulation; every way of running gives the same bits.
#pragma once
#include <cmath>
#include <functional>

#include "../ops/conv3d.h"
#include "../ops/linear.h"
#include "../ops/upconv3d.h"
#include "kernel_call.h"

namespace macl::testing {
namespace {

int passed = 0, failed = 0;
double tolerance = 4e-6;              // of sums, relative to the largest
void (*before_way)(int) = nullptr;    // called before each of the four ways

void expect(const std::string& what, double error, double tolerance) {
  if (error <= tolerance) {
    ++passed;
  } else {
    ++failed;
    std::printf("FAIL %s: error %.3g, tolerance %.3g\n", what.c_str(), error, tolerance);
  }
}

using Values = std::vector<double>;

// The dense values of a (possibly sliced) tensor.
Values values(Call& c, int i, i64 offset = 0) {
  const Buffer& b = c[i];
  const i64 count = b.t.s[0] * b.t.s[1] * b.t.s[2] * b.t.s[3], C = b.t.s[4];
  Values out(size_t(count * C));
  for (i64 v = 0; v < count; ++v)
    for (i64 k = 0; k < C; ++k) out[size_t(v * C + k)] = b.get(v * b.t.ld + offset + k);
  return out;
}

double difference(const Values& a, const Values& b) {
  double scale = 1, worst = 0;
  for (double v : b) scale = std::max(scale, std::fabs(v));
  for (size_t i = 0; i < a.size(); ++i) {
    const double e = std::fabs(a[i] - b[i]) / scale;
    worst = e > worst || std::isnan(e) ? (std::isnan(e) ? 1e30 : e) : worst;
  }
  return worst;
}

// Runs the call in four ways; the outputs must not differ in a bit, nor anything outside of the slices.
void run_all_ways(const std::string& what, Call& c, const std::vector<int>& outputs, const std::vector<i64>& offsets) {
  const i32 status = c.prepare();
  expect(what + " check", status, 0);
  if (status != kOk) return;
  std::vector<std::vector<unsigned char>> before, first;
  for (int o : outputs) before.push_back(c[o].bytes);
  for (int way = 0; way < 4; ++way) {
    for (size_t i = 0; i < outputs.size(); ++i)
      std::memcpy(c[outputs[i]].bytes.data(), before[i].data(), before[i].size());
    if (before_way) before_way(way);
    if (way == 3)
      c.run_backwards();
    else
      c.run(way + 1);
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (way == 0)
        first.push_back(c[outputs[i]].bytes);
      else
        expect(what + " bits", c[outputs[i]].bytes == first[i] ? 0 : 1, 0);
    }
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Buffer& b = c[outputs[i]];
    const i64 e = b.width(), count = i64(b.bytes.size()) / e / b.t.ld;
    bool same = true;
    for (i64 v = 0; v < count; ++v)
      for (i64 k = 0; k < b.t.ld; ++k)
        if (k < offsets[i] || k >= offsets[i] + b.t.s[4]) {
          const size_t at = size_t((v * b.t.ld + k) * e);
          same &= !std::memcmp(&b.bytes[at], &before[i][at], size_t(e));
        }
    expect(what + " neighbours untouched", same ? 0 : 1, 0);
  }
}

struct Case {
  i64 n, d, h, w, i, o, kd, kh, kw, sd, sh, sw, pad;  // pad: channels beside the slices
  i64 variant = 0;
  bool bf16 = false;  // activations
};

// Of a stored activation: bf16 rounds it once, relative to the largest.
double stored(const Case& c, double tolerance) { return c.bf16 ? tolerance + 0x1p-8 : tolerance; }

// Calls f for every term of the convolution: y's voxel, x's voxel, tap.
void terms(const Case& c, const std::function<void(i64, i64, i64)>& f) {
  const i64 od = (c.d - 1) / c.sd + 1, oh = (c.h - 1) / c.sh + 1, ow = (c.w - 1) / c.sw + 1;
  for (i64 n = 0; n < c.n; ++n)
    for (i64 d = 0; d < od; ++d)
      for (i64 h = 0; h < oh; ++h)
        for (i64 w = 0; w < ow; ++w)
          for (i64 a = 0; a < c.kd; ++a)
            for (i64 b = 0; b < c.kh; ++b)
              for (i64 e = 0; e < c.kw; ++e) {
                const i64 x = d * c.sd + a - c.kd / 2, y = h * c.sh + b - c.kh / 2, z = w * c.sw + e - c.kw / 2;
                if (x < 0 || y < 0 || z < 0 || x >= c.d || y >= c.h || z >= c.w) continue;
                f(((n * od + d) * oh + h) * ow + w, ((n * c.d + x) * c.h + y) * c.w + z, (a * c.kh + b) * c.kw + e);
              }
}

void conv_case(const KernelTable& table, const Case& c) {
  const bool f64 = !std::strcmp(table.isa, "ref64");
  const double tol = f64 ? 1e-12 : c.variant ? 3 * tolerance : tolerance;
  char name[160];
  std::snprintf(name, sizeof name, "%s%s conv %lldx%lldx%lldx%lld %lld->%lld k%lld%lld%lld s%lld%lld%lld pad%lld v%lld",
                table.isa, c.bf16 ? " bf16" : "", c.n, c.d, c.h, c.w, c.i, c.o, c.kd, c.kh, c.kw, c.sd, c.sh, c.sw, c.pad, c.variant);
  const std::string label = name;
  const i64 od = (c.d - 1) / c.sd + 1, oh = (c.h - 1) / c.sh + 1, ow = (c.w - 1) / c.sw + 1, taps = c.kd * c.kh * c.kw;
  Call pack0(table, "conv3d_pack", f64), pack1(table, "conv3d_pack", f64);
  int w0 = 0;
  for (Call* p : {&pack0, &pack1}) {
    p->attrs(Conv3dPackAttrs{.mode = p == &pack1, .sd = c.sd, .sh = c.sh, 
                           .sw = c.sw, .variant = c.variant, .dtype = c.bf16 ? kBF16 : f64 ? kF64 : kF32});
    w0 = p->add(c.o, c.i, c.kd, c.kh, c.kw);
    fill_random((*p)[w0], 1);
    p->opaque();
    run_all_ways(label + " pack", *p, {1}, {0});
  }
  const Values w = [&] {
    Values v;
    for (i64 i = 0; i < c.o * c.i * taps; ++i) v.push_back(c.bf16 ? rounded16(pack0[w0].get(i)) : pack0[w0].get(i));
    return v;
  }();
  const i64 before = c.pad / 2;
  Values x, b;
  for (int mode = 0; mode < 3; ++mode) {  // plain, with statistics, with an activation and no bias
    Call f(table, "conv3d_fwd", f64, c.bf16);
    f.attrs(Conv3dAttrs{c.kd, c.kh, c.kw, c.sd, c.sh, c.sw, mode == 1, mode == 2, 0.1, 0, c.variant});
    const int ix = f.act(c.n, c.d, c.h, c.w, c.i, c.i + c.pad, before);
    f.opaque(&pack0[1]);
    const int ib = mode == 2 ? f.none() : f.add(c.o, 1, 1, 1, 1);
    const int iy = f.act(c.n, od, oh, ow, c.o, c.o + c.pad, before);
    fill_random(f[ix], 2), fill_random(f[iy], 3);
    if (mode != 2) {
      fill_random(f[ib], 4);
      for (i64 o = 0; o < c.o; ++o) f[ib].set(o, f[ib].get(o) + 3);
    }
    std::vector<int> outs{iy};
    std::vector<i64> offs{before};
    if (mode == 1) {
      outs.push_back(f.add(c.o, 1, 1, 1, 1)), outs.push_back(f.add(c.o, 1, 1, 1, 1));
      offs.push_back(0), offs.push_back(0);
    } else {
      f.none(), f.none();
    }
    f.opaque();
    run_all_ways(label + " fwd", f, outs, offs);
    x = values(f, ix, before);
    Values y(size_t(c.n * od * oh * ow * c.o), 0);
    if (mode != 2) {
      for (size_t v = 0; v < y.size(); ++v) y[v] = f[ib].get(i64(v) % c.o);
    }
    terms(c, [&](i64 vy, i64 vx, i64 tap) {
      for (i64 o = 0; o < c.o; ++o)
        for (i64 i = 0; i < c.i; ++i)
          y[size_t(vy * c.o + o)] += x[size_t(vx * c.i + i)] * w[size_t((o * c.i + i) * taps + tap)];
    });
    if (mode == 2)
      for (double& v : y) v = v < 0 ? v * 0.1 : v;
    expect(label + " fwd", difference(values(f, iy, before), y), stored(c, tol));
    if (c.bf16) y = values(f, iy, before);  // statistics are of what is stored
    if (mode == 1) {
      Values mean(size_t(c.o), 0), var(size_t(c.o), 0);
      const double count = double(y.size()) / double(c.o);
      for (size_t v = 0; v < y.size(); ++v) mean[v % size_t(c.o)] += y[v] / count;
      for (size_t v = 0; v < y.size(); ++v) var[v % size_t(c.o)] += std::pow(y[v] - mean[v % size_t(c.o)], 2) / count;
      expect(label + " mean", difference(values(f, outs[1]), mean), tol);
      expect(label + " var", difference(values(f, outs[2]), var), tol);
    }
  }
  for (int add = 0; add < 2; ++add) {
    Call g(table, "conv3d_bwd_x", f64, c.bf16), h(table, "conv3d_bwd_w", f64, c.bf16);
    const Conv3dAttrs at{c.kd, c.kh, c.kw, c.sd, c.sh, c.sw, 0, 0, 0, add, c.variant};
    g.attrs(at), h.attrs(at);
    const int idy = g.act(c.n, od, oh, ow, c.o, c.o + c.pad, before);
    g.opaque(&pack1[1]);
    const int idx = g.act(c.n, c.d, c.h, c.w, c.i, c.i + c.pad, before);
    g.opaque();
    fill_random(g[idy], 5), fill_random(g[idx], 6);
    Values dy = values(g, idy, before), dx = values(g, idx, before);
    if (!add) dx.assign(dx.size(), 0);
    terms(c, [&](i64 vy, i64 vx, i64 tap) {
      for (i64 o = 0; o < c.o; ++o)
        for (i64 i = 0; i < c.i; ++i)
          dx[size_t(vx * c.i + i)] += dy[size_t(vy * c.o + o)] * w[size_t((o * c.i + i) * taps + tap)];
    });
    run_all_ways(label + " dx", g, {idx}, {before});
    expect(label + " dx", difference(values(g, idx, before), dx), stored(c, tol));

    const int jx = h.act(c.n, c.d, c.h, c.w, c.i, c.i + c.pad, before);
    const int jdy = h.act(c.n, od, oh, ow, c.o, c.o + c.pad, before);
    const int jdw = h.add(c.o, c.i, c.kd, c.kh, c.kw);
    const int jdb = add ? h.add(c.o, 1, 1, 1, 1) : h.none();
    h.opaque();
    fill_random(h[jx], 2), fill_random(h[jdy], 5), fill_random(h[jdw], 7);
    if (add) fill_random(h[jdb], 8);
    Values dw, db;
    for (i64 i = 0; i < c.o * c.i * taps; ++i) dw.push_back(add ? h[jdw].get(i) : 0);
    for (i64 o = 0; add && o < c.o; ++o) db.push_back(h[jdb].get(o));
    terms(c, [&](i64 vy, i64 vx, i64 tap) {
      for (i64 o = 0; o < c.o; ++o)
        for (i64 i = 0; i < c.i; ++i)
          dw[size_t((o * c.i + i) * taps + tap)] += dy[size_t(vy * c.o + o)] * x[size_t(vx * c.i + i)];
    });
    for (size_t v = 0; add && v < dy.size(); ++v) db[v % size_t(c.o)] += dy[v];
    run_all_ways(label + " dw", h, add ? std::vector<int>{jdw, jdb} : std::vector<int>{jdw}, {0, 0});
    Values got, gotb;
    for (i64 i = 0; i < c.o * c.i * taps; ++i) got.push_back(h[jdw].get(i));
    for (i64 o = 0; add && o < c.o; ++o) gotb.push_back(h[jdb].get(o));
    expect(label + " dw", difference(got, dw), tol);
    expect(label + " db", difference(gotb, db), tol);
  }
}

void upconv_case(const KernelTable& table, const Case& c) {
  const bool f64 = !std::strcmp(table.isa, "ref64");
  const double tol = f64 ? 1e-12 : tolerance;
  char name[160];
  std::snprintf(name, sizeof name, "%s%s upconv %lldx%lldx%lldx%lld %lld->%lld s%lld%lld%lld pad%lld", table.isa,
                c.bf16 ? " bf16" : "", c.n, c.d, c.h, c.w, c.i, c.o, c.sd, c.sh, c.sw, c.pad);
  const std::string label = name;
  const i64 taps = c.sd * c.sh * c.sw, before = c.pad / 2;
  const auto up = [&](const std::function<void(i64, i64, i64)>& f) {
    for (i64 v = 0; v < c.n * c.d * c.h * c.w; ++v)
      for (i64 tap = 0; tap < taps; ++tap) {
        const i64 w = v % c.w, h = v / c.w % c.h, d = v / c.w / c.h % c.d, n = v / c.w / c.h / c.d;
        const i64 yd = d * c.sd + tap / c.sw / c.sh, yh = h * c.sh + tap / c.sw % c.sh, yw = w * c.sw + tap % c.sw;
        f(((n * c.d * c.sd + yd) * c.h * c.sh + yh) * c.w * c.sw + yw, v, tap);
      }
  };
  Call pack0(table, "upconv3d_pack", f64), pack1(table, "upconv3d_pack", f64);
  for (Call* p : {&pack0, &pack1}) {
    p->attrs(Upconv3dPackAttrs{.mode = p == &pack1, .variant = 0, .dtype = c.bf16 ? kBF16 : f64 ? kF64 : kF32});
    p->add(c.i, c.o, c.sd, c.sh, c.sw);
    fill_random((*p)[0], 1);
    p->opaque();
    run_all_ways(label + " pack", *p, {1}, {0});
  }
  const auto w = [&](i64 i, i64 o, i64 tap) {
    const double v = pack0[0].get((i * c.o + o) * taps + tap);
    return c.bf16 ? rounded16(v) : v;
  };
  for (int add = 0; add < 2; ++add) {
    const Upconv3dAttrs at{c.sd, c.sh, c.sw, add};
    Call f(table, "upconv3d_fwd", f64, c.bf16), g(table, "upconv3d_bwd_x", f64, c.bf16);
    Call h(table, "upconv3d_bwd_w", f64, c.bf16);
    f.attrs(Upconv3dAttrs{c.sd, c.sh, c.sw, 0}), g.attrs(at), h.attrs(at);
    const int ix = f.act(c.n, c.d, c.h, c.w, c.i, c.i + c.pad, before);
    f.opaque(&pack0[1]);
    const int ib = add ? f.none() : f.add(c.o, 1, 1, 1, 1);
    const int iy = f.act(c.n, c.d * c.sd, c.h * c.sh, c.w * c.sw, c.o, c.o + c.pad, before);
    f.opaque();
    fill_random(f[ix], 2), fill_random(f[iy], 3);
    if (!add) fill_random(f[ib], 4);
    run_all_ways(label + " fwd", f, {iy}, {before});
    const Values x = values(f, ix, before);
    Values y(size_t(c.n * c.d * c.h * c.w * taps * c.o));
    for (size_t v = 0; v < y.size(); ++v) y[v] = add ? 0 : f[ib].get(i64(v) % c.o);
    up([&](i64 vy, i64 vx, i64 tap) {
      for (i64 o = 0; o < c.o; ++o)
        for (i64 i = 0; i < c.i; ++i) y[size_t(vy * c.o + o)] += x[size_t(vx * c.i + i)] * w(i, o, tap);
    });
    expect(label + " fwd", difference(values(f, iy, before), y), stored(c, tol));

    const int idy = g.act(c.n, c.d * c.sd, c.h * c.sh, c.w * c.sw, c.o, c.o + c.pad, before);
    g.opaque(&pack1[1]);
    const int idx = g.act(c.n, c.d, c.h, c.w, c.i, c.i + c.pad, before);
    g.opaque();
    fill_random(g[idy], 5), fill_random(g[idx], 6);
    const Values dy = values(g, idy, before);
    Values dx = values(g, idx, before);
    if (!add) dx.assign(dx.size(), 0);
    up([&](i64 vy, i64 vx, i64 tap) {
      for (i64 o = 0; o < c.o; ++o)
        for (i64 i = 0; i < c.i; ++i) dx[size_t(vx * c.i + i)] += dy[size_t(vy * c.o + o)] * w(i, o, tap);
    });
    run_all_ways(label + " dx", g, {idx}, {before});
    expect(label + " dx", difference(values(g, idx, before), dx), stored(c, tol));

    const int jx = h.act(c.n, c.d, c.h, c.w, c.i, c.i + c.pad, before);
    const int jdy = h.act(c.n, c.d * c.sd, c.h * c.sh, c.w * c.sw, c.o, c.o + c.pad, before);
    const int jdw = h.add(c.i, c.o, c.sd, c.sh, c.sw);
    const int jdb = h.add(c.o, 1, 1, 1, 1);
    h.opaque();
    fill_random(h[jx], 2), fill_random(h[jdy], 5), fill_random(h[jdw], 7), fill_random(h[jdb], 8);
    Values dw, db, got, gotb;
    for (i64 i = 0; i < c.o * c.i * taps; ++i) dw.push_back(add ? h[jdw].get(i) : 0);
    for (i64 o = 0; o < c.o; ++o) db.push_back(add ? h[jdb].get(o) : 0);
    up([&](i64 vy, i64 vx, i64 tap) {
      for (i64 o = 0; o < c.o; ++o)
        for (i64 i = 0; i < c.i; ++i)
          dw[size_t((i * c.o + o) * taps + tap)] += dy[size_t(vy * c.o + o)] * x[size_t(vx * c.i + i)];
    });
    for (size_t v = 0; v < dy.size(); ++v) db[v % size_t(c.o)] += dy[v];
    run_all_ways(label + " dw", h, {jdw, jdb}, {0, 0});
    for (i64 i = 0; i < c.o * c.i * taps; ++i) got.push_back(h[jdw].get(i));
    for (i64 o = 0; o < c.o; ++o) gotb.push_back(h[jdb].get(o));
    expect(label + " dw", difference(got, dw), tol);
    expect(label + " db", difference(gotb, db), tol);
  }
}

void linear_case(const KernelTable& table, i64 N, i64 I, i64 O, i64 pad, int add) {
  const bool f64 = !std::strcmp(table.isa, "ref64");
  const double tol = f64 ? 1e-12 : tolerance;
  const std::string label = std::string(table.isa) + " linear " + std::to_string(I) + "->" + std::to_string(O);
  Call f(table, "linear_fwd", f64), g(table, "linear_bwd_x", f64), h(table, "linear_bwd_w", f64);
  f.attrs(LinearAttrs{0}), g.attrs(LinearAttrs{add}), h.attrs(LinearAttrs{add});
  f.add(N, 1, 1, 1, I, I + pad), f.add(O, I, 1, 1, 1), add ? f.none() : f.add(O, 1, 1, 1, 1);
  f.add(N, 1, 1, 1, O, O + pad);
  g.add(N, 1, 1, 1, O, O + pad), g.add(O, I, 1, 1, 1), g.add(N, 1, 1, 1, I, I + pad);
  h.add(N, 1, 1, 1, I, I + pad), h.add(N, 1, 1, 1, O, O + pad), h.add(O, I, 1, 1, 1), h.add(O, 1, 1, 1, 1);
  fill_random(f[0], 1), fill_random(f[1], 2), fill_random(f[3], 4);
  if (!add) fill_random(f[2], 3);
  fill_random(g[0], 4), fill_random(g[1], 2), fill_random(g[2], 5);
  fill_random(h[0], 1), fill_random(h[1], 4), fill_random(h[2], 6), fill_random(h[3], 7);
  const Values x = values(f, 0), dy = values(g, 0);
  Values y(size_t(N * O)), dx = values(g, 2), dw = values(h, 2), db = values(h, 3);
  dw.resize(size_t(O * I));
  for (i64 i = 0; i < O * I; ++i) dw[size_t(i)] = h[2].get(i);
  if (!add) dx.assign(dx.size(), 0), dw.assign(dw.size(), 0), db.assign(db.size(), 0);
  for (i64 n = 0; n < N; ++n)
    for (i64 o = 0; o < O; ++o) {
      y[size_t(n * O + o)] = add ? 0 : f[2].get(o);
      db[size_t(o)] += dy[size_t(n * O + o)];
      for (i64 i = 0; i < I; ++i) {
        y[size_t(n * O + o)] += x[size_t(n * I + i)] * f[1].get(o * I + i);
        dx[size_t(n * I + i)] += dy[size_t(n * O + o)] * f[1].get(o * I + i);
        dw[size_t(o * I + i)] += dy[size_t(n * O + o)] * x[size_t(n * I + i)];
      }
    }
  run_all_ways(label + " fwd", f, {3}, {0});
  run_all_ways(label + " dx", g, {2}, {0});
  run_all_ways(label + " dw", h, {2, 3}, {0, 0});
  Values got;
  for (i64 i = 0; i < O * I; ++i) got.push_back(h[2].get(i));
  expect(label + " fwd", difference(values(f, 3), y), tol);
  expect(label + " dx", difference(values(g, 2), dx), tol);
  expect(label + " dw", difference(got, dw), tol);
  expect(label + " db", difference(values(h, 3), db), tol);
}

// Tables of vectors: not the plain templates, nor a device's.
inline bool has_winograd(const KernelTable& t) {
  return !std::strncmp(t.isa, "avx", 3) || !std::strcmp(t.isa, "amx") || !std::strcmp(t.isa, "baseline");
}

// What the checks must refuse.
void refusals(const KernelTable& table) {
  const bool f64 = !std::strcmp(table.isa, "ref64");
  const auto forward = [&](Conv3dAttrs at, i64 width, i64 channels, i64 biases, i64 packed) {
    Call f(table, "conv3d_fwd", f64);
    f.attrs(at);
    f.add(1, 2, 3, 4, 5);
    const int wp = f.opaque();
    f[wp].bytes.resize(size_t(packed));
    f[wp].t = {nullptr, {packed, 1, 1, 1, 1}, 1, kU8, kScratch};
    f.add(biases, 1, 1, 1, 1), f.add(1, 2, 3, width, channels), f.none(), f.none(), f.opaque();
    return f.prepare();
  };
  const Conv3dAttrs good{3, 3, 3, 1, 1, 1, 0, 0, 0, 0, 0};
  const i64 packed = 16 * 5 * 27 * 8;
  const std::string label = std::string(table.isa) + " refuses ";
  expect(label + "nothing good", forward(good, 4, 6, 6, packed), kOk);
  Conv3dAttrs bad = good;
  bad.kh = 2;
  expect(label + "a kernel of 2", forward(bad, 4, 6, 6, packed) == kBadAttr ? 0 : 1, 0);
  bad = good;
  bad.sw = 3;
  expect(label + "a stride of 3", forward(bad, 4, 6, 6, packed) == kBadAttr ? 0 : 1, 0);
  for (const i64 variant : {1, 22, 224, 122, 2222, -222}) {
    bad = good;
    bad.variant = variant;
    expect(label + "a variant that is none for 3x3x3", forward(bad, 4, 6, 6, packed) == kBadAttr ? 0 : 1, 0);
  }
  bad = good;
  bad.variant = 444;
  expect(label + "weights packed for another variant",
         forward(bad, 4, 6, 6, packed) == (has_winograd(table) ? kBadShape : kBadAttr) ? 0 : 1, 0);
  bad = good;
  bad.stats = 1;
  expect(label + "statistics without a place", forward(bad, 4, 6, 6, packed) == kBadShape ? 0 : 1, 0);
  expect(label + "a wrong width", forward(good, 3, 6, 6, packed) == kBadShape ? 0 : 1, 0);
  expect(label + "a wrong bias", forward(good, 4, 6, 5, packed) == kBadShape ? 0 : 1, 0);
  expect(label + "short weights", forward(good, 4, 6, 6, 16 * 5 * 27 * 4 - 64) == kBadShape ? 0 : 1, 0);
}

const Case conv_cases[] = {
    {1, 3, 4, 5, 3, 5, 3, 3, 3, 1, 1, 1, 0},    {2, 4, 3, 13, 16, 16, 3, 3, 3, 1, 1, 1, 0},
    {1, 2, 5, 26, 16, 32, 3, 3, 3, 1, 1, 1, 3}, {1, 3, 3, 12, 32, 32, 3, 3, 3, 1, 1, 1, 16},
    {1, 1, 7, 25, 9, 33, 1, 3, 3, 1, 1, 1, 1},  {1, 5, 4, 3, 20, 17, 3, 3, 1, 1, 1, 1, 2},
    {2, 3, 4, 7, 16, 3, 1, 1, 1, 1, 1, 1, 0},   {1, 5, 11, 7, 33, 18, 1, 1, 1, 1, 1, 1, 5},
    {1, 4, 5, 29, 1, 16, 3, 3, 3, 1, 1, 1, 0},  {1, 4, 3, 9, 1, 7, 3, 3, 3, 1, 1, 1, 2},
    {1, 1, 1, 1, 8, 8, 3, 3, 3, 1, 1, 1, 0},    {2, 5, 6, 7, 6, 10, 3, 3, 3, 2, 2, 2, 1},
    {1, 4, 7, 50, 17, 40, 3, 3, 3, 2, 1, 2, 0}, {1, 3, 6, 8, 5, 4, 3, 3, 3, 1, 2, 1, 0},
    {1, 4, 4, 9, 12, 24, 1, 1, 1, 2, 2, 2, 0},  {1, 2, 3, 6, 70, 100, 3, 3, 3, 1, 1, 1, 0},
    {1, 2, 2, 4, 48, 16, 3, 3, 3, 1, 1, 1, 4},  {1, 1, 3, 170, 4, 8, 1, 3, 3, 1, 1, 1, 0},
    {1, 1, 2, 300, 2, 2, 1, 1, 1, 1, 1, 1, 0},  {1, 2, 9, 2, 2, 2, 3, 1, 3, 1, 1, 1, 0},
    {1, 3, 4, 23, 1, 40, 1, 3, 3, 1, 1, 2, 0},  {1, 2, 3, 10, 40, 80, 3, 3, 3, 1, 1, 1, 0},
    {1, 1, 1, 21, 96, 20, 3, 3, 3, 1, 1, 2, 0}, {1, 1, 3, 3, 130, 66, 1, 3, 3, 1, 1, 1, 0},
    {1, 9, 9, 17, 18, 20, 3, 3, 3, 1, 1, 1, 0}, {2, 1, 17, 33, 17, 33, 1, 3, 3, 1, 1, 1, 4},
    {1, 2, 3, 30, 64, 96, 3, 3, 3, 1, 1, 1, 0}, {1, 4, 3, 19, 32, 64, 3, 3, 3, 2, 2, 2, 0},
};

// Winograd's variants, for kernels of vectors: whole tiles and ragged ones, channels that fill blocks and that do not, volumes
// smaller than a tile, rows in several strips, several groups of outputs.
const i64 winograd_variants[] = {122, 142, 144, 222, 242, 422, 442, 444};
const Case winograd_cases[] = {
    {1, 8, 8, 8, 16, 16, 3, 3, 3, 1, 1, 1, 0},   {2, 5, 7, 13, 16, 32, 3, 3, 3, 1, 1, 1, 3},
    {1, 1, 1, 1, 8, 8, 3, 3, 3, 1, 1, 1, 0},     {2, 3, 6, 9, 20, 17, 3, 3, 3, 1, 1, 1, 2},
    {1, 6, 4, 70, 48, 40, 3, 3, 3, 1, 1, 1, 16}, {1, 4, 4, 4, 70, 100, 3, 3, 3, 1, 1, 1, 0},
    {1, 2, 2, 3, 1, 7, 3, 3, 3, 1, 1, 1, 0},     {2, 12, 16, 12, 33, 64, 3, 3, 3, 1, 1, 1, 0},
    {2, 1, 17, 33, 17, 33, 1, 3, 3, 1, 1, 1, 4}, {1, 3, 9, 200, 16, 16, 1, 3, 3, 1, 1, 1, 0},
    {1, 1, 3, 3, 130, 66, 1, 3, 3, 1, 1, 1, 0},  {3, 1, 2, 1, 5, 4, 1, 3, 3, 1, 1, 1, 0},
};

const Case upconv_cases[] = {
    {1, 2, 3, 5, 6, 4, 0, 0, 0, 2, 2, 2, 0},    {2, 3, 2, 13, 32, 16, 0, 0, 0, 2, 2, 2, 16},
    {1, 1, 3, 30, 17, 33, 0, 0, 0, 1, 2, 2, 3}, {1, 2, 3, 7, 64, 32, 0, 0, 0, 2, 1, 2, 0},
    {1, 2, 2, 3, 5, 70, 0, 0, 0, 2, 2, 1, 1},   {1, 1, 2, 170, 3, 3, 0, 0, 0, 1, 1, 2, 0},
    {1, 2, 2, 4, 1, 5, 0, 0, 0, 2, 2, 2, 0},    {1, 2, 2, 4, 130, 20, 0, 0, 0, 1, 1, 1, 0},
};

}  // namespace
}  // namespace macl::testing
