// runtime.h over the CUDA runtime, which is linked statically: this library loads where there is no driver, and says so.
#include "runtime.h"

#include <cuda_runtime.h>
#include <stdlib.h>

namespace macl {
namespace gpu {

struct Queue {
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
};
struct Recording {
  cudaGraphExec_t graph = nullptr;
};

namespace {

// All kernels are loaded with the device's context: a kernel that is loaded at its first launch could not be captured.
void before_first_call() {
  static const int done = setenv("CUDA_MODULE_LOADING", "EAGER", 0);
  (void)done;
}

Result result_of(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return {};
  cudaGetLastError();
  Result r;
  r.text = std::string(call) + ": " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")";
  switch (error) {
    case cudaErrorMemoryAllocation: r.kind = Result::kMemory; break;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInvalidDevice:
    case cudaErrorInitializationError:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorNoKernelImageForDevice: r.kind = Result::kNoDevice; break;
    // An error that stays after it was asked for is the context's: nothing works in this process any more.
    default: r.kind = cudaFree(nullptr) == cudaSuccess ? Result::kRefused : Result::kLost;
  }
  return r;
}
#define MACL_TRY(call)                                                     \
  do {                                                                     \
    const Result tried = result_of(call, #call);                           \
    if (!tried.ok()) return {tried.kind, tried.text};                      \
  } while (0)

}  // namespace

Versions versions() {
  before_first_call();
  Versions v = {CUDART_VERSION, 0};
  if (cudaDriverGetVersion(&v.driver) != cudaSuccess) v.driver = 0;
  cudaGetLastError();
  return v;
}

Result cards(std::vector<Card>& out) {
  before_first_call();
  out.clear();
  int count = 0;
  if (const Result r = result_of(cudaGetDeviceCount(&count), "cudaGetDeviceCount"); !r.ok()) return {Result::kNoDevice, r.text};
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p;
    if (const Result r = result_of(cudaGetDeviceProperties(&p, i), "cudaGetDeviceProperties"); !r.ok()) return r;
    out.push_back({p.name, static_cast<i64>(p.totalGlobalMem), p.major, p.minor, p.multiProcessorCount});
  }
  return {};
}

Result use_device(i32 index) {
  before_first_call();
  return result_of(cudaSetDevice(index), "cudaSetDevice");
}

Result free_memory(i64& bytes) {
  size_t free = 0, total = 0;
  const Result r = result_of(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  bytes = static_cast<i64>(free);
  return r;
}

Result take(i64 bytes, void*& out) {
  out = nullptr;
  if (bytes == 0) return {};
  if (const Result r = result_of(cudaMalloc(&out, static_cast<size_t>(bytes)), "cudaMalloc"); !r.ok()) return out = nullptr, r;
  Result r = result_of(cudaMemset(out, 0, static_cast<size_t>(bytes)), "cudaMemset");
  if (r.ok()) r = result_of(cudaDeviceSynchronize(), "cudaMemset");
  if (!r.ok()) cudaFree(out), out = nullptr;
  return r;
}
void give_back(void* memory) { result_of(cudaFree(memory), "cudaFree"); }

Result take_pinned(i64 bytes, void*& host, void*& device) {
  host = device = nullptr;
  const Result r = result_of(cudaHostAlloc(&host, static_cast<size_t>(bytes), cudaHostAllocMapped), "cudaHostAlloc");
  if (!r.ok()) return host = nullptr, r;
  __builtin_memset(host, 0, static_cast<size_t>(bytes));
  const Result mapped = result_of(cudaHostGetDevicePointer(&device, host, 0), "cudaHostGetDevicePointer");
  if (!mapped.ok()) cudaFreeHost(host), host = nullptr;
  return mapped;
}
void give_back_pinned(void* host) { result_of(cudaFreeHost(host), "cudaFreeHost"); }

Result make_queue(Queue*& out) {
  out = new Queue;
  Result r = result_of(cudaStreamCreateWithFlags(&out->stream, cudaStreamNonBlocking), "cudaStreamCreate");
  if (r.ok())
    r = result_of(cudaEventCreateWithFlags(&out->event, cudaEventBlockingSync | cudaEventDisableTiming), "cudaEventCreate");
  if (!r.ok()) destroy(out), out = nullptr;
  return r;
}
void destroy(Queue* queue) {
  if (queue == nullptr) return;
  if (queue->event) cudaEventDestroy(queue->event);
  if (queue->stream) cudaStreamDestroy(queue->stream);
  cudaGetLastError();
  delete queue;
}

Result copy_in(Queue* queue, void* device, const void* host, i64 bytes) {
  MACL_TRY(cudaMemcpyAsync(device, host, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, queue->stream));
  MACL_TRY(cudaStreamSynchronize(queue->stream));
  return {};
}
Result copy_out(Queue* queue, void* host, const void* device, i64 bytes) {
  MACL_TRY(cudaMemcpyAsync(host, device, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, queue->stream));
  MACL_TRY(cudaStreamSynchronize(queue->stream));
  return {};
}

Result record(Queue* queue, const std::function<Result(void* stream)>& launches, Recording*& out) {
  out = nullptr;
  MACL_TRY(cudaStreamBeginCapture(queue->stream, cudaStreamCaptureModeRelaxed));
  Result r = launches(queue->stream);
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(queue->stream, &graph);
  if (r.ok()) r = result_of(ended, "cudaStreamEndCapture");
  cudaGetLastError();
  auto* recording = new Recording;
  if (r.ok()) r = result_of(cudaGraphInstantiate(&recording->graph, graph, 0), "cudaGraphInstantiate");
  if (graph != nullptr) cudaGraphDestroy(graph);
  if (r.ok()) r = result_of(cudaGraphUpload(recording->graph, queue->stream), "cudaGraphUpload");
  if (r.ok()) r = result_of(cudaStreamSynchronize(queue->stream), "cudaGraphUpload");
  if (!r.ok()) return destroy(recording), r;
  out = recording;
  return {};
}
void destroy(Recording* recording) {
  if (recording == nullptr) return;
  if (recording->graph) cudaGraphExecDestroy(recording->graph);
  cudaGetLastError();
  delete recording;
}

Result run(Queue* queue, Recording* recording) {
  MACL_TRY(cudaGraphLaunch(recording->graph, queue->stream));
  MACL_TRY(cudaEventRecord(queue->event, queue->stream));
  return {};
}
Result wait(Queue* queue) { return result_of(cudaEventSynchronize(queue->event), "the device"); }
Result last_error() { return result_of(cudaGetLastError(), "launch"); }

bool runs_at_once() { return false; }
bool plan_failure(const std::string&, i32, Result) { return false; }

}  // namespace gpu
}  // namespace macl
