#include "program.h"

namespace macl {
namespace {

constexpr u32 kMagic = 0x4c43414d;
constexpr u32 kVersion = 1;
constexpr i64 kHeaderBytes = 64;
constexpr i64 kTensorBytes = 80;
constexpr i64 kMaxInstructions = 1 << 20;
constexpr i64 kMaxTensors = 32;        // of one kernel
constexpr i64 kMaxAttrBytes = 8 * 64;  // of one kernel
constexpr i64 kMaxPhases = 64;
constexpr i64 kMaxSize = i64(1) << 47;  // of a segment, a shape, a number of tasks: products of two do not overflow a check
constexpr i64 kOpaqueAlignment = 64;    // kernels load packed weights and workspaces with aligned vectors

template <class T>
T get(const u8* p) {
  T v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

i64 dtype_bytes(i32 dtype) {
  switch (dtype) {
    case kF32: case kI32: return 4;
    case kF64: return 8;
    case kI16: case kF16: case kBF16: return 2;
    case kU8: return 1;
    default: return 0;
  }
}

i64 align_up(i64 v, i64 to) { return (v + to - 1) / to * to; }

bool same(const char* a, const char* b, i64 length) {
  for (i64 i = 0; i < length; ++i)
    if (a[i] != b[i] || a[i] == 0) return false;
  return a[length] == 0;
}

i64 fields_bytes(const char* attrs) {
  i64 n = 0;
  for (; *attrs; ++attrs) n += *attrs == ';' ? 8 : 0;
  return n;
}

struct Counts {
  i64 instructions, names, tensors, attrBytes, firstInstruction;
};

// Walks over the structure: every count is believed only as far as bytes are there for it.
bool count(const u8* bytes, i64 length, Counts& c, Problem& problem) {
  if (length < kHeaderBytes) return Say(problem) << "a program of " << length << " bytes is shorter than its header", false;
  if (get<u32>(bytes) != kMagic) return Say(problem) << "not a program: wrong magic number", false;
  if (get<u32>(bytes + 4) != kVersion)
    return Say(problem) << "program version " << i64(get<u32>(bytes + 4)) << ", expected " << i64(kVersion), false;
  c = {i64(get<u32>(bytes + 8)), i64(get<u32>(bytes + 12)), 0, 0, 0};
  if (get<u32>(bytes + 20) != 0) return Say(problem) << "the header's reserved field is not 0", false;
  if (c.instructions > kMaxInstructions) return Say(problem) << c.instructions << " instructions are too many", false;
  i64 at = kHeaderBytes;
  for (i64 i = 0; i < c.names; ++i) {
    if (length - at < 8) return Say(problem) << "cut short in the kernel names", false;
    const i64 bytesHere = align_up(4 + i64(get<u32>(bytes + at)), 8);
    if (bytesHere > length - at) return Say(problem) << "cut short in the kernel names", false;
    at += bytesHere;
  }
  c.firstInstruction = at;
  for (i64 i = 0; i < c.instructions; ++i) {
    if (length - at < 16) return Say(problem) << "cut short in instruction " << i, false;
    const i64 tensors = get<u32>(bytes + at + 8), attrs = get<u32>(bytes + at + 12);
    if (tensors > kMaxTensors || attrs > kMaxAttrBytes || attrs % 8 != 0)
      return Say(problem) << "instruction " << i << " has " << tensors << " tensors and " << attrs << " bytes of attributes",
             problem.instruction = static_cast<i32>(i), false;
    const i64 body = 16 + tensors * kTensorBytes + attrs;
    if (body > length - at) return Say(problem) << "cut short in instruction " << i, false;
    c.tensors += tensors;
    c.attrBytes += attrs;
    at += body;
  }
  if (at != length) return Say(problem) << length - at << " bytes after the last instruction", false;
  return true;
}

// A bump allocator over the caller's bytes.
struct Arena {
  u8* at;
  u8* end;
  template <class T>
  T* take(i64 n) {
    u8* p = at;
    const i64 bytes = align_up(n * static_cast<i64>(sizeof(T)), 16);
    if (bytes > end - at) return nullptr;
    at += bytes;
    return reinterpret_cast<T*>(p);
  }
};

i64 piece(i64 bytes) { return align_up(bytes, 16); }

// Where the program goes wrong: instruction, kernel, tensor.
struct Place {
  i64 instruction;
  const KernelSpec* kernel;
  const Port* port;
  Problem* problem;
  Say say() const {
    Say s(*problem);
    problem->instruction = static_cast<i32>(instruction);
    s << "instruction " << instruction;
    if (kernel) s << " (" << kernel->name << ")";
    if (port) (s << ", tensor ").piece(port->name, port->length);
    return s << ": ";
  }
};

bool read_tensor(const u8* p, const Segment* segments, const Place& at, Tensor& t) {
  const Port& port = *at.port;
  t = {};
  t.segment = get<i32>(p);
  t.dtype = get<i32>(p + 4);
  if (t.segment == -1) {
    if (!port.optional) return at.say() << "is missing", false;
    return true;
  }
  if (t.segment < 0 || t.segment >= kSegments) return at.say() << "segment " << t.segment << " does not exist", false;
  const i64 size = dtype_bytes(t.dtype);
  if (size == 0) return at.say() << "dtype " << t.dtype << " does not exist", false;
  const i64 offset = get<i64>(p + 8), bytes = get<i64>(p + 16), limit = segments[t.segment].bytes;
  t.ld = get<i64>(p + 64);
  if (get<i64>(p + 72) != 0) return at.say() << "the reserved field is not 0", false;
  i64 voxels = 1;
  for (int i = 0; i < 5; ++i) {
    t.s[i] = get<i64>(p + 24 + 8 * i);
    if (t.s[i] < 1 || t.s[i] > kMaxSize) return at.say() << "axis " << i << " has size " << t.s[i], false;
    if (i == 4) break;
    if (t.s[i] > kMaxSize / voxels) return at.say() << "is larger than any memory", false;
    voxels *= t.s[i];
  }
  if (t.ld < t.s[4] || t.ld > kMaxSize) return at.say() << "row stride " << t.ld << " for " << t.s[4] << " channels", false;
  if (voxels - 1 > kMaxSize / t.ld) return at.say() << "is larger than any memory", false;
  const i64 extent = ((voxels - 1) * t.ld + t.s[4]) * size;
  if (bytes != extent) return at.say() << "says " << bytes << " bytes, but its shape touches " << extent, false;
  const i64 alignment = port.opaque ? kOpaqueAlignment : size;
  if (offset < 0 || bytes > limit || offset > limit - bytes)
    return at.say() << "[" << offset << ", +" << bytes << ") lies outside its segment of " << limit << " bytes", false;
  if (offset % alignment != 0) return at.say() << "offset " << offset << " is not a multiple of " << alignment, false;
  if (port.opaque && (t.dtype != kU8 || voxels != t.s[0] || t.s[4] != 1))
    return at.say() << "an opaque tensor must be bytes, [n, 1, 1, 1, 1]", false;
  t.data = segments[t.segment].data + offset;
  return true;
}

bool check_opaque(const KernelSpec& kernel, const Args& args, Place at) {
  const char* cursor = kernel.tensors;
  Port port = {};
  for (i32 i = 0; next_port(cursor, port); ++i) {
    if (!port.opaque || !port.output) continue;
    at.port = &port;
    const i64 need = kernel.bytes ? kernel.bytes(args, i) : 0;
    const i64 have = args.t[i].data ? args.t[i].s[0] : 0;
    if (need > have) return at.say() << "needs " << need << " bytes, has " << have, false;
  }
  return true;
}

}  // namespace

bool next_port(const char*& cursor, Port& port) {
  while (*cursor == ' ' || *cursor == '>') port.output |= *cursor++ == '>';
  if (*cursor == 0) return false;
  port.name = cursor;
  while (*cursor && *cursor != ' ' && *cursor != '?') ++cursor;
  port.length = static_cast<i32>(cursor - port.name);
  port.optional = *cursor == '?';
  if (port.optional) ++cursor;
  port.opaque = port.length == 2 && port.name[0] == 'w' && (port.name[1] == 's' || port.name[1] == 'p');
  return true;
}

i32 find_kernel(const KernelTable& table, const char* name, i64 length) {
  for (i32 k = 0; k < table.count; ++k)
    if (same(table.specs[k].name, name, length)) return k;
  return -1;
}

i64 program_arena_bytes(const u8* bytes, i64 length, Problem& problem) {
  Counts c;
  if (!count(bytes, length, c, problem)) return -1;
  return piece(sizeof(Program)) + piece(c.names * static_cast<i64>(sizeof(i32))) +
         piece(c.instructions * static_cast<i64>(sizeof(Instruction))) +
         c.instructions * (kMaxPhases * 8 + 32) +  // task counts, and rounding of tensors and attributes to 16
         c.tensors * static_cast<i64>(sizeof(Tensor)) + c.attrBytes;
}

const Program* load_program(const u8* bytes, i64 length, const KernelTable& table, const Segment* segments, u8* arenaStart,
                            i64 arenaBytes, Problem& problem) {
  Counts c;
  if (!count(bytes, length, c, problem)) return nullptr;
  static const char* const kNames[] = {"state", "scratch", "io", "store"};
  for (int s = 0; s < kSegments; ++s) {
    const i64 need = get<i64>(bytes + 32 + 8 * s);
    if (need < 0 || need > segments[s].bytes)
      return Say(problem) << "needs " << need << " bytes of " << kNames[s] << ", the session has " << segments[s].bytes, nullptr;
  }
  Arena arena{arenaStart, arenaStart + arenaBytes};
  auto* program = arena.take<Program>(1);
  auto* kernels = arena.take<i32>(c.names);
  auto* instructions = arena.take<Instruction>(c.instructions);
  if (!program || !kernels || !instructions) return Say(problem) << "the arena is too small", nullptr;

  const i32 guardSegment = get<i32>(bytes + 16);
  const i64 guardOffset = get<i64>(bytes + 24);
  *program = {instructions, static_cast<i32>(c.instructions), static_cast<i32>(c.instructions), nullptr, 0};
  if (guardSegment != -1) {
    if (guardSegment < 0 || guardSegment >= kSegments || guardOffset < 0 || guardOffset % 4 != 0 ||
        segments[guardSegment].bytes < 4 || guardOffset > segments[guardSegment].bytes - 4)
      return Say(problem) << "the guard at segment " << guardSegment << ", offset " << guardOffset << " does not exist", nullptr;
    program->guard = reinterpret_cast<const i32*>(segments[guardSegment].data + guardOffset);
  }

  i64 at = kHeaderBytes;
  for (i64 i = 0; i < c.names; ++i) {
    const i64 n = get<u32>(bytes + at);
    const char* name = reinterpret_cast<const char*>(bytes + at + 4);
    kernels[i] = find_kernel(table, name, n);
    if (kernels[i] < 0) return (Say(problem) << table.isa << " has no kernel ").piece(name, n), nullptr;
    at += align_up(4 + n, 8);
  }

  for (i64 i = 0; i < c.instructions; ++i) {
    Place place{i, nullptr, nullptr, &problem};
    const u32 name = get<u32>(bytes + at), flags = get<u32>(bytes + at + 4);
    const i64 tensorCount = get<u32>(bytes + at + 8), attrBytes = get<u32>(bytes + at + 12);
    at += 16;
    if (name >= c.names) return place.say() << "kernel name " << i64(name) << " does not exist", nullptr;
    const KernelSpec& kernel = table.specs[kernels[name]];
    const Kernel* runs = table.kernels ? &table.kernels[kernels[name]] : nullptr;
    place.kernel = &kernel;
    if (flags > 1) return place.say() << "flags " << i64(flags) << " are unknown", nullptr;
    if (flags == 1 && program->firstCommit == program->count) program->firstCommit = static_cast<i32>(i);
    if (flags == 0 && program->firstCommit != program->count)
      return place.say() << "computes after the commit phase began", nullptr;

    auto* tensors = arena.take<Tensor>(tensorCount);
    auto* attrs = arena.take<u8>(attrBytes);
    auto* tasks = arena.take<i64>(runs ? runs->phases : 0);
    if (!tensors || !attrs || !tasks || (runs && runs->phases > kMaxPhases)) return place.say() << "the arena is too small", nullptr;

    const char* cursor = kernel.tensors;
    Port port = {};
    i64 t = 0;
    for (; next_port(cursor, port); ++t) {
      place.port = &port;
      if (t >= tensorCount) return place.say() << "is missing: the instruction has " << tensorCount << " tensors", nullptr;
      if (!read_tensor(bytes + at + t * kTensorBytes, segments, place, tensors[t])) return nullptr;
    }
    place.port = nullptr;
    if (t != tensorCount) return place.say() << tensorCount << " tensors, expected " << t, nullptr;
    at += tensorCount * kTensorBytes;
    if (attrBytes != fields_bytes(kernel.attrs))
      return place.say() << attrBytes << " bytes of attributes, expected " << fields_bytes(kernel.attrs), nullptr;
    __builtin_memcpy(attrs, bytes + at, static_cast<unsigned long>(attrBytes));
    at += attrBytes;

    Instruction& ins = instructions[i];
    ins = {&kernel, runs, tasks, {tensors, static_cast<i32>(tensorCount), attrs, segments}};
    if (const i32 status = kernel.check ? kernel.check(ins.args) : kOk)
      return place.say() << "has " << status_text(status), problem.status = status, nullptr;
    if (!check_opaque(kernel, ins.args, place)) return nullptr;
    if (const i64 scratch = kernel.scratch ? kernel.scratch(ins.args) : 0; scratch < 0 || scratch > kMaxSize)
      return place.say() << "asks for " << scratch << " bytes of scratch", nullptr;
    else if (scratch > program->scratch)
      program->scratch = scratch;
    for (i32 phase = 0; runs && phase < runs->phases; ++phase) {
      tasks[phase] = runs->tasks(ins.args, phase);
      if (tasks[phase] < 0 || tasks[phase] > kMaxSize) return place.say() << "says " << tasks[phase] << " tasks", nullptr;
    }
  }
  return program;
}

i64 opaque_bytes(const KernelSpec& kernel, const u8* records, i32 count, const void* attrs, i64 attrBytes, i32 index,
                 Problem& problem) {
  if (attrBytes != fields_bytes(kernel.attrs))
    return Say(problem) << kernel.name << ": " << attrBytes << " bytes of attributes, expected " << fields_bytes(kernel.attrs), -1;
  Tensor tensors[kMaxTensors] = {};
  const char* cursor = kernel.tensors;
  Port port = {};
  i32 n = 0;
  bool found = false;
  for (; next_port(cursor, port); ++n) {
    if (n >= count || n >= kMaxTensors) return Say(problem) << kernel.name << ": too few tensors, " << count, -1;
    found |= n == index && port.opaque;
    const u8* p = records + n * kTensorBytes;
    Tensor& t = tensors[n];
    t.segment = get<i32>(p);
    if (t.segment < 0) continue;
    t.dtype = get<i32>(p + 4);
    for (int i = 0; i < 5; ++i) t.s[i] = get<i64>(p + 24 + 8 * i);
    t.ld = get<i64>(p + 64);
    i64 voxels = 1;
    for (int i = 0; i < 5; ++i) {
      if (t.s[i] < 1 || t.s[i] > kMaxSize) return Say(problem) << kernel.name << ": a size of " << t.s[i], -1;
      if (i == 4) break;
      if (t.s[i] > kMaxSize / voxels) return Say(problem) << kernel.name << ": a tensor larger than any memory", -1;
      voxels *= t.s[i];
    }
    if (t.ld < t.s[4] || t.ld > kMaxSize) return Say(problem) << kernel.name << ": a row stride of " << t.ld, -1;
    if (voxels - 1 > kMaxSize / t.ld)
      return Say(problem) << kernel.name << ": a tensor larger than any memory", -1;
  }
  if (n != count) return Say(problem) << kernel.name << ": " << count << " tensors, expected " << n, -1;
  if (!found) return Say(problem) << kernel.name << ": tensor " << index << " is not opaque", -1;
  if (!kernel.bytes) return 0;
  const i64 bytes = kernel.bytes({tensors, count, attrs, nullptr}, index);
  if (bytes < 0 || bytes > kMaxSize) return Say(problem) << kernel.name << ": a size of " << bytes << " bytes", -1;
  return bytes;
}

}  // namespace macl
