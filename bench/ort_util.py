"""What the benchmark scripts need from ONNX Runtime, with Debian's two rough edges smoothed."""
import contextlib
import os
import sys
import types


@contextlib.contextmanager
def _QuietStderr():
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def ImportOnnxRuntime():
    with _QuietStderr():
        import onnxruntime
    return onnxruntime


def ImportQuantization():
    """onnx.reference cannot be loaded beside ONNX Runtime there; quantization only names it."""
    ImportOnnxRuntime()
    stub = types.ModuleType("onnx.reference")
    stub.ReferenceEvaluator = object
    sys.modules.setdefault("onnx.reference", stub)
    with _QuietStderr():
        from onnxruntime import quantization
    return quantization


def CreateSession(path_or_bytes, threads=0):
    onnxruntime = ImportOnnxRuntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Debian links ONNX Runtime to the shared onnx library, whose operators are registered already:
    # the first session complains about each of them.
    with _QuietStderr():
        return onnxruntime.InferenceSession(path_or_bytes, options,
                                            providers=["CPUExecutionProvider"])
