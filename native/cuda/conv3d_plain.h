// conv3d on the device for any shape, stride and kernel: a thread an output element (channels fastest). What the tuned
// kernels mean, and what runs where they do not apply.
#pragma once
#include "conv3d.h"

namespace macl {
namespace gpu {
namespace {

// Input coordinate of output p and tap k on one axis; −1 where it lies in the padding or between dilated samples.
__device__ inline i64 conv_source(i64 p, i64 k, i64 kernel, i64 stride, i64 dilation, i64 size) {
  const i64 q = p * stride + k - kernel / 2;
  if (q < 0 || q % dilation != 0) return -1;
  return q / dilation < size ? q / dilation : -1;
}

__global__ void conv3d_fwd_plain_kernel(ConvShape s, ConvCall c) {
  const i64 padded = padded_channels(s.o), total = s.n * s.od * s.oh * s.ow * s.o;
  for (i64 e = blockIdx.x * i64(blockDim.x) + threadIdx.x; e < total; e += i64(gridDim.x) * blockDim.x) {
    const i64 o = e % s.o, v = e / s.o;
    const i64 w = v % s.ow, h = v / s.ow % s.oh, d = v / s.ow / s.oh % s.od, n = v / s.ow / s.oh / s.od;
    f32 sum = c.b ? c.b[o] : 0;
    for (i64 kd = 0; kd < s.kd; ++kd) {
      const i64 xd = conv_source(d, kd, s.kd, s.sd, s.td, s.id);
      if (xd < 0) continue;
      for (i64 kh = 0; kh < s.kh; ++kh) {
        const i64 xh = conv_source(h, kh, s.kh, s.sh, s.th, s.ih);
        if (xh < 0) continue;
        for (i64 kw = 0; kw < s.kw; ++kw) {
          const i64 xw = conv_source(w, kw, s.kw, s.sw, s.tw, s.iw);
          if (xw < 0) continue;
          const f32* x = c.x + (((n * s.id + xd) * s.ih + xh) * s.iw + xw) * c.ldx;
          const f32* wk = c.wp + ((kd * s.kh + kh) * s.kw + kw) * s.i * padded + o;
          for (i64 i = 0; i < s.i; ++i) sum += x[i] * wk[i * padded];
        }
      }
    }
    if (c.act && sum < 0) sum *= c.slope;
    f32* y = c.y + v * c.ldy + o;
    *y = c.accumulate ? *y + sum : sum;
  }
}

inline void launch_conv3d_plain(const Launch& l, const ConvShape& s, const ConvCall& c) {
  launch({blocks_for(s.n * s.od * s.oh * s.ow * s.o, 256), 256, 0, l.stream}, conv3d_fwd_plain_kernel, s, c);
}

// dw: a thread an element [tap][i][o] and a chunk of rows of dy: fp32 along a row, float64 over rows.
constexpr i64 kPlainDwThreads = 1 << 18;  // about so many

struct PlainDw {
  i64 chunks, rowsOfChunk;
};

inline PlainDw plain_dw(const ConvShape& s) {
  const i64 rows = s.n * s.od * s.oh, elements = taps_of(s) * s.i * s.o;
  i64 chunks = ceil_div(kPlainDwThreads, elements);
  if (chunks > rows) chunks = rows;
  if (chunks > 1024) chunks = 1024;
  const i64 per = ceil_div(rows, chunks);
  return {ceil_div(rows, per), per};
}

__global__ void conv3d_bwd_w_plain_kernel(ConvShape s, const f32* __restrict__ x, i64 ldx, const f32* __restrict__ dy,
                                          i64 ldy, i64 rowsOfChunk, f32* __restrict__ partial) {
  const i64 total = s.kd * s.kh * s.kw * s.i * s.o, e = blockIdx.x * i64(blockDim.x) + threadIdx.x;
  if (e >= total) return;
  const i64 o = e % s.o, i = e / s.o % s.i, tap = e / s.o / s.i;
  const i64 kw = tap % s.kw, kh = tap / s.kw % s.kh, kd = tap / s.kw / s.kh;
  const i64 rows = s.n * s.od * s.oh, begin = blockIdx.y * rowsOfChunk;
  const i64 end = begin + rowsOfChunk < rows ? begin + rowsOfChunk : rows;
  f64 sum = 0;
  for (i64 row = begin; row < end; ++row) {
    const i64 h = row % s.oh, d = row / s.oh % s.od, n = row / s.oh / s.od;
    const i64 xd = conv_source(d, kd, s.kd, s.sd, 1, s.id), xh = conv_source(h, kh, s.kh, s.sh, 1, s.ih);
    if (xd < 0 || xh < 0) continue;
    const f32* xr = x + ((n * s.id + xd) * s.ih + xh) * s.iw * ldx + i;
    const f32* dyr = dy + row * s.ow * ldy + o;
    f32 part = 0;
    for (i64 w = 0; w < s.ow; ++w) {
      const i64 xw = conv_source(w, kw, s.kw, s.sw, 1, s.iw);
      if (xw >= 0) part += xr[xw * ldx] * dyr[w * ldy];
    }
    sum += part;
  }
  partial[blockIdx.y * total + e] = f32(sum);
}

inline void launch_bwd_w_plain(const Launch& l, const ConvShape& s, const f32* x, i64 ldx, const f32* dy, i64 ldy,
                               f32* partial) {
  const PlainDw p = plain_dw(s);
  launch({dim3(blocks_for(taps_of(s) * s.i * s.o, 128), unsigned(p.chunks)), 128, 0, l.stream}, conv3d_bwd_w_plain_kernel,
         s, x, ldx, dy, ldy, p.rowsOfChunk, partial);
}

}  // namespace
}  // namespace gpu
}  // namespace macl
