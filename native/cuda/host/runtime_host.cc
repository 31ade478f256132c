// runtime.h on the host, for tests: memory is the host's, a recording is the list of launches itself, which runs on the
// thread that asks for it. Any call can be told to fail (plan_failure), as a device would.
#include "../runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <exception>
#include <map>
#include <mutex>

namespace macl {
namespace gpu {

struct Queue {
  Result ended;  // of the run that was asked for last
};
struct Recording {
  std::function<Result(void* stream)> launches;
};

namespace {

struct Planned {
  i32 left;
  Result result;
};
std::mutex mutex;
std::map<std::string, Planned> plan;
Result lost;  // kLost once a planned failure was that: from then on every call fails, as after a device's error

Result planned(const char* call) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (!lost.ok()) return lost;
  const auto found = plan.find(call);
  if (found == plan.end() || --found->second.left > 0) return {};
  const Result result = found->second.result;
  plan.erase(found);
  if (result.kind == Result::kLost) lost = result;
  return result;
}

}  // namespace

bool plan_failure(const std::string& call, i32 nth, Result result) {
  const std::lock_guard<std::mutex> lock(mutex);
  lost = {};
  if (nth <= 0) plan.clear();
  else plan[call] = {nth, std::move(result)};
  return true;
}

Versions versions() { return {0, 0}; }

Result cards(std::vector<Card>& out) {
  out.clear();
  if (const Result r = planned("cards"); !r.ok()) return r;
  // Two, so that an index has something to choose from.
  out.assign(2, {"host executor of tests", i64(1) << 40, 8, 0, 2});
  return {};
}

Result use_device(i32 index) {
  if (const Result r = planned("use_device"); !r.ok()) return r;
  return index >= 0 && index < 2 ? Result{} : Result{Result::kNoDevice, "there is no such device"};
}

Result free_memory(i64& bytes) {
  if (const Result r = planned("free_memory"); !r.ok()) return r;
  long long kib = 0;
  char line[128];
  if (FILE* file = fopen("/proc/meminfo", "r")) {
    while (fgets(line, sizeof line, file) != nullptr && sscanf(line, "MemAvailable: %lld kB", &kib) != 1) {
    }
    fclose(file);
  }
  bytes = kib * 1024;
  return {};
}

Result take(i64 bytes, void*& out) {
  out = nullptr;
  if (const Result r = planned("take"); !r.ok()) return r;
  if (bytes == 0) return {};
  const size_t whole = (static_cast<size_t>(bytes) + 255) / 256 * 256;
  if ((out = aligned_alloc(256, whole)) == nullptr) return {Result::kMemory, "take: out of memory"};
  memset(out, 0, whole);
  return {};
}
void give_back(void* memory) { free(memory); }

Result take_pinned(i64 bytes, void*& host, void*& device) {
  host = device = nullptr;
  if (const Result r = planned("take_pinned"); !r.ok()) return r;
  const Result r = take(bytes, host);
  device = host;
  return r;
}
void give_back_pinned(void* host) { free(host); }

Result make_queue(Queue*& out) {
  out = nullptr;
  if (const Result r = planned("make_queue"); !r.ok()) return r;
  out = new Queue;
  return {};
}
void destroy(Queue* queue) { delete queue; }

Result copy_in(Queue*, void* device, const void* host, i64 bytes) {
  if (const Result r = planned("copy_in"); !r.ok()) return r;
  memcpy(device, host, static_cast<size_t>(bytes));
  return {};
}
Result copy_out(Queue*, void* host, const void* device, i64 bytes) {
  if (const Result r = planned("copy_out"); !r.ok()) return r;
  memcpy(host, device, static_cast<size_t>(bytes));
  return {};
}

Result record(Queue*, const std::function<Result(void* stream)>& launches, Recording*& out) {
  out = nullptr;
  if (const Result r = planned("record"); !r.ok()) return r;
  out = new Recording{launches};
  return {};
}
void destroy(Recording* recording) { delete recording; }

Result run(Queue* queue, Recording* recording) {
  if (const Result r = planned("run"); !r.ok()) return r;
  try {
    queue->ended = recording->launches(nullptr);
  } catch (const std::exception& e) {
    queue->ended = {Result::kRefused, e.what()};
  }
  return {};
}
Result wait(Queue* queue) {
  if (const Result r = planned("wait"); !r.ok()) return r;
  return queue->ended;
}
Result last_error() { return planned("last_error"); }

bool runs_at_once() { return true; }

}  // namespace gpu
}  // namespace macl
