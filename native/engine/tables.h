// The kernel tables that were compiled into this library, and which of them this processor runs. The choice is made at
// run time; nothing compiled for a wider instruction set is touched before it.
#pragma once
#include "../ops/types.h"

namespace macl {

struct TableEntry {
  const KernelTable* table;
  bool supported;         // by this processor
  const char* needs;      // what it asks of the processor, for people
};

// Best first: amx, avx512bf16, avx512, avx2, baseline, plain, ref64 (those that exist on this architecture).
const TableEntry* kernel_tables(i32& count);
// Null where there is none of that name or the processor lacks it.
const KernelTable* find_table(const char* isa);

}  // namespace macl
