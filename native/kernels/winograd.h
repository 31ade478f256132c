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

// f(Int<0>{}), …, f(Int<N − 1>{})
template <int I>
struct Int {
  static constexpr int at = I;
};
template <int N, int I = 0, class F>
inline void each(F f) {
  if constexpr (I < N) {
    f(Int<I>{});
    each<N, I + 1>(f);
  }
}

// A transform is written in parts of one or two of its results, in `rows`: what two axes at once need for a part stays in 16
// registers. x(k) gives input k.
struct Part {
  int count, rows[2];
};

template <int M>
struct Winograd;

template <>
struct Winograd<1> {
  static constexpr int M = 1, P = 1, K = 1;
  static constexpr f64 G[P][K] = {{1}};
  static constexpr Part BT[] = {{1, {0}}}, AT[] = {{1, {0}}}, A[] = {{1, {0}}};
  template <int part, class X>
  static inline void bt(X x, vf* o) { o[0] = x(0); }
  template <int part, class X>
  static inline void at(X m, vf* o) { o[0] = m(0); }
  template <int part, class X>
  static inline void a(X y, vf* o) { o[0] = y(0); }
  static inline void gt(const vf* m, vf* o) { o[0] = m[0]; }
};

template <>
struct Winograd<2> {
  static constexpr int M = 2, P = 4, K = 3;
  static constexpr f64 G[P][K] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}};
  static constexpr Part BT[] = {{1, {0}}, {2, {1, 2}}, {1, {3}}}, AT[] = {{2, {0, 1}}}, A[] = {{1, {0}}, {2, {1, 2}}, {1, {3}}};
  template <int part, class X>
  static inline void bt(X x, vf* o) {
    if constexpr (part == 0) {
      o[0] = x(0) - x(2);
    } else if constexpr (part == 1) {
      const vf x1 = x(1), x2 = x(2);
      o[0] = x1 + x2;
      o[1] = x2 - x1;
    } else {
      o[0] = x(1) - x(3);
    }
  }
  template <int part, class X>
  static inline void at(X m, vf* o) {
    const vf m1 = m(1), m2 = m(2);
    o[0] = m(0) + (m1 + m2);
    o[1] = (m1 - m2) - m(3);
  }
  template <int part, class X>
  static inline void a(X y, vf* o) {
    if constexpr (part == 0) {
      o[0] = y(0);
    } else if constexpr (part == 1) {
      const vf y0 = y(0), y1 = y(1);
      o[0] = y0 + y1;
      o[1] = y0 - y1;
    } else {
      o[0] = -y(1);
    }
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
  static constexpr Part BT[] = {{1, {0}}, {2, {1, 2}}, {2, {3, 4}}, {1, {5}}}, AT[] = {{2, {0, 2}}, {2, {1, 3}}},
                        A[] = {{1, {0}}, {2, {1, 2}}, {2, {3, 4}}, {1, {5}}};
  template <int part, class X>
  static inline void bt(X x, vf* o) {
    if constexpr (part == 0) {
      o[0] = x(4) - N2 * x(2) + N0 * x(0);
    } else if constexpr (part == 3) {
      o[0] = x(5) - N2 * x(3) + N0 * x(1);
    } else {
      constexpr f32 odd = part == 1 ? P1 : Q1, other = part == 1 ? Q2 : P2;
      const vf even = x(4) - other * x(2), rest = odd * (x(3) - other * x(1));
      o[0] = even + rest;
      o[1] = even - rest;
    }
  }
  template <int part, class X>
  static inline void at(X m, vf* o) {
    const vf m1 = m(1), m2 = m(2), m3 = m(3), m4 = m(4);
    if constexpr (part == 0) {
      const vf sp = m1 + m2, sq = m3 + m4;
      o[0] = m(0) + sp + sq;
      o[1] = P2 * sp + Q2 * sq;
    } else {
      const vf dp = m1 - m2, dq = m3 - m4;
      o[0] = P1 * dp + Q1 * dq;
      o[1] = P3 * dp + Q3 * dq + m(5);
    }
  }
  template <int part, class X>
  static inline void a(X y, vf* o) {
    if constexpr (part == 0) {
      o[0] = y(0);
    } else if constexpr (part == 3) {
      o[0] = y(3);
    } else {
      constexpr f32 one = part == 1 ? P1 : Q1, two = part == 1 ? P2 : Q2;
      const vf even = y(0) + two * y(2), rest = one * (y(1) + two * y(3));
      o[0] = even + rest;
      o[1] = even - rest;
    }
  }
  static inline void gt(const vf* m, vf* o) {
    const vf sp = m[1] + m[2], dp = m[1] - m[2], sq = m[3] + m[4], dq = m[3] - m[4];
    o[0] = f32(1 / n) * m[0] + f32(1 / np) * sp + f32(1 / nq) * sq;
    o[1] = f32(p / np) * dp + f32(q / nq) * dq;
    o[2] = f32(pp / np) * sp + f32(qq / nq) * sq + m[5];
  }
};

// All parts at once: o ← Bᵀ x, Aᵀ m, A y along one axis.
#define MACL_WINOGRAD_WHOLE(name, PARTS)                                          \
  template <class W>                                                              \
  inline void winograd_##name(const vf* x, vf* o) {                               \
    each<int(sizeof(W::PARTS) / sizeof(Part))>([&]<int I>(Int<I>) {               \
      vf r[2];                                                                    \
      W::template name<I>([&](int k) { return x[k]; }, r);                        \
      for (int j = 0; j < W::PARTS[I].count; ++j) o[W::PARTS[I].rows[j]] = r[j];  \
    });                                                                           \
  }
MACL_WINOGRAD_WHOLE(bt, BT)
MACL_WINOGRAD_WHOLE(at, AT)
MACL_WINOGRAD_WHOLE(a, A)
#undef MACL_WINOGRAD_WHOLE

// Two axes: store(row of D, row of H, value) of each result of inputs load(d, h). The first axis by parts.
#define MACL_WINOGRAD_BOTH(name, PARTS, in)                                                        \
  template <class T, class Load, class Store>                                                      \
  inline void winograd_##name##_both(Load load, Store store) {                                     \
    using D = typename T::D;                                                                       \
    using H = typename T::H;                                                                       \
    each<int(sizeof(D::PARTS) / sizeof(Part))>([&]<int I>(Int<I>) {                                \
      constexpr Part part = D::PARTS[I];                                                           \
      vf t[2][in];                                                                                 \
      MACL_UNROLL for (int b = 0; b < in; ++b) {                                                   \
        vf r[2];                                                                                   \
        D::template name<I>([&](int k) { return load(k, b); }, r);                                 \
        MACL_UNROLL for (int j = 0; j < part.count; ++j) t[j][b] = r[j];                           \
      }                                                                                            \
      MACL_UNROLL for (int j = 0; j < part.count; ++j) each<int(sizeof(H::PARTS) / sizeof(Part))>( \
          [&]<int J>(Int<J>) {                                                                     \
            vf r[2];                                                                               \
            H::template name<J>([&](int k) { return t[j][k]; }, r);                                \
            MACL_UNROLL for (int l = 0; l < H::PARTS[J].count; ++l)                                \
                store(part.rows[j], H::PARTS[J].rows[l], r[l]);                                    \
          });                                                                                      \
    });                                                                                            \
  }
MACL_WINOGRAD_BOTH(bt, BT, H::P)
MACL_WINOGRAD_BOTH(at, AT, H::P)
MACL_WINOGRAD_BOTH(a, A, H::M)
#undef MACL_WINOGRAD_BOTH

// D and H are transformed together, over whole rows (PD·PH "points"), W within each of these.
template <int MD, int MH>
struct WinogradOuter {
  using D = Winograd<MD>;
  using H = Winograd<MH>;
  static constexpr int PD = D::P, PH = H::P, PP = PD * PH;
};

// A variant's sizes by axis: outputs of a tile, numbers of its transform, taps, and G. `md` is 0 where there is no such variant.
struct WinogradForm {
  i64 md = 0, mh = 0, mw = 0, pd = 0, ph = 0, pw = 0, kd = 0;
  const f64 *gd = nullptr, *gh = nullptr, *gw = nullptr;
  i64 points() const { return pd * ph; }
  i64 numbers() const { return pd * ph * pw; }
  i64 taps() const { return kd * 9; }
};

inline WinogradForm winograd_form(i64 variant) {
  switch (variant) {
    case 122: case 142: case 144: case 222: case 242: case 422: case 442: case 444: break;
    default: return {};
  }
  const auto p = [](i64 m) { return m == 1 ? 1 : m + 2; };
  const auto g = [](i64 m) { return m == 1 ? Winograd<1>::G[0] : m == 2 ? Winograd<2>::G[0] : Winograd<4>::G[0]; };
  const i64 md = variant / 100, mh = variant / 10 % 10, mw = variant % 10;
  return {md, mh, mw, p(md), p(mh), p(mw), md == 1 ? 1 : 3, g(md), g(mh), g(mw)};
}

// f(WinogradOuter<…>{}) and f(Winograd<…>{}) of a form.
template <class F>
inline void winograd_outer(const WinogradForm& form, F f) {
  switch (form.md * 10 + form.mh) {
    case 12: return f(WinogradOuter<1, 2>{});
    case 14: return f(WinogradOuter<1, 4>{});
    case 22: return f(WinogradOuter<2, 2>{});
    case 24: return f(WinogradOuter<2, 4>{});
    case 42: return f(WinogradOuter<4, 2>{});
    default: return f(WinogradOuter<4, 4>{});
  }
}
template <class F>
inline void winograd_inner(const WinogradForm& form, F f) {
  if (form.mw == 2)
    f(Winograd<2>{});
  else
    f(Winograd<4>{});
}

// Is there such a variant for kernels of these sizes and strides?
inline bool winograd_fits(i64 variant, i64 kd, i64 kh, i64 kw, i64 sd, i64 sh, i64 sw) {
  const WinogradForm form = winograd_form(variant);
  return form.md != 0 && kd == form.kd && kh == 3 && kw == 3 && sd * sh * sw == 1;
}

}  // namespace
}  // namespace macl
