// What JavaScript calls in the WebAssembly modules. Addresses are bytes from the start of the one shared memory; the
// caller (src/backend/wasm-*.ts) lays it out: nothing here allocates. Counts that may pass 2^31 are doubles.
#include "../engine/walk.h"

extern "C" {
extern const macl::KernelTable macl_kernels_wasm;
extern const macl::KernelTable macl_kernels_plain;
extern const macl::KernelTable macl_kernels_ref64;
}

#define MACL_EXPORT(name) extern "C" __attribute__((export_name(#name)))

using macl::i32;
using macl::i64;
using macl::u32;
using macl::u8;

namespace {

struct Session {
  macl::Control control;
  const macl::KernelTable* table;
  macl::Segment segments[macl::kSegments];
};

const macl::KernelTable& table_at(i32 index) {
  return index == 0 ? macl_kernels_wasm : index == 1 ? macl_kernels_plain : macl_kernels_ref64;
}

}  // namespace

// Reflection: tables 0 (the fast one), 1 (plain), 2 (ref64).
MACL_EXPORT(macl_kernel_count) i32 macl_kernel_count(i32 table) { return table_at(table).count; }
MACL_EXPORT(macl_kernel_name) const char* macl_kernel_name(i32 table, i32 k) { return table_at(table).specs[k].name; }
MACL_EXPORT(macl_kernel_tensors) const char* macl_kernel_tensors(i32 table, i32 k) {
  return table_at(table).specs[k].tensors;
}
MACL_EXPORT(macl_kernel_attrs) const char* macl_kernel_attrs(i32 table, i32 k) { return table_at(table).specs[k].attrs; }
MACL_EXPORT(macl_kernel_phases) i32 macl_kernel_phases(i32 table, i32 k) { return table_at(table).kernels[k].phases; }

// A Problem to be filled: its size, and where its text (NUL-terminated) stands.
MACL_EXPORT(macl_problem_bytes) i32 macl_problem_bytes() { return sizeof(macl::Problem); }
MACL_EXPORT(macl_problem_text) const char* macl_problem_text(const macl::Problem* problem) { return problem->text; }

MACL_EXPORT(macl_opaque_bytes)
double macl_opaque_bytes(i32 table, i32 kernel, const u8* tensors, i32 count, const void* attrs, i32 attrBytes, i32 index,
                         macl::Problem* problem) {
  return static_cast<double>(macl::opaque_bytes(table_at(table).specs[kernel], tensors, count, attrs, attrBytes, index,
                                                *problem));
}

// A session: zeroed memory of macl_session_bytes, 64-byte aligned; init, then each segment, then the workers.
MACL_EXPORT(macl_session_bytes) i32 macl_session_bytes() { return sizeof(Session); }
MACL_EXPORT(macl_session_init) void macl_session_init(Session* s, i32 table, u32 threads) {
  s->table = &table_at(table);
  macl::control_init(s->control, threads, nullptr, nullptr);
}
MACL_EXPORT(macl_session_segment) void macl_session_segment(Session* s, i32 segment, u8* data, double bytes) {
  s->segments[segment] = {data, static_cast<i64>(bytes)};
}

MACL_EXPORT(macl_arena_bytes) double macl_arena_bytes(const u8* program, i32 length, macl::Problem* problem) {
  return static_cast<double>(macl::program_arena_bytes(program, length, *problem));
}
// The loaded program's address, or 0. `program` is read only during the call.
MACL_EXPORT(macl_load)
const macl::Program* macl_load(Session* s, const u8* program, i32 length, u8* arena, double arenaBytes,
                               macl::Problem* problem) {
  return macl::load_program(program, length, *s->table, s->segments, arena, static_cast<i64>(arenaBytes), *problem);
}

// Bytes of scratch that the program's threads need, rounded up to whole cache lines each; and the memory for them, between
// runs: 64-byte aligned, `threads` times so many bytes as the program that asks for most.
MACL_EXPORT(macl_scratch_stride) double macl_scratch_stride(const macl::Program* program) {
  return static_cast<double>(macl::scratch_stride(program->scratch));
}
MACL_EXPORT(macl_session_scratch) void macl_session_scratch(Session* s, u8* scratch, double stride) {
  macl::control_scratch(s->control, scratch, static_cast<i64>(stride));
}

// Each worker calls this once; it returns after macl_quit or macl_kill.
MACL_EXPORT(macl_worker) void macl_worker(Session* s, u32 thread) { macl::worker_loop(s->control, thread); }
MACL_EXPORT(macl_run) void macl_run(Session* s, const macl::Program* program) {
  macl::control_run(s->control, *program);
}
MACL_EXPORT(macl_abort) void macl_abort(Session* s) { macl::control_abort(s->control); }
MACL_EXPORT(macl_quit) void macl_quit(Session* s) { macl::control_quit(s->control); }
MACL_EXPORT(macl_kill) void macl_kill(Session* s) { macl::control_kill(s->control); }

// Address of the word that grows by one, with a notify, when a run has ended; then how it ended.
MACL_EXPORT(macl_done_word) const u32* macl_done_word(const Session* s) { return &s->control.done; }
MACL_EXPORT(macl_stop) u32 macl_stop(const Session* s) { return macl::control_stop(s->control); }
MACL_EXPORT(macl_status) i32 macl_status(const Session* s) { return macl::control_status(s->control); }
MACL_EXPORT(macl_failed_instruction) u32 macl_failed_instruction(const Session* s) {
  return s->control.failedInstruction;
}
MACL_EXPORT(macl_failed_kernel) const char* macl_failed_kernel(const Session* s) {
  return s->control.program->instructions[s->control.failedInstruction].spec->name;
}
MACL_EXPORT(macl_status_text) const char* macl_status_text(i32 status) { return macl::status_text(status); }
