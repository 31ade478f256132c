// Running a program on T threads, all of which walk the same list of kernels: each takes its static part of a kernel's
// tasks, then they meet. Threads live as long as their session and sleep between runs; whoever creates them (std::thread,
// a WebAssembly worker) calls worker_loop and nothing else. No allocation.
#pragma once
#include "atomics.h"
#include "program.h"

namespace macl {

enum Stop : u32 {
  kRunning = 0,
  kSkipped = 1,      // the guard was set: no commit
  kStopAborted = 2,  // by request, before the commit phase
  kFailed = 3        // a kernel's status was not kOk
};

// Shared by all threads of a session. The first two words are known to JavaScript by their offsets (0 and 4).
struct Control {
  alignas(64) u32 job;  // counts runs begun; threads sleep on it
  u32 done;             // counts runs ended; the host sleeps on it
  u32 quit;             // the value of `job` at which threads return; 0: not yet
  u32 dead;             // a thread was lost: the others leave wherever they wait, and nothing runs here again
  u32 abort;
  u32 stop;    // Stop, decided by the last thread to arrive, so that all see the same
  u32 failed;  // (thread + 1) << 8 | status of the lowest thread that failed
  u32 failedInstruction;
  u32 threads;
  const Program* program;
  u8* scratch;        // `threads` blocks of scratchStride bytes: what the loaded programs ask for
  i64 scratchStride;
  void (*onDone)(void* context);  // called by the last thread to finish; may be null
  i64 (*clock)();     // nanoseconds; null: nothing is timed
  i64* times;         // with a clock: of each instruction of the run, from meeting to meeting
  void* context;
  alignas(64) u32 arrived;
  alignas(64) u32 generation;  // counts meetings; threads sleep on it
  alignas(64) u32 left;        // threads that are through with the run
};

void control_init(Control& c, u32 threads, void (*onDone)(void*), void* context);

// Until control_quit or control_kill. `thread` in [0, threads).
void worker_loop(Control& c, u32 thread);

// A thread's block of scratch, rounded up so that each begins on a cache line.
inline i64 scratch_stride(i64 bytes) { return (bytes + 63) / 64 * 64; }
// Gives the threads scratch: `threads` · stride bytes, 64-byte aligned, which live as long as programs run. Between runs.
void control_scratch(Control& c, u8* scratch, i64 stride);

// Begins a run; the one before must have ended.
void control_run(Control& c, const Program& program);
void control_abort(Control& c);
void control_quit(Control& c);
// A thread is gone: frees the others.
void control_kill(Control& c);

// After a run has ended.
inline Stop control_stop(const Control& c) { return static_cast<Stop>(load_word(&c.stop)); }
inline i32 control_status(const Control& c) { return static_cast<i32>(load_word(&c.failed) & 255); }

}  // namespace macl
