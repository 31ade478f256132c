// What a kernel's `check` is written in: one word for each question about a tensor, and MACL_NEED, which ends the check with
// the status of what is wrong. Checks see tensors of a program whose memory is there (an absent one has segment −1 and sizes
// of 0), but nothing is known of how shapes and dtypes go together. Order: dtypes, attributes, shapes.
#pragma once
#include "vec.h"

#define MACL_NEED(condition, status) \
  do {                               \
    if (!(condition)) return status; \
  } while (0)
// As above, where another check says the status.
#define MACL_NEED_OK(check)              \
  do {                                   \
    if (const i32 s_ = (check)) return s_; \
  } while (0)

namespace macl {
namespace {

inline bool given(const Tensor& t) { return t.segment >= 0 && t.s[4] > 0; }
inline bool has(const Args& a, int i) { return a.t[i].data != nullptr; }

// Of the element type, each that is given.
inline bool are_real(const Args&) { return true; }
template <class... Places>
inline bool are_real(const Args& a, int first, Places... rest) {
  return (!given(a.t[first]) || a.t[first].dtype == kReal) && are_real(a, rest...);
}

// What activations are held in: the element type, and bf16 where there are vectors.
inline bool is_element(i32 dtype) { return dtype == kReal || (!MACL_PLAIN && dtype == kBF16); }
// Activations, each that is given, of one such dtype.
inline bool are_alike(const Args& a, int first) { return !given(a.t[first]) || is_element(a.t[first].dtype); }
template <class... Places>
inline bool are_alike(const Args& a, int first, int second, Places... rest) {
  const bool same = !given(a.t[first]) || !given(a.t[second]) || a.t[first].dtype == a.t[second].dtype;
  return same && are_alike(a, first) && are_alike(a, given(a.t[second]) ? second : first, rest...);
}
// f(E{}), with E what the numbers of an activation are in memory.
template <class F>
inline __attribute__((always_inline)) auto of_element([[maybe_unused]] const Tensor& t, F f) {
#if !MACL_PLAIN
  if (t.dtype == kBF16) return f(bf16{});
#endif
  return f(real{});
}

// An activation whatever its dtype, perhaps a slice of a wider tensor's channels; and one of what activations are held in.
inline bool is_grid(const Tensor& t) {
  return given(t) && t.s[0] > 0 && t.s[1] > 0 && t.s[2] > 0 && t.s[3] > 0 && t.ld >= t.s[4];
}
inline bool is_voxels(const Tensor& t) { return is_grid(t) && is_element(t.dtype); }
inline bool same_grid(const Tensor& a, const Tensor& b) {
  return a.s[0] == b.s[0] && a.s[1] == b.s[1] && a.s[2] == b.s[2] && a.s[3] == b.s[3];
}
inline bool same_shape(const Tensor& a, const Tensor& b) { return same_grid(a, b) && a.s[4] == b.s[4]; }
inline bool has_shape(const Tensor& t, i64 n, i64 d, i64 h, i64 w, i64 c) {
  return t.s[0] == n && t.s[1] == d && t.s[2] == h && t.s[3] == w && t.s[4] == c;
}
// n dense numbers of one dtype.
inline bool is_flat(const Tensor& t, i64 n, i32 dtype) {
  return given(t) && t.dtype == dtype && elements(t) == n && t.ld == t.s[4];
}
inline bool is_scalar64(const Tensor& t) { return is_flat(t, 1, kF64); }
// One number a channel; and the same, or absent.
inline bool is_channel_vector(const Tensor& t, i64 c) { return is_flat(t, c, kReal); }
inline bool is_channel_vector_or_absent(const Tensor& t, i64 c) { return !given(t) || is_channel_vector(t, c); }
// Packed weights or a workspace of at least so many bytes.
inline bool holds(const Tensor& t, i64 bytes) { return t.s[0] >= bytes; }

}  // namespace
}  // namespace macl
