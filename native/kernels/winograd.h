// Winograd's minimal filtering F(m, 3) along one axis: m outputs of a convolution of 3 taps by m + 2 multiplications
// (Lavin and Gray, arXiv 1509.09308). With x the m + 2 inputs, w the taps, y the outputs, and dy, dw their gradients:
//   y = Aᵀ [(G w) ⊙ (Bᵀ x)]        dw = Gᵀ [(A dy) ⊙ (Bᵀ x)]
// Three axes are three of these, one within the other. F(4,3) has the points 0, ±5/8, ±3/2, ∞: with the usual 0, ±1, ±2, ∞ the
// error of two axes is twice as large. M = 1 stands for an axis of one tap, along which nothing is transformed.
//
// variant (the attribute of conv3d's kernels and of their packed weights): 100·mD + 10·mH + mW, or 0: direct.
#pragma once
#include "vec.h"

namespace macl {
namespace {

template <int M>
struct Winograd;

template <>
struct Winograd<1> {
  static constexpr int M = 1, P = 1, K = 1;
  static constexpr f64 G[P][K] = {{1}};
  static inline void bt(const vf* x, vf* o) { o[0] = x[0]; }
  static inline void at(const vf* m, vf* o) { o[0] = m[0]; }
  static inline void a(const vf* y, vf* o) { o[0] = y[0]; }
  static inline void gt(const vf* m, vf* o) { o[0] = m[0]; }
};

template <>
struct Winograd<2> {
  static constexpr int M = 2, P = 4, K = 3;
  static constexpr f64 G[P][K] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}};
  static inline void bt(const vf* x, vf* o) {
    o[0] = x[0] - x[2];
    o[1] = x[1] + x[2];
    o[2] = x[2] - x[1];
    o[3] = x[1] - x[3];
  }
  static inline void at(const vf* m, vf* o) {
    o[0] = m[0] + (m[1] + m[2]);
    o[1] = (m[1] - m[2]) - m[3];
  }
  static inline void a(const vf* y, vf* o) {
    o[0] = y[0];
    o[1] = y[0] + y[1];
    o[2] = y[0] - y[1];
    o[3] = -y[1];
  }
  static inline void gt(const vf* m, vf* o) {
    const vf even = .5f * (m[1] + m[2]);
    o[0] = m[0] + even;
    o[1] = .5f * (m[1] - m[2]);
    o[2] = even + m[3];
  }
};

template <>
struct Winograd<4> {
  static constexpr int M = 4, P = 6, K = 3;
  // The points ±p, ±q; n, np, nq: what divides the rows of G.
  static constexpr f64 p = .625, q = 1.5, pp = p * p, qq = q * q;
  static constexpr f64 n = pp * qq, np = 2 * pp * (pp - qq), nq = 2 * qq * (qq - pp);
  static constexpr f64 G[P][K] = {{1 / n, 0, 0},           {1 / np, p / np, pp / np}, {1 / np, -p / np, pp / np},
                                  {1 / nq, q / nq, qq / nq}, {1 / nq, -q / nq, qq / nq}, {0, 0, 1}};
  static constexpr f32 P1 = f32(p), P2 = f32(pp), P3 = f32(pp * p), Q1 = f32(q), Q2 = f32(qq), Q3 = f32(qq * q);
  static constexpr f32 N0 = f32(n), N2 = f32(pp + qq);
  static inline void bt(const vf* x, vf* o) {
    const vf ep = x[4] - Q2 * x[2], op = P1 * (x[3] - Q2 * x[1]), eq = x[4] - P2 * x[2], oq = Q1 * (x[3] - P2 * x[1]);
    o[0] = x[4] - N2 * x[2] + N0 * x[0];
    o[1] = ep + op;
    o[2] = ep - op;
    o[3] = eq + oq;
    o[4] = eq - oq;
    o[5] = x[5] - N2 * x[3] + N0 * x[1];
  }
  static inline void at(const vf* m, vf* o) {
    const vf sp = m[1] + m[2], dp = m[1] - m[2], sq = m[3] + m[4], dq = m[3] - m[4];
    o[0] = m[0] + sp + sq;
    o[1] = P1 * dp + Q1 * dq;
    o[2] = P2 * sp + Q2 * sq;
    o[3] = P3 * dp + Q3 * dq + m[5];
  }
  static inline void a(const vf* y, vf* o) {
    const vf ep = y[0] + P2 * y[2], op = P1 * (y[1] + P2 * y[3]), eq = y[0] + Q2 * y[2], oq = Q1 * (y[1] + Q2 * y[3]);
    o[0] = y[0];
    o[1] = ep + op;
    o[2] = ep - op;
    o[3] = eq + oq;
    o[4] = eq - oq;
    o[5] = y[3];
  }
  static inline void gt(const vf* m, vf* o) {
    const vf sp = m[1] + m[2], dp = m[1] - m[2], sq = m[3] + m[4], dq = m[3] - m[4];
    o[0] = f32(1 / n) * m[0] + f32(1 / np) * sp + f32(1 / nq) * sq;
    o[1] = f32(p / np) * dp + f32(q / nq) * dq;
    o[2] = f32(pp / np) * sp + f32(qq / nq) * sq + m[5];
  }
};

// Tiles of MD × MH × MW outputs. D and H are transformed together, over whole rows ("points" p of PP), W within each.
template <int MD, int MH, int MW>
struct WinogradTile {
  using D = Winograd<MD>;
  using H = Winograd<MH>;
  using W = Winograd<MW>;
  static constexpr int PD = D::P, PH = H::P, PW = W::P, PP = PD * PH, PPP = PP * PW;
  static constexpr int taps = D::K * H::K * W::K;
};

// f(WinogradTile<…>{}) of a variant. False: there is none such.
template <class F>
inline bool winograd_of(i64 variant, F f) {
  switch (variant) {
    case 122: return f(WinogradTile<1, 2, 2>{}), true;
    case 142: return f(WinogradTile<1, 4, 2>{}), true;
    case 144: return f(WinogradTile<1, 4, 4>{}), true;
    case 222: return f(WinogradTile<2, 2, 2>{}), true;
    case 242: return f(WinogradTile<2, 4, 2>{}), true;
    case 422: return f(WinogradTile<4, 2, 2>{}), true;
    case 442: return f(WinogradTile<4, 4, 2>{}), true;
    case 444: return f(WinogradTile<4, 4, 4>{}), true;
    default: return false;
  }
}

// Is there such a variant for kernels of these sizes and strides?
inline bool winograd_fits(i64 variant, i64 kd, i64 kh, i64 kw, i64 sd, i64 sh, i64 sw) {
  bool fits = false;
  const bool known = winograd_of(variant, [&]<class T>(T) { fits = kd == T::D::K && kh == T::H::K && kw == T::W::K; });
  return known && fits && sd * sh * sw == 1;
}

}  // namespace
}  // namespace macl
