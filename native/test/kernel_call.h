// Calls one kernel of a table outside the engine, for tests and micro-benchmarks: owns its tensors, asks for the sizes
// of opaque ones, runs phases on some threads or in any split. Not part of the product.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "../ops/types.h"

namespace macl::testing {

inline const Kernel* find_kernel(const KernelTable& table, const char* name) {
  for (int i = 0; i < table.count; ++i)
    if (!std::strcmp(table.specs[i].name, name)) return &table.kernels[i];
  std::fprintf(stderr, "%s has no kernel %s\n", table.isa, name);
  std::exit(2);
}

// A number rounded to bf16, to the nearest, ties to even.
inline double rounded16(double v) {
  float f = float(v);
  unsigned u;
  std::memcpy(&u, &f, 4);
  u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000;
  std::memcpy(&f, &u, 4);
  return f;
}

// A tensor in float64 or fp32 by the table's element type, or in bf16; values are exchanged as double.
struct Buffer {
  std::vector<unsigned char> bytes;
  Tensor t{};
  i64 width() const { return t.dtype == kF64 ? 8 : t.dtype == kBF16 ? 2 : t.dtype == kU8 ? 1 : 4; }
  double get(i64 i) const {
    const unsigned char* p = bytes.data() + i * width();
    if (t.dtype == kF64) return *reinterpret_cast<const double*>(p);
    if (t.dtype != kBF16) return double(*reinterpret_cast<const float*>(p));
    float f = 0;
    std::memcpy(reinterpret_cast<unsigned char*>(&f) + 2, p, 2);
    return f;
  }
  void set(i64 i, double v) {
    unsigned char* p = bytes.data() + i * width();
    const float f = float(t.dtype == kBF16 ? rounded16(v) : v);
    if (t.dtype == kF64)
      *reinterpret_cast<double*>(p) = v;
    else if (t.dtype == kBF16)
      std::memcpy(p, reinterpret_cast<const unsigned char*>(&f) + 2, 2);
    else
      *reinterpret_cast<float*>(p) = f;
  }
};

class Call {
 public:
  // bf16: what activations are held in (`act`), whatever the table's element type is.
  Call(const KernelTable& table, const char* name, bool f64, bool bf16 = false)
      : kernel_(find_kernel(table, name)), real_(f64 ? kF64 : kF32), activation_(bf16 ? kBF16 : real_), isa_(table.isa) {}

  template <class A>
  Call& attrs(const A& a) {
    attrs_.resize(sizeof(A));
    std::memcpy(attrs_.data(), &a, sizeof(A));
    return *this;
  }

  // A channel slice: C of ld channels, from `offset` on; dense where ld = C.
  int add(i64 n, i64 d, i64 h, i64 w, i64 c, i64 ld = 0, i64 offset = 0) { return tensor(real_, n, d, h, w, c, ld, offset); }
  int act(i64 n, i64 d, i64 h, i64 w, i64 c, i64 ld = 0, i64 offset = 0) {
    return tensor(activation_, n, d, h, w, c, ld, offset);
  }
  int tensor(DType dtype, i64 n, i64 d, i64 h, i64 w, i64 c, i64 ld, i64 offset) {
    Buffer b;
    b.t = {nullptr, {n, d, h, w, c}, ld ? ld : c, dtype, kScratch};
    b.bytes.resize(size_t(n * d * h * w * b.t.ld * b.width()));
    offset_.push_back(offset);
    buffers_.push_back(std::move(b));
    return int(buffers_.size()) - 1;
  }
  int none() {
    Buffer b;
    b.t = {nullptr, {0, 0, 0, 0, 0}, 0, kU8, -1};
    offset_.push_back(0);
    buffers_.push_back(std::move(b));
    return int(buffers_.size()) - 1;
  }
  // An opaque tensor: filled from another call's, or sized by this kernel (or another that says its size) when it runs.
  int opaque(const Buffer* from = nullptr) {
    Buffer b;
    if (from) b = *from;
    b.t.dtype = kU8;
    b.t.segment = kScratch;
    offset_.push_back(0);
    buffers_.push_back(std::move(b));
    return int(buffers_.size()) - 1;
  }
  Buffer& operator[](int i) { return buffers_[size_t(i)]; }

  // Sizes opaque tensors and checks. Returns the check's status.
  i32 prepare() {
    tensors_.clear();
    for (auto& b : buffers_) tensors_.push_back(b.t);
    for (size_t i = 0; i < buffers_.size(); ++i) {
      auto& b = buffers_[i];
      if (b.t.dtype == kU8 && b.t.segment >= 0 && b.bytes.empty()) {
        const i64 wanted = kernel_->spec.bytes(args(), i32(i));  // -1 where the shapes do not fit: `check` says why
        b.bytes.assign(size_t(wanted < 0 ? 0 : wanted), 0xff);  // NaN
        b.t.s[0] = i64(b.bytes.size());
        for (int k = 1; k < 5; ++k) b.t.s[k] = 1;
        b.t.ld = 1;
        tensors_[i] = b.t;
      }
    }
    for (size_t i = 0; i < buffers_.size(); ++i)
      if (buffers_[i].t.segment >= 0)
        tensors_[i].data = buffers_[i].bytes.data() + offset_[i] * buffers_[i].width();
    return kernel_->spec.check ? kernel_->spec.check(args()) : i32(kOk);
  }

  // All phases, tasks in `threads` static parts at once.
  void run(int threads = 1) {
    for (i32 phase = 0; phase < kernel_->phases; ++phase) {
      const i64 tasks = kernel_->tasks(args(), phase);
      if (threads == 1) {
        kernel_->run(with_scratch(0), phase, 0, tasks);
        continue;
      }
      std::vector<std::thread> pool;
      for (int t = 0; t < threads; ++t)
        pool.emplace_back([this, a = with_scratch(t), phase, tasks, t, threads] {
          kernel_->run(a, phase, tasks * t / threads, tasks * (t + 1) / threads);
        });
      for (auto& t : pool) t.join();
    }
  }
  // All phases, one task a call, last first.
  void run_backwards() {
    for (i32 phase = 0; phase < kernel_->phases; ++phase)
      for (i64 t = kernel_->tasks(args(), phase); t-- > 0;) kernel_->run(with_scratch(0), phase, t, t + 1);
  }
  // Share of the tasks of all phases that thread t of n has.
  void run_part(i32 phase, int t, int n) {
    const i64 tasks = kernel_->tasks(args(), phase);
    kernel_->run(with_scratch(t), phase, tasks * t / n, tasks * (t + 1) / n);
  }
  i32 phases() const { return kernel_->phases; }
  Args args() const { return {tensors_.data(), i32(tensors_.size()), attrs_.data(), nullptr}; }

  // A thread's own scratch, NaN at first, never what another thread had.
  Args with_scratch(int thread) {
    Args a = args();
    const i64 bytes = kernel_->spec.scratch ? kernel_->spec.scratch(a) : 0;
    if (bytes == 0) return a;
    if (scratch_.size() <= size_t(thread)) scratch_.resize(size_t(thread) + 1);
    auto& own = scratch_[size_t(thread)];
    if (own.size() < size_t(bytes) + 64) own.assign(size_t(bytes) + 64, 0xff);
    a.scratch = reinterpret_cast<void*>((reinterpret_cast<unsigned long long>(own.data()) + 63) / 64 * 64);
    return a;
  }

 private:
  const Kernel* kernel_;
  DType real_, activation_;
  std::string isa_;
  std::vector<unsigned char> attrs_;
  std::vector<Buffer> buffers_;
  std::vector<i64> offset_;
  std::vector<Tensor> tensors_;
  std::vector<std::vector<unsigned char>> scratch_;
};

inline void fill_random(Buffer& b, unsigned seed) {
  std::mt19937 gen(seed);
  std::uniform_real_distribution<float> u(-1.f, 1.f);
  const i64 count = i64(b.bytes.size()) / b.width();
  for (i64 i = 0; i < count; ++i) b.set(i, u(gen));  // exact in fp32, so every table gets the same numbers
}

}  // namespace macl::testing
