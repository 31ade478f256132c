#include "session.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include <sys/mman.h>

namespace macl {
namespace {

std::atomic<i64> allocated{0};
constexpr i64 kHugePage = i64(2) << 20;
constexpr i64 kMostBytes = i64(1) << 62;  // so that rounding up does not overflow
constexpr i64 kHugeFrom = i64(1) << 20;  // memory of this size on lies in them where the system has them

i64 nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Failure refused(i64 bytes, const char* what) {
  return {"memory", "the system refused " + std::to_string(bytes) + " bytes for " + what, bytes, -1};
}

}  // namespace

i64 bytes_allocated() { return allocated.load(); }
void count_allocated(i64 bytes) { allocated += bytes; }

bool Memory::take(i64 bytes) {
  if (bytes == 0) return true;
  if (bytes > kMostBytes) return false;
  bool huge = false;
#if defined(MADV_HUGEPAGE)
  huge = bytes >= kHugeFrom;
#endif
  // Whole pages from a page's boundary on: address space, which costs nothing until it is touched.
  const i64 span = huge ? (bytes + kHugePage - 1) / kHugePage * kHugePage + kHugePage : bytes;
  void* p = mmap(nullptr, static_cast<size_t>(span), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return false;
  data_ = base_ = static_cast<u8*>(p);
#if defined(MADV_HUGEPAGE)
  if (huge) {
    data_ = reinterpret_cast<u8*>((reinterpret_cast<uintptr_t>(p) + kHugePage - 1) / kHugePage * kHugePage);
    madvise(data_, static_cast<size_t>(span - kHugePage), MADV_HUGEPAGE);
  }
#endif
  bytes_ = bytes;
  span_ = span;
  allocated += bytes;
  return true;
}

Memory::~Memory() {
  if (base_ == nullptr) return;
  munmap(base_, static_cast<size_t>(span_));
  allocated -= bytes_;
}

std::unique_ptr<HostSession> HostSession::create(const KernelTable& table, const i64 bytes[kSegments], u32 threads,
                                                 Done done, void* context, std::string& error, bool& outOfMemory) {
  outOfMemory = false;
  std::unique_ptr<HostSession> s(new HostSession(table));
  control_init(s->control_, threads, done, context);
  s->control_.clock = nanoseconds;
  for (int i = 0; i < kSegments; ++i) {
    if (!s->memory_[i].take(bytes[i])) {
      error = "the system refused " + std::to_string(bytes[i]) + " bytes";
      outOfMemory = true;
      return nullptr;
    }
    s->segments_[i] = {s->memory_[i].data(), bytes[i]};
  }
  try {
    for (u32 t = 0; t < threads; ++t) s->threads_.emplace_back([c = &s->control_, t] { worker_loop(*c, t); });
  } catch (const std::system_error& e) {
    error = "thread " + std::to_string(s->threads_.size() + 1) + " of " + std::to_string(threads) +
            " could not be started: " + e.what();
    return nullptr;
  }
  return s;
}

HostSession::~HostSession() { stop_threads(); }

void HostSession::stop_threads() {
  if (threads_.empty()) return;
  control_abort(control_);
  control_quit(control_);
  for (std::thread& t : threads_) t.join();
  threads_.clear();
}

i32 HostSession::load(const u8* bytes, i64 length, Failure& failure) {
  Problem problem;
  const i64 need = program_arena_bytes(bytes, length, problem);
  if (need < 0) return failure = {"program", problem.text}, -1;
  auto arena = std::make_unique<Memory>();
  if (!arena->take(need)) return failure = refused(need, "a program"), -1;
  const Program* program = load_program(bytes, length, table_, segments_, arena->data(), need, problem);
  if (program == nullptr) return failure = {"program", problem.text}, -1;
  if (!take_scratch(program->scratch, failure)) return -1;
  programs_.push_back({std::move(arena), program});
  return static_cast<i32>(programs_.size()) - 1;
}

// Threads have as much as the program that asks for most.
bool HostSession::take_scratch(i64 bytes, Failure& failure) {
  const i64 stride = scratch_stride(bytes);
  if (stride <= control_.scratchStride) return true;
  auto scratch = std::make_unique<Memory>();
  i64 all;
  if (__builtin_mul_overflow(stride, static_cast<i64>(control_.threads), &all) || !scratch->take(all))
    return failure = refused(stride, "the scratch of each thread"), false;
  control_scratch(control_, scratch->data(), stride);
  scratch_ = std::move(scratch);
  return true;
}

bool HostSession::write(i32 segment, i64 offset, const u8* bytes, i64 length, Failure&) {
  if (length > 0) std::memcpy(segments_[segment].data + offset, bytes, static_cast<size_t>(length));
  return true;
}

bool HostSession::read(i32 segment, i64 offset, u8* bytes, i64 length, Failure&) {
  if (length > 0) std::memcpy(bytes, segments_[segment].data + offset, static_cast<size_t>(length));
  return true;
}

Outcome HostSession::outcome() const {
  return {result(), status(), failed_instruction(), failed_kernel(), status_text(status())};
}

void HostSession::run(i32 program) {
  const Program& p = *programs_[static_cast<size_t>(program)].program;
  times_.assign(static_cast<size_t>(p.count), 0);
  control_.times = times_.data();
  control_run(control_, p);
}

const char* HostSession::failed_kernel() const {
  const Program* p = control_.program;
  const i32 i = failed_instruction();
  return p != nullptr && i >= 0 && i < p->count ? p->instructions[i].spec->name : "";
}

}  // namespace macl
