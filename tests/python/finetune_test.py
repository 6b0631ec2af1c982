#!/usr/bin/env python3
"""The example of examples/finetune works, and its gradients are right: usage: finetune_test.py --build FOLDER"""
import argparse
import pathlib
import subprocess
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from halftone_server import ROOT

sys.path.insert(0, str(ROOT / "examples" / "finetune"))
from fake_quant import Graph  # noqa: E402

STEP = 2.0 ** -6


def FakeQuantized(axis):
    """y = x · DQ(Q(w)), per tensor or along `axis`; powers of two, so that no value lies at a tie."""
    rng = np.random.default_rng(11)
    scale = np.float32(STEP) if axis is None else np.asarray([STEP, 2 * STEP, STEP], np.float32)
    w = (rng.integers(-150, 150, (4, 3)) + rng.uniform(-0.3, 0.3, (4, 3))).astype(np.float32) * np.float32(STEP)
    w[0, 0], w[1, 1] = 300 * STEP, -300 * STEP * 2  # beyond the range
    zero = np.zeros(scale.shape, np.int8)
    attributes = {} if axis is None else {"axis": axis}
    nodes = [helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"], **attributes),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], **attributes),
             helper.make_node("Gemm", ["x", "d"], ["y"])]
    info = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width])  # noqa: E731
    constants = [numpy_helper.from_array(v, n) for n, v in (("w", w), ("s", scale), ("z", zero))]
    return helper.make_model(helper.make_graph(nodes, "g", [info("x", 4)], [info("y", 3)], constants))


def CheckGradients(axis):
    """Against the definition of learned step sizes, element by element."""
    graph = Graph(FakeQuantized(axis))
    w, s = graph.values["w"].astype(np.float64), graph.values["s"].astype(np.float64)
    rng = np.random.default_rng(12)
    x, upstream = rng.standard_normal((5, 4)).astype(np.float32), rng.standard_normal((5, 3)).astype(np.float32)
    got = graph.gradients(graph.run(x), upstream)
    grad_d = x.T.astype(np.float64) @ upstream
    ratio = w / s
    inside = (ratio >= -128) & (ratio <= 127)
    assert not inside.all()
    np.testing.assert_allclose(got["w"], grad_d * inside, rtol=1e-4, atol=1e-6)
    of_scale = grad_d * np.where(inside, np.rint(ratio) - ratio, np.clip(ratio, -128, 127))
    np.testing.assert_allclose(got["s"], of_scale.sum() if axis is None else of_scale.sum(0), rtol=1e-3, atol=1e-4)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=pathlib.Path)
    build = parser.parse_args().build.resolve()
    CheckGradients(None)
    CheckGradients(1)
    script = ROOT / "examples" / "finetune" / "finetune.py"
    sys.exit(subprocess.run([sys.executable, "-B", script, "--build", build], check=False, timeout=600).returncode)


if __name__ == "__main__":
    main()
