"""For tests in Python: starts a built halftone-server, speaks gRPC with it and reads its metrics."""
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SKIPPED = 77  # ctest's SKIP_RETURN_CODE
CHUNK_BYTES = 1 << 20
DEADLINE_SECONDS = 60  # for anything that should take a second or two
GRPC_PLUGIN = "/usr/bin/grpc_python_plugin"


def Skip(reason):
    print(f"SKIPPED: {reason}")
    sys.exit(SKIPPED)


def WaitFor(what, condition):
    """Polls until `condition()` is neither None nor False and returns that."""
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        result = condition()
        if result is not None and result is not False:
            return result
        time.sleep(0.05)
    raise TimeoutError(f"{what}: not within {DEADLINE_SECONDS} s")


def Fetch(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def ParseMetrics(text):
    """{series name: [(labels, value)]} from the Prometheus text format."""
    metrics = {}
    for line in text.splitlines():
        match = None if line.startswith("#") else SAMPLE.match(line)
        if match:
            labels = dict(LABEL.findall(match.group(2) or ""))
            metrics.setdefault(match.group(1), []).append((labels, float(match.group(3))))
    return metrics


class Server:
    """A server on free ports with a store of its own; `with Server(build) as server:`."""

    def __init__(self, build, *flags):
        self.folder = tempfile.TemporaryDirectory(prefix="halftone-test-")
        folder = pathlib.Path(self.folder.name)
        self.log = folder / "log.txt"
        ports = folder / "ports.json"
        command = [pathlib.Path(build) / "server" / "halftone-server", "--host=127.0.0.1",
                   "--metrics_host=127.0.0.1", "--port=0", "--metrics_port=0",
                   f"--ports_file={ports}", f"--store={folder / 'store'}", "--drain_delay=0s",
                   *flags]
        self.process = subprocess.Popen(command, stdout=open(self.log, "w"),
                                        stderr=subprocess.STDOUT)

        def Ports():
            if self.process.poll() is not None:
                raise RuntimeError(f"server exited: {self.log.read_text()}")
            return json.loads(ports.read_text()) if ports.exists() else None

        try:
            self.ports = WaitFor("the server's ports", Ports)
        except Exception:
            self.process.kill()
            raise
        self.target = f"127.0.0.1:{self.ports['grpc']}"
        self.metrics_target = f"127.0.0.1:{self.ports['metrics']}"

    def Metrics(self):
        return ParseMetrics(Fetch(f"http://{self.metrics_target}/metrics"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            code = self.process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert code == 0, f"the server exited with {code}: {self.log.read_text()}"
        self.folder.cleanup()


class Client:
    """The parts of the API that tests drive, on stubs that protoc makes."""

    def __init__(self, target):
        if not pathlib.Path(GRPC_PLUGIN).exists():
            Skip(f"{GRPC_PLUGIN} (package protobuf-compiler-grpc) is missing")
        try:
            import grpc
        except ImportError as error:
            Skip(f"python3-grpcio is missing: {error}")
        self.stubs = tempfile.TemporaryDirectory(prefix="halftone-stubs-")
        protos = sorted(str(p.relative_to(ROOT / "proto"))
                        for p in (ROOT / "proto" / "halftone").rglob("*.proto"))
        subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={self.stubs.name}",
                        f"--grpc_python_out={self.stubs.name}",
                        f"--plugin=protoc-gen-grpc_python={GRPC_PLUGIN}", *protos], check=True)
        sys.path.insert(0, self.stubs.name)
        from halftone.v1 import (inference_service_pb2, inference_service_pb2_grpc,
                                 model_service_pb2, model_service_pb2_grpc,
                                 quantization_service_pb2, quantization_service_pb2_grpc, types_pb2)
        self.inference_pb, self.model_pb = inference_service_pb2, model_service_pb2
        self.quantization_pb, self.types = quantization_service_pb2, types_pb2
        self.channel = grpc.insecure_channel(target)
        grpc.channel_ready_future(self.channel).result(DEADLINE_SECONDS)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.quantization = quantization_service_pb2_grpc.QuantizationServiceStub(self.channel)
        self.inference = inference_service_pb2_grpc.InferenceServiceStub(self.channel)

    def Upload(self, name, onnx_bytes):
        digest = hashlib.sha256(onnx_bytes).hexdigest()
        file = self.types.File(name="model.onnx", bytes=len(onnx_bytes), sha256=digest)
        header = self.model_pb.UploadHeader(model=name, files=[file])
        parts = [self.model_pb.UploadModelRequest(header=header)]
        for offset in range(0, len(onnx_bytes), CHUNK_BYTES):
            chunk = self.types.FileChunk(offset=offset,
                                         data=onnx_bytes[offset:offset + CHUNK_BYTES])
            parts.append(self.model_pb.UploadModelRequest(chunk=chunk))
        return self.models.UploadModel(iter(parts), timeout=DEADLINE_SECONDS).model

    def Quantize(self, model, spec):
        """The last event: the variant with its report."""
        request = self.quantization_pb.QuantizeRequest(model=model, spec_text=spec)
        events = list(self.quantization.Quantize(request, timeout=DEADLINE_SECONDS))
        return events[-1].result

    def Tensor(self, array):
        """A message with an array of f32 or f64."""
        kind = {"f4": self.types.DATA_TYPE_FP32, "f8": self.types.DATA_TYPE_FP64}[array.dtype.str[1:]]
        return self.types.Tensor(type=kind, shape=array.shape, data=array.tobytes())

    def Infer(self, model, spec, array):
        """First output as a NumPy array, for a model with one input of f32 or f64."""
        import numpy as np
        request = self.inference_pb.InferRequest(
            model=model, variant=self.types.VariantSelector(spec_text=spec), inputs=[self.Tensor(array)])
        output = self.inference.Infer(request, timeout=DEADLINE_SECONDS).outputs[0]
        kind = "<f8" if output.type == self.types.DATA_TYPE_FP64 else "<f4"
        return np.frombuffer(output.data, kind).reshape(output.shape)


def SmallModel():
    """Serialized two-layer classifier: x f32[N,16] -> logits f32[N,8]."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper
    rng = np.random.default_rng(7)
    weights = [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) * 0.3, name)
               for name, shape in (("w1", (16, 64)), ("b1", (64,)), ("w2", (64, 8)), ("b2", (8,)))]
    nodes = [helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="fc1"),
             helper.make_node("Relu", ["h"], ["r"], name="relu"),
             helper.make_node("Gemm", ["r", "w2", "b2"], ["logits"], name="fc2")]
    info = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width])
    graph = helper.make_graph(nodes, "small", [info("x", 16)], [info("logits", 8)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                             ir_version=8).SerializeToString()


def ServeSmallModel(server):
    """Uploads SmallModel as "small", builds an int8 variant and asks both variants a few times."""
    import numpy as np
    client = Client(server.target)
    client.Upload("small", SmallModel())
    result = client.Quantize("small", "int8/per-channel/dynamic")
    assert result.variant.spec_text == "int8/per-channel/dynamic", result
    x = np.random.default_rng(3).standard_normal((4, 16), dtype=np.float32)
    for spec in ("fp32", "int8/per-channel/dynamic"):
        for _ in range(5):
            assert client.Infer("small", spec, x).shape == (4, 8)
    return client


def Dashboard():
    return json.loads((ROOT / "deploy" / "grafana" / "halftone.json").read_text())


def DashboardQueries():
    """[(panel title, PromQL with the dashboard's variables)]."""
    return [(panel["title"], target["expr"]) for panel in Dashboard()["panels"]
            for target in panel.get("targets", [])]
