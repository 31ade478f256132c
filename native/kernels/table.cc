// One instruction set's kernel table. This file is compiled once per instruction set with -DMACL_ISA=name and its
// flags; everything below is in anonymous namespaces, and the exported symbols are macl_kernels_<name>.
//   avx512, avx2, baseline (128-bit vectors, also arm64), wasm: fp32, tuned where it pays, else the plain template; with avx512
//   come avx512bf16 and amx
//   plain: the plain templates in fp32    ref64: the plain templates in float64 (the reference)
#include "vec.h"

#include "conv3d.h"
#include "upconv3d.h"
#include "linear.h"
#include "normact.h"
#include "pool.h"
#include "resize3d.h"
#include "supcon.h"
#include "losses.h"
#include "elementwise.h"
#include "warp3d.h"
#include "boxmix.h"
#include "optim.h"

namespace macl {
namespace {

constexpr Kernel kTable[] = {
    CONV3D_KERNELS, UPCONV3D_KERNELS, LINEAR_KERNELS, NORMACT_KERNELS, POOL_KERNELS,   RESIZE3D_KERNELS,
    SUPCON_KERNELS, LOSSES_KERNELS,   ELEMENTWISE_KERNELS, WARP3D_KERNELS, BOXMIX_KERNELS,
    OPTIM_KERNELS,
};
constexpr int kCount = static_cast<int>(sizeof(kTable) / sizeof(kTable[0]));

struct Specs {
  KernelSpec all[kCount];
};
constexpr Specs specs_of(const Kernel (&kernels)[kCount]) {
  Specs s = {};
  for (int k = 0; k < kCount; ++k) s.all[k] = kernels[k].spec;
  return s;
}
constexpr Specs kSpecs = specs_of(kTable);

#if defined(MACL_ISA_AVX512)
// The same with direct convolutions of bf16 by vdpbf16ps, and by AMX's tiles: instruction sets of their own, as their bits are others.
struct Kernels {
  Kernel all[kCount];
};
constexpr bool named(const char* a, const char* b) {
  while (*a && *a == *b) ++a, ++b;
  return *a == *b;
}
template <Dot dot>
constexpr Kernels with_dot(const Kernel (&kernels)[kCount]) {
  Kernels k = {};
  for (int i = 0; i < kCount; ++i) {
    k.all[i] = kernels[i];
    const char* name = kernels[i].spec.name;
    if (named(name, "conv3d_pack")) k.all[i].run = conv3d_pack_of<dot>;
    if (named(name, "conv3d_fwd")) k.all[i].run = conv3d_fwd_of<dot>;
    if (named(name, "conv3d_bwd_x")) k.all[i].run = conv3d_bwd_x_of<dot>;
    if (named(name, "conv3d_bwd_w")) k.all[i].run = conv3d_bwd_w_of<dot>;
    if (named(name, "upconv3d_pack")) k.all[i].run = upconv3d_pack_of<true>;
    if (named(name, "upconv3d_fwd")) k.all[i].run = upconv3d_fwd_of<dot>;
    if (named(name, "upconv3d_bwd_x")) k.all[i].run = upconv3d_bwd_x_of<dot>;
    if (named(name, "upconv3d_bwd_w")) k.all[i].run = upconv3d_bwd_w_of<dot>;
  }
  return k;
}
constexpr Kernels kPairsTable = with_dot<Dot::pairs>(kTable), kAmxTable = with_dot<Dot::tiles>(kTable);
#endif

}  // namespace
}  // namespace macl

#define MACL_CAT2(a, b) a##b
#define MACL_CAT(a, b) MACL_CAT2(a, b)
#define MACL_STR2(a) #a
#define MACL_STR(a) MACL_STR2(a)

extern "C" {
extern const macl::KernelTable MACL_CAT(macl_kernels_, MACL_ISA);
const macl::KernelTable MACL_CAT(macl_kernels_, MACL_ISA) = {MACL_STR(MACL_ISA), macl::kCount, macl::kSpecs.all,
                                                             macl::kTable};
#if defined(MACL_ISA_AVX512)
extern const macl::KernelTable macl_kernels_avx512bf16, macl_kernels_amx;
const macl::KernelTable macl_kernels_avx512bf16 = {"avx512bf16", macl::kCount, macl::kSpecs.all, macl::kPairsTable.all};
const macl::KernelTable macl_kernels_amx = {"amx", macl::kCount, macl::kSpecs.all, macl::kAmxTable.all};
#endif
}
