"""ONNX Runtime and OpenVINO, each running a network that PyTorch exported."""

import io

import torch


def onnx_of(net, x):
    """The network's bytes, for inputs of just this shape: neither runtime has to plan for others."""
    file = io.BytesIO()
    torch.onnx.export(net, (x,), file, input_names=["x"], output_names=["y"], dynamo=False, opset_version=17)
    return file.getvalue()


def session_of(peer, network, threads, mode):
    """A function from an input to the logits, both numpy arrays; with OpenVINO the result lasts until the next call."""
    if peer == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {"x": x})[0]
    import openvino

    core = openvino.Core()
    precision = {"fp32": "f32", "bf16": "bf16"}[mode]
    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    compiled = core.compile_model(core.read_model(io.BytesIO(network)), "CPU", config)
    return lambda x: compiled([x])[0]


def versions(peer):
    found = {"torch": torch.__version__}
    if peer in ("onnxruntime", "openvino"):
        found[peer] = __import__(peer).__version__
    return found
