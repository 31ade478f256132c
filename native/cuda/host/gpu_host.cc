// The fibers, the barriers and the checks behind gpu_host.h. One host thread runs a grid; different host threads may run
// different grids (everything is thread-local).
#include "gpu_host.h"

#include <sys/mman.h>

#include <memory>
#include <stdexcept>
#include <string>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace macl {
namespace gpu {
namespace host {
namespace {

constexpr i64 kStackBytes = 128 * 1024;
constexpr int kMaxThreads = 1024;
constexpr i64 kStaticShared = 48 * 1024;    // of all devices
constexpr i64 kDynamicShared = 227 * 1024;  // of compute capability 9.0; smaller cards refuse at the launch
constexpr u8 kFresh = 0xff;                 // a NaN in fp32 and float64
constexpr u8 kCanary = 0xa5;
constexpr i64 kCanaryBytes = 64;

enum State : u8 { kReady, kAtBarrier, kAtWarp, kDone };

struct Copy {
  void* to;
  const void* from;
  int size, bytes;
  i64 group;
};

#if defined(__x86_64__)
using Context = void*;
#else
using Context = ucontext_t;
#endif

}  // namespace

struct Lane {
  Context context;
  dim3 index;
  int linear;
  State state;
  Site site;
  std::vector<Copy> copies;
  i64 group;
  u8* stack;
};

namespace {

struct Warp {
  Slots slots;
  u32 present, arrived, wanted;
  Site site;
};

struct Array {
  const void* declaration;
  u8* data;
  i64 bytes;
};

struct Grid {
  Shape shape;
  dim3 block;
  const std::function<void()>* body = nullptr;
  std::vector<Lane> lanes;
  std::vector<Warp> warps;
  std::vector<Array> arrays;
  std::vector<u8> staticShared;
  std::vector<u8> dynamicShared;
  u8* dynamicStart = nullptr;
  i64 staticUsed = 0;
  Context scheduler;
  std::string error;
  u8* stacks = nullptr;
  ~Grid() {
    if (stacks) munmap(stacks, static_cast<size_t>(kStackBytes * kMaxThreads));
  }
};

thread_local Grid* grid = nullptr;
thread_local std::unique_ptr<Grid> idle;  // kept between grids: its stacks are expensive
Order order = kForward;

#if defined(__x86_64__)
extern "C" void macl_gpu_switch(void** save, void* load);
__asm__(
    ".text\n.p2align 4\n.globl macl_gpu_switch\n.hidden macl_gpu_switch\n.type macl_gpu_switch,@function\n"
    "macl_gpu_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n"
    ".size macl_gpu_switch, .-macl_gpu_switch\n");
#endif

std::string place(const Site& s) { return std::string(s.file) + ":" + std::to_string(s.line); }
std::string who(const Lane& l) {
  return "block (" + std::to_string(grid->block.x) + ", " + std::to_string(grid->block.y) + ", " +
         std::to_string(grid->block.z) + "), thread (" + std::to_string(l.index.x) + ", " + std::to_string(l.index.y) + ", " +
         std::to_string(l.index.z) + ")";
}

void to_scheduler(Lane& l) {
#if defined(__x86_64__)
  macl_gpu_switch(&l.context, grid->scheduler);
#else
  swapcontext(&l.context, &grid->scheduler);
#endif
}

// The kernel cannot go on: what is wrong is kept, the fiber is left where it is.
[[noreturn]] void fail(const std::string& reason) {
  if (grid->error.empty()) grid->error = who(*lane) + ": " + reason;
  lane->state = kDone;
  to_scheduler(*lane);
  __builtin_unreachable();
}

void fiber_main() {
  try {
    (*grid->body)();
  } catch (const std::exception& e) {
    if (grid->error.empty()) grid->error = who(*lane) + ": " + e.what();
  }
  lane->state = kDone;
  to_scheduler(*lane);
  __builtin_unreachable();
}

void prepare(Lane& l) {
#if defined(__x86_64__)
  // As macl_gpu_switch leaves it: six registers, then the address to return to; 16-byte aligned after a call.
  u8* top = l.stack + kStackBytes - 64;
  auto** sp = reinterpret_cast<void**>(top);
  *--sp = nullptr;
  *--sp = reinterpret_cast<void*>(&fiber_main);
  for (int i = 0; i < 6; ++i) *--sp = nullptr;
  l.context = sp;
#else
  getcontext(&l.context);
  l.context.uc_stack.ss_sp = l.stack;
  l.context.uc_stack.ss_size = kStackBytes;
  l.context.uc_link = nullptr;
  makecontext(&l.context, &fiber_main, 0);
#endif
}

void resume(Lane& l) {
  lane = &l;
#if defined(__x86_64__)
  macl_gpu_switch(&grid->scheduler, l.context);
#else
  swapcontext(&grid->scheduler, &l.context);
#endif
  lane = nullptr;
}

bool same(const Site& a, const Site& b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

// No thread can run: either all stand at one barrier, or something is wrong.
bool open_barrier() {
  Lane* first = nullptr;
  bool left = false;
  for (Lane& l : grid->lanes) {
    if (l.state == kDone) {
      left = true;
      continue;
    }
    if (l.state == kAtWarp) {
      lane = &l;
      grid->error = who(l) + ": waits in a warp operation at " + place(l.site) + " that other lanes of its mask never reach";
      return false;
    }
    if (!first) first = &l;
    if (!same(first->site, l.site)) {
      grid->error = who(l) + ": waits at the barrier " + place(l.site) + ", others at " + place(first->site);
      return false;
    }
  }
  if (left) {
    grid->error = who(*first) + ": waits at the barrier " + place(first->site) + ", other threads have returned";
    return false;
  }
  for (Lane& l : grid->lanes) l.state = kReady;
  return true;
}

void check_canaries() {
  const auto whole = [](const u8* p) {
    for (i64 i = 0; i < kCanaryBytes; ++i)
      if (p[i] != kCanary) return false;
    return true;
  };
  for (const Array& a : grid->arrays)
    if (!whole(a.data + a.bytes)) grid->error = "a static shared array of " + std::to_string(a.bytes) + " bytes was written past its end";
  if (grid->dynamicStart && !whole(grid->dynamicStart + grid->shape.shared))
    grid->error = "dynamic shared memory of " + std::to_string(grid->shape.shared) + " bytes was written past its end";
}

void run_block(const std::vector<int>& sequence) {
  Grid& g = *grid;
  const dim3 size = g.shape.block;
  for (size_t t = 0; t < g.lanes.size(); ++t) {
    Lane& l = g.lanes[t];
    const unsigned n = static_cast<unsigned>(t);
    l.index = dim3(n % size.x, n / size.x % size.y, n / (size.x * size.y));
    l.linear = static_cast<int>(t);
    l.state = kReady;
    l.copies.clear();
    l.group = 0;
    prepare(l);
  }
  for (size_t w = 0; w < g.warps.size(); ++w) {
    const size_t left = g.lanes.size() - 32 * w;
    g.warps[w].present = left >= 32 ? 0xffffffffu : (1u << left) - 1;
    g.warps[w].arrived = 0;
  }
  g.arrays.clear();
  g.staticUsed = 0;
  if (g.dynamicStart) {
    std::memset(g.dynamicStart, kFresh, static_cast<size_t>(g.shape.shared));
    std::memset(g.dynamicStart + g.shape.shared, kCanary, kCanaryBytes);
  }
  for (;;) {
    bool ran = false, live = false;
    for (const int t : sequence) {
      Lane& l = g.lanes[static_cast<size_t>(t)];
      if (l.state == kReady) {
        resume(l);
        ran = true;
        if (!g.error.empty()) return;
      }
      live |= l.state != kDone;
    }
    if (!live) break;
    if (!ran && !open_barrier()) return;
  }
  check_canaries();
}

std::vector<int> sequence_of(int n) {
  std::vector<int> s(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) s[static_cast<size_t>(i)] = order == kBackward ? n - 1 - i : i;
  if (order == kShuffled) {
    u32 x = 12345;
    for (int i = n - 1; i > 0; --i) {
      x = x * 1664525u + 1013904223u;
      std::swap(s[static_cast<size_t>(i)], s[static_cast<size_t>(x >> 8) % static_cast<size_t>(i + 1)]);
    }
  }
  return s;
}

}  // namespace

thread_local Lane* lane = nullptr;
const dim3& thread_index() { return lane->index; }
const dim3& block_index() { return grid->block; }
const dim3& block_size() { return grid->shape.block; }
const dim3& grid_size() { return grid->shape.grid; }
int lane_number() { return lane->linear % 32; }
void set_order(Order o) { order = o; }

void barrier(Site site) {
  lane->state = kAtBarrier;
  lane->site = site;
  to_scheduler(*lane);
}

void* shared(const void* declaration, i64 bytes) {
  for (const Array& a : grid->arrays)
    if (a.declaration == declaration) return a.data;
  // Canaries between the arrays are not counted against the device's limit.
  if (grid->staticShared.empty()) grid->staticShared.resize(static_cast<size_t>(kStaticShared + 64 * (kCanaryBytes + 64)));
  i64 used = bytes;
  for (const Array& a : grid->arrays) used += a.bytes;
  if (used > kStaticShared) fail("static shared memory of more than " + std::to_string(kStaticShared) + " bytes");
  if (grid->arrays.size() >= 60) fail("more than 60 static shared arrays");
  u8* base = grid->staticShared.data();
  const auto raw = reinterpret_cast<u64>(base) + static_cast<u64>(grid->staticUsed);
  u8* data = base + grid->staticUsed + static_cast<i64>((64 - raw % 64) % 64);
  std::memset(data, kFresh, static_cast<size_t>(bytes));
  std::memset(data + bytes, kCanary, kCanaryBytes);
  grid->staticUsed = data + bytes + kCanaryBytes - base;
  grid->arrays.push_back({declaration, data, bytes});
  return data;
}

void* dynamic_shared() { return grid->dynamicStart; }

void collective(Site site, u32 mask, const void* in, int inBytes, void (*compute)(Slots&), void* out, int outBytes) {
  Warp& w = grid->warps[static_cast<size_t>(lane->linear / 32)];
  const int l = lane->linear % 32;
  mask &= w.present;
  if ((mask >> l & 1) == 0) fail("a warp operation at " + place(site) + " whose mask lacks the calling lane");
  if (w.arrived == 0) {
    w.site = site;
    w.wanted = mask;
  } else if (!same(w.site, site) || w.wanted != mask) {
    fail("a warp operation at " + place(site) + ", other lanes are in one at " + place(w.site));
  }
  if (inBytes > 0) std::memcpy(w.slots.in[l], in, static_cast<size_t>(inBytes));
  w.arrived |= 1u << l;
  if (w.arrived == w.wanted) {
    w.slots.mask = mask;
    compute(w.slots);
    w.arrived = 0;
    const size_t first = static_cast<size_t>(lane->linear / 32) * 32;
    for (size_t i = 0; i < 32; ++i)
      if (mask >> i & 1 && static_cast<int>(i) != l) grid->lanes[first + i].state = kReady;
  } else {
    lane->state = kAtWarp;
    lane->site = site;
    to_scheduler(*lane);
  }
  if (outBytes > 0) std::memcpy(out, w.slots.out[l], static_cast<size_t>(outBytes));
}

u32 ballot(Site site, u32 mask, bool predicate) {
  const u32 mine = predicate ? 1 : 0;
  u32 all = 0;
  collective(
      site, mask, &mine, sizeof mine,
      [](Slots& s) {
        u32 bits = 0;
        for (int l = 0; l < 32; ++l) {
          u32 v = 0;
          if (s.mask >> l & 1) std::memcpy(&v, s.in[l], sizeof v);
          bits |= v << l;
        }
        for (int l = 0; l < 32; ++l) std::memcpy(s.out[l], &bits, sizeof bits);
      },
      &all, sizeof all);
  return all;
}

void copy_async(void* to, const void* from, int size, int bytes) {
  const auto aligned = [size](const void* p) { return reinterpret_cast<u64>(p) % static_cast<u64>(size) == 0; };
  if (!aligned(to) || (bytes > 0 && !aligned(from))) fail("an asynchronous copy of " + std::to_string(size) + " bytes that is not aligned");
  if (bytes < 0 || bytes > size) fail("an asynchronous copy of " + std::to_string(bytes) + " of " + std::to_string(size) + " bytes");
  std::memset(to, kFresh, static_cast<size_t>(size));
  lane->copies.push_back({to, from, size, bytes, lane->group});
}
void copy_commit() { ++lane->group; }
void copy_wait(int groups) {
  std::vector<Copy> later;
  for (const Copy& c : lane->copies) {
    if (c.group >= lane->group - groups) {
      later.push_back(c);
      continue;
    }
    std::memset(c.to, 0, static_cast<size_t>(c.size));
    if (c.bytes > 0) std::memcpy(c.to, c.from, static_cast<size_t>(c.bytes));
  }
  lane->copies.swap(later);
}

namespace {

f64 tf32_value(u32 bits) { return __uint_as_float(bits & 0xffffe000u); }
f64 bf16_value(u32 bits) { return __uint_as_float(bits << 16); }

// d[16][8] += a[16][K]·b[K][8]; `at_a(lane operands, row, k)` and `at_b` read the fragments.
template <int K, class A, class B>
void mma_tile(Slots& s, A at_a, B at_b) {
  const auto of = [&s](int l) { return reinterpret_cast<const MmaOperands*>(s.in[l]); };
  for (int l = 0; l < 32; ++l) {
    const int g = l / 4, t = l % 4;
    f32 d[4];
    for (int i = 0; i < 4; ++i) {
      const int row = g + (i / 2) * 8, col = 2 * t + i % 2;
      f64 sum = of(l)->d[i];
      for (int k = 0; k < K; ++k) sum += at_a(of, row, k) * at_b(of, k, col);
      d[i] = static_cast<f32>(sum);
    }
    std::memcpy(s.out[l], d, sizeof d);
  }
}

}  // namespace

void mma_tf32(Slots& s) {
  mma_tile<8>(
      s, [](const auto& of, int row, int k) { return tf32_value(of(row % 8 * 4 + k % 4)->a[row / 8 + 2 * (k / 4)]); },
      [](const auto& of, int k, int col) { return tf32_value(of(col * 4 + k % 4)->b[k / 4]); });
}

void mma_bf16(Slots& s) {
  mma_tile<16>(
      s,
      [](const auto& of, int row, int k) {
        const u32 pair = of(row % 8 * 4 + k % 8 / 2)->a[row / 8 + 2 * (k / 8)];
        return bf16_value(k % 2 ? pair >> 16 : pair & 0xffffu);
      },
      [](const auto& of, int k, int col) {
        const u32 pair = of(col * 4 + k % 8 / 2)->b[k / 8];
        return bf16_value(k % 2 ? pair >> 16 : pair & 0xffffu);
      });
}

void run_grid(const Shape& shape, const std::function<void()>& body) {
  const i64 threads = static_cast<i64>(shape.block.x) * shape.block.y * shape.block.z;
  if (threads < 1 || threads > kMaxThreads || shape.block.z > 64)
    throw std::runtime_error("a block of " + std::to_string(threads) + " threads");
  if (shape.grid.x < 1 || shape.grid.y < 1 || shape.grid.z < 1 || shape.grid.x > 0x7fffffffu || shape.grid.y > 65535 ||
      shape.grid.z > 65535)
    throw std::runtime_error("a grid of " + std::to_string(shape.grid.x) + " × " + std::to_string(shape.grid.y) + " × " +
                             std::to_string(shape.grid.z) + " blocks");
  if (shape.shared < 0 || shape.shared > kDynamicShared)
    throw std::runtime_error(std::to_string(shape.shared) + " bytes of dynamic shared memory");
  if (grid != nullptr) throw std::runtime_error("a kernel was launched by a kernel");
  std::unique_ptr<Grid> mine = idle ? std::move(idle) : std::make_unique<Grid>();
  Grid& g = *mine;
  if (g.stacks == nullptr) {
    void* p = mmap(nullptr, static_cast<size_t>(kStackBytes * kMaxThreads), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::runtime_error("no memory for the threads' stacks");
    g.stacks = static_cast<u8*>(p);
  }
  g.shape = shape;
  g.body = &body;
  g.error.clear();
  g.lanes.resize(static_cast<size_t>(threads));
  for (size_t t = 0; t < g.lanes.size(); ++t) g.lanes[t].stack = g.stacks + static_cast<i64>(t) * kStackBytes;
  g.warps.resize(static_cast<size_t>((threads + 31) / 32));
  g.dynamicStart = nullptr;
  if (shape.shared > 0) {
    g.dynamicShared.resize(static_cast<size_t>(shape.shared + 128 + kCanaryBytes));
    const auto raw = reinterpret_cast<u64>(g.dynamicShared.data());
    g.dynamicStart = g.dynamicShared.data() + (128 - raw % 128) % 128;
  }
  const std::vector<int> sequence = sequence_of(static_cast<int>(threads));
  grid = &g;
  for (unsigned z = 0; z < shape.grid.z && g.error.empty(); ++z)
    for (unsigned y = 0; y < shape.grid.y && g.error.empty(); ++y)
      for (unsigned x = 0; x < shape.grid.x && g.error.empty(); ++x) {
        g.block = dim3(x, y, z);
        run_block(sequence);
        if (!g.error.empty() && g.error.compare(0, 5, "block") != 0)
          g.error = "block (" + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + "): " + g.error;
      }
  grid = nullptr;
  const std::string error = g.error;
  if (error.empty()) idle = std::move(mine);  // after an error fibers hang in the middle: their stacks are not used again
  if (!error.empty()) throw std::runtime_error(error);
}

}  // namespace host
}  // namespace gpu
}  // namespace macl
