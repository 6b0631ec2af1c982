"""ONNX's own node tests, made in memory by the onnx package, and the real models with their recorded inputs."""
import os
import pathlib
import warnings

import numpy as np

from roads import NAMES

ROOT = pathlib.Path(__file__).resolve().parents[2]


def NodeCases():
    """Yields (name, model, inputs) of every case of ai.onnx that has nothing but tensors of numpy's element types."""
    warnings.filterwarnings("ignore")  # some reference computations overflow on purpose
    import onnx.backend.test.case.node as node

    for case in node.collect_testcases(None):
        inputs, outputs = case.data_sets[0]
        types = [v.type.WhichOneof("value") for v in [*case.model.graph.input, *case.model.graph.output]]
        if any(o.domain not in ("", "ai.onnx") for o in case.model.opset_import) or set(types) != {"tensor_type"}:
            continue
        if all(isinstance(x, np.ndarray) and x.dtype in NAMES for x in [*inputs, *outputs]):
            yield case.name, case.model, inputs


def RealModels():
    """Yields (name, path of the .onnx, list of recorded calls); nothing where the models are missing."""
    folder = pathlib.Path(os.environ.get("HALFTONE_MODELS", ROOT / "../shared/models"))
    for path in sorted(folder.glob("*/model.onnx")):
        calls = []
        while True:
            inputs = sorted((path.parent / "inputs").glob(f"set{len(calls)}_in*.npy"),
                            key=lambda p: int(p.stem.split("_in")[1]))
            if not inputs:
                break
            calls.append([np.load(p) for p in inputs])
        yield path.parent.name, path, calls
    if not folder.is_dir():
        print(f"SKIPPED: the real models (no {folder}; set HALFTONE_MODELS)")
