// CUDA devices, or the host executor of tests, behind native/napi/addon.cc. Adds to it:
//   describe()              … { alignment, toolkit, driver, devices: [{ name, memoryBytes, major, minor, processors }], problem }
//   freeBytes(device)       → bytes that are free there now
//   failAt(call, nth, kind) tests on the host executor: the nth next call of native/cuda/runtime.h of this name fails
//                           (kind as in Result; nth 0 forgets all plans)
#include "../napi/machine.h"

#include "session.h"

namespace macl {
namespace {

Napi::Value free_bytes(const Napi::CallbackInfo& info) {
  i64 bytes = 0;
  gpu::Result r = gpu::use_device(info[0].ToNumber().Int32Value());
  if (r.ok()) r = gpu::free_memory(bytes);
  if (r.ok()) return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  Napi::Error e = Napi::Error::New(info.Env(), r.text);
  e.Set("maclCode", Napi::String::New(info.Env(), "device"));
  throw e;
}

Napi::Value fail_at(const Napi::CallbackInfo& info) {
  const auto kind = static_cast<gpu::Result::Kind>(info[2].ToNumber().Int32Value());
  const std::string call = info[0].ToString();
  const bool done = gpu::plan_failure(call, info[1].ToNumber().Int32Value(), {kind, call + ": a planned failure"});
  return Napi::Boolean::New(info.Env(), done);
}

}  // namespace

std::unique_ptr<Session> open_session(const KernelTable& table, const i64 bytes[kSegments], i64 device, Session::Done done,
                                      void* context, Failure& failure) {
  if (device > 1024) return failure = {"device", "there is no device " + std::to_string(device)}, nullptr;
  return gpu::DeviceSession::create(table, bytes, static_cast<i32>(device), done, context, failure);
}

void describe_machine(Napi::Object& answer) {
  const Napi::Env env = answer.Env();
  const gpu::Versions v = gpu::versions();
  answer.Set("alignment", 256);  // of a device's allocations: what its copies and widest loads want
  answer.Set("toolkit", v.toolkit);
  answer.Set("driver", v.driver);
  std::vector<gpu::Card> cards;
  const gpu::Result r = gpu::cards(cards);
  answer.Set("problem", r.ok() ? std::string() : r.text);
  Napi::Array devices = Napi::Array::New(env, cards.size());
  for (u32 i = 0; i < cards.size(); ++i) {
    Napi::Object o = Napi::Object::New(env);
    o.Set("name", cards[i].name);
    o.Set("memoryBytes", static_cast<double>(cards[i].memoryBytes));
    o.Set("major", cards[i].major);
    o.Set("minor", cards[i].minor);
    o.Set("processors", cards[i].processors);
    devices.Set(i, o);
  }
  answer.Set("devices", devices);
}

void extend(Napi::Env env, Napi::Object& exports) {
  exports.Set("freeBytes", Napi::Function::New<free_bytes>(env, "freeBytes"));
  exports.Set("failAt", Napi::Function::New<fail_at>(env, "failAt"));
}

}  // namespace macl
