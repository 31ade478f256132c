// The tables of this backend, in the order of the plain host kernels, whose checks they take:
//   fp32   products and sums in fp32
//   tf32   the convolutions' products on tensor cores in TF32 (inputs rounded to 10 bits), sums in fp32; the rest as fp32
#include "table.h"

#include <cstring>
#include <vector>

#include "../engine/tables.h"
#include "launch.h"

extern "C" const macl::KernelTable macl_kernels_plain;

namespace macl {
namespace gpu {

namespace {

const GpuKernel* find(const GpuKernel* family, const char* name) {
  for (; family->spec.name != nullptr; ++family)
    if (std::strcmp(family->spec.name, name) == 0) return family;
  return nullptr;
}

struct DeviceTable {
  std::vector<KernelSpec> specs;
  std::vector<const GpuKernel*> kernels;
  KernelTable table;

  // Families that come first win.
  DeviceTable(const char* isa, std::vector<const GpuKernel*> families) {
    for (i32 k = 0; k < macl_kernels_plain.count; ++k) {
      const KernelSpec& plain = macl_kernels_plain.specs[k];
      const GpuKernel* mine = nullptr;
      for (const GpuKernel* family : families)
        if (mine == nullptr) mine = find(family, plain.name);
      if (mine == nullptr) continue;
      specs.push_back(mine->spec);
      specs.back().check = plain.check;
      kernels.push_back(mine);
    }
    table = {isa, static_cast<i32>(specs.size()), specs.data(), nullptr};
  }
};

const std::vector<const GpuKernel*> kFamilies = {
    conv3d_gpu, upconv3d_gpu, linear_gpu,      normact_gpu, pool_gpu,  resize3d_gpu,
    supcon_gpu, losses_gpu,   elementwise_gpu, warp3d_gpu,  boxmix_gpu,
    optim_gpu,
};

std::vector<const GpuKernel*> before(const GpuKernel* first) {
  std::vector<const GpuKernel*> all = {first};
  all.insert(all.end(), kFamilies.begin(), kFamilies.end());
  return all;
}

const std::vector<DeviceTable>& tables() {
  static const std::vector<DeviceTable> all = [] {
    std::vector<DeviceTable> t;
    t.reserve(2);  // KernelTable points into its DeviceTable's vector, which moves with it
    t.emplace_back("fp32", kFamilies);
    t.emplace_back("tf32", before(conv3d_tf32_gpu));
    return t;
  }();
  return all;
}

// The device's kernel of a spec; null where it is of none of the tables.
const GpuKernel* kernel_of(const KernelTable& table, const KernelSpec* spec) {
  for (const DeviceTable& mine : tables())
    if (&mine.table == &table) return mine.kernels[static_cast<size_t>(spec - table.specs)];
  return nullptr;
}

}  // namespace

bool heeds_skip(const KernelTable& table, const KernelSpec* spec) {
  const GpuKernel* kernel = kernel_of(table, spec);
  return kernel != nullptr && kernel->commits;
}

void launch_kernel(const KernelTable& table, const KernelSpec* spec, const Args& args, const LaunchPlace& place) {
  if (const GpuKernel* kernel = kernel_of(table, spec))
    kernel->launch(args, {static_cast<Stream>(place.stream), place.skip, place.fault, place.instruction, place.processors});
}

}  // namespace gpu

const TableEntry* kernel_tables(i32& count) {
  static const std::vector<TableEntry> entries = [] {
    std::vector<TableEntry> e;
    for (const gpu::DeviceTable& t : gpu::tables()) e.push_back({&t.table, true, "compute capability 8.0"});
    return e;
  }();
  count = static_cast<i32>(entries.size());
  return entries.data();
}

const KernelTable* find_table(const char* isa) {
  for (const gpu::DeviceTable& t : gpu::tables())
    if (std::strcmp(t.table.isa, isa) == 0) return &t.table;
  return nullptr;
}

}  // namespace macl
