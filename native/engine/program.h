// A program (docs/program.md) as the engine runs it: decoded once into an arena, every offset checked, task counts known.
// Portable: no allocation, no exceptions, no standard library. Not thread-safe in itself; read-only once loaded.
#pragma once
#include "message.h"

namespace macl {

struct Instruction {
  const KernelSpec* spec;
  const Kernel* kernel;  // null in a program of a device, and so are the tasks
  const i64* tasks;      // one a phase; they depend on shapes and attributes alone
  Args args;
};

struct Program {
  const Instruction* instructions;
  i32 count;
  i32 firstCommit;   // = count where there is no commit instruction
  const i32* guard;  // null where there is none
  i64 scratch;       // bytes that a thread needs: the most that one of the kernels asks for
};

// One name of a kernel's signature, "x wp b? > y ws?".
struct Port {
  const char* name;
  i32 length;
  bool optional;
  bool output;
  bool opaque;  // packed weights (wp) and workspaces (ws)
};

// Steps through a signature; `port` must be zeroed before the first call. False at the end.
bool next_port(const char*& cursor, Port& port);

// The kernel's place in the table, or −1.
i32 find_kernel(const KernelTable& table, const char* name, i64 length);

// Bytes of arena that load_program needs, or −1 with what is wrong. Looks at the structure only.
i64 program_arena_bytes(const u8* bytes, i64 length, Problem& problem);

// Decodes into `arena` (16-byte aligned) and checks everything; null with what is wrong. `segments` must stay where they
// are as long as the program lives; `bytes` need not.
const Program* load_program(const u8* bytes, i64 length, const KernelTable& table, const Segment* segments, u8* arena,
                            i64 arenaBytes, Problem& problem);

// Bytes of opaque tensor `index` of a kernel call; `tensors` are the 80-byte records of the program format, of which
// segment (−1: absent), dtype, shape and ld count. −1 with what is wrong.
i64 opaque_bytes(const KernelSpec& kernel, const u8* tensors, i32 count, const void* attrs, i64 attrBytes, i32 index,
                 Problem& problem);

}  // namespace macl
