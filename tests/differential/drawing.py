"""A random ONNX graph that grows node by node, every node judged by ONNX Runtime on its own.

A value carries the tensor that ONNX Runtime computed and two *shaken* versions of it: the same computation with
roundings of a plausible size added after every node. A node is kept only if the shaken versions still agree: floats
nearly, integers and bools exactly. So no graph hinges on the last bit, whatever operators it has, and what two correct
engines may differ by is known for every output.
"""
import dataclasses

import numpy as np
import onnx
from onnx import helper, numpy_helper

from roads import NAMES, NUMPY, RoadError, RunOrt, Session

FLOATS = ("f32", "f64", "f16")
SHAKES = 2
MAX_ELEMENTS = 4096
# Per float type: a rounding, the largest magnitude that a graph may reach, how far shaken values may stray
# (relative to the largest magnitude), and the tolerance that an engine is held to at least.
ROUNDING = {"f32": 1e-6, "f64": 1e-14, "f16": 1e-3}
LIMIT = {"f32": 1e5, "f64": 1e5, "f16": 1e3}
SMALLEST = 1e-2  # the largest magnitude of a value: kernels of exp, log … err by 1e-7 of 1
STRAY_FINE, STRAY_COARSE = 1.5e-5, 2e-2
TOLERANCE_FINE, TOLERANCE_COARSE = 1e-4, 5e-3


class Rejected(Exception):
    """This draw makes no good node: draw again."""


@dataclasses.dataclass(eq=False)
class Value:
    name: str
    array: np.ndarray
    shaken: list  # arrays
    fine: bool = True  # no f16 among its ancestors
    quantized: bool = False  # a QuantizeLinear or integer product among its ancestors
    fed: bool = False  # a graph input
    used: bool = False
    argument: bool = False  # scales, bounds …: exactly what was asked for, never shaken

    @property
    def type(self):
        return NAMES[self.array.dtype]

    @property
    def shape(self):
        return self.array.shape

    @property
    def rank(self):
        return self.array.ndim

    @property
    def exact(self):
        return all(s is self.array for s in self.shaken)

    def Stray(self):
        """How far the shaken versions are off, relative to the largest magnitude."""
        largest = np.abs(self.array).max(initial=0)
        off = max(np.abs(s.astype(np.float64) - self.array).max(initial=0) for s in self.shaken)
        return off / largest if largest > 0 else float(off > 0)

    def Tolerance(self):
        if self.type not in FLOATS:
            return 0
        return max(TOLERANCE_FINE if self.fine else TOLERANCE_COARSE, 5 * self.Stray())


def TensorType(name, array, shape=None):
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype),
                                         array.shape if shape is None else shape)


def MakeModel(nodes, inputs, outputs, initializers, opset):
    graph = helper.make_graph(nodes, "drawn", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 21 else 10)


class Drawing:
    """The graph so far. The functions of draw_*.py and motifs.py add to it through Node()."""

    def __init__(self, rng, opset):
        self.rng = rng
        self.opset = opset
        self.values = []
        self.nodes = []
        self.initializers = []
        self.node_draws = []  # (op, element type of input 0), parallel to what the operators added

    # --- chance ---------------------------------------------------------------------------------

    def Chance(self, p=0.5):
        return self.rng.random() < p

    def Int(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def Pick(self, choices):
        return choices[self.Int(0, len(choices) - 1)]

    def Shape(self, low=0, high=4, largest=5):
        return tuple(self.Int(1, largest) for _ in range(self.Int(low, high)))

    def Array(self, type_, shape, low=-3.0, high=3.0):
        dtype = np.dtype(NUMPY[type_])
        if type_ == "bool":
            return self.rng.random(shape) < 0.5
        if type_ not in FLOATS:
            bottom = int(np.ceil(low)) if dtype.kind == "i" else max(0, int(np.ceil(low)))
            return self.rng.integers(bottom, max(bottom, int(np.floor(high))) + 1, shape).astype(dtype)
        style = self.Int(0, 3)
        if style == 0:  # a grid: ties, equal values and exact zeros
            return np.clip(np.round(self.rng.uniform(low, high, shape) * 2) / 2, low, high).astype(dtype)
        if style == 1:
            return np.clip(self.rng.normal((low + high) / 2, (high - low) / 6, shape), low, high).astype(dtype)
        return self.rng.uniform(low, high, shape).astype(dtype)

    # --- values ---------------------------------------------------------------------------------

    def Name(self):
        self.named = getattr(self, "named", 0) + 1
        return f"v{self.named}"

    def Fresh(self, type_, shape, low=-3.0, high=3.0):
        """A new graph input or constant."""
        return self.Feed(self.Array(type_, shape, low, high), constant=self.Chance(0.4))

    def Feed(self, array, constant=False):
        array = np.asarray(array)
        value = Value(self.Name(), array, [array] * SHAKES, fine=array.dtype != np.float16, fed=not constant)
        if constant:
            tensor = numpy_helper.from_array(array, value.name)
            if self.Chance(0.3):
                self.nodes.append(helper.make_node("Constant", [], [value.name], value=tensor))
            else:
                self.initializers.append(tensor)
        self.values.append(value)
        return value

    def Constant(self, array, dtype=np.int64):
        """An argument: mostly constant, now and then a graph input."""
        value = self.Feed(np.asarray(array, dtype), constant=self.Chance(0.85))
        value.argument = True
        return value

    def Operand(self, types=("f32",), low=-3.0, high=3.0, ranks=(0, 4), like=None, test=None):
        """An existing value that fits, or a fresh one. `low` and `high` bound its elements."""
        types = [types] if isinstance(types, str) else list(types)
        if self.Chance(0.75):
            def Fits(v):
                return (v.type in types and ranks[0] <= v.rank <= ranks[1] and v.array.size > 0
                        and (like is None or v.shape == like) and (test is None or test(v))
                        and (v.type == "bool" or (v.array.min() >= low and v.array.max() <= high)))
            fitting = [v for v in self.values if Fits(v)]
            if fitting:
                # Late values more often: chains grow.
                return fitting[max(self.Int(0, len(fitting) - 1), self.Int(0, len(fitting) - 1))]
        return self.Fresh(self.Pick(types), self.Shape(*ranks) if like is None else like, low, high)

    def Partner(self, value, low=-3.0, high=3.0, type_=None, fresh=False):
        """An operand that broadcasts with `value`. fresh: bounds hold for other batches too (no division by 0)."""
        shape = [d if self.Chance(0.75) else 1 for d in value.shape]
        shape = shape[self.Int(0, len(shape)) if self.Chance(0.3) else 0:]
        shape = tuple(self.Int(1, 4) if d == 1 and self.Chance(0.2) else d for d in shape)
        if self.Chance(0.2):
            shape = (self.Int(1, 3),) * max(0, value.rank - len(shape) + 1) + shape
            shape = shape[-(value.rank + 1):]
        if fresh:
            return self.Fresh(type_ or value.type, shape, low, high)
        return self.Operand(type_ or value.type, low, high, like=shape)

    # --- nodes ----------------------------------------------------------------------------------

    def Node(self, op, inputs, outputs=1, exact=False, captures=(), jitter=None, quantized=None, tiny=False,
             **attributes):
        """Adds a node whose inputs are Values or None. Rejected when ONNX Runtime refuses it or its result is no good.

        exact: moves, selects, compares or counts: adds no rounding of its own. captures: Values that nested graphs read.
        jitter: may hinge on the last bit even of exact inputs, so those are shaken too; default: unless exact.
        tiny: the result may be small, as scales are. `outputs`: how many, or a list of bools: which ones exist. Returns
        the existing outputs.
        """
        exists = [True] * outputs if isinstance(outputs, int) else outputs
        names = [self.Name() if e else "" for e in exists]
        node = helper.make_node(op, [i.name if i is not None else "" for i in inputs], names,
                                **{k: v for k, v in attributes.items() if v is not None})
        operands = list({v.name: v for v in [*inputs, *captures] if v is not None}.values())
        arrays = self._Compute(node, names, operands, not exact if jitter is None else jitter)
        made = self._Judge(op, [n for n in names if n], arrays, operands, exact, quantized, tiny)
        self.nodes.append(node)
        self.values.extend(made)
        for v in operands:
            v.used = True
        return made

    def _Compute(self, node, names, operands, jitter):
        outputs = [helper.make_empty_tensor_value_info(n) for n in names if n]
        model = MakeModel([node], [TensorType(v.name, v.array) for v in operands], outputs, [], self.opset)
        runs = [[v.array for v in operands]]
        for k in range(SHAKES):
            if jitter and any(v.type in FLOATS for v in operands):
                runs.append([v.array if v.argument else self._Shake(v.shaken[k]) for v in operands])
            elif not all(v.exact for v in operands):
                runs.append([v.shaken[k] for v in operands])
        try:
            session = Session(model.SerializeToString())
            arrays = [RunOrt(session, run) for run in runs]
        except RoadError as e:
            raise Rejected(f"{node.op_type}: {e}") from None
        return arrays if len(arrays) > 1 else arrays * (SHAKES + 1)

    def _Shake(self, x):
        if NAMES[x.dtype] not in FLOATS:
            return x
        size = ROUNDING[NAMES[x.dtype]]
        signs = self.rng.choice([-1.0, 1.0], x.shape)
        wide = x.astype(np.float64)
        return np.asarray(wide + signs * size * (np.abs(wide) + 0.2 * np.abs(wide).max(initial=0)), x.dtype)

    def _Judge(self, op, names, arrays, operands, exact, quantized, tiny):
        made = []
        for i, name in enumerate(names):
            nominal, shaken = arrays[0][i], [a[i] for a in arrays[1:]]
            if nominal.dtype not in NAMES:
                raise Rejected(f"{op}: element type")
            if any(s.shape != nominal.shape for s in shaken) or nominal.size > MAX_ELEMENTS:
                raise Rejected(f"{op}: size")
            type_ = NAMES[nominal.dtype]
            value = Value(name, nominal, [nominal if np.array_equal(s, nominal) else s for s in shaken],
                          fine=type_ != "f16" and all(v.fine for v in operands),
                          quantized=any(v.quantized for v in operands) if quantized is None else quantized)
            if type_ not in FLOATS:
                if not value.exact:
                    raise Rejected(f"{op}: hinges on the last bit")
            else:
                if not exact:
                    value.shaken = [self._Shake(s) for s in value.shaken]
                largest = np.abs(nominal).max(initial=0)
                if not np.isfinite(nominal).all() or largest > LIMIT[type_] or not tiny and 0 < largest < SMALLEST:
                    raise Rejected(f"{op}: magnitude")
                if not value.Stray() <= (STRAY_FINE if value.fine else STRAY_COARSE):
                    raise Rejected(f"{op}: ill-conditioned")
            made.append(value)
        return made

    # --- undo and finish ------------------------------------------------------------------------

    def Mark(self):
        return len(self.values), len(self.nodes), len(self.initializers), [v for v in self.values if v.used]

    def Restore(self, mark):
        del self.values[mark[0]:], self.nodes[mark[1]:], self.initializers[mark[2]:]
        for v in self.values:
            v.used = False
        for v in mark[3]:
            v.used = True

    def Finish(self):
        """(model, graph inputs as Values, graph outputs as Values); axes of inputs may be symbols."""
        produced = {n for node in self.nodes if node.op_type != "Constant" for n in node.output}
        outputs = [v for v in self.values if v.name in produced and (not v.used or self.Chance(0.1))]
        fed = [v for v in self.values if v.fed]
        style = self.Pick(["numbers", "batch", "symbols"])
        batch = fed[0].shape[0] if fed and fed[0].rank > 0 else None

        def Declared(v):
            if style == "batch" and v.rank > 1 and v.shape[0] == batch:  # a vector is hardly a batch
                return ("N", *v.shape[1:])
            if style == "symbols":
                return [f"{v.name}_{i}" for i in range(v.rank)]
            return v.shape
        model = MakeModel(self.nodes, [TensorType(v.name, v.array, Declared(v)) for v in fed],
                          [TensorType(v.name, v.array, [None] * v.rank) for v in outputs], self.initializers, self.opset)
        return model, fed, outputs


def Schema(op, opset):
    """The ai.onnx schema at an opset, or None when there is none or it is deprecated."""
    try:
        schema = onnx.defs.get_schema(op, max_inclusive_version=opset)
    except onnx.defs.SchemaError:
        return None
    return None if schema.deprecated else schema

