// A session on this machine's processor: four memory segments, loaded programs, a pool of threads that live as long as
// it does. Knows nothing of Node. One caller at a time (the JavaScript thread that owns it); only abort() and the pool
// run beside it.
#pragma once
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "walk.h"

namespace macl {

// Bytes of segments and arenas that all sessions of this process hold now.
i64 bytes_allocated();

// Zeroed memory, 64-byte aligned, taken from the system page by page as it is touched.
class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory();
  bool take(i64 bytes);
  u8* data() const { return data_; }
  i64 bytes() const { return bytes_; }

 private:
  u8* data_ = nullptr;
  i64 bytes_ = 0;
};

class HostSession {
 public:
  using Done = void (*)(void* context);  // called on a thread of the pool when a run has ended

  // Null, with a sentence in `error`, where memory or threads are not to be had.
  static std::unique_ptr<HostSession> create(const KernelTable& table, const i64 bytes[kSegments], u32 threads, Done done,
                                             void* context, std::string& error, bool& outOfMemory);
  ~HostSession();  // aborts, waits for the threads, frees

  const Segment& segment(i32 i) const { return segments_[i]; }
  // The program's number, or −1 with what is wrong.
  i32 load(const u8* bytes, i64 length, Problem& problem);
  i32 programs() const { return static_cast<i32>(programs_.size()); }
  void run(i32 program);
  void abort() { control_abort(control_); }
  // Ends the pool; a run in progress is aborted and waited for. Memory stays until destruction.
  void stop_threads();

  // Of the run that ended last.
  Stop result() const { return control_stop(control_); }
  i32 status() const { return control_status(control_); }
  i32 failed_instruction() const { return static_cast<i32>(control_.failedInstruction); }
  const char* failed_kernel() const;

 private:
  HostSession(const KernelTable& table) : table_(table) {}
  struct Loaded {
    std::unique_ptr<Memory> arena;
    const Program* program;
  };
  Control control_;
  const KernelTable& table_;
  Memory memory_[kSegments];
  Segment segments_[kSegments] = {};
  std::vector<Loaded> programs_;
  std::vector<std::thread> threads_;
};

}  // namespace macl
