#include "walk.h"

namespace macl {
namespace {

enum Where { kCompute, kBeforeCommit, kCommit };

// Called by one thread while all others wait.
void decide(Control& c, Where where) {
  u32 stop = kRunning;
  if (load_word(&c.failed) != 0) stop = kFailed;
  // Once committing has begun it is finished: half a commit is worse than a late answer.
  else if (where != kCommit && load_word(&c.abort) != 0) stop = kStopAborted;
  else if (where == kBeforeCommit && c.program->guard && *c.program->guard != 0) stop = kSkipped;
  store_word(&c.stop, stop);
}

// All threads meet. False: the run ends here.
bool meet(Control& c, Where where) {
  const u32 generation = load_word(&c.generation);
  if (add_word(&c.arrived, 1) == c.threads) {
    store_word(&c.arrived, 0);
    decide(c, where);
    if (c.threads > 1) {
      add_word(&c.generation, 1);
      wake_all(&c.generation);
    }
  } else {
    wait_while(&c.generation, generation);
  }
  return load_word(&c.dead) == 0 && load_word(&c.stop) == kRunning;
}

// Keeps the failure of the lowest thread, so that the same run reports the same error every time.
void fail(Control& c, u32 thread, i32 status, i32 instruction) {
  const u32 mine = (thread + 1) << 8 | (static_cast<u32>(status) & 255);
  u32 seen = load_word(&c.failed);
  while ((seen == 0 || mine < seen) &&
         !__atomic_compare_exchange_n(&c.failed, &seen, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
  }
  store_word(&c.failedInstruction, static_cast<u32>(instruction));  // the same for all: they met before it
}

void walk(Control& c, u32 thread) {
  const Program& p = *c.program;
  const i64 t = thread, threads = c.threads;
  for (i32 i = 0; i < p.count; ++i) {
    const Instruction& ins = p.instructions[i];
    if (i == p.firstCommit && !meet(c, kBeforeCommit)) return;
    Args args = ins.args;
    if (ins.spec->scratch) args.scratch = c.scratch + t * c.scratchStride;
    const bool timed = t == 0 && c.clock != nullptr;
    const i64 start = timed ? c.clock() : 0;
    for (i32 phase = 0; phase < ins.kernel->phases; ++phase) {
      const i64 n = ins.tasks[phase];
      if (n == 0) continue;
      // n·t would overflow for no number of tasks that load_program admits and fewer than 65,536 threads.
      const i64 begin = n * t / threads, end = n * (t + 1) / threads;
      if (begin < end)
        if (const i32 status = ins.kernel->run(args, phase, begin, end)) fail(c, thread, status, i);
      if (!meet(c, i < p.firstCommit ? kCompute : kCommit)) return;
    }
    if (timed) c.times[i] = c.clock() - start;
  }
}

}  // namespace

void control_init(Control& c, u32 threads, void (*onDone)(void*), void* context) {
  c = {};
  c.threads = threads;
  c.onDone = onDone;
  c.context = context;
}

void worker_loop(Control& c, u32 thread) {
  for (u32 seen = 0;; ++seen) {
    wait_while(&c.job, seen);
    // A thread that wakes late must still take part in a run that was begun before the quit: the others wait for it.
    if (load_word(&c.quit) == seen + 1 || load_word(&c.dead) != 0) return;
    walk(c, thread);
    if (load_word(&c.dead) != 0) return;
    // A run has ended once every thread has looked at `stop` for the last time; only then may the next begin.
    if (add_word(&c.left, 1) != c.threads) continue;
    store_word(&c.left, 0);
    add_word(&c.done, 1);
    wake_all(&c.done);
    if (c.onDone) c.onDone(c.context);
  }
}

void control_scratch(Control& c, u8* scratch, i64 stride) {
  c.scratch = scratch;
  c.scratchStride = stride;
}

void control_run(Control& c, const Program& program) {
  c.program = &program;
  store_word(&c.stop, kRunning);
  store_word(&c.failed, 0);
  store_word(&c.abort, 0);
  add_word(&c.job, 1);
  wake_all(&c.job);
}

void control_abort(Control& c) { store_word(&c.abort, 1); }

void control_quit(Control& c) {
  store_word(&c.quit, load_word(&c.job) + 1);
  add_word(&c.job, 1);
  wake_all(&c.job);
}

void control_kill(Control& c) {
  store_word(&c.dead, 1);
  add_word(&c.job, 1);  // changed words: whoever is about to sleep on them does not
  wake_all(&c.job);
  add_word(&c.generation, 1);
  wake_all(&c.generation);
}

}  // namespace macl
