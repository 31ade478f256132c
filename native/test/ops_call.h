// Runs one kernel of a table on tensors given as doubles, for ops_test.cc: channel slices with guarded neighbours, a
// guarded workspace, any split of the tasks. Not part of the product.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../ops/elementwise.h"
#include "../ops/types.h"

namespace macl::testing {

using Values = std::vector<double>;

enum class Role { kIn, kOut, kInOut, kWs, kNone };
struct Port {
  Role role = Role::kNone;
  i32 dtype = -1;  // −1: the table's element type
  i64 s[5] = {0, 0, 0, 0, 0};
  Values values;
  bool sliced = false;
  bool narrows = false;  // a weight, which is multiplied in the activations' dtype

  // Activations, and no others, may be slices; labels have a dtype of their own.
  bool activation() const { return role != Role::kNone && sliced && dtype < 0; }
};

struct Shape {
  i64 n, d, h, w, c;
  i64 count() const { return n * d * h * w * c; }
};
inline Port port(Role role, const Shape& s, Values values, i32 dtype = -1, bool sliced = true) {
  values.resize(size_t(s.count()), 0.5);
  return {role, dtype, {s.n, s.d, s.h, s.w, s.c}, std::move(values), sliced};
}
inline Port in(const Shape& s, Values v) { return port(Role::kIn, s, std::move(v)); }
inline Port flat(Values v, i32 dtype = -1) {
  const Shape s{1, 1, 1, 1, i64(v.size())};
  return port(Role::kIn, s, std::move(v), dtype, false);
}
inline Port out(const Shape& s) { return port(Role::kOut, s, {}); }
inline Port out_flat(i64 n, i32 dtype = -1) { return port(Role::kOut, {1, 1, 1, 1, n}, {}, dtype, false); }
inline Port ws() { return port(Role::kWs, {1, 1, 1, 1, 1}, {}, kU8, false); }
inline Port none() { return {}; }

inline int bytes_of(i32 dtype) {
  return dtype == kF64 ? 8 : dtype == kU8 ? 1 : dtype == kI16 || dtype == kF16 || dtype == kBF16 ? 2 : 4;
}
inline void put(unsigned char* p, i32 dtype, double v) {
  const float f = float(dtype == kBF16 ? round_bf16(v) : v);
  if (bytes_of(dtype) == 2) {  // bf16, the upper half; no kernel takes another
    std::memcpy(p, reinterpret_cast<const unsigned char*>(&f) + 2, 2);
    return;
  }
  const i32 i = i32(v);
  std::memcpy(p, dtype == kF64 ? (const void*)&v : (dtype == kI32 ? (const void*)&i : (const void*)&f),
              size_t(bytes_of(dtype)));
}
inline double get(const unsigned char* p, i32 dtype) {
  double d;
  float f;
  i32 i;
  if (dtype == kF64) return std::memcpy(&d, p, 8), d;
  if (dtype == kI32) return std::memcpy(&i, p, 4), double(i);
  if (dtype == kU8) return *p;
  if (bytes_of(dtype) == 2) return f = 0, std::memcpy(reinterpret_cast<unsigned char*>(&f) + 2, p, 2), double(f);
  return std::memcpy(&f, p, 4), double(f);
}

struct Result {
  i32 status = kOk;
  bool guards = true;  // nothing outside of slices and workspaces was touched
  std::vector<Values> outputs;
};

// Channels of the wider tensor on either side of a slice.
inline i64 slice_before = 1, slice_after = 2;

// `split`: tasks are run in so many shares a phase, last first.
template <class A>
Result run(const KernelTable& table, const char* name, const A& attrs, const std::vector<Port>& ports, i64 split = 1,
           const Segment* segments = nullptr) {
  const Kernel* kernel = nullptr;
  for (int i = 0; i < table.count; ++i)
    if (!std::strcmp(table.specs[i].name, name)) kernel = &table.kernels[i];
  if (!kernel) std::printf("%s has no kernel %s\n", table.isa, name), std::exit(2);
  const i32 real = std::strcmp(table.isa, "ref64") ? kF32 : kF64;
  constexpr unsigned char kGuard = 0x4b;
  std::vector<Tensor> t(ports.size());
  std::vector<std::vector<unsigned char>> memory(ports.size());
  const Args args{t.data(), i32(t.size()), &attrs, segments};
  for (size_t i = 0; i < ports.size(); ++i) {
    const Port& p = ports[i];
    t[i] = {nullptr, {p.s[0], p.s[1], p.s[2], p.s[3], p.s[4]}, p.s[4], p.dtype < 0 ? real : p.dtype, kScratch};
    if (p.role == Role::kNone) t[i] = {nullptr, {0, 0, 0, 0, 0}, 0, kU8, -1};
    if (p.sliced) t[i].ld += slice_before + slice_after;
  }
  std::vector<i64> ws_bytes(ports.size(), 0);
  for (size_t i = 0; i < ports.size(); ++i)
    if (ports[i].role == Role::kWs && kernel->spec.bytes)
      ws_bytes[i] = std::max(i64(0), kernel->spec.bytes(args, i32(i)));  // −1: shapes that `check` refuses
  for (size_t i = 0; i < ports.size(); ++i) {
    const Port& p = ports[i];
    if (p.role == Role::kNone) continue;
    if (p.role == Role::kWs) {
      memory[i].assign(size_t(ws_bytes[i]) + 64, kGuard);
      t[i].s[0] = ws_bytes[i];
      t[i].data = memory[i].data();
      continue;
    }
    const i64 item = bytes_of(t[i].dtype), voxels = p.s[0] * p.s[1] * p.s[2] * p.s[3], first = p.sliced ? slice_before : 0;
    memory[i].assign(size_t(voxels * t[i].ld * item), kGuard);
    t[i].data = memory[i].data() + first * item;
    if (p.role == Role::kOut) continue;
    for (i64 v = 0; v < voxels; ++v)
      for (i64 c = 0; c < p.s[4]; ++c)
        put(memory[i].data() + (v * t[i].ld + first + c) * item, t[i].dtype, p.values[size_t(v * p.s[4] + c)]);
  }
  Result result;
  result.status = kernel->spec.check ? kernel->spec.check(args) : i32(kOk);
  for (i32 phase = 0; phase < kernel->phases && result.status == kOk; ++phase) {
    const i64 tasks = kernel->tasks(args, phase);
    for (i64 k = split - 1; k >= 0 && result.status == kOk; --k)
      result.status = kernel->run(args, phase, tasks * k / split, tasks * (k + 1) / split);
  }
  for (size_t i = 0; i < ports.size(); ++i) {
    const Port& p = ports[i];
    if (p.role == Role::kNone) continue;
    if (p.role == Role::kWs) {
      for (i64 k = 0; k < 64; ++k) result.guards = result.guards && memory[i][size_t(ws_bytes[i] + k)] == kGuard;
      continue;
    }
    const i64 item = bytes_of(t[i].dtype), voxels = p.s[0] * p.s[1] * p.s[2] * p.s[3], first = p.sliced ? slice_before : 0;
    Values values;
    for (i64 v = 0; v < voxels; ++v)
      for (i64 c = 0; c < t[i].ld; ++c) {
        const unsigned char* at = memory[i].data() + (v * t[i].ld + c) * item;
        if (c >= first && c < first + p.s[4])
          values.push_back(get(at, t[i].dtype));
        else
          for (i64 b = 0; b < item; ++b) result.guards = result.guards && at[b] == kGuard;
      }
    if (p.role != Role::kIn) result.outputs.push_back(values);
  }
  return result;
}

// Exact in fp32, so that every table gets the same numbers.
class Random {
 public:
  explicit Random(unsigned seed) : gen_(seed) {}
  Values values(i64 n, float low = -2, float high = 2) {
    std::uniform_real_distribution<float> u(low, high);
    Values v(static_cast<size_t>(n));
    for (double& x : v) x = u(gen_);
    return v;
  }
  Values labels(i64 n, int classes) {
    Values v = values(n, 0, float(classes) + 0.5f);
    for (double& x : v) x = x >= classes ? 255 : std::floor(x);
    return v;
  }

 private:
  std::mt19937 gen_;
};

}  // namespace macl::testing
