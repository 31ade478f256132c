// Cases of normact, pooling, resize3d, supcon, losses, elementwise, warp3d, boxmix, linear, optim, run by ops_test.cc (every
// kernel table of this processor) and cuda_ops_test.cc (the device's kernels): each table against the float64 reference (and
// that against sums written from the equations, where they are short). Odd sizes, D = 1, channels that are no multiple of a
// vector, slices, accumulation; any split of the tasks gives the same bits. Each case is run again with its activations in
// bf16, where a table has them, against the reference on the same rounded numbers; and no kernel takes activations of several
// dtypes, or weights in bf16. The reference itself is held against PyTorch's values by test/golden.
#pragma once
#include <functional>
#include <set>

#include "../ops/elementwise.h"
#include "../ops/linear.h"
#include "../ops/losses.h"
#include "../ops/normact.h"
#include "../ops/optim.h"
#include "../ops/pool.h"
#include "../ops/boxmix.h"
#include "../ops/resize3d.h"
#include "../ops/supcon.h"
#include "../ops/warp3d.h"
#include "ops_call.h"

namespace macl::testing {
namespace {

int passed = 0, failed = 0;
std::vector<const KernelTable*> tables;  // the reference first
// Called before each run of a table other than the reference; way counts the runs of a case.
std::function<void(int way)> before_way = [](int) {};

void expect(bool ok, const std::string& what) {
  ok ? ++passed : ++failed;
  if (!ok) std::printf("FAIL %s\n", what.c_str());
}

double difference(const Values& a, const Values& b) {
  double scale = 1e-3, worst = a.size() == b.size() ? 0 : 1e30;
  for (double v : b) scale = std::max(scale, std::fabs(v));
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
    const double e = std::fabs(a[i] - b[i]) / scale;
    if (!(e <= worst)) worst = std::isnan(e) ? 1e30 : e;
  }
  return worst;
}
bool same_bits(const std::vector<Values>& a, const std::vector<Values>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(a[i].data(), b[i].data(), a[i].size() * 8)) return false;
  return true;
}

bool has_bf16(const KernelTable& t) {
  for (const char* without : {"ref64", "plain", "cuda"})
    if (!std::strcmp(t.isa, without)) return false;
  return true;
}
// Activations in bf16, and weights that are multiplied in it rounded: for a table that has it, or as numbers alone.
std::vector<Port> narrowed(std::vector<Port> ports, bool numbers) {
  for (Port& p : ports) {
    if (p.activation() || (numbers && p.narrows))
      for (double& v : p.values) v = round_bf16(v);
    if (p.activation() && !numbers) p.dtype = kBF16;
  }
  return ports;
}
// Of numbers of bf16 to what they are before rounding: how much more than half a step it is, over the largest.
double beyond_rounding(const Values& a, const Values& b) {
  double scale = 1e-3, worst = a.size() == b.size() ? 0 : 1e30;
  for (double v : b) scale = std::max(scale, std::fabs(v));
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
    const double half = b[i] == 0 ? 0 : std::ldexp(1, std::ilogb(b[i]) - 8);
    const double e = (std::fabs(a[i] - b[i]) - half) / scale;
    if (!(e <= worst)) worst = std::isnan(e) ? 1e30 : e;
  }
  return worst;
}
// One tensor in a dtype that does not go with the others is refused, before any number is touched.
template <class A>
void refuse_others(const std::string& what, const char* name, const A& attrs, const std::vector<Port>& ports,
                   const Segment* segments) {
  static std::set<std::string> seen;
  std::string key = name;
  i64 activations = 0;
  for (const Port& p : ports) key += p.role == Role::kNone ? '-' : '+', activations += p.activation();
  if (!seen.insert(key).second) return;
  for (const KernelTable* table : tables)
    for (size_t i = 0; i < ports.size(); ++i)
      for (const i32 dtype : {kF32, kF64, kI32, kI16, kF16, kBF16, kU8}) {
        const i32 real = table == tables[0] ? kF64 : kF32;
        if (ports[i].role == Role::kNone || ports[i].role == Role::kWs) continue;
        if (dtype == (ports[i].dtype < 0 ? real : ports[i].dtype)) continue;
        // The only one: what it may be is the kernel's own business.
        const bool only = activations == 1 && ports[i].activation();
        const bool numbers = dtype == kF32 || dtype == kF64 || dtype == kI32;
        const bool labels = dtype == kI32 && !std::strcmp(name, "warp3d_fwd");
        if (only && (dtype == kBF16 ? has_bf16(*table) : labels || (numbers && !std::strcmp(name, "fill_fwd")))) continue;
        std::vector<Port> other = ports;
        other[i].dtype = dtype;
        const i32 status = run(*table, name, attrs, other, 1, segments).status;
        expect(status == kBadDType || status == kBadShape, what + " on " + table->isa + ": tensor " + std::to_string(i) +
                                                               " is taken in dtype " + std::to_string(dtype));
      }
  for (const KernelTable* table : tables)
    if (activations > 0 && !has_bf16(*table))
      expect(run(*table, name, attrs, narrowed(ports, false), 1, segments).status != kOk, what + " in bf16 on " + table->isa);
}
template <class A>
void compare_narrow(const std::string& what, const char* name, const A& attrs, const std::vector<Port>& ports, double tolerance,
                    const Segment* segments) {
  std::vector<bool> narrow;  // of the outputs
  bool any = false;
  for (const Port& p : ports) {
    any = any || p.activation();
    if (p.role == Role::kOut || p.role == Role::kInOut) narrow.push_back(p.activation());
  }
  if (!any) return;
  const Result reference = run(*tables[0], name, attrs, narrowed(ports, true), 1, segments);
  for (const KernelTable* table : tables) {
    if (!has_bf16(*table)) continue;
    const std::string label = what + " in bf16 on " + table->isa;
    const Result one = run(*table, name, attrs, narrowed(ports, false), 1, segments);
    expect(one.status == kOk, label + ": status");
    expect(one.guards, label + ": wrote outside its tensors");
    for (size_t i = 0; i < one.outputs.size(); ++i) {
      const double e = narrow[i] ? beyond_rounding(one.outputs[i], reference.outputs[i])
                                 : difference(one.outputs[i], reference.outputs[i]);
      expect(e <= tolerance, label + ": output " + std::to_string(i) + " differs by " + std::to_string(e * 1e6) + "e-6");
    }
    expect(same_bits(one.outputs, run(*table, name, attrs, narrowed(ports, false), 7, segments).outputs),
           label + ": bits depend on the split");
  }
}

// All tables: against the reference within `tolerance` of each output's largest entry; splits; guards. Returns the
// reference's outputs.
template <class A>
std::vector<Values> compare(const std::string& what, const char* name, const A& attrs, const std::vector<Port>& ports,
                            double tolerance = 1e-5, const Segment* segments = nullptr) {
  const Result reference = run(*tables[0], name, attrs, ports, 1, segments);
  expect(reference.status == kOk && reference.guards, what + " on the reference");
  for (const KernelTable* table : tables) {
    const std::string label = what + " on " + table->isa;
    int way = 0;
    before_way(way);
    const Result one = run(*table, name, attrs, ports, 1, segments);
    expect(one.status == kOk, label + ": status");
    expect(one.guards, label + ": wrote outside its tensors");
    for (size_t i = 0; i < one.outputs.size(); ++i) {
      const double e = difference(one.outputs[i], reference.outputs[i]);
      expect(e <= tolerance,
             label + ": output " + std::to_string(i) + " differs by " + std::to_string(e * 1e6) + "e-6");
    }
    for (i64 split : {2, 7, 1000}) {
      before_way(++way);
      const Result other = run(*table, name, attrs, ports, split, segments);
      expect(same_bits(one.outputs, other.outputs), label + ": bits depend on the split");
    }
  }
  compare_narrow(what, name, attrs, ports, tolerance, segments);
  refuse_others(what, name, attrs, ports, segments);
  return reference.outputs;
}

const Shape kShapes[] = {{2, 3, 5, 7, 1},  {1, 4, 6, 5, 3},  {3, 1, 9, 4, 5}, {2, 4, 4, 6, 17},
                         {1, 3, 7, 5, 20}, {2, 5, 2, 9, 33}, {1, 2, 3, 4, 8}, {1, 6, 12, 11, 12}};
std::string show(const Shape& s) {
  return std::to_string(s.n) + "x" + std::to_string(s.d) + "x" + std::to_string(s.h) + "x" + std::to_string(s.w) + "x" +
         std::to_string(s.c);
}
Port inout(const Shape& s, Values v) { return port(Role::kInOut, s, std::move(v)); }
Port result_port(const Shape& s, bool add, Random& r) { return add ? inout(s, r.values(s.count())) : out(s); }
Port result_flat(i64 n, bool add, Random& r) {
  return add ? port(Role::kInOut, {1, 1, 1, 1, n}, r.values(n), -1, false) : out_flat(n);
}
Port scalar(double v) { return flat({v}, kF64); }
Port out_scalar() { return out_flat(1, kF64); }

// Statistics of all samples (BatchNorm) or of each (InstanceNorm); γ and β, one of them, or none.
void test_normact(const Shape& s, bool each, unsigned seed) {
  Random r(seed);
  const i64 groups = each ? s.n : 1, voxels = s.count() / s.c / groups;
  const std::string at = std::string(each ? " a sample " : " ") + show(s);
  const Values x = r.values(s.count(), -1, 3), dy = r.values(s.count());
  const auto stats = compare("normact_stats" + at, "normact_stats", NormactStatsAttrs{0},
                             {in(s, x), out_flat(groups * s.c), out_flat(groups * s.c), ws()});
  const Values gamma = r.values(s.c, 0.5, 1.5), beta = r.values(s.c);
  int ways = 0;
  for (const double slope : {0.01, 0.0, 1.0})
    for (const i64 norm : {kNoNorm, kOwnNorm, kGivenNorm}) {
      if (norm == kNoNorm && each) continue;
      const int affine = ways++ % 4;
      const auto vec = [&](const Values& v) { return norm != kNoNorm ? flat(v) : none(); };
      NormactFwdAttrs a{norm, 1e-5, slope, 1, 1, 1};
      const std::vector<Port> params = {vec(stats[0]), vec(stats[1]), affine == 1 ? none() : vec(gamma),
                                        affine == 2 ? none() : vec(beta)};
      const auto plain = compare("normact_fwd" + at, "normact_fwd", a,
                                 {in(s, x), params[0], params[1], params[2], params[3], out(s), none()});
      for (i64 strides = 0; strides < 8; ++strides) {
        a.sd = 1 + (strides >> 2 & 1), a.sh = 1 + (strides >> 1 & 1), a.sw = 1 + (strides & 1);
        if (s.d < a.sd) continue;
        const Shape p{s.n, s.d / a.sd, s.h / a.sh, s.w / a.sw, s.c};
        const auto both = compare("normact_fwd pooled" + at, "normact_fwd", a,
                                  {in(s, x), params[0], params[1], params[2], params[3], out(s), out(p)});
        const auto pool = compare("maxpool3d_fwd" + at, "maxpool3d_fwd", Maxpool3dAttrs{a.sd, a.sh, a.sw, 0},
                                  {in(s, plain[0]), out(p)});
        expect(difference(both[0], plain[0]) < 1e-12 && difference(both[1], pool[0]) < 1e-12, "fused pooling" + at);
        // What is pooled is what y holds, rounded.
        for (const KernelTable* t : tables) {
          if (!has_bf16(*t)) continue;
          const std::vector<Port> fused = {in(s, x), params[0], params[1], params[2], params[3], out(s), out(p)};
          const auto held = run(*t, "normact_fwd", a, narrowed(fused, false)).outputs;
          const std::vector<Port> pooling = narrowed({in(s, held[0]), out(p)}, false);
          const Result after = run(*t, "maxpool3d_fwd", Maxpool3dAttrs{a.sd, a.sh, a.sw, 0}, pooling);
          expect(held[1] == after.outputs[0], "fused pooling in bf16" + at);
        }
      }
      for (int add = 0; add < 2; ++add) {
        Values sums(static_cast<size_t>(groups * s.c * 2), 0);
        if (norm != kNoNorm) {
          const Port dgamma = affine == 1 ? none() : result_flat(s.c, add, r), dbeta = result_flat(s.c, add, r);
          sums = compare("normact_sums" + at, "normact_sums", NormactSumsAttrs{1e-5, slope, add},
                         {in(s, dy), in(s, x), params[0], params[1], params[2], params[3], out_flat(i64(sums.size()), kF64),
                          dgamma, dbeta, ws()},
                         3e-5)[0];
        }
        compare("normact_bwd" + at, "normact_bwd", NormactBwdAttrs{norm, 1e-5, slope, f64(voxels), add},
                {in(s, dy), in(s, x), params[0], params[1], params[2], params[3],
                 norm == kOwnNorm ? flat(sums, kF64) : none(), result_port(s, add, r)},
                3e-5);
      }
    }
}

// Norms of c and 2c channels with three and one pass, their numbers in another order than the norms.
void test_running(i64 c, unsigned seed) {
  Random r(seed);
  const std::string at = " " + std::to_string(c);
  const double n = double(c);
  const Values table = {0, 3, 4, 4 * n, n, 0, 50, 4 * n, n, 2 * n, 1, 4 * n, n, 8 * n, 7, 0, 2 * n, 4 * n, 50};
  const Values running = r.values(6 * c, 0.1f, 1), batch = r.values(10 * c, 0.1f, 1);
  const auto ports = [&](const Values& t) {
    return std::vector<Port>{flat(batch), flat(t, kF64), port(Role::kInOut, {1, 1, 1, 1, 6 * c}, running, -1, false)};
  };
  const RunningStepAttrs a{0.1, 2};
  const Values after = compare("running_step" + at, "running_step", a, ports(table))[0];
  Values want = running;
  const auto pass = [&](i64 to, i64 channels, i64 from, double unbiased) {
    for (i64 i = 0; i < 2 * channels; ++i) {
      double& w = want[size_t(to + i)];
      w = 0.9 * w + 0.1 * batch[size_t(from + i)] * (i < channels ? 1 : unbiased);
    }
  };
  pass(4 * c, c, 0, 50. / 49), pass(4 * c, c, 2 * c, 1), pass(4 * c, c, 8 * c, 7. / 6), pass(0, 2 * c, 4 * c, 50. / 49);
  expect(difference(after, want) < 1e-12, "running_step by the equation" + at);
  // Numbers that no compiler writes: outside the tensors, no whole ones, none at all.
  const std::pair<int, double> bad[] = {{0, -1}, {1, 5},         {1, 2.5},        {2, NAN},     {3, 6 * n},
                                        {4, -n}, {4, 2 * n + 1}, {5, 8 * n + 1}, {16, 1e18}, {17, 0.5}};
  for (const auto& [i, v] : bad) {
    Values t = table;
    t[size_t(i)] = v;
    for (const KernelTable* k : tables)
      expect(run(*k, "running_step", a, ports(t)).status == kBadShape, "running_step: number " + std::to_string(i));
  }
  for (const i64 norms : {0, -1, 19, 3})
    for (const KernelTable* k : tables)
      expect(run(*k, "running_step", RunningStepAttrs{0.1, norms}, ports(table)).status == kBadAttr, "running_step: norms");
}

void test_pool_and_resize(const Shape& s, unsigned seed) {
  Random r(seed);
  const std::string at = " " + show(s);
  Values x = r.values(s.count());
  for (double& v : x) v = std::round(v * 2);  // many equal maxima: the first one counts
  for (int add = 0; add < 2; ++add) {
    for (i64 k = 0; k < 8; ++k) {
      const Maxpool3dAttrs a{1 + (k >> 2 & 1), 1 + (k >> 1 & 1), 1 + (k & 1), add};
      if (s.d < a.sd) continue;
      const Shape p{s.n, s.d / a.sd, s.h / a.sh, s.w / a.sw, s.c};
      compare("maxpool3d_bwd" + at, "maxpool3d_bwd", a, {in(s, x), in(p, r.values(p.count())), result_port(s, add, r)});
    }
    const Shape one{s.n, 1, 1, 1, s.c};
    compare("avgpool_bwd" + at, "avgpool_bwd", AvgpoolAttrs{add},
            {in(one, r.values(one.count())), result_port(s, add, r)});
    for (const Shape& to :
         {Shape{s.n, s.d * 2, s.h, s.w + 3, s.c}, Shape{s.n, 1, 2, s.w / 2, s.c}, Shape{s.n, 3, s.h * 2, 1, s.c}}) {
      const Resize3dAttrs a{add};
      compare("resize3d_fwd" + at, "resize3d_fwd", a, {in(s, r.values(s.count())), result_port(to, add, r)});
      compare("resize3d_bwd" + at, "resize3d_bwd", a, {in(to, r.values(to.count())), result_port(s, add, r)});
    }
  }
  compare("avgpool_fwd" + at, "avgpool_fwd", AvgpoolAttrs{0}, {in(s, x), out({s.n, 1, 1, 1, s.c}), ws()});
}

// NaN is a maximum, and the last one gets the gradient.
void test_pool_nan() {
  const Shape s{1, 2, 2, 4, 4}, p{1, 1, 1, 2, 4};
  Values x = Random(7).values(s.count());
  x[5] = x[13] = x[17] = x[40] = NAN;
  const Maxpool3dAttrs a{2, 2, 2, 0};
  const Values dy = Random(8).values(p.count(), 1, 2);
  const auto y = run(*tables[0], "maxpool3d_fwd", a, {in(s, x), out(p)}).outputs[0];
  const auto dx = run(*tables[0], "maxpool3d_bwd", a, {in(s, x), in(p, dy), out(s)}).outputs[0];
  i64 seen = 0;
  for (const KernelTable* t : tables) {
    const auto other = run(*t, "maxpool3d_fwd", a, {in(s, x), out(p)}).outputs[0];
    for (size_t i = 0; i < y.size(); ++i) {
      seen += std::isnan(y[i]);
      expect(std::isnan(y[i]) ? std::isnan(other[i]) : y[i] == other[i], std::string("maxpool3d_fwd of NaN on ") + t->isa);
    }
    expect(run(*t, "maxpool3d_bwd", a, {in(s, x), in(p, dy), out(s)}).outputs[0] == dx,
           std::string("maxpool3d_bwd of NaN on ") + t->isa);
  }
  expect(seen == 3 * i64(tables.size()), "maxpool3d of NaN has NaN");
}

void test_elementwise(const Shape& s, unsigned seed) {
  Random r(seed);
  const std::string at = " " + show(s);
  const Shape two{s.n, s.d, s.h, s.w, 2}, both{s.n, s.d, s.h, s.w, s.c + 2};
  const Values x = r.values(s.count()), y = r.values(two.count());
  const auto sum = compare("add_fwd" + at, "add_fwd", AddAttrs{0}, {in(s, x), in(s, x), out(s)});
  expect(sum[0][0] == 2 * x[0], "add_fwd" + at);
  for (int add = 0; add < 2; ++add)
    compare("copy_fwd" + at, "copy_fwd", CopyAttrs{add}, {in(s, x), result_port(s, add, r)});
  const auto whole = compare("concat_fwd" + at, "concat_fwd", ConcatAttrs{0}, {in(s, x), in(two, y), out(both)});
  const auto parts = compare("concat_bwd" + at, "concat_bwd", ConcatAttrs{0}, {in(both, whole[0]), out(s), out(two)});
  expect(parts[0] == x && parts[1] == y, "concat and back" + at);
  const auto filled = compare("fill_fwd" + at, "fill_fwd", FillAttrs{2.5}, {out(s)});
  expect(filled[0].back() == 2.5, "fill_fwd" + at);
  const auto total =
      compare("wsum_fwd", "wsum_fwd", WsumAttrs{0.5, 0, 2, 0}, {scalar(2), none(), scalar(3), none(), out_scalar()});
  expect(total[0][0] == 7, "wsum_fwd");
  expect(compare("scale_fwd", "scale_fwd", ScaleAttrs{0.25}, {scalar(2), out_scalar()})[0][0] == 0.5, "scale_fwd");
}

void test_losses(const Shape& s, unsigned seed) {
  Random r(seed);
  const std::string at = " " + show(s);
  const Values a = r.values(s.count()), b = r.values(s.count());
  for (i64 add = 0; add < 2; ++add)
    for (i64 relative = 0; relative < 2; ++relative) {
      const L1Attrs l{relative, add};
      const auto f = compare("l1_fwd" + at, "l1_fwd", l,
                             {in(s, a), in(s, b), out_scalar(), out_flat(2, kF64), out_scalar(), ws()});
      const Port da = result_port(s, add, r), db = result_port(s, add, r);
      const auto back =
          compare("l1_bwd" + at, "l1_bwd", l, {in(s, a), in(s, b), flat(f[1], kF64), scalar(1.7), da, db});
      const auto fused =
          compare("l1_fwdbwd" + at, "l1_fwdbwd", l,
                  {in(s, a), in(s, b), scalar(1.7), out_scalar(), out_flat(2, kF64), none(), da, db, ws()});
      expect(fused[0] == f[0] && fused[2] == back[0] && fused[3] == back[1], "l1 fused" + at);
    }
  if (s.c < 2) return;
  const Shape one{s.n, s.d, s.h, s.w, 1};
  const Values logits = r.values(s.count(), -6, 6), y = r.labels(one.count(), int(s.c)),
               weights = r.values(s.c, 0.5, 2);
  const auto label = [&](const Values& v) { return port(Role::kIn, one, v, kI32, false); };
  for (i64 add = 0; add < 2; ++add)
    for (int weighted = 0; weighted < 2; ++weighted) {
      const SoftmaxceAttrs l{255, add};
      const Port cw = weighted ? flat(weights, kF64) : none(), dx = result_port(s, add, r);
      const auto f = compare("softmaxce_fwd" + at, "softmaxce_fwd", l,
                             {in(s, logits), label(y), cw, out_scalar(), out_scalar(), ws()});
      const auto back = compare("softmaxce_bwd" + at, "softmaxce_bwd", l,
                                {in(s, logits), label(y), cw, flat(f[1], kF64), scalar(0.7), dx});
      const auto fused = compare("softmaxce_fwdbwd" + at, "softmaxce_fwdbwd", l,
                                 {in(s, logits), label(y), cw, scalar(0.7), out_scalar(), out_scalar(), dx, ws()});
      expect(fused[0] == f[0] && fused[2] == back[0], "softmaxce fused" + at);
      Values bad = y;
      bad[bad.size() / 2] = double(s.c);
      for (const KernelTable* t : tables)
        expect(run(*t, "softmaxce_fwd", l, {in(s, logits), label(bad), cw, out_scalar(), out_scalar(), ws()}).status ==
                   kBadLabel,
               "softmaxce: a label outside the classes" + at);
      const DiceAttrs d{255, weighted, weighted ^ add, 1e-5, add};
      const i64 n = (weighted ? s.n : 1) * s.c * 3;
      const auto g =
          compare("dice_fwd" + at, "dice_fwd", d, {in(s, logits), label(y), out_scalar(), out_flat(n, kF64), ws()});
      const auto gb =
          compare("dice_bwd" + at, "dice_bwd", d, {in(s, logits), label(y), flat(g[1], kF64), scalar(0.7), dx});
      const auto gf = compare("dice_fwdbwd" + at, "dice_fwdbwd", d,
                              {in(s, logits), label(y), scalar(0.7), out_scalar(), out_flat(n, kF64), dx, ws()});
      expect(gf[0] == g[0] && gf[2] == gb[0], "dice fused" + at);
    }
}

void test_supcon(const Shape& s, i64 axes, unsigned seed) {
  Random r(seed);
  const std::string at = " " + show(s);
  Values z1 = r.values(s.count(), -1, 2), z2 = r.values(s.count(), -1, 2);
  for (i64 c = 0; c < s.c; ++c) z1[size_t(c)] = 0;  // a zero vector
  const Port pos = port(Role::kIn, {s.n, axes, 1, 1, 1}, r.values(s.n * axes, 0, 1), kF64, false);
  for (i64 add = 0; add < 2; ++add) {
    const SupconAttrs a{0.1, 1.3, 0.3, 0.4, 0.5, add};
    const Port d1 = result_port(s, add, r), d2 = result_port(s, add, r);
    // One at a time, or an error near 0 of a scalar would count too much.
    const auto f = compare("supcon_fwd" + at, "supcon_fwd", a,
                           {in(s, z1), in(s, z2), pos, out_scalar(), out_scalar(), ws()}, 2e-5);
    // A gradient of the zero vector is 1e12 times the others: they are compared where it is absent, below.
    Values w1 = z1;
    for (i64 c = 0; c < s.c; ++c) w1[size_t(c)] = 0.25 * double(c + 1);
    const auto b =
        compare("supcon_bwd" + at, "supcon_bwd", a, {in(s, w1), in(s, z2), pos, scalar(0.6), d1, d2, ws()}, 2e-5);
    const auto fb = compare("supcon_fwdbwd" + at, "supcon_fwdbwd", a,
                            {in(s, w1), in(s, z2), pos, scalar(0.6), out_scalar(), out_scalar(), d1, d2, ws()}, 2e-5);
    expect(fb[2] == b[0] && fb[3] == b[1] && f[0].size() == 1, "supcon fused" + at);
    compare("supcon_bwd of a zero vector" + at, "supcon_bwd", a, {in(s, z1), in(s, z2), pos, scalar(0.6), d1, d2, ws()},
            2e-5);
  }
}

void test_optim(i64 n, unsigned seed) {
  Random r(seed);
  const std::string at = " " + std::to_string(n);
  const auto state = [&](float low, float high) {
    return port(Role::kInOut, {1, 1, 1, 1, n}, r.values(n, low, high), -1, false);
  };
  const Port g = flat(r.values(n)), lr = scalar(0.01), clip = scalar(0.5);
  compare("sgd_step" + at, "sgd_step", SgdAttrs{0.9, 1e-2}, {g, lr, clip, state(-1, 1), state(-1, 1)}, 1e-6);
  for (i64 decoupled = 0; decoupled < 2; ++decoupled) {
    const auto t = compare(
        "adam_step" + at, "adam_step", AdamAttrs{0.9, 0.999, 1e-8, 1e-2, decoupled},
        {g, lr, clip, state(-1, 1), state(-1, 1), state(0, 1), port(Role::kInOut, {1, 1, 1, 1, 1}, {3}, kF64, false)},
        1e-6);
    expect(t[3][0] == 4, "adam counts its steps");
  }
  const auto norm = [&](const Port& grad, double loss, double limit) {
    return compare("gradnorm_fwd" + at, "gradnorm_fwd", GradnormAttrs{limit},
                   {grad, scalar(loss), out_scalar(), out_scalar(), out_flat(1, kI32), ws()});
  };
  const auto open = norm(g, 1, 0);
  expect(open[1][0] == 1 && open[2][0] == 0, "gradnorm without a limit");
  expect(std::fabs(norm(g, 1, open[0][0] / 2)[1][0] - 0.5) < 1e-4, "gradnorm clips to half");
  Port bad = g;
  bad.values.back() = INFINITY;
  for (const KernelTable* t : tables) {
    const std::vector<Port> rest = {scalar(1), out_scalar(), out_scalar(), out_flat(1, kI32), ws()};
    expect(
        run(*t, "gradnorm_fwd", GradnormAttrs{0}, {bad, rest[0], rest[1], rest[2], rest[3], rest[4]}).outputs[2][0] ==
            1,
        "guard: gradient");
    expect(
        run(*t, "gradnorm_fwd", GradnormAttrs{0}, {g, scalar(NAN), rest[1], rest[2], rest[3], rest[4]}).outputs[2][0] ==
            1,
        "guard: loss");
  }
}

// base: of the volume, in bytes.
void test_warp(const Shape& y, i64 base, unsigned seed) {
  Random r(seed);
  std::vector<unsigned char> store(4000);
  for (size_t i = 0; i < store.size(); ++i) store[i] = static_cast<unsigned char>(r.values(1, 0, 255)[0]);
  const i64 size[3] = {4, 6, 9};
  const Segment segments[kSegments] = {{nullptr, 0}, {nullptr, 0}, {nullptr, 0}, {store.data(), i64(store.size())}};
  const auto desc = [&](const Values& v) { return port(Role::kIn, {y.n, y.c, kWarpWords, 1, 1}, v, kF64, false); };
  Values words;
  for (const i32 dtype : {kU8, kI16, kF16, kF32}) {
    const i64 item = dtype == kU8 ? 1 : (dtype == kF32 ? 4 : 2);
    for (i64 i = 0; i < size[0] * size[1] * size[2]; ++i) {  // ordinary numbers, no NaN
      const float f = float(i % 37) - 11.5f;
      const u16 half = u16(0x3c00 + i * 7 % 0x1800) | u16(i % 2 << 15), low = u16(i * 331);
      std::memcpy(store.data() + base + i * item,
                  dtype == kF32 ? (const void*)&f : (dtype == kF16 ? (const void*)&half : (const void*)&low),
                  size_t(item));
    }
    words.assign(size_t(y.n * y.c * kWarpWords), 0);
    for (i64 k = 0; k < y.n * y.c; ++k) {
      double* w = words.data() + k * kWarpWords;
      const double head[10] = {double(base), 4, 6, 9, 54, 9, 1, double(dtype), 0.5, 3};
      std::memcpy(w, head, sizeof head);
      const Values m = r.values(12, -0.4f, 0.4f);
      for (int i = 0; i < 12; ++i) w[10 + i] = m[size_t(i)] + (i == 0 || i == 5 ? 1 : (i == 10 ? 0.5 : 0));
      const double tail[6] = {1.5, -2, k % 2 ? 0.7 : 0.0, 12345, double(k), -9};
      std::memcpy(w + 22, tail, sizeof tail);
    }
    for (i64 interp = 0; interp < 3; ++interp)
      compare("warp3d_fwd " + std::to_string(dtype) + " " + std::to_string(interp), "warp3d_fwd", Warp3dAttrs{interp},
              {desc(words), out(y)}, 2e-6, segments);
    compare("warp3d_fwd of labels", "warp3d_fwd", Warp3dAttrs{0}, {desc(words), port(Role::kOut, y, {}, kI32)}, 1e-5,
            segments);
  }
  const std::pair<int, double> bad[] = {{0, NAN},      {0, -1},    {0, 4000},
                                        {0, 1e18},     {0, 0.5},   {1, 0},
                                        {2, INFINITY}, {3, 1000},  {4, 4503599627370496.0},
                                        {6, -1},       {6, 1e300}, {7, 5},
                                        {7, 1},        {10, NAN},  {21, INFINITY},
                                        {22, NAN},     {25, -1},   {26, 4294967296.0},
                                        {27, NAN}};
  for (const auto& [i, v] : bad) {
    Values w = words;
    w[size_t((y.n * y.c - 1) * kWarpWords + i)] = v;
    for (const KernelTable* t : tables)
      expect(run(*t, "warp3d_fwd", Warp3dAttrs{1}, {desc(w), out(y)}, 1, segments).status == kBadVolume,
             "descriptor word " + std::to_string(i));
  }
}

// x, w, b → y, and back. Not in all_cases: the device's is with the convolutions (conv_cases.h).
void test_linear(i64 n, i64 inputs, i64 outputs, unsigned seed) {
  Random r(seed);
  const std::string at = " " + std::to_string(inputs) + "->" + std::to_string(outputs);
  const Shape sx{n, 1, 1, 1, inputs}, sy{n, 1, 1, 1, outputs}, sw{outputs, inputs, 1, 1, 1};
  const Values x = r.values(sx.count()), dy = r.values(sy.count());
  Port w = port(Role::kIn, sw, r.values(sw.count()), -1, false);
  w.narrows = true;
  for (i64 add = 0; add < 2; ++add) {
    const LinearAttrs a{add};
    const Port b = add ? none() : flat(r.values(outputs)), db = result_flat(outputs, add, r);
    compare("linear_fwd" + at, "linear_fwd", a, {in(sx, x), w, b, out(sy)});
    compare("linear_bwd_x" + at, "linear_bwd_x", a, {in(sy, dy), w, result_port(sx, add, r)});
    compare("linear_bwd_w" + at, "linear_bwd_w", a,
            {in(sx, x), in(sy, dy), port(add ? Role::kInOut : Role::kOut, sw, r.values(sw.count()), -1, false), db});
  }
}

// Boxes that overlap, reach out of the grid, hold nothing; a level that is none.
void test_boxmix(const Shape& s, unsigned seed) {
  Random r(seed);
  const i64 count = 9, dims[3] = {s.d, s.h, s.w};
  Values boxes;
  for (i64 i = 0; i < s.n * count; ++i) {
    double start[3], size[3];
    for (int axis = 0; axis < 3; ++axis) {
      start[axis] = std::floor(r.values(1, -2, float(dims[axis]))[0]);
      size[axis] = i % count == 3 && axis == 1 ? 0 : std::floor(r.values(1, 1, float(dims[axis]) + 2)[0]);
    }
    boxes.insert(boxes.end(), start, start + 3);
    boxes.insert(boxes.end(), size, size + 3);
    boxes.push_back(double(i % 5));
  }
  const Shape one{s.n, s.d, s.h, s.w, 1};
  const auto call = [&](const Values& v) {
    return std::vector<Port>{in(s, r.values(s.count())), in(s, r.values(s.count())),
                             port(Role::kIn, {s.n, count, kBoxWords, 1, 1}, v, kI32, false), out(s),
                             port(Role::kOut, one, {}, kI32)};
  };
  compare("boxmix_fwd " + show(s), "boxmix_fwd", BoxmixAttrs{4}, call(boxes), 1e-6);
  for (const double level : {-1.0, 5.0}) {
    Values wrong = boxes;
    wrong[size_t(s.n * count - 1) * kBoxWords + 6] = level;
    for (const KernelTable* t : tables)
      expect(run(*t, "boxmix_fwd", BoxmixAttrs{4}, call(wrong)).status == kBadLabel, "boxmix_fwd: a level that is none");
  }
}

void all_cases() {
  unsigned seed = 1;
  for (const Shape& s : kShapes) {
    for (const bool each : {false, true}) test_normact(s, each, seed++);
    test_pool_and_resize(s, seed++);
    test_elementwise(s, seed++);
    test_losses(s, seed++);
    test_boxmix(s, seed++);
  }
  for (const Shape& s : {Shape{1, 1, 1, 1, 7}, Shape{3, 2, 3, 2, 5}, Shape{5, 3, 3, 7, 33}, Shape{9, 1, 2, 5, 20},
                         Shape{2, 1, 1, 1, 128}})
    test_supcon(s, 1 + s.n % 3, seed++);
  for (const i64 n : {1, 37, 16384 + 77}) test_optim(n, seed++);
  for (const i64 c : {1, 5, 16, 200}) test_running(c, seed++);
  test_warp({2, 3, 5, 19, 2}, 24, seed++);
  test_warp({1, 9, 14, 19, 1}, 27, seed);
  test_pool_nan();
}

}  // namespace
}  // namespace macl::testing
