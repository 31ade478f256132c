// Sessions: four memory segments and loaded programs. Session is what every machine's looks like to the N-API surface;
// HostSession is this machine's processor, with a pool of threads that live as long as it does. Knows nothing of Node. One
// caller at a time (the JavaScript thread that owns it); only abort() and what computes run beside it.
#pragma once
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "walk.h"

namespace macl {

// Bytes of segments and arenas that all sessions of this process hold now.
i64 bytes_allocated();
// More, or less (negative), that is held otherwise than by Memory.
void count_allocated(i64 bytes);

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
  u8 *data_ = nullptr, *base_ = nullptr;
  i64 bytes_ = 0, span_ = 0;  // what was asked for, and what was taken at `base_`
};

// Why something could not be done; `code` is a MaclErrorCode of src/errors.ts.
struct Failure {
  const char* code = "device";
  std::string message;
  i64 neededBytes = -1, freeBytes = -1;  // of a device's memory, for "memory"; −1 where they say nothing
};

// How a run ended. kBroken: the machine failed, `reason` says how, and nothing runs in this session any more.
constexpr u32 kBroken = 4;
struct Outcome {
  u32 stop = kRunning;  // Stop, or kBroken
  i32 status = kOk;
  i32 instruction = 0;
  const char* kernel = "";
  std::string reason;
};

class Session {
 public:
  using Done = void (*)(void* context);  // called on another thread when a run has ended

  virtual ~Session() = default;  // aborts, waits, frees
  virtual i64 segment_bytes(i32 segment) const = 0;
  // Of all threads together, for the programs that were loaded so far; beside the segments.
  virtual i64 scratch_bytes() const = 0;
  // The program's number, or −1 with the failure.
  virtual i32 load(const u8* bytes, i64 length, Failure& failure) = 0;
  virtual i32 programs() const = 0;
  // The range must lie inside the segment. False with the failure.
  virtual bool write(i32 segment, i64 offset, const u8* bytes, i64 length, Failure& failure) = 0;
  virtual bool read(i32 segment, i64 offset, u8* bytes, i64 length, Failure& failure) = 0;
  virtual void run(i32 program) = 0;
  virtual void abort() = 0;
  virtual Outcome outcome() const = 0;  // of the run that ended last
  // Nanoseconds of each instruction of the run that ended last; nothing where the machine does not know.
  virtual const std::vector<i64>& times() const {
    static const std::vector<i64> none;
    return none;
  }
};

class HostSession : public Session {
 public:
  // Null, with a sentence in `error`, where memory or threads are not to be had.
  static std::unique_ptr<HostSession> create(const KernelTable& table, const i64 bytes[kSegments], u32 threads, Done done,
                                             void* context, std::string& error, bool& outOfMemory);
  ~HostSession() override;

  i64 segment_bytes(i32 i) const override { return segments_[i].bytes; }
  i64 scratch_bytes() const override { return scratch_ ? scratch_->bytes() : 0; }
  const Segment& segment(i32 i) const { return segments_[i]; }
  i32 load(const u8* bytes, i64 length, Failure& failure) override;
  i32 programs() const override { return static_cast<i32>(programs_.size()); }
  bool write(i32 segment, i64 offset, const u8* bytes, i64 length, Failure& failure) override;
  bool read(i32 segment, i64 offset, u8* bytes, i64 length, Failure& failure) override;
  void run(i32 program) override;
  void abort() override { control_abort(control_); }
  Outcome outcome() const override;
  const std::vector<i64>& times() const override { return times_; }
  // Ends the pool; a run in progress is aborted and waited for. Memory stays until destruction.
  void stop_threads();

  // Of the run that ended last.
  Stop result() const { return control_stop(control_); }
  i32 status() const { return control_status(control_); }
  i32 failed_instruction() const { return static_cast<i32>(control_.failedInstruction); }
  const char* failed_kernel() const;

 private:
  HostSession(const KernelTable& table) : table_(table) {}
  bool take_scratch(i64 bytes, Failure& failure);
  struct Loaded {
    std::unique_ptr<Memory> arena;
    const Program* program;
  };
  Control control_;
  const KernelTable& table_;
  Memory memory_[kSegments];
  Segment segments_[kSegments] = {};
  std::unique_ptr<Memory> scratch_;
  std::vector<Loaded> programs_;
  std::vector<i64> times_;
  std::vector<std::thread> threads_;
};

}  // namespace macl
