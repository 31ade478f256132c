// What a session needs of the CUDA runtime, and nothing more: devices, memory, a stream with its event, recorded launches.
// runtime_cuda.cc is the CUDA runtime; host/runtime_host.cc its twin for tests: the host's memory, and an ordered list that
// is run again instead of a graph. No CUDA header is needed to read this one. Calls act on the device that the thread chose
// last with use_device. Nothing throws but for want of host memory.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "../ops/types.h"

namespace macl {
namespace gpu {

// How a call ended.
struct Result {
  enum Kind : i32 {
    kFine,
    kMemory,   // the device's or the pinned memory does not suffice
    kNoDevice, // no driver, one too old, no such device
    kRefused,  // this call; others may go on
    kLost      // the device is lost to this process
  };
  Kind kind = kFine;
  std::string text;
  bool ok() const { return kind == kFine; }
};

struct Versions {
  i32 toolkit;  // 1000·major + 10·minor, as CUDA has it
  i32 driver;   // the newest toolkit that the driver serves; 0: no driver
};
Versions versions();

struct Card {
  std::string name;
  i64 memoryBytes;
  i32 major, minor;  // compute capability
  i32 processors;    // streaming multiprocessors
};
// None where there is no driver: the result says why.
Result cards(std::vector<Card>& out);

Result use_device(i32 index);
Result free_memory(i64& bytes);

// Zeroed memory of the device, aligned to 256 bytes at least; 0 bytes is null.
Result take(i64 bytes, void*& out);
void give_back(void* memory);
// Zeroed memory of the host that the device reads and writes too; `device` is its address there.
Result take_pinned(i64 bytes, void*& host, void*& device);
void give_back_pinned(void* host);

struct Queue;  // a stream, and an event for waiting
Result make_queue(Queue*& out);
void destroy(Queue* queue);
// Return once the bytes are there. `host` must be pinned.
Result copy_in(Queue* queue, void* device, const void* host, i64 bytes);
Result copy_out(Queue* queue, void* host, const void* device, i64 bytes);

struct Recording;  // launches in order, run with one call
// `launches` is given the stream and says how far it came; the device's own error of the last launch is last_error().
Result record(Queue* queue, const std::function<Result(void* stream)>& launches, Recording*& out);
void destroy(Recording* recording);
// Asks for a run; it has ended when wait returns. wait sleeps.
Result run(Queue* queue, Recording* recording);
Result wait(Queue* queue);
Result last_error();

// Whether launches happen as they are called, so that an abort can be heeded between them.
bool runs_at_once();
// Tests: the nth next call of this name (of the above) ends so. False where the runtime is the real one.
bool plan_failure(const std::string& call, i32 nth, Result result);

}  // namespace gpu
}  // namespace macl
