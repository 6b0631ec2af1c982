"""The roads that a model can take: ours, through the program model_runner, and ONNX Runtime."""
import functools
import json
import os
import pathlib
import subprocess
import tempfile

import numpy as np
import onnx

# Our name of an element type → numpy's, for the types that numpy has itself.
NUMPY = {"f32": "float32", "f16": "float16", "f64": "float64", "i8": "int8", "u8": "uint8", "i16": "int16",
         "u16": "uint16", "i32": "int32", "u32": "uint32", "i64": "int64", "u64": "uint64", "bool": "bool"}
NAMES = {np.dtype(v): k for k, v in NUMPY.items()}
ONNX = {k: onnx.helper.np_dtype_to_tensor_dtype(np.dtype(v)) for k, v in NUMPY.items()}


def ScratchFolder():
    """A temporary folder, in memory where that is possible: the roads hand over many small files."""
    memory = "/dev/shm"
    return tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)


class RoadError(Exception):
    """A road refused the model or the inputs."""


class Runner:
    """One model_runner process; one command at a time, answers parsed, tensors as numpy arrays."""

    def __init__(self, build, folder, environment=None):
        self.environment = environment or {"OMP_NUM_THREADS": "1"}
        self.program = pathlib.Path(build) / "tests" / "model_runner"
        self.folder = pathlib.Path(folder)
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait(60)

    def Command(self, command):
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                            env=self.environment)
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            code, self.process = self.process.wait(), None
            raise RoadError(f"model_runner died with {code}")
        answer = json.loads(line)
        if "error" in answer:
            raise RoadError(answer["error"])
        return answer

    def Call(self, road, model, calls):
        """Outputs of every call (a list of arrays in graph order) on "reference" or "plan"."""
        answer = self.Command({"road": road, "model": str(model), "folder": str(self.folder),
                               "calls": [[self._Write(x, f"in_{k}_{i}.bin") for i, x in enumerate(inputs)]
                                         for k, inputs in enumerate(calls)]})
        return [[_Read(t) for t in outputs] for outputs in answer["calls"]]

    def Infer(self, model):
        return self.Command({"road": "infer", "model": str(model)})

    def Export(self, model, portable):
        return self.Command({"road": "export", "model": str(model), "folder": str(self.folder),
                             "portable": portable})["model"]

    def Table(self):
        return self.Command({"road": "table"})["rows"]

    def _Write(self, x, name):
        path = self.folder / name
        x = np.asarray(x)
        if x.dtype not in NAMES:
            raise RoadError(f"numpy type {x.dtype}")
        path.write_bytes(np.ascontiguousarray(x).tobytes())
        return {"type": NAMES[x.dtype], "shape": list(x.shape), "path": str(path)}


def _Read(t):
    data = pathlib.Path(t["path"]).read_bytes()
    if t["type"] not in NUMPY:
        return np.frombuffer(data, np.uint8)
    return np.frombuffer(data, NUMPY[t["type"]]).reshape(t["shape"])


@functools.cache
def _OnnxRuntime():
    """The module. Debian's packages of ONNX and ONNX Runtime share one library of schemas: what is registered twice
    is reported on stderr, and onnx.reference must have looked at the schemas before."""
    import onnx.reference  # noqa: F401
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            import onnxruntime
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def Session(model):
    """ONNX Runtime on one thread, nothing optimised; `model` is a path or bytes."""
    onnxruntime = _OnnxRuntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model), options,
                                            providers=["CPUExecutionProvider"])
    except Exception as e:  # its exceptions share no base class
        raise RoadError(str(e)) from None


def RunOrt(session, inputs):
    """Outputs for inputs in graph order."""
    try:
        return session.run(None, {i.name: x for i, x in zip(session.get_inputs(), inputs, strict=True)})
    except Exception as e:
        raise RoadError(str(e)) from None


def Difference(got, want, tolerance=1e-4):
    """Says how `got` is not `want`, or None. Integers and bools must be equal, floats within `tolerance` times
    the largest finite expected magnitude; infinities and NaNs in the same places."""
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"got {got.dtype}{list(got.shape)}, want {want.dtype}{list(want.shape)}"
    if got.dtype.kind != "f":
        wrong = got != want
        return f"{wrong.sum()} of {wrong.size} differ: {_Show(got, want, wrong)}" if wrong.any() else None
    finite = np.isfinite(want)
    a, b = got.astype(np.float64), want.astype(np.float64)
    largest = np.abs(b[finite]).max(initial=0)
    error = np.where(finite, np.abs(a - np.where(finite, b, 0)), 0)
    wrong = ~np.where(finite, error <= tolerance * largest, (a == b) | (np.isnan(a) & np.isnan(b)))
    if not wrong.any():
        return None
    relative = error.max(initial=0) / largest if largest > 0 else float("inf")
    return f"off by {relative:.2g} of max {largest:.3g}, {wrong.sum()} of {wrong.size}: {_Show(got, want, wrong)}"


def _Show(got, want, wrong):
    at = [tuple(int(j) for j in i) for i in np.argwhere(wrong)[:3]]
    return "; ".join(f"{list(i)} got {got[i]!s}, want {want[i]!s}" for i in at)
