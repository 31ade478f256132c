// conv3d's weight gradient by Winograd's algorithm (winograd.h): dw = Gᵀ[(A dy) ⊙ (Bᵀ x)], summed over all tiles before Gᵀ.
// Units as in conv3d_winograd.h; a task has a run of them and a block of input and output channels. Its sums over tiles are
// fp32, and go through Gᵀ into float64 every kWinogradDwFlush tiles: one fp32 sum over a volume would lose ten times more. The
// tasks' partial sums are then added in their order, by dw_tile.h.
#pragma once
#include "conv3d_winograd.h"
#include "dw_tile.h"

namespace macl {
namespace {

constexpr i64 kWinogradDwFlush = 300;  // tiles along W summed in fp32
constexpr i64 kWinogradDwTasks = 32;
constexpr i64 kWinogradDwTile = 24;    // tiles that a unit should have at least: its sums are loaded and stored for each

struct WinogradDwPlan {
  WinogradPlan units;
  DwPlan dw;
};

inline WinogradDwPlan winograd_dw_plan(const ConvShape& s, i64 variant) {
  const WinogradPlan u = winograd_plan(s, variant, imax(imin(s.i, kDwIn), imin(s.o, kDwOut)), kWinogradDwTile);
  const i64 ci = cdiv(s.i, kDwIn), co = cdiv(s.o, kDwOut);
  // A chunk has at least so many tiles, as each pays for its Gᵀ; 8 tasks there are all the same.
  const i64 fit = imax(cdiv(8, ci * co), u.units() * u.along() / 128);
  const i64 most = imin(imin(u.units(), fit), cdiv(kWinogradDwTasks, ci * co));
  i64 chunks = 1;  // a power of two: even shares for as many threads
  while (2 * chunks <= most) chunks *= 2;
  return {u, {s.i, s.o, u.form.taps(), 3, u.units(), imin(s.i, kDwIn), imin(round_up(s.o, kLanes), kDwOut), ci, co, chunks}};
}

struct WinogradDwBuffers {
  i64 vw, ip, op;  // positions of x's rows; channels as they lie
  i64 vp, ep, vq, eq;
  i64 an;          // from number to number in A; a line more than its sums, or they would share few sets of the cache
  i64 v, e, v3, e3, a, sum, total;  // floats
  explicit WinogradDwBuffers(const WinogradDwPlan& p) {
    const WinogradForm& f = p.units.form;
    const i64 wide = p.units.wide, rows = p.units.rows, along = p.units.along();
    vw = wide + 2;
    ip = round_up(p.dw.iw, 16);
    op = round_up(p.dw.ow, 16);
    vp = rows * vw * ip;
    ep = rows * wide * op;
    vq = along * ip;
    eq = along * op;
    v = f.points() * vp;
    e = f.points() * ep;
    v3 = f.pw * vq;
    e3 = f.pw * eq;
    an = ip * op + 16;
    a = f.numbers() * an;
    sum = 2 * f.taps() * ip * op;  // float64
    total = v + e + v3 + e3 + a + sum;
  }
};

// E of one row of tiles: [point][position][op], zeros beyond the volume. db += the sums over its positions.
template <class T, class E>
__attribute__((noinline)) void winograd_dw_grad(const WinogradPlan& p, const WinogradUnit& u, i64 r, const E* dy, i64 ld,
                                                i64 o0, i64 on, f32* e, i64 ep, i64 op, f64* db) {
  constexpr int MD = T::D::M, MH = T::H::M;
  const ConvShape& s = p.s;
  const WinogradRow at = winograd_row(p, u.row + r);
  const i64 nd = imin(MD, s.od - at.d0), nh = imin(MH, s.oh - at.h0), stepH = s.ow * ld;
  const E* from = dy + (((at.n * s.od + at.d0) * s.oh + at.h0) * s.ow + u.w0) * ld + o0;
  for (i64 c = 0; c < op; c += kLanes) {
    const i64 lanes = imax(0, imin(kLanes, on - c));
    vf bias{};
    for (i64 w = 0; w < p.wide; ++w) {
      f32* out = e + w * op + c;
      if (w >= u.wn || lanes == 0) {
        for (int k = 0; k < T::PP; ++k) vstore(out + k * ep, vf{});
        continue;
      }
      const E* y = from + w * ld + c;
      const auto store = [&](int a, int b, vf r) { vstore(out + (a * T::PH + b) * ep, r); };
      if (nd == MD && nh == MH && lanes == kLanes) {
        winograd_a_both<T>([&](int a, int b) { return vload(y + (a * s.oh + b) * stepH); }, store);
      } else {
        const auto load = [&](int a, int b) {
          return a < nd && b < nh ? vload_some(y + (a * s.oh + b) * stepH, lanes) : vf{};
        };
        winograd_a_both<T>(load, store);
      }
      for (i64 a = 0; db && a < nd; ++a)
        for (i64 b = 0; b < nh; ++b) bias += vload_some(y + (a * s.oh + b) * stepH, lanes);
    }
    if (db)
      for (i64 l = 0; l < lanes; ++l) db[c + l] += bias[l];
  }
}

// out[i][o] += Σ_j x[j][i] · e[j][o] for CI inputs and TC vectors of outputs. Not inlined: the caller's variables would take the
// registers.
template <int CI, int TC>
__attribute__((noinline)) void winograd_dw_tile(const f32* x, i64 xstep, const f32* e, i64 estep, i64 count, f32* out,
                                                i64 step) {
  vf a[CI][TC];
  MACL_UNROLL for (int i = 0; i < CI; ++i)
    MACL_UNROLL for (int c = 0; c < TC; ++c) a[i][c] = vload(out + i * step + c * kLanes);
  for (i64 j = count; j > 0; --j, x += xstep, e += estep) {
    vf d[TC];
    MACL_UNROLL for (int c = 0; c < TC; ++c) d[c] = vload(e + c * kLanes);
    MACL_UNROLL for (int i = 0; i < CI; ++i) {
      const vf xv = vsplat(x[i]);
      MACL_UNROLL for (int c = 0; c < TC; ++c) a[i][c] += xv * d[c];
    }
  }
  MACL_UNROLL for (int i = 0; i < CI; ++i)
    MACL_UNROLL for (int c = 0; c < TC; ++c) vstore(out + i * step + c * kLanes, a[i][c]);
}

// Inputs of a tile of TC vectors: 16 sums in registers with AVX-512, 12 with 16 registers.
constexpr int winograd_dw_most(int tc) { return kLanes == 16 ? (tc == 2 ? 8 : 16) : tc == 2 ? 6 : 12; }

template <int TC>
inline void winograd_dw_tiles(const f32* x, i64 xstep, i64 in, const f32* e, i64 estep, i64 count, f32* out, i64 step) {
  constexpr int most = winograd_dw_most(TC);
  while (in > 0) {
    const i64 n = in >= most ? most : in >= 4 ? 4 : in >= 2 ? 2 : 1;
    if (n == most)
      winograd_dw_tile<most, TC>(x, xstep, e, estep, count, out, step);
    else if (n == 4)
      winograd_dw_tile<4, TC>(x, xstep, e, estep, count, out, step);
    else if (n == 2)
      winograd_dw_tile<2, TC>(x, xstep, e, estep, count, out, step);
    else
      winograd_dw_tile<1, TC>(x, xstep, e, estep, count, out, step);
    x += n;
    out += n * step;
    in -= n;
  }
}

// A[number][input][output] += what `rows` rows of tiles give. W: Winograd<mW>.
template <class W>
__attribute__((noinline)) void winograd_dw_points(const WinogradPlan& p, const WinogradDwBuffers& z, i64 rows, i64 in,
                                                  i64 on, const f32* V, const f32* E, f32* V3, f32* E3, f32* A) {
  constexpr int PW = W::P, MW = W::M;
  const i64 T1 = p.wide / MW, count = T1 * rows;
  for (i64 point = 0, points = p.form.points(); point < points; ++point) {
    for (i64 r = 0; r < rows; ++r) {
      const f32* v = V + point * z.vp + r * z.vw * z.ip;
      const f32* e = E + point * z.ep + r * p.wide * z.op;
      for (i64 j = 0; j < T1; ++j) {
        f32 *vo = V3 + (r * T1 + j) * z.ip, *eo = E3 + (r * T1 + j) * z.op;
        for (i64 c = 0; c < z.ip; c += kLanes) {
          vf d[PW], o[PW];
          MACL_UNROLL for (int k = 0; k < PW; ++k) d[k] = vload(v + (j * MW + k) * z.ip + c);
          winograd_bt<W>(d, o);
          MACL_UNROLL for (int k = 0; k < PW; ++k) vstore(vo + k * z.vq + c, o[k]);
        }
        for (i64 c = 0; c < z.op; c += kLanes) {
          vf d[MW], o[PW];
          MACL_UNROLL for (int k = 0; k < MW; ++k) d[k] = vload(e + (j * MW + k) * z.op + c);
          winograd_a<W>(d, o);
          MACL_UNROLL for (int k = 0; k < PW; ++k) vstore(eo + k * z.eq + c, o[k]);
        }
      }
    }
    for (int k = 0; k < PW; ++k) {
      const f32 *x = V3 + k * z.vq, *e = E3 + k * z.eq;
      f32* a = A + (point * PW + k) * z.an;
      for (i64 o = 0; o < on;) {
        if (on - o > kLanes)
          winograd_dw_tiles<2>(x, z.ip, in, e + o, z.op, count, a + o, z.op), o += 2 * kLanes;
        else
          winograd_dw_tiles<1>(x, z.ip, in, e + o, z.op, count, a + o, z.op), o += kLanes;
      }
    }
  }
}

// sum[tap][in][op] += Gᵀ A, and A is zero again. Along W first: w[point][tap of W].
template <class W>
inline void winograd_dw_flush_w(f32* a, i64 an, i64 points, vf* w) {
  for (i64 p = 0; p < points; ++p, w += 3) {
    vf m[W::P];
    MACL_UNROLL for (int k = 0; k < W::P; ++k) {
      m[k] = vload(a + (p * W::P + k) * an);
      vstore(a + (p * W::P + k) * an, vf{});
    }
    W::gt(m, w);
  }
}

template <class T>
inline void winograd_dw_flush_rest(const vf* w, f64* sum, i64 size) {
  constexpr int KD = T::D::K, PD = T::PD, PH = T::PH;
  vf h[PD][3][3];
  for (int d = 0; d < PD; ++d)
    for (int k = 0; k < 3; ++k) {
      vf m[PH], g[3];
      MACL_UNROLL for (int b = 0; b < PH; ++b) m[b] = w[(d * PH + b) * 3 + k];
      T::H::gt(m, g);
      MACL_UNROLL for (int b = 0; b < 3; ++b) h[d][b][k] = g[b];
    }
  for (int b = 0; b < 3; ++b)
    for (int k = 0; k < 3; ++k) {
      vf m[PD], g[KD];
      MACL_UNROLL for (int d = 0; d < PD; ++d) m[d] = h[d][b][k];
      T::D::gt(m, g);
      for (int d = 0; d < KD; ++d) {
        f64* s = sum + ((d * 3 + b) * 3 + k) * size;
        for (int l = 0; l < kLanes; ++l) s[l] += f64(g[d][l]);
      }
    }
}

__attribute__((noinline)) void winograd_dw_flush(const WinogradForm& f, const WinogradDwBuffers& z, i64 in, f32* A,
                                                 f64* sum) {
  const i64 size = z.ip * z.op;
  for (i64 i = 0; i < in; ++i)
    for (i64 o = 0; o < z.op; o += kLanes) {
      vf w[36 * 3];
      winograd_inner(f, [&]<class W>(W) { winograd_dw_flush_w<W>(A + i * z.op + o, z.an, f.points(), w); });
      winograd_outer(f, [&]<class T>(T) { winograd_dw_flush_rest<T>(w, sum + i * z.op + o, size); });
    }
}

template <class Element>
inline void winograd_dw_task(const WinogradDwPlan& p, const DwTask& t, const Element* x, i64 ldx, const Element* dy, i64 lddy,
                             f32* scratch) {
  const WinogradPlan& units = p.units;
  const WinogradDwBuffers z(p);
  const WinogradForm& form = units.form;
  f32 *V = scratch, *E = V + z.v, *V3 = E + z.e, *E3 = V3 + z.v3, *A = E3 + z.e3;
  f64* sum = reinterpret_cast<f64*>(A + z.a);
  for (i64 j = 0; j < z.a; ++j) A[j] = 0;
  for (i64 j = 0; j < z.sum / 2; ++j) sum[j] = 0;
  i64 since = 0;
  for (i64 unit = t.row0; unit < t.row1; ++unit) {
    const WinogradUnit u = winograd_unit(units, unit);
    winograd_outer(form, [&]<class T>(T) {
      for (i64 r = 0; r < u.rows; ++r) {
        const WinogradRow at = winograd_row(units, u.row + r);
        const WinogradRows<T, Element> rows(x + t.i0, ldx, units.s, at.n, at.d0 - form.kd / 2, at.h0 - 1);
        winograd_input(rows, ldx, units.s.iw, t.in, u.w0 - 1, z.vw, V + r * z.vw * z.ip, z.vp, 16, z.ip);
        winograd_dw_grad<T>(units, u, r, dy, lddy, t.o0, t.on, E + r * units.wide * z.op, z.ep, z.op, t.db);
      }
    });
    winograd_inner(form, [&]<class W>(W) {
      winograd_dw_points<W>(units, z, u.rows, t.in, t.on, V, E, V3, E3, A);
    });
    since += units.wide / form.mw * u.rows;
    if (since >= kWinogradDwFlush || unit + 1 == t.row1) {
      winograd_dw_flush(form, z, t.in, A, sum);
      since = 0;
    }
  }
  // As dw_reduce finds it: [tap / 3][input][3][output].
  const i64 size = z.ip * z.op;
  for (i64 tap = 0; tap < form.taps(); ++tap)
    for (i64 i = 0; i < t.in; ++i)
      for (i64 o = 0; o < t.on; ++o)
        t.part[((tap / 3 * p.dw.iw + i) * 3 + tap % 3) * p.dw.ow + o] = f32(sum[tap * size + i * z.op + o]);
}

}  // namespace
}  // namespace macl
