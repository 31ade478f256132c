// Tests of the engine alone, with a kernel table of its own: decoding hostile programs, the walk over threads, commit,
// abort, failures, lost threads. Plain asserts; prints how many checks passed.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/session.h"

using namespace macl;

static int passed = 0;
#define CHECK(what)                                                                \
  do {                                                                             \
    if (!(what)) std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what), std::exit(1); \
    ++passed;                                                                      \
  } while (0)

// Kernels. count: y[i] += 1 for i in the task range, in two phases; the second looks whether the first is through.
static std::atomic<int> misses{0};
static i64 count_tasks(const Args& a, i32) { return a.t[0].s[4]; }
static i32 count_run(const Args& a, i32 phase, i64 begin, i64 end) {
  i32* y = static_cast<i32*>(a.t[0].data);
  for (i64 i = begin; i < end; ++i) {
    // In phase 1 every element must have been counted up by phase 0, whoever did it.
    if (phase == 1 && y[(i * 7 + 3) % a.t[0].s[4]] % 2 == 0) ++misses;
    if (phase == 0) ++y[i];
  }
  return kOk;
}
static i32 even_run(const Args& a, i32, i64 begin, i64 end) {
  i32* y = static_cast<i32*>(a.t[0].data);
  for (i64 i = begin; i < end; ++i) ++y[i];
  return kOk;
}
static i64 fail_tasks(const Args&, i32) { return 64; }
static i32 fail_run(const Args&, i32, i64 begin, i64) { return begin < 32 ? kBadVolume : kBadLabel; }
static i32 needs_ws_check(const Args& a) { return a.t[0].dtype == kI32 ? kOk : kBadDType; }
static i64 needs_ws_bytes(const Args& a, i32 index) { return index == 1 ? a.t[0].s[4] * 4 : 0; }
static std::atomic<bool> hold{false};
static i32 hold_run(const Args&, i32, i64, i64) {
  while (hold) std::this_thread::yield();
  return kOk;
}
static i64 one_task(const Args&, i32) { return 1; }
static i64 bad_tasks(const Args&, i32) { return -1; }


// Each thread fills its own scratch, lets the others run, and finds it as it left it: y[i] counts those who did.
static i64 own_scratch(const Args& a) { return a.t[0].s[4] * 8 + 4; }
static i32 own_run(const Args& a, i32, i64 begin, i64 end) {
  if (a.scratch == nullptr || reinterpret_cast<unsigned long long>(a.scratch) % 64 != 0) return kBadAttr;
  u8* own = static_cast<u8*>(a.scratch);
  const i64 bytes = own_scratch(a);
  for (i64 i = begin; i < end; ++i) {
    std::memset(own, static_cast<int>(i % 251), static_cast<size_t>(bytes));
    std::this_thread::yield();
    for (i64 k = 0; k < bytes; ++k)
      if (own[k] != i % 251) return kBadShape;
    ++static_cast<i32*>(a.t[0].data)[i];
  }
  return kOk;
}
static i32 no_scratch_run(const Args& a, i32, i64, i64) { return a.scratch == nullptr ? kOk : kBadAttr; }
static i64 bad_scratch(const Args&) { return -1; }
static i64 endless_scratch(const Args&) { return i64(1) << 47; }

static const Kernel kKernels[] = {
    {{"count", "> y", "", nullptr, nullptr, nullptr}, 2, count_tasks, count_run},
    {{"even", "> y", "", nullptr, nullptr, nullptr}, 1, count_tasks, even_run},
    {{"fail", "> y", "", nullptr, nullptr, nullptr}, 1, fail_tasks, fail_run},
    {{"needs_ws", "x > ws? y?", "i64 a;f64 b;", needs_ws_check, needs_ws_bytes, nullptr}, 1, count_tasks, even_run},
    {{"hold", "> y", "", nullptr, nullptr, nullptr}, 1, one_task, hold_run},
    {{"bad_tasks", "> y", "", nullptr, nullptr, nullptr}, 1, bad_tasks, hold_run},
    {{"own", "> y", "", nullptr, nullptr, own_scratch}, 1, count_tasks, own_run},
    {{"no_scratch", "> y", "", nullptr, nullptr, nullptr}, 1, count_tasks, no_scratch_run},
    {{"bad_scratch", "> y", "", nullptr, nullptr, bad_scratch}, 1, count_tasks, own_run},
    {{"endless_scratch", "> y", "", nullptr, nullptr, endless_scratch}, 1, count_tasks, own_run},
};
constexpr i32 kCount = sizeof kKernels / sizeof *kKernels;
static const KernelSpec* specs() {
  static KernelSpec all[kCount];
  for (i32 k = 0; k < kCount; ++k) all[k] = kKernels[k].spec;
  return all;
}
static const KernelTable kTable = {"stub", kCount, specs(), kKernels};

struct T {
  i32 segment, dtype;
  i64 offset, n, bytes;
};
static T ints(i32 segment, i64 offset, i64 n) { return {segment, kI32, offset, n, 4 * n}; }
static const T kAbsent = {-1, 0, 0, 0, 0};

struct Writer {
  std::string bytes;
  u32 instructions = 0;
  std::vector<std::string> names;
  std::string body;
  template <class V>
  static void put(std::string& s, V v) {
    s.append(reinterpret_cast<const char*>(&v), sizeof v);
  }
  Writer& call(const char* name, std::vector<T> tensors, bool commit = false, i64 attrs = 0) {
    u32 index = 0;
    while (index < names.size() && names[index] != name) ++index;
    if (index == names.size()) names.push_back(name);
    put<u32>(body, index), put<u32>(body, commit), put<u32>(body, static_cast<u32>(tensors.size())), put<u32>(body, static_cast<u32>(attrs));
    for (const T& t : tensors) {
      put(body, t.segment), put(body, t.dtype), put(body, t.offset), put(body, t.bytes);
      const bool opaque = t.dtype == kU8;
      put<i64>(body, opaque ? t.n : 1);
      for (int i = 0; i < 3; ++i) put<i64>(body, 1);
      put<i64>(body, opaque ? 1 : t.n), put<i64>(body, opaque ? 1 : t.n), put<i64>(body, 0);
    }
    body.append(static_cast<size_t>(attrs), '\0');
    ++instructions;
    return *this;
  }
  std::string done(i32 guardSegment = -1, i64 guardOffset = 0) const {
    std::string s;
    put<u32>(s, 0x4c43414d), put<u32>(s, 1), put<u32>(s, instructions), put<u32>(s, static_cast<u32>(names.size()));
    put(s, guardSegment), put<u32>(s, 0), put(s, guardOffset);
    for (int i = 0; i < 4; ++i) put<i64>(s, 0);
    for (const std::string& n : names) {
      put<u32>(s, static_cast<u32>(n.size()));
      s += n;
      s.append((8 - (4 + n.size()) % 8) % 8, '\0');
    }
    return s + body;
  }
};

struct Waiter {
  u32 done = 0;
  static void on_done(void* self) {
    add_word(&static_cast<Waiter*>(self)->done, 1);
    wake_all(&static_cast<Waiter*>(self)->done);
  }
};

static std::unique_ptr<HostSession> session(u32 threads, Waiter& waiter) {
  const i64 bytes[] = {4096, 65536, 4096, 0};
  std::string error;
  bool outOfMemory;
  auto s = HostSession::create(kTable, bytes, threads, Waiter::on_done, &waiter, error, outOfMemory);
  CHECK(s != nullptr);
  return s;
}
static i32 load(HostSession& s, const std::string& p, Failure& failure) {
  // Exactly as long as it is, so that a sanitizer sees a read past its end.
  std::unique_ptr<u8[]> copy(new u8[p.size()]);
  std::memcpy(copy.get(), p.data(), p.size());
  return s.load(copy.get(), static_cast<i64>(p.size()), failure);
}
static i32 load(HostSession& s, const std::string& p) {
  Failure failure;
  const i32 id = load(s, p, failure);
  if (id < 0) std::fprintf(stderr, "%s\n", failure.message.c_str());
  CHECK(id >= 0);
  return id;
}
static void run(HostSession& s, i32 id, Waiter& w) {
  const u32 before = load_word(&w.done);
  s.run(id);
  wait_while(&w.done, before);
}
static bool refused(HostSession& s, const std::string& p, const char* why, const char* code = "program") {
  Failure failure;
  if (load(s, p, failure) >= 0) return false;
  if (failure.message.find(why) == std::string::npos || std::strcmp(failure.code, code) != 0)
    return std::fprintf(stderr, "%s: %s\n", failure.code, failure.message.c_str()), false;
  return true;
}

static void decoding() {
  Waiter w;
  auto s = session(1, w);
  const std::string good = Writer().call("count", {ints(kScratch, 0, 9)}).call("even", {ints(kState, 0, 9)}, true).done(kIo, 8);
  load(*s, good);
  for (size_t n = 0; n < good.size(); ++n) {
    Failure failure;
    CHECK(load(*s, good.substr(0, n), failure) < 0);
  }
  CHECK(refused(*s, good + std::string(8, '\0'), "after the last"));
  CHECK(refused(*s, Writer().call("none", {}).done(), "stub has no kernel none"));
  CHECK(refused(*s, Writer().call("coun", {}).done(), "no kernel coun"));
  CHECK(refused(*s, Writer().call("counts", {}).done(), "no kernel counts"));
  CHECK(refused(*s, Writer().call("count", {}).done(), "tensor y"));
  CHECK(refused(*s, Writer().call("count", {kAbsent}).done(), "tensor y: is missing"));
  CHECK(refused(*s, Writer().call("count", {ints(kStore, 0, 1)}).done(), "outside its segment of 0 bytes"));
  CHECK(refused(*s, Writer().call("count", {ints(kScratch, 65536 - 32, 9)}).done(), "outside"));
  CHECK(refused(*s, Writer().call("count", {ints(kScratch, -4, 9)}).done(), "outside"));
  CHECK(refused(*s, Writer().call("count", {ints(kScratch, i64(1) << 62, 9)}).done(), "outside"));
  CHECK(refused(*s, Writer().call("count", {ints(kScratch, 2, 9)}).done(), "multiple of 4"));
  CHECK(refused(*s, Writer().call("bad_tasks", {ints(kScratch, 0, 9)}).done(), "says -1 tasks"));
  CHECK(refused(*s, Writer().call("even", {ints(kState, 0, 9)}, true).call("even", {ints(kState, 0, 9)}).done(), "commit"));
  CHECK(refused(*s, Writer().call("even", {ints(kState, 0, 9)}).done(kStore, 0), "guard"));
  // Opaque tensors: size, dtype, alignment, absence; and the kernel's own check with its status.
  const auto ws = [](T x, T workspace, i64 attrs = 16) { return Writer().call("needs_ws", {x, workspace, kAbsent}, false, attrs).done(); };
  load(*s, ws(ints(kScratch, 0, 16), {kScratch, kU8, 64, 64, 64}));
  CHECK(refused(*s, ws(ints(kScratch, 0, 16), kAbsent), "tensor ws: needs 64 bytes, has 0"));
  CHECK(refused(*s, ws(ints(kScratch, 0, 16), {kScratch, kU8, 64, 63, 63}), "needs 64 bytes, has 63"));
  CHECK(refused(*s, ws(ints(kScratch, 0, 16), {kScratch, kU8, 32, 64, 64}), "multiple of 64"));
  CHECK(refused(*s, ws(ints(kScratch, 0, 16), ints(kScratch, 64, 16)), "opaque"));
  CHECK(refused(*s, ws(ints(kScratch, 0, 16), {kScratch, kU8, 64, 64, 64}, 8), "8 bytes of attributes, expected 16"));
  Problem problem;
  const std::string wrong = ws({kScratch, kF32, 0, 16, 64}, {kScratch, kU8, 64, 64, 64});
  const Segment segments[] = {s->segment(0), s->segment(1), s->segment(2), s->segment(3)};
  alignas(16) static u8 arena[1 << 14];
  CHECK(load_program(reinterpret_cast<const u8*>(wrong.data()), i64(wrong.size()), kTable, segments, arena, sizeof arena,
                     problem) == nullptr);
  CHECK(problem.status == kBadDType && problem.instruction == 0);

  // Damage: whatever it says, it must not read or write outside (run this under -fsanitize=address,undefined).
  u32 seed = 1;
  const auto random = [&seed](u32 n) { return (seed = seed * 1664525u + 1013904223u) / 7 % n; };
  int refusedCount = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bad = good;
    for (u32 k = 0; k <= random(3); ++k) bad[random(static_cast<u32>(bad.size()))] = static_cast<char>(random(4) ? random(256) : 255);
    Failure failure;
    refusedCount += load(*s, bad, failure) < 0;
  }
  CHECK(refusedCount > 5000 && refusedCount < 20000);

  u8 records[160] = {};
  const i64 sizes[] = {1, 1, 1, 1, 12, 12};
  std::memcpy(records + 24, sizes, sizeof sizes);
  i32 absent = -1;
  u8 all[240];
  std::memcpy(all, records, 80), std::memset(all + 80, 0, 160), std::memcpy(all + 80, records, 80), std::memcpy(all + 160, &absent, 4);
  const i64 attrs[] = {0, 0};
  CHECK(opaque_bytes(kKernels[3].spec, all, 3, attrs, 16, 1, problem) == 48);
  CHECK(opaque_bytes(kKernels[3].spec, all, 3, attrs, 16, 0, problem) == -1);
  CHECK(opaque_bytes(kKernels[3].spec, all, 3, attrs, 8, 1, problem) == -1);
  CHECK(opaque_bytes(kKernels[3].spec, all, 2, attrs, 16, 1, problem) == -1);
}

static void walking(u32 threads) {
  Waiter w;
  auto s = session(threads, w);
  // Odd counts stay odd only if every phase 1 comes after every phase 0, and every `even` after both.
  Writer p;
  for (int i = 0; i < 40; ++i) p.call("count", {ints(kScratch, 0, 1001)}).call("even", {ints(kScratch, 0, 1001)});
  const i32 id = load(*s, p.call("even", {ints(kState, 0, 5)}, true).done(kIo, 0));
  for (int r = 1; r <= 25; ++r) {
    run(*s, id, w);
    CHECK(s->result() == kRunning);
  }
  CHECK(misses == 0);
  const i32* y = reinterpret_cast<const i32*>(s->segment(kScratch).data);
  for (int i = 0; i < 1001; ++i) CHECK(y[i] == 25 * 80);

  i32* guard = reinterpret_cast<i32*>(s->segment(kIo).data);
  const i32* state = reinterpret_cast<const i32*>(s->segment(kState).data);
  CHECK(state[4] == 25);
  *guard = -1;
  run(*s, id, w);
  CHECK(s->result() == kSkipped && state[4] == 25);
  *guard = 0;

  // A failure: the lowest thread's status, the same every time; the state untouched.
  const i32 bad = load(*s, Writer().call("even", {ints(kScratch, 0, 9)}).call("fail", {ints(kScratch, 0, 9)}).call("even", {ints(kState, 0, 5)}, true).done());
  for (int i = 0; i < 10; ++i) {
    run(*s, bad, w);
    CHECK(s->result() == kFailed && s->status() == kBadVolume && s->failed_instruction() == 1);
    CHECK(std::strcmp(s->failed_kernel(), "fail") == 0 && state[4] == 25);
  }

  // An abort during a kernel: stops after it, and the next run is a whole one.
  const i32 slow = load(*s, Writer().call("hold", {ints(kScratch, 0, 9)}).call("even", {ints(kState, 0, 5)}, true).done());
  hold = true;
  const u32 before = load_word(&w.done);
  s->run(slow);
  s->abort();
  hold = false;
  wait_while(&w.done, before);
  CHECK(s->result() == kStopAborted && state[4] == 25);
  run(*s, slow, w);
  CHECK(s->result() == kRunning && state[4] == 26);

  // Destroyed in the middle of a run.
  hold = true;
  s->run(slow);
  std::thread releases([] { hold = false; });
  s.reset();
  releases.join();
}

static void scratch(u32 threads) {
  Waiter w;
  auto s = session(threads, w);
  const i64 before = bytes_allocated();
  CHECK(s->scratch_bytes() == 0);
  const auto program = [](i64 n) {
    return Writer().call("own", {ints(kScratch, 0, n)}).call("no_scratch", {ints(kScratch, 0, n)}).call("own", {ints(kScratch, 0, n / 2)}).done();
  };
  const i32 *y = reinterpret_cast<const i32*>(s->segment(kScratch).data);
  const i32 small = load(*s, program(100));
  CHECK(s->scratch_bytes() == i64(threads) * 832);  // 804 bytes each, in whole cache lines
  CHECK(bytes_allocated() >= before + i64(threads) * 832);
  const i32 large = load(*s, program(1000));
  CHECK(s->scratch_bytes() == i64(threads) * 8064);
  load(*s, program(10));
  CHECK(s->scratch_bytes() == i64(threads) * 8064);
  for (int r = 0; r < 5; ++r)
    for (const i32 id : {small, large}) {
      run(*s, id, w);
      CHECK(s->result() == kRunning);
    }
  CHECK(y[0] == 20 && y[49] == 20 && y[50] == 15 && y[99] == 15 && y[100] == 10 && y[499] == 10 && y[999] == 5);
  CHECK(refused(*s, Writer().call("bad_scratch", {ints(kScratch, 0, 9)}).done(), "asks for -1 bytes of scratch"));
  CHECK(refused(*s, Writer().call("endless_scratch", {ints(kScratch, 0, 9)}).done(), "140737488355328 bytes for the scratch of each thread", "memory"));
  run(*s, large, w);
  CHECK(s->result() == kRunning);
}

// A thread that never comes back (a WebAssembly worker that trapped): the others must leave.
static void losing_a_thread() {
  static Control control;
  control_init(control, 3, nullptr, nullptr);
  Waiter w;
  auto s = session(1, w);
  alignas(16) static u8 arena[1 << 16];
  const Segment segments[] = {s->segment(0), s->segment(1), s->segment(2), s->segment(3)};
  const std::string bytes = Writer().call("count", {ints(kScratch, 0, 100)}).done();
  Problem problem;
  const Program* p = load_program(reinterpret_cast<const u8*>(bytes.data()), static_cast<i64>(bytes.size()), kTable, segments, arena, sizeof arena, problem);
  CHECK(p != nullptr);
  std::thread a([] { worker_loop(control, 0); }), b([] { worker_loop(control, 2); });  // 1 is lost
  control_run(control, *p);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(load_word(&control.done) == 0);
  control_kill(control);
  a.join();
  b.join();
  CHECK(load_word(&control.done) == 0);
}

int main() {
  const i64 before = bytes_allocated();
  decoding();
  for (u32 threads : {1, 2, 3, 5}) walking(threads);
  for (u32 threads : {1, 2, 3, 5}) scratch(threads);
  losing_a_thread();
  CHECK(bytes_allocated() == before);
  std::printf("%d passed\n", passed);
}
