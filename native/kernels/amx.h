// AMX: matrices of 16 rows in registers ("tiles"), and sums of products of bf16 pairs over them. For conv3d_tile.h: positions ×
// pairs of channels, times pairs × outputs. Off by default, as no machine has run it yet (engine/tables_posix.cc); with
// MACL_AMX_EMULATED the same calls are loops, for tests.
#pragma once
#include "vec.h"

namespace macl {
namespace {

enum AmxTile : int { kAmxSum0, kAmxSum1, kAmxX, kAmxW0, kAmxW1 };

#if defined(MACL_AMX_EMULATED)
struct Amx {
  f32 tile[5][16][16];
  i64 rows;
  // `positions` ≤ 16 rows of x and of the sums; all else is 16 × 64 bytes.
  explicit Amx(i64 positions) : rows(positions) {}
  i64 rows_of(int t) const { return t <= kAmxX ? rows : 16; }
  template <int t>
  void load(const f32* p, i64 step) {
    for (i64 r = 0; r < rows_of(t); ++r) __builtin_memcpy(tile[t][r], p + r * step, 64);
  }
  template <int t>
  void store(f32* p, i64 step) const {
    for (i64 r = 0; r < rows_of(t); ++r) __builtin_memcpy(p + r * step, tile[t][r], 64);
  }
  // sum += x · w
  template <int sum, int x, int w>
  void dot() {
    const auto part = [&](int t, i64 r, i64 c, bool upper) {
      u32 bits;
      __builtin_memcpy(&bits, &tile[t][r][c], sizeof bits);
      bits = upper ? bits & 0xffff0000 : bits << 16;
      f32 v;
      __builtin_memcpy(&v, &bits, sizeof v);
      return v;
    };
    for (i64 r = 0; r < rows; ++r)
      for (i64 o = 0; o < 16; ++o) {
        f32 even = 0, odd = 0;
        for (i64 k = 0; k < 16; ++k) {
          even += part(x, r, k, false) * part(w, k, o, false);
          odd += part(x, r, k, true) * part(w, k, o, true);
        }
        tile[sum][r][o] += even + odd;
      }
  }
};
#elif defined(MACL_ISA_AVX512)
struct Amx {
  explicit Amx(i64 positions) {
    alignas(64) u8 config[64] = {1};  // palette 1; then bytes of a row, and rows, of each tile
    const u16 bytes = 64;
    for (int t = 0; t < 5; ++t) {
      __builtin_memcpy(config + 16 + 2 * t, &bytes, 2);
      config[48 + t] = static_cast<u8>(t <= kAmxX ? positions : 16);
    }
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  ~Amx() { asm volatile("tilerelease"); }
  template <int t>
  void load(const f32* p, i64 step) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(step * 4), "i"(t) : "memory");
  }
  template <int t>
  void store(f32* p, i64 step) const {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(step * 4), "i"(t) : "memory");
  }
  template <int sum, int x, int w>
  void dot() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(x), "i"(w));
  }
};
#endif

}  // namespace
}  // namespace macl
