"""The models of the harness and what goes into them."""
import math
import os
import pathlib
import sys

import numpy as np
import onnx

import models


def RealFolder():
    return pathlib.Path(os.environ.get("HALFTONE_MODELS", "../shared/models"))


def RealModels():
    """Names of the folders of $HALFTONE_MODELS that hold a model."""
    return sorted(path.parent.name for path in RealFolder().glob("*/model.onnx"))


# A model that is quantized already, or has nothing heavy, has no variant of some precision.
NOTHING_TO_QUANTIZE = "no node would change"

GROUPS = {"generated": lambda: list(models.MODELS), "real": RealModels}


def Expand(names):
    """Groups by their members, each model once."""
    members = [m for name in names for m in (GROUPS[name]() if name in GROUPS else [name])]
    return list(dict.fromkeys(members))


def GroupOf(name):
    return "generated" if name in models.MODELS else "real"


def FindModel(name, folder):
    """(label, path): a generated architecture, a folder of $HALFTONE_MODELS, or an .onnx file."""
    if name in models.MODELS:
        return name, models.Ensure(name, folder)
    real = RealFolder() / name / "model.onnx"
    if real.exists():
        return name, real
    if pathlib.Path(name).suffix == ".onnx" and pathlib.Path(name).exists():
        return pathlib.Path(name).stem, pathlib.Path(name)
    sys.exit(f"bench: no model {name!r}: want generated, real, one of "
             f"{', '.join(models.MODELS)}, a folder of $HALFTONE_MODELS,"
             " or the path of an .onnx file")


def IsQuantized(graph):
    """True for a model that is in integers already: it is run as it is, by both runtimes."""
    return any("Quantize" in n.op_type or n.op_type.startswith("QLinear") or
               n.op_type.endswith("Integer") for n in graph.node)


def MatMulShare(graph):
    """Share of the weights that MatMul and Gemm read, the rest being convolutions'."""
    sizes = {w.name: math.prod(w.dims) for w in graph.initializer}
    heavy = [(n.op_type, sum(sizes.get(i, 0) for i in n.input)) for n in graph.node
             if n.op_type in ("Conv", "MatMul", "Gemm")]
    total = sum(size for _, size in heavy)
    return sum(size for op, size in heavy if op != "Conv") / total if total else 0


def MakeInputs(path, graph, batch):
    """Arrays in graph order, or None when the model has no free batch dimension."""
    weights = {w.name for w in graph.initializer}
    arrays = []
    rng = np.random.default_rng(batch)
    for index, info in enumerate(i for i in graph.input if i.name not in weights):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        dims = [d.dim_value if d.HasField("dim_value") else None
                for d in info.type.tensor_type.shape.dim]
        if batch > 1 and (not dims or dims[0] is not None):
            return None
        recorded = path.parent / "inputs" / f"set0_in{index}.npy"
        if recorded.exists():
            array = np.load(recorded)
            if batch > 1:
                array = np.concatenate([array] * math.ceil(batch / len(array)))[:batch]
        else:
            shape = [d or (batch if axis == 0 else 1) for axis, d in enumerate(dims)]
            array = (rng.standard_normal(shape) if np.issubdtype(dtype, np.floating)
                     else rng.integers(0, 2, shape))
        arrays.append(np.asarray(array, dtype, order="C"))  # ascontiguousarray has no scalars
    return arrays


def WriteInputs(label, path, graph, batches, folder):
    """{batch: --inputs flag} for the batches that the model can run."""
    folder.mkdir(parents=True, exist_ok=True)
    flags = {}
    for batch in batches:
        arrays = MakeInputs(path, graph, batch)
        if arrays is None:
            print(f"{label}: fixed shapes, batch {batch} is left out", file=sys.stderr)
            continue
        parts = []
        for index, array in enumerate(arrays):
            file = folder / f"{label}.b{batch}.in{index}.bin"
            array.tofile(file)
            parts.append(f"{'x'.join(map(str, array.shape))}:{file}")
        flags[batch] = f"b{batch}=" + ",".join(parts)
    return flags
