// What crosses every boundary: tensors, attributes, one kernel's table entry. Read by all backends; no standard header,
// because kernel files are compiled once per instruction set (an inline standard function compiled for AVX-512 could be
// the copy that the linker keeps).
#pragma once

namespace macl {

using i8 = signed char;
using u8 = unsigned char;
using i16 = short;
using u16 = unsigned short;
using i32 = int;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;
using f32 = float;
using f64 = double;

// The same numbers as DTYPES in src/graph/types.ts.
enum DType : i32 { kF32 = 0, kF64 = 1, kI32 = 2, kI16 = 3, kF16 = 4, kBF16 = 5, kU8 = 6 };

// The same numbers as SEGMENTS in src/graph/types.ts.
enum SegmentId : i32 { kState = 0, kScratch = 1, kIo = 2, kStore = 3, kSegments = 4 };

struct Segment {
  u8* data;
  i64 bytes;
};

// Activations are [N, D, H, W, C], channels last; voxel v = ((n·D + d)·H + h)·W + w starts at element v·ld, so a tensor
// may be a slice of the channels of a wider one (ld > C). Weights and the rest are dense: ld = s[4].
struct Tensor {
  void* data;  // null where the program has no tensor in this place (an optional one)
  i64 s[5];
  i64 ld;
  i32 dtype;
  i32 segment;
};

struct Args {
  const Tensor* t;      // inputs, then outputs, in the order of the signature
  i32 count;
  const void* attrs;    // the kernel's attribute struct
  const Segment* segments;
  void* scratch = nullptr;  // this thread's own: KernelSpec::scratch bytes, 64-byte aligned; null where none are asked for
};

enum Status : i32 { kOk = 0, kBadShape = 1, kBadDType = 2, kBadAttr = 3, kBadVolume = 4, kBadLabel = 5, kAborted = 6 };

// What a kernel is, whoever runs it.
struct KernelSpec {
  const char* name;
  const char* tensors;                   // "x wp b? > y mean? var? ws?"
  const char* attrs;                     // "i64 kd;i64 kh;…"
  i32 (*check)(const Args&);             // shapes and dtypes, once, when a program is loaded; may be null
  i64 (*bytes)(const Args&, i32 index);  // size of an opaque tensor (ws, wp); null where there is none; data is null
  i64 (*scratch)(const Args&);           // bytes that a thread needs while it runs the kernel; null: none
};

// One kernel of one instruction set. Work is a list of tasks in each phase; a barrier lies between phases. Tasks depend
// on shapes and attributes alone, never on the number of threads: that is why any number gives the same bits.
struct Kernel {
  KernelSpec spec;
  i32 phases;
  i64 (*tasks)(const Args&, i32 phase);
  i32 (*run)(const Args&, i32 phase, i64 begin, i64 end);
};

struct KernelTable {
  const char* isa;
  i32 count;
  const KernelSpec* specs;
  const Kernel* kernels;  // in the order of the specs; null where a device launches them (cuda/table.h)
};

}  // namespace macl

// Attributes are 8-byte fields (i64 or f64), so that TypeScript writes them without knowing about padding.
#define MACL_FIELD(T, name) T name;
#define MACL_FIELD_NAME(T, name) #T " " #name ";"
#define MACL_ATTRS(Struct, LIST)                                                  \
  struct Struct {                                                                 \
    LIST(MACL_FIELD)                                                              \
  };                                                                              \
  static_assert(sizeof(Struct) == 8 * ((0 LIST(MACL_COUNT))), "8-byte fields only"); \
  constexpr const char Struct##Fields[] = LIST(MACL_FIELD_NAME);
#define MACL_COUNT(T, name) +1

// A kernel's signature is written once, as a list: T(name) a tensor, O(name) one that may be absent, TO where the outputs
// begin. It yields the signature string `<kernel>_tensors` ("x wp b? > y") and the places in it: Struct::x, Struct::wp, …
//   #define CONV3D_FWD_TENSORS(T, O, TO) T(x) T(wp) O(b) TO T(y)
//   MACL_TENSORS(Conv3dFwd, conv3d_fwd, CONV3D_FWD_TENSORS)
#define MACL_PORT_TEXT(name) " " #name
#define MACL_PORT_TEXT_OPTIONAL(name) " " #name "?"
#define MACL_PORT_PLACE(name) name,
#define MACL_TENSORS(Struct, kernel, LIST)                         \
  struct Struct {                                                  \
    enum : int { LIST(MACL_PORT_PLACE, MACL_PORT_PLACE, ) places };  \
  };                                                               \
  constexpr const char* kernel##_tensors = &(LIST(MACL_PORT_TEXT, MACL_PORT_TEXT_OPTIONAL, " >"))[1];

// A kernel's entry in the table, by the naming rule: `<name>_tensors` and `<name>_run`, and the attributes' fields.
#define MACL_SPEC(name, Attrs, check, bytes, scratch) {#name, name##_tensors, Attrs##Fields, check, bytes, scratch}
#define MACL_KERNEL(name, Attrs, phases, tasks, bytes, check) \
  {MACL_SPEC(name, Attrs, check, bytes, nullptr), phases, tasks, name##_run}
