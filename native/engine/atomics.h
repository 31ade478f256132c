// Words that threads share, and sleeping on them: futex on Linux, memory.atomic.wait32 in WebAssembly. Compiler builtins
// instead of <atomic>, because the same words are touched from JavaScript (Atomics) in WebAssembly.
#pragma once
#include "../ops/types.h"

#if defined(__wasm__)
#elif defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <time.h>
#endif

namespace macl {

inline u32 load_word(const u32* p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
inline void store_word(u32* p, u32 v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
// Returns the new value.
inline u32 add_word(u32* p, u32 v) { return __atomic_add_fetch(p, v, __ATOMIC_ACQ_REL); }

inline void spin_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

inline void wake_all(u32* p) {
#if defined(__wasm__)
  __builtin_wasm_memory_atomic_notify(reinterpret_cast<int*>(p), 0x7fffffff);
#elif defined(__linux__)
  syscall(SYS_futex, p, FUTEX_WAKE_PRIVATE, 0x7fffffff, nullptr, nullptr, 0);
#else
  (void)p;
#endif
}

// Returns once *p differs from `value`: spins for some tens of microseconds, then sleeps.
inline void wait_while(u32* p, u32 value) {
  constexpr int kSpins = 2000;
  for (int i = 0; i < kSpins; ++i) {
    if (load_word(p) != value) return;
    spin_pause();
  }
  while (load_word(p) == value) {
#if defined(__wasm__)
    __builtin_wasm_memory_atomic_wait32(reinterpret_cast<int*>(p), static_cast<int>(value), -1);
#elif defined(__linux__)
    syscall(SYS_futex, p, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
#else
    const timespec pause = {0, 50000};
    nanosleep(&pause, nullptr);
#endif
  }
}

}  // namespace macl
