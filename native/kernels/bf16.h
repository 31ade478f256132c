// bf16 in memory: one number, and vectors of 4, 8 and 16 of them. Arithmetic is fp32.
#pragma once
#include "../ops/types.h"

namespace macl {
namespace {

typedef f32 vf4 __attribute__((vector_size(16)));
typedef f32 vf8 __attribute__((vector_size(32)));
typedef f32 vf16 __attribute__((vector_size(64)));

// A number held in 16 bits, the upper half of an fp32. Read it widens exactly; written it rounds to the nearest, ties to even,
// and NaN stays NaN. Memory is all that it is for: arithmetic is fp32.
struct bf16 {
  u16 bits;
  bf16() = default;
  bf16(f32 v) {
    u32 b;
    __builtin_memcpy(&b, &v, sizeof b);
    bits = static_cast<u16>(v != v ? (b >> 16 & 0x8000) | 0x7fc0 : (b + 0x7fff + (b >> 16 & 1)) >> 16);
  }
  operator f32() const {
    const u32 b = u32(bits) << 16;
    f32 v;
    __builtin_memcpy(&v, &b, sizeof v);
    return v;
  }
};

// bf16 whose products the processor sums in pairs, exact products in fp32 sums (vdpbf16ps): kernels take pairs of channels, and
// weights that are packed in pairs, where they are said to be over these.
struct dot16 : bf16 {
  using bf16::bf16;
};
template <class E>
constexpr bool is_dot = false;
template <>
constexpr bool is_dot<dot16> = true;

// The same for vectors: by overload, as the compiler converts no vectors whose type depends on a template.
#define MACL_WORDS4(halves) __builtin_convertvector(halves, vu4)
#define MACL_WORDS8(halves) __builtin_convertvector(halves, vu8)
#define MACL_WORDS16(halves) __builtin_convertvector(halves, vu16)
#if defined(__GNUC__) && !defined(__clang__) && (defined(MACL_ISA_AVX512) || defined(MACL_ISA_AVX2))
// GCC takes vectors apart and puts them together again where there is one instruction.
#undef MACL_WORDS8
#define MACL_WORDS8(halves) ({ vu8 w_; asm("vpmovzxwd %1, %0" : "=v"(w_) : "vm"(halves)); w_; })
#endif
#if defined(__GNUC__) && !defined(__clang__) && defined(MACL_ISA_AVX512)
#undef MACL_WORDS16
#define MACL_WORDS16(halves) ({ vu16 w_; asm("vpmovzxwd %1, %0" : "=v"(w_) : "vm"(halves)); w_; })
#define MACL_HALVES16(words) ({ vh16 h_; asm("vpmovdw %1, %0" : "=v"(h_) : "v"(words)); h_; })
#else
#define MACL_HALVES16(words) __builtin_convertvector(words, vh16)
#endif
#define MACL_HALVES8(words) __builtin_convertvector(words, vh8)
#define MACL_HALVES4(words) __builtin_convertvector(words, vh4)
#define MACL_BF16_VECTOR(n)                                                                              \
  typedef u16 vh##n __attribute__((vector_size(2 * n)));                                                 \
  typedef u16 vh##n##_unaligned __attribute__((vector_size(2 * n), aligned(2), may_alias));              \
  typedef u32 vu##n __attribute__((vector_size(4 * n)));                                                 \
  inline vf##n widened(vh##n halves) { return reinterpret_cast<vf##n>(MACL_WORDS##n(halves) << 16); }    \
  inline vh##n narrowed(vf##n v) {                                                                       \
    const vu##n b = reinterpret_cast<vu##n>(v), rounded = (b + 0x7fff + (b >> 16 & 1)) >> 16;            \
    const vu##n nan = (b >> 16 & 0x8000) | 0x7fc0, halves = v != v ? nan : rounded;                       \
    return MACL_HALVES##n(halves);                                                                       \
  }                                                                                                      \
  inline void bf16_load(const bf16* p, vf##n& v) { v = widened(*reinterpret_cast<const vh##n##_unaligned*>(p)); } \
  inline void bf16_store(bf16* p, vf##n v) { *reinterpret_cast<vh##n##_unaligned*>(p) = narrowed(v); }
MACL_BF16_VECTOR(4)
MACL_BF16_VECTOR(8)
MACL_BF16_VECTOR(16)
#undef MACL_BF16_VECTOR

}  // namespace
}  // namespace macl
