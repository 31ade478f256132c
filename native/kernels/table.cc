// One instruction set's kernel table. This file is compiled once per instruction set with -DMACL_ISA=name and its
// flags; everything below is in anonymous namespaces, and the one exported symbol is macl_kernels_<name>.
//   avx512, avx2, baseline (128-bit vectors, also arm64), wasm: fp32, tuned where it pays, else the plain template
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
}
