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

struct WinogradDwPlan {
  WinogradPlan units;
  DwPlan dw;
};

template <class T>
inline WinogradDwPlan winograd_dw_plan(const ConvShape& s) {
  const WinogradPlan u = winograd_plan<T>(s, imax(imin(s.i, kDwIn), imin(s.o, kDwOut)));
  const i64 ci = cdiv(s.i, kDwIn), co = cdiv(s.o, kDwOut);
  const i64 fit = imax(1, u.units() * u.along() / 64);  // a chunk has at least so many tiles: each pays for its Gᵀ
  const i64 chunks = imin(imin(u.units(), fit), imax(1, cdiv(kWinogradDwTasks, ci * co)));
  return {u, {s.i, s.o, T::taps, 3, u.units(), imin(s.i, kDwIn), imin(round_up(s.o, kLanes), kDwOut), ci, co, chunks}};
}

template <class T>
struct WinogradDwBuffers {
  i64 vw, ip, op;  // positions of x's rows; channels as they lie
  i64 vp, ep, vq, eq;
  i64 v, e, v3, e3, a, sum, total;  // floats
  explicit WinogradDwBuffers(const WinogradDwPlan& p) {
    const i64 wide = p.units.wide, rows = p.units.rows, along = p.units.along();
    vw = wide + 2;
    ip = round_up(p.dw.iw, 16);
    op = round_up(p.dw.ow, 16);
    vp = rows * vw * ip;
    ep = rows * wide * op;
    vq = along * ip;
    eq = along * op;
    v = T::PP * vp;
    e = T::PP * ep;
    v3 = T::PW * vq;
    e3 = T::PW * eq;
    a = T::PPP * ip * op;
    sum = 2 * T::taps * ip * op;  // float64
    total = v + e + v3 + e3 + a + sum;
  }
};

// E of one row of tiles: [point][position][op], zeros beyond the volume. db += the sums over its positions.
template <class T>
inline void winograd_dw_grad(const WinogradPlan& p, const WinogradUnit& u, i64 r, const f32* dy, i64 ld, i64 o0, i64 on,
                             f32* e, i64 ep, i64 op, f64* db) {
  constexpr int MD = T::D::M, MH = T::H::M;
  const ConvShape& s = p.s;
  const i64 h0 = u.h0 + r * MH, nd = imin(MD, s.od - u.d0), nh = imin(MH, s.oh - h0), stepH = s.ow * ld;
  const f32* from = dy + (((u.n * s.od + u.d0) * s.oh + h0) * s.ow + u.w0) * ld + o0;
  for (i64 c = 0; c < op; c += kLanes) {
    const i64 lanes = imax(0, imin(kLanes, on - c));
    vf bias{};
    for (i64 w = 0; w < p.wide; ++w) {
      f32* out = e + w * op + c;
      if (w >= u.wn || lanes == 0) {
        for (int k = 0; k < T::PP; ++k) vstore(out + k * ep, vf{});
        continue;
      }
      vf t[MH][T::PD];
      MACL_UNROLL for (int b = 0; b < MH; ++b) {
        vf y[MD];
        MACL_UNROLL for (int a = 0; a < MD; ++a) {
          y[a] = a < nd && b < nh ? vload_some(from + (a * s.oh + b) * stepH + w * ld + c, lanes) : vf{};
          bias += y[a];
        }
        T::D::a(y, t[b]);
      }
      MACL_UNROLL for (int a = 0; a < T::PD; ++a) {
        vf y[MH], o[T::PH];
        MACL_UNROLL for (int b = 0; b < MH; ++b) y[b] = t[b][a];
        T::H::a(y, o);
        MACL_UNROLL for (int b = 0; b < T::PH; ++b) vstore(out + (a * T::PH + b) * ep, o[b]);
      }
    }
    if (db)
      for (i64 l = 0; l < lanes; ++l) db[c + l] += bias[l];
  }
}

// A[point] += what `rows` rows of tiles give.
template <class T>
inline void winograd_dw_points(const WinogradPlan& p, const WinogradDwBuffers<T>& z, i64 rows, i64 in, i64 on, const f32* V,
                               const f32* E, f32* V3, f32* E3, f32* A) {
  constexpr int PW = T::PW, MW = T::W::M;
  const i64 T1 = p.wide / MW;
  DwArgs t;
  t.rows = 1;
  t.count = T1 * rows;
  t.xstep = z.ip;
  t.ow = z.op;
  t.ci = z.op;
  for (int point = 0; point < T::PP; ++point) {
    for (i64 r = 0; r < rows; ++r) {
      const f32* v = V + point * z.vp + r * z.vw * z.ip;
      const f32* e = E + point * z.ep + r * p.wide * z.op;
      for (i64 j = 0; j < T1; ++j) {
        f32 *vo = V3 + (r * T1 + j) * z.ip, *eo = E3 + (r * T1 + j) * z.op;
        for (i64 c = 0; c < z.ip; c += kLanes) {
          vf d[PW], o[PW];
          MACL_UNROLL for (int k = 0; k < PW; ++k) d[k] = vload(v + (j * MW + k) * z.ip + c);
          T::W::bt(d, o);
          MACL_UNROLL for (int k = 0; k < PW; ++k) vstore(vo + k * z.vq + c, o[k]);
        }
        for (i64 c = 0; c < z.op; c += kLanes) {
          vf d[MW], o[PW];
          MACL_UNROLL for (int k = 0; k < MW; ++k) d[k] = vload(e + (j * MW + k) * z.op + c);
          T::W::a(d, o);
          MACL_UNROLL for (int k = 0; k < PW; ++k) vstore(eo + k * z.eq + c, o[k]);
        }
      }
    }
    for (int k = 0; k < PW; ++k) {
      t.x[0] = V3 + k * z.vq;
      t.dy[0] = E3 + k * z.eq;
      t.out = A + (point * PW + k) * z.ip * z.op;
      dw_block<1>(t, in, on);
    }
  }
}

// sum[tap][in][op] += Gᵀ A, and A is zero again.
template <class T>
inline void winograd_dw_flush(const WinogradDwBuffers<T>& z, i64 in, f32* A, f64* sum) {
  constexpr int KD = T::D::K, KH = T::H::K, KW = T::W::K, PD = T::PD, PH = T::PH, PW = T::PW;
  const i64 size = z.ip * z.op;
  for (i64 i = 0; i < in; ++i)
    for (i64 o = 0; o < z.op; o += kLanes) {
      f32* a = A + i * z.op + o;
      vf w[PD * PH][KW], h[PD][KH][KW];
      for (int p = 0; p < PD * PH; ++p) {
        vf m[PW];
        MACL_UNROLL for (int k = 0; k < PW; ++k) {
          m[k] = vload(a + (p * PW + k) * size);
          vstore(a + (p * PW + k) * size, vf{});
        }
        T::W::gt(m, w[p]);
      }
      for (int d = 0; d < PD; ++d)
        for (int k = 0; k < KW; ++k) {
          vf m[PH], g[KH];
          MACL_UNROLL for (int b = 0; b < PH; ++b) m[b] = w[d * PH + b][k];
          T::H::gt(m, g);
          MACL_UNROLL for (int b = 0; b < KH; ++b) h[d][b][k] = g[b];
        }
      for (int b = 0; b < KH; ++b)
        for (int k = 0; k < KW; ++k) {
          vf m[PD], g[KD];
          MACL_UNROLL for (int d = 0; d < PD; ++d) m[d] = h[d][b][k];
          T::D::gt(m, g);
          for (int d = 0; d < KD; ++d) {
            f64* s = sum + ((d * KH + b) * KW + k) * size + i * z.op + o;
            for (int l = 0; l < kLanes; ++l) s[l] += f64(g[d][l]);
          }
        }
    }
}

template <class T>
inline void winograd_dw_task(const WinogradDwPlan& p, const DwTask& t, const f32* x, i64 ldx, const f32* dy, i64 lddy,
                             f32* scratch) {
  const WinogradPlan& units = p.units;
  const WinogradDwBuffers<T> z(p);
  f32 *V = scratch, *E = V + z.v, *V3 = E + z.e, *E3 = V3 + z.v3, *A = E3 + z.e3;
  f64* sum = reinterpret_cast<f64*>(A + z.a);
  for (i64 j = 0; j < z.a; ++j) A[j] = 0;
  for (i64 j = 0; j < z.sum / 2; ++j) sum[j] = 0;
  i64 since = 0;
  for (i64 unit = t.row0; unit < t.row1; ++unit) {
    const WinogradUnit u = winograd_unit(units, unit);
    for (i64 r = 0; r < u.rows; ++r) {
      const WinogradRows<T> rows(x + t.i0, ldx, units.s, u.n, u.d0 - T::D::K / 2, u.h0 + r * units.mh - 1);
      winograd_input<T>(rows, ldx, units.s.iw, t.in, u.w0 - 1, z.vw, V + r * z.vw * z.ip, z.vp, 16, z.ip);
      winograd_dw_grad<T>(units, u, r, dy, lddy, t.o0, t.on, E + r * units.wide * z.op, z.ep, z.op, t.db);
    }
    winograd_dw_points<T>(units, z, u.rows, t.in, t.on, V, E, V3, E3, A);
    since += units.wide / units.mw * u.rows;
    if (since >= kWinogradDwFlush || unit + 1 == t.row1) {
      winograd_dw_flush<T>(z, t.in, A, sum);
      since = 0;
    }
  }
  // As dw_reduce finds it: [tap / 3][input][3][output].
  const i64 size = z.ip * z.op;
  for (i64 tap = 0; tap < T::taps; ++tap)
    for (i64 i = 0; i < t.in; ++i)
      for (i64 o = 0; o < t.on; ++o)
        t.part[((tap / 3 * p.dw.iw + i) * 3 + tap % 3) * p.dw.ow + o] = f32(sum[tap * size + i * z.op + o]);
}

}  // namespace
}  // namespace macl
