// A session on a CUDA device (or on its twin of tests, host/runtime_host.cc): segments are allocations of the device, a
// program is one recorded graph, and a thread of its own waits, asleep, for the end of a run.
#pragma once
#include <condition_variable>
#include <mutex>

#include "../engine/session.h"
#include "gate.h"
#include "runtime.h"
#include "table.h"

namespace macl {
namespace gpu {

class DeviceSession : public Session {
 public:
  // Null, with the failure, where the device or its memory is not to be had.
  static std::unique_ptr<DeviceSession> create(const KernelTable& table, const i64 bytes[kSegments], i32 device, Done done,
                                               void* context, Failure& failure);
  ~DeviceSession() override;

  i64 segment_bytes(i32 i) const override { return segments_[i].bytes; }
  i64 scratch_bytes() const override { return 0; }  // shared memory and registers belong to a launch
  i32 load(const u8* bytes, i64 length, Failure& failure) override;
  i32 programs() const override { return static_cast<i32>(programs_.size()); }
  bool write(i32 segment, i64 offset, const u8* bytes, i64 length, Failure& failure) override;
  bool read(i32 segment, i64 offset, u8* bytes, i64 length, Failure& failure) override;
  void run(i32 program) override;
  void abort() override { store_word(&told_->abort, 1); }
  Outcome outcome() const override { return outcome_; }

 private:
  struct Loaded {
    std::unique_ptr<Memory> arena;
    const Program* program;
    Recording* recording;
  };
  DeviceSession(const KernelTable& table, i32 device, Done done, void* context)
      : table_(table), device_(device), done_(done), context_(context) {}
  Result open(const i64 bytes[kSegments], i32 processors);
  Result launches(const Program& program, void* stream);
  bool usable(Failure& failure);
  // Turns a result into the failure; a lost device breaks the session.
  bool fine(const Result& result, Failure& failure);
  void work();
  Outcome ended(const Program& program, const Result& result);

  const KernelTable& table_;
  const i32 device_;
  const Done done_;
  void* const context_;
  i32 processors_ = 0;
  Segment segments_[kSegments] = {};
  i64 counted_ = 0;
  Queue* queue_ = nullptr;
  Words* words_ = nullptr;         // on the device
  Told* told_ = nullptr;           // pinned, and where the device has it
  Told* toldOnDevice_ = nullptr;
  void* staging_ = nullptr;        // pinned: what write and read copy through
  std::vector<Loaded> programs_;
  Outcome outcome_;
  std::string broken_;             // why nothing may run here any more

  std::thread worker_;
  std::mutex mutex_;
  std::condition_variable wake_;
  i32 asked_ = -1;                 // the program to run
  bool quit_ = false;
};

}  // namespace gpu
}  // namespace macl
