// What differs between the addons that share addon.cc: how a session is opened, and what more there is to tell.
#pragma once

// A worker thread that is being terminated cannot be thrown into; that must not end the process. Said here, because all
// files of an addon must say the same.
#define NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
#include <napi.h>

#include "../engine/session.h"

namespace macl {

// `unit` is the number of threads (host.cc) or the device's index (native/cuda/machine.cc). Null with the failure.
std::unique_ptr<Session> open_session(const KernelTable& table, const i64 bytes[kSegments], i64 unit, Session::Done done,
                                      void* context, Failure& failure);
// Adds to the answer of describe().
void describe_machine(Napi::Object& answer);
// Adds functions to the addon.
void extend(Napi::Env env, Napi::Object& exports);

}  // namespace macl
