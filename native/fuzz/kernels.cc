// Mutated kernel calls under sanitizers: every registered kernel with random shapes, strides, dtypes and attributes. A call
// that a kernel's own check refuses is right; one that it takes must run without touching a byte outside its tensors
// (each ends where its allocation ends) and without undefined arithmetic. Usage: kernels MINUTES FROM COUNT (0: no limit).
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "../engine/program.h"

using namespace macl;

extern "C" {
extern const KernelTable macl_kernels_baseline, macl_kernels_ref64;
}

namespace {

constexpr i64 kMostBytes = 1 << 22;

struct Random {
  std::mt19937_64 engine;
  u64 below(u64 n) { return engine() % n; }
  bool chance(double share) { return std::uniform_real_distribution<double>(0, 1)(engine) < share; }
};

i64 wild(Random& r) {
  static const i64 edges[] = {0, -1, 1, 2, 3, 255, 65536, 1ll << 31, 1ll << 47, -(1ll << 47), (1ll << 47) - 1, 1ll << 40};
  return edges[r.below(sizeof edges / sizeof *edges)];
}

i64 width(i32 dtype) {
  static const i64 bytes[] = {4, 8, 4, 2, 2, 2, 1};
  return bytes[dtype];
}

// Weights, statistics, and what they become: of the element type where activations are bf16. By the names of native/ops.
bool is_weight(const Port& p) {
  static const char* names[] = {"w",  "b?",    "dw",      "db?",    "mean", "var", "gamma", "beta", "dgamma",
                                "dbeta", "batch", "running", "g",   "m",    "v"};
  for (const char* name : names) {
    const i64 length = static_cast<i64>(std::strcspn(name, "?"));
    const bool optional = name[length] != 0;  // b and db alone are activations of other kernels
    if (p.length != length || std::strncmp(p.name, name, static_cast<size_t>(length))) continue;
    if (p.optional || !optional) return true;
  }
  return false;
}

// One call; true where the kernel took it.
bool call(const KernelTable& table, Random& r) {
  const Kernel& kernel = table.kernels[r.below(static_cast<u64>(table.count))];
  const KernelSpec& spec = kernel.spec;
  const bool f64 = std::string(table.isa) == "ref64", narrow = !f64 && r.chance(0.4);
  const auto real = [&](const Port& p) { return f64 ? kF64 : narrow && !is_weight(p) ? kBF16 : kF32; };
  std::vector<Tensor> tensors;
  std::vector<std::unique_ptr<u8[]>> memory;
  std::vector<u8> store(4096, 7);
  i64 shape[5];
  for (i64& s : shape) s = 1 + static_cast<i64>(r.below(r.chance(0.9) ? 5 : 40));
  const char* cursor = spec.tensors;
  Port port = {};
  std::vector<bool> opaqueOutput;
  const bool huge = r.chance(0.1);  // for `check` and `bytes` alone: such tensors have no memory
  while (next_port(cursor, port)) {
    Tensor t = {};
    t.segment = -1;
    opaqueOutput.push_back(port.opaque && port.output);
    if (!(port.optional && r.chance(0.4))) {
      t.segment = static_cast<i32>(r.below(2));
      const bool scalar = r.chance(0.25);
      t.dtype = port.opaque ? kU8 : scalar ? kF64 : r.chance(0.85) ? real(port) : static_cast<i32>(r.below(7));
      for (int i = 0; i < 5; ++i) t.s[i] = scalar ? 1 : r.chance(0.93) ? shape[i] : 1 + static_cast<i64>(r.below(6));
      if (huge && r.chance(0.5)) t.s[r.below(5)] = 1 + (wild(r) & 0x7fffffffffffll) % ((1ll << 47) - 1);
      t.ld = t.s[4] + (r.chance(0.1) ? static_cast<i64>(r.below(4)) : 0);
      if (port.opaque) {
        t.s[0] = 64 * (1 + static_cast<i64>(r.below(400)));
        t.s[1] = t.s[2] = t.s[3] = t.s[4] = t.ld = 1;
      }
    }
    tensors.push_back(t);
  }
  // The product rule that the loader has: nothing larger than 2^47 elements.
  for (const Tensor& t : tensors) {
    if (t.segment < 0) continue;
    i64 voxels = 1;
    for (int i = 0; i < 4; ++i) {
      if (t.s[i] > (1ll << 47) / voxels) return false;
      voxels *= t.s[i];
    }
    if (voxels - 1 > (1ll << 47) / t.ld) return false;
  }
  std::vector<u8> attrs;
  for (const char* a = spec.attrs; *a; ++a) {
    const bool whole = std::strncmp(a, "i64", 3) == 0;
    while (*a != ';') ++a;
    i64 bits;
    if (whole) {
      bits = r.chance(0.95) ? static_cast<i64>(r.below(4)) : wild(r);
    } else {
      const double v = r.chance(0.9) ? static_cast<double>(r.below(100)) / 50 : r.chance(0.5) ? 1e308 : 0.0 / 1.0 - 5;
      std::memcpy(&bits, &v, 8);
    }
    const u8* p = reinterpret_cast<const u8*>(&bits);
    attrs.insert(attrs.end(), p, p + 8);
  }
  Segment segments[kSegments] = {};
  segments[kStore] = {store.data(), static_cast<i64>(store.size())};
  Args args = {tensors.data(), static_cast<i32>(tensors.size()), attrs.data(), segments};
  // Opaque outputs get what the kernel asks for, most of the time.
  for (size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].segment >= 0 && opaqueOutput[i] && spec.bytes && r.chance(0.9)) {
      const i64 bytes = spec.bytes(args, static_cast<i32>(i));
      if (bytes > 0 && bytes < kMostBytes) tensors[i].s[0] = bytes;
    }
  i64 total = 0;
  for (Tensor& t : tensors) {
    if (t.segment < 0) continue;
    const i64 bytes = ((t.s[0] * t.s[1] * t.s[2] * t.s[3] - 1) * t.ld + t.s[4]) * width(t.dtype);
    if (bytes > kMostBytes || (total += bytes) > kMostBytes) {
      // Only the checks are asked; the address is one that nobody may touch.
      t.data = reinterpret_cast<void*>(64);
      total = kMostBytes;
      continue;
    }
    memory.emplace_back(new u8[static_cast<size_t>(bytes)]);
    t.data = memory.back().get();
    for (i64 b = 0; b + 8 <= bytes; b += 8) {
      const double v = static_cast<double>(r.below(2000)) / 500 - 2;
      const float v32 = static_cast<float>(v);
      if (t.dtype == kF64) std::memcpy(static_cast<u8*>(t.data) + b, &v, 8);
      else if (t.dtype == kF32) std::memcpy(static_cast<u8*>(t.data) + b, &v32, 4), std::memcpy(static_cast<u8*>(t.data) + b + 4, &v32, 4);
      else if (t.dtype == kI32) *reinterpret_cast<i32*>(static_cast<u8*>(t.data) + b) = static_cast<i32>(r.below(4)), *reinterpret_cast<i32*>(static_cast<u8*>(t.data) + b + 4) = static_cast<i32>(r.below(5)) - 1;
      else if (t.dtype == kBF16)  // fp32's upper half
        for (i64 k = b; k < b + 8; k += 2) std::memcpy(static_cast<u8*>(t.data) + k, reinterpret_cast<const u8*>(&v32) + 2, 2);
      else std::memset(static_cast<u8*>(t.data) + b, static_cast<int>(r.below(256)), 8);
    }
  }
  if (spec.check && spec.check(args) != kOk) return false;
  if (total >= kMostBytes) return false;
  for (size_t i = 0; i < tensors.size(); ++i)
    if (opaqueOutput[i]) {
      const i64 need = spec.bytes ? spec.bytes(args, static_cast<i32>(i)) : 0;
      if (need < 0 || need > (tensors[i].data ? tensors[i].s[0] : 0)) return false;
    }
  i64 work = 0;
  for (i32 phase = 0; phase < kernel.phases; ++phase) work += kernel.tasks(args, phase);
  if (work > 200000) return false;
  // Exactly as many bytes as it asks for.
  const i64 scratch = spec.scratch ? spec.scratch(args) : 0;
  if (scratch > kMostBytes) return false;
  std::unique_ptr<u8[]> own(scratch > 0 ? new u8[static_cast<size_t>(scratch)] : nullptr);
  args.scratch = own.get();
  for (i32 phase = 0; phase < kernel.phases; ++phase)
    if (kernel.run(args, phase, 0, kernel.tasks(args, phase)) != kOk) break;
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const double minutes = argc > 1 ? std::atof(argv[1]) : 1;
  const u64 from = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0, count = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 0;
  const auto start = std::chrono::steady_clock::now();
  u64 taken = 0, n = 0;
  for (; count == 0 || n < count; ++n) {
    if (n % 256 == 0 && std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() > 60 * minutes) break;
    Random r{std::mt19937_64(from + n)};
    // A sanitizer ends the program: the last number said is the one to look at.
    if (std::getenv("MACL_FUZZ_VERBOSE")) std::fprintf(stderr, "%llu\n", from + n);
    taken += call(n % 2 ? macl_kernels_ref64 : macl_kernels_baseline, r);
  }
  std::printf("kernels: %llu executions from %llu, %llu taken, 0 findings\n", n, from, taken);
  return 0;
}
