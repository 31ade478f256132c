// The processor of this machine behind addon.cc.
#include "machine.h"

namespace macl {

std::unique_ptr<Session> open_session(const KernelTable& table, const i64 bytes[kSegments], i64 threads, Session::Done done,
                                      void* context, Failure& failure) {
  if (threads < 1 || threads > 1024) return failure = {"device", "threads must be 1 to 1024"}, nullptr;
  bool outOfMemory = false;
  auto session =
      HostSession::create(table, bytes, static_cast<u32>(threads), done, context, failure.message, outOfMemory);
  failure.code = outOfMemory ? "memory" : "device";
  return session;
}

void describe_machine(Napi::Object& answer) { answer.Set("alignment", 64); }  // a cache line, and the widest vector
void extend(Napi::Env, Napi::Object&) {}

}  // namespace macl
