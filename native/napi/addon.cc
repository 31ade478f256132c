// The N-API surface: handles, argument and error conversion. No arithmetic, no state beside each environment's own.
//
//   describe()                                   → { tables: [{ isa, supported, needs, kernels: [...] }], compiler }
//   opaqueBytes(isa, kernel, tensors, attrs, i)  → bytes; tensors are 80-byte records of docs/program.md
//   bytesAllocated()                             → bytes that all sessions of this process hold
//   new Session(isa, [state, scratch, io, store], unit)     threads, or the index of a device
//     load(bytes) → id · write(segment, offset, bytes) · read(segment, offset, bytes) · run(id) → Promise · abort()
//     times() → milliseconds of each instruction of the last run, where the machine knows them · scratchBytes() · close()
//
// run() settles with { stop, status, instruction, kernel, reason } when the machine is through; nothing waits on the event
// loop's thread or on libuv's. Errors carry `maclCode` (MaclErrorCode in src/errors.ts), and where a device's memory does
// not suffice `neededBytes` and `freeBytes`. The machine is machine.h's: this processor (host.cc) or CUDA devices
// (native/cuda/machine.cc, which says what its addon has beyond this).

#include "machine.h"

#include <optional>
#include <set>

#include "../engine/tables.h"

namespace {

using macl::i32;
using macl::i64;
using macl::u32;
using macl::u8;

Napi::Error error(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error e = Napi::Error::New(env, message);
  e.Set("maclCode", Napi::String::New(env, code));
  return e;
}

Napi::Error error(Napi::Env env, const macl::Failure& failure) {
  Napi::Error e = error(env, failure.code, failure.message);
  if (failure.neededBytes >= 0) e.Set("neededBytes", static_cast<double>(failure.neededBytes));
  if (failure.freeBytes >= 0) e.Set("freeBytes", static_cast<double>(failure.freeBytes));
  return e;
}

struct Bytes {
  u8* data;
  i64 length;
};

// A Uint8Array's memory, shared or not.
Bytes bytes_of(const Napi::Value& value) {
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(value.Env(), value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array)
    throw error(value.Env(), "state", "expected a Uint8Array");
  return {static_cast<u8*>(data), static_cast<i64>(length)};
}

// A whole number in [0, 2^53).
i64 whole(const Napi::Value& value, const char* what) {
  const double v = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(v >= 0 && v < 9007199254740992.0) || v != static_cast<double>(static_cast<i64>(v)))
    throw error(value.Env(), "state", std::string(what) + " must be a whole number");
  return static_cast<i64>(v);
}

const macl::KernelTable& table_of(const Napi::Value& isa) {
  const std::string name = isa.ToString();
  const macl::KernelTable* table = macl::find_table(name.c_str());
  if (table == nullptr) throw error(isa.Env(), "device", "this processor or build has no instruction set " + name);
  return *table;
}

class SessionWrap;

// What one environment (the main thread, a worker thread) owns.
struct PerEnv {
  napi_threadsafe_function done = nullptr;
  u32 running = 0;  // while any run is in progress the event loop is kept alive
  std::set<SessionWrap*> sessions;
};

// Shared, because the order in which an environment finalizes what it holds is Node's own affair.
using PerEnvPtr = std::shared_ptr<PerEnv>;
PerEnvPtr per_env(Napi::Env env) { return *env.GetInstanceData<PerEnvPtr>(); }

class SessionWrap : public Napi::ObjectWrap<SessionWrap> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Session",
                       {InstanceMethod<&SessionWrap::load>("load"), InstanceMethod<&SessionWrap::write>("write"),
                        InstanceMethod<&SessionWrap::read>("read"), InstanceMethod<&SessionWrap::run>("run"),
                        InstanceMethod<&SessionWrap::abort>("abort"),
                        InstanceMethod<&SessionWrap::scratch_bytes>("scratchBytes"), InstanceMethod<&SessionWrap::times>("times"),
                        InstanceMethod<&SessionWrap::close>("close")});
  }

  explicit SessionWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SessionWrap>(info), env_(per_env(info.Env())) {
    const Napi::Env env = info.Env();
    const macl::KernelTable& table = table_of(info[0]);
    const Napi::Array sizes = info[1].As<Napi::Array>();
    i64 bytes[macl::kSegments];
    for (u32 i = 0; i < macl::kSegments; ++i) bytes[i] = whole(sizes.Get(i), "a segment's size");
    macl::Failure failure;
    session_ = macl::open_session(table, bytes, whole(info[2], "threads or device"), &SessionWrap::on_done, this, failure);
    if (!session_) throw error(env, failure);
    env_->sessions.insert(this);
  }

  ~SessionWrap() {
    session_.reset();
    env_->sessions.erase(this);
  }

  // The environment goes away: no thread of ours may outlive it.
  void end() { session_.reset(); }

  // On the JavaScript thread, once a run has ended.
  void settle(Napi::Env env) {
    Napi::Promise::Deferred deferred = *pending_;
    pending_.reset();
    if (--env_->running == 0) napi_unref_threadsafe_function(env, env_->done);
    Unref();
    if (!session_) return deferred.Reject(error(env, "state", "the session was closed during the run").Value());
    const macl::Outcome outcome = session_->outcome();
    Napi::Object result = Napi::Object::New(env);
    result.Set("stop", outcome.stop);
    result.Set("status", outcome.status);
    result.Set("instruction", outcome.instruction);
    result.Set("kernel", outcome.kernel);
    result.Set("reason", outcome.reason);
    deferred.Resolve(result);
  }

 private:
  static void on_done(void* context) {
    auto* self = static_cast<SessionWrap*>(context);
    napi_call_threadsafe_function(self->env_->done, self, napi_tsfn_nonblocking);
  }

  macl::Session& open(Napi::Env env) {
    if (!session_) throw error(env, "state", "the session is closed");
    return *session_;
  }
  macl::Session& idle(Napi::Env env) {
    if (pending_) throw error(env, "state", "a program is running in this session");
    return open(env);
  }

  Napi::Value load(const Napi::CallbackInfo& info) {
    const Bytes bytes = bytes_of(info[0]);
    macl::Failure failure;
    const i32 id = idle(info.Env()).load(bytes.data, bytes.length, failure);
    if (id < 0) throw error(info.Env(), failure);
    return Napi::Number::New(info.Env(), id);
  }

  Napi::Value scratch_bytes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(open(info.Env()).scratch_bytes()));
  }

  Napi::Value times(const Napi::CallbackInfo& info) {
    const std::vector<i64>& times = idle(info.Env()).times();
    Napi::Float64Array out = Napi::Float64Array::New(info.Env(), times.size());
    for (size_t i = 0; i < times.size(); ++i) out[i] = static_cast<double>(times[i]) * 1e-6;
    return out;
  }

  struct Place {
    macl::Session& session;
    i32 segment;
    i64 offset;
  };
  Place place(const Napi::CallbackInfo& info, i64 bytes) {
    macl::Session& session = idle(info.Env());
    const i64 index = whole(info[0], "segment"), offset = whole(info[1], "offset");
    if (index >= macl::kSegments) throw error(info.Env(), "state", "segment must be 0 to 3");
    const i64 size = session.segment_bytes(static_cast<i32>(index));
    if (bytes > size || offset > size - bytes)
      throw error(info.Env(), "state", "[" + std::to_string(offset) + ", +" + std::to_string(bytes) +
                                           ") lies outside a segment of " + std::to_string(size) + " bytes");
    return {session, static_cast<i32>(index), offset};
  }

  Napi::Value write(const Napi::CallbackInfo& info) {
    const Bytes bytes = bytes_of(info[2]);
    const Place to = place(info, bytes.length);
    macl::Failure failure;
    if (!to.session.write(to.segment, to.offset, bytes.data, bytes.length, failure)) throw error(info.Env(), failure);
    return info.Env().Undefined();
  }

  Napi::Value read(const Napi::CallbackInfo& info) {
    const i64 length = whole(info[2], "bytes");
    const Place from = place(info, length);
    Napi::Uint8Array out = Napi::Uint8Array::New(info.Env(), static_cast<size_t>(length));
    macl::Failure failure;
    if (!from.session.read(from.segment, from.offset, out.Data(), length, failure)) throw error(info.Env(), failure);
    return out;
  }

  Napi::Value run(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    macl::Session& session = idle(env);
    const i64 id = whole(info[0], "program");
    if (id >= session.programs()) throw error(env, "state", "program " + std::to_string(id) + " was not loaded here");
    pending_.emplace(Napi::Promise::Deferred::New(env));
    if (env_->running++ == 0) napi_ref_threadsafe_function(env, env_->done);
    Ref();
    session.run(static_cast<i32>(id));
    return pending_->Promise();
  }

  Napi::Value abort(const Napi::CallbackInfo& info) {
    if (session_) session_->abort();
    return info.Env().Undefined();
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    session_.reset();
    return info.Env().Undefined();
  }

  PerEnvPtr env_;
  std::unique_ptr<macl::Session> session_;
  std::optional<Napi::Promise::Deferred> pending_;
};

void on_js_thread(napi_env env, napi_value, void*, void* session) {
  if (env == nullptr) return;  // the environment is going away
  try {
    const Napi::HandleScope scope(env);
    static_cast<SessionWrap*>(session)->settle(env);
  } catch (const Napi::Error&) {
    // It is being terminated: nobody is left to hear of the run.
  }
}

Napi::Array kernels_of(Napi::Env env, const macl::KernelTable& table) {
  Napi::Array kernels = Napi::Array::New(env, static_cast<size_t>(table.count));
  for (i32 k = 0; k < table.count; ++k) {
    const macl::KernelSpec& kernel = table.specs[k];
    Napi::Object o = Napi::Object::New(env);
    o.Set("name", kernel.name);
    o.Set("tensors", kernel.tensors);
    o.Set("attrs", kernel.attrs);
    o.Set("phases", table.kernels ? table.kernels[k].phases : 1);
    kernels.Set(static_cast<u32>(k), o);
  }
  return kernels;
}

Napi::Value describe(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  i32 count = 0;
  const macl::TableEntry* entries = macl::kernel_tables(count);
  Napi::Array tables = Napi::Array::New(env);
  for (i32 i = 0; i < count; ++i) {
    Napi::Object o = Napi::Object::New(env);
    o.Set("isa", entries[i].table->isa);
    o.Set("supported", entries[i].supported);
    o.Set("needs", entries[i].needs);
    o.Set("kernels", kernels_of(env, *entries[i].table));
    tables.Set(static_cast<u32>(i), o);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("tables", tables);
  result.Set("compiler", __VERSION__);
  macl::describe_machine(result);
  return result;
}

Napi::Value opaque_bytes(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const macl::KernelTable& table = table_of(info[0]);
  const std::string name = info[1].ToString();
  const Bytes tensors = bytes_of(info[2]), attrs = bytes_of(info[3]);
  const i32 kernel = macl::find_kernel(table, name.data(), static_cast<i64>(name.size()));
  if (kernel < 0) throw error(env, "program", std::string(table.isa) + " has no kernel " + name);
  macl::Problem problem;
  const i64 bytes = macl::opaque_bytes(table.specs[kernel], tensors.data, static_cast<i32>(tensors.length / 80), attrs.data,
                                       attrs.length, static_cast<i32>(whole(info[4], "index")), problem);
  if (bytes < 0) throw error(env, "program", problem.text);
  return Napi::Number::New(env, static_cast<double>(bytes));
}

Napi::Value bytes_allocated(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(macl::bytes_allocated()));
}

// Cleanup hooks run last registered first: this one is registered after the thread-safe function was made, so that it
// joins all pools while their way back to JavaScript still exists.
void end_sessions(void* data) {
  for (SessionWrap* session : static_cast<PerEnv*>(data)->sessions) session->end();
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto mine = std::make_shared<PerEnv>();
  napi_value name = Napi::String::New(env, "macl");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr, on_js_thread,
                                      &mine->done) != napi_ok)
    throw error(env, "state", "no thread-safe function");
  napi_unref_threadsafe_function(env, mine->done);
  napi_add_env_cleanup_hook(env, end_sessions, mine.get());
  env.SetInstanceData(new PerEnvPtr(mine));
  exports.Set("describe", Napi::Function::New<describe>(env, "describe"));
  exports.Set("opaqueBytes", Napi::Function::New<opaque_bytes>(env, "opaqueBytes"));
  exports.Set("bytesAllocated", Napi::Function::New<bytes_allocated>(env, "bytesAllocated"));
  exports.Set("Session", SessionWrap::define(env));
  macl::extend(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(macl, init)
