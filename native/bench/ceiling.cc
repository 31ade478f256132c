// Prints the machine's fp32 multiply-add ceiling as JSON: GFLOP/s of all given threads at once, by vector width in bits
// (0: not there). Usage: ceiling [threads].
#include "ceiling.h"

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  double sum[3] = {};
  for (int k = 0; k < 3; ++k) {
    std::vector<double> rate(static_cast<size_t>(threads));
    std::vector<std::thread> pool;
    for (int t = 0; t < threads; ++t)
      pool.emplace_back([&, t] { rate[static_cast<size_t>(t)] = macl::bench::ceiling(128 << k); });
    for (auto& t : pool) t.join();
    for (double r : rate) sum[k] += r;
  }
  std::printf("{\"128\":%.1f,\"256\":%.1f,\"512\":%.1f}\n", sum[0], sum[1], sum[2]);
}
