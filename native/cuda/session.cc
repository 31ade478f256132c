#include "session.h"

#include <algorithm>
#include <cstring>
#include <system_error>

namespace macl {
namespace gpu {
namespace {

constexpr i64 kStaging = i64(4) << 20;
constexpr u32 kNoFaultWord = 0xffffffffu;  // kNoFault of launch.h, which needs the device's compiler

const char* code_of(const Result& r) { return r.kind == Result::kMemory ? "memory" : "device"; }

}  // namespace

std::unique_ptr<DeviceSession> DeviceSession::create(const KernelTable& table, const i64 bytes[kSegments], i32 device,
                                                     Done done, void* context, Failure& failure) {
  std::unique_ptr<DeviceSession> s(new DeviceSession(table, device, done, context));
  std::vector<Card> all;
  Result r = cards(all);
  if (r.ok() && (device < 0 || device >= static_cast<i32>(all.size())))
    r = {Result::kNoDevice, "there is no device " + std::to_string(device) + ": there are " + std::to_string(all.size())};
  if (r.ok()) r = s->open(bytes, all[static_cast<size_t>(device)].processors);
  if (!r.ok()) {
    failure = {code_of(r), r.text};
    if (r.kind == Result::kMemory) {
      failure.neededBytes = bytes[0] + bytes[1] + bytes[2] + bytes[3];
      s.reset();  // what it took is free again
      if (i64 free = 0; free_memory(free).ok()) failure.freeBytes = free;
    }
    return nullptr;
  }
  try {
    s->worker_ = std::thread([p = s.get()] { p->work(); });
  } catch (const std::system_error& e) {
    failure = {"device", std::string("the thread that waits for the device could not be started: ") + e.what()};
    return nullptr;
  }
  return s;
}

Result DeviceSession::open(const i64 bytes[kSegments], i32 processors) {
  processors_ = processors;
  Result r = use_device(device_);
  for (i32 i = 0; i < kSegments && r.ok(); ++i) {
    void* data = nullptr;
    r = take(bytes[i], data);
    if (!r.ok()) break;
    segments_[i] = {static_cast<u8*>(data), bytes[i]};
    counted_ += bytes[i];
    count_allocated(bytes[i]);
  }
  void *words = nullptr, *told = nullptr, *mapped = nullptr, *unused = nullptr;
  if (r.ok()) r = take(sizeof(Words), words);
  if (r.ok()) r = take_pinned(sizeof(Told), told, mapped);
  if (r.ok()) r = take_pinned(kStaging, staging_, unused);
  words_ = static_cast<Words*>(words);
  told_ = static_cast<Told*>(told);
  toldOnDevice_ = static_cast<Told*>(mapped);
  if (r.ok()) r = make_queue(queue_);
  return r;
}

DeviceSession::~DeviceSession() {
  if (worker_.joinable()) {
    abort();
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      quit_ = true;
    }
    wake_.notify_one();
    worker_.join();
  }
  use_device(device_);
  for (const Loaded& p : programs_) destroy(p.recording);
  destroy(queue_);
  for (const Segment& s : segments_)
    if (s.data) give_back(s.data);
  if (words_) give_back(words_);
  if (told_) give_back_pinned(told_);
  if (staging_) give_back_pinned(staging_);
  count_allocated(-counted_);
}

bool DeviceSession::fine(const Result& r, Failure& failure) {
  if (r.ok()) return true;
  if (r.kind == Result::kLost) broken_ = r.text;
  failure = {code_of(r), r.text};
  if (i64 free = 0; r.kind == Result::kMemory && free_memory(free).ok()) failure.freeBytes = free;
  return false;
}

bool DeviceSession::usable(Failure& failure) {
  if (!broken_.empty()) return failure = {"device", "the device failed before: " + broken_}, false;
  return fine(use_device(device_), failure);
}

i32 DeviceSession::load(const u8* bytes, i64 length, Failure& failure) {
  if (!usable(failure)) return -1;
  Problem problem;
  const i64 need = program_arena_bytes(bytes, length, problem);
  if (need < 0) return failure = {"program", problem.text}, -1;
  auto arena = std::make_unique<Memory>();
  if (!arena->take(need)) return failure = {"memory", "no memory for a program of " + std::to_string(need) + " bytes"}, -1;
  // Addresses in it are the device's: nothing on the host reads what they point at.
  const Program* program = load_program(bytes, length, table_, segments_, arena->data(), need, problem);
  if (program == nullptr) return failure = {"program", problem.text}, -1;
  for (i32 i = program->firstCommit; i < program->count; ++i) {
    const KernelSpec* spec = program->instructions[i].spec;
    if (heeds_skip(table_, spec)) continue;
    failure = {"program", "instruction " + std::to_string(i) + " (" + spec->name + "): no kernel that commits on a device"};
    return -1;
  }
  Recording* recording = nullptr;
  if (!fine(record(queue_, [this, program](void* stream) { return launches(*program, stream); }, recording), failure))
    return -1;
  programs_.push_back({std::move(arena), program, recording});
  return static_cast<i32>(programs_.size()) - 1;
}

Result DeviceSession::launches(const Program& program, void* stream) {
  launch_begin(stream, words_);
  for (i32 i = 0; i < program.count; ++i) {
    if (i == program.firstCommit) launch_gate(stream, words_, program.guard, toldOnDevice_);
    // Where launches happen at once, an abort need not wait for the rest of the phase that it throws away.
    if (runs_at_once() && i < program.firstCommit && load_word(&told_->abort) != 0) continue;
    const Instruction& ins = program.instructions[i];
    const i32* skip = i < program.firstCommit ? nullptr : &words_->skip;
    launch_kernel(table_, ins.spec, ins.args, {stream, skip, &words_->fault, i, processors_});
    if (Result r = last_error(); !r.ok())
      return {r.kind, "instruction " + std::to_string(i) + " (" + ins.spec->name + "): " + r.text};
  }
  if (program.firstCommit == program.count) launch_gate(stream, words_, nullptr, toldOnDevice_);
  launch_end(stream, words_, toldOnDevice_);
  return last_error();
}

bool DeviceSession::write(i32 segment, i64 offset, const u8* bytes, i64 length, Failure& failure) {
  if (!usable(failure)) return false;
  for (i64 at = 0; at < length; at += kStaging) {
    const i64 n = std::min(kStaging, length - at);
    std::memcpy(staging_, bytes + at, static_cast<size_t>(n));
    if (!fine(copy_in(queue_, segments_[segment].data + offset + at, staging_, n), failure)) return false;
  }
  return true;
}

bool DeviceSession::read(i32 segment, i64 offset, u8* bytes, i64 length, Failure& failure) {
  if (!usable(failure)) return false;
  for (i64 at = 0; at < length; at += kStaging) {
    const i64 n = std::min(kStaging, length - at);
    if (!fine(copy_out(queue_, staging_, segments_[segment].data + offset + at, n), failure)) return false;
    std::memcpy(bytes + at, staging_, static_cast<size_t>(n));
  }
  return true;
}

void DeviceSession::run(i32 program) {
  store_word(&told_->abort, 0);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    asked_ = program;
  }
  wake_.notify_one();
}

void DeviceSession::work() {
  for (;;) {
    i32 program = -1;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return quit_ || asked_ >= 0; });
      // A run that was asked for before the quit is still told of.
      if (asked_ < 0) return;
      std::swap(program, asked_);
    }
    const Loaded& p = programs_[static_cast<size_t>(program)];
    Result r = use_device(device_);
    if (r.ok()) r = gpu::run(queue_, p.recording);
    if (r.ok()) r = gpu::wait(queue_);
    outcome_ = ended(*p.program, r);
    done_(context_);
  }
}

Outcome DeviceSession::ended(const Program& program, const Result& result) {
  if (!broken_.empty() || !result.ok()) {
    if (broken_.empty()) broken_ = result.text;
    return {kBroken, kOk, 0, "", broken_};
  }
  Outcome o;
  o.stop = load_word(&told_->stop);
  const u32 fault = load_word(&told_->fault);
  if (fault != kNoFaultWord) {
    o.status = static_cast<i32>(fault & 255);
    o.instruction = static_cast<i32>(fault >> 8);
    if (o.instruction < program.count) o.kernel = program.instructions[o.instruction].spec->name;
    o.reason = status_text(o.status);
  }
  return o;
}

}  // namespace gpu
}  // namespace macl
