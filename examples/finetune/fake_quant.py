"""Training of small ONNX graphs in NumPy: Gemm, Relu, and fake quantization with straight-through gradients.

    graph = Graph(onnx.load("model.onnx"))
    graph.fit(x, targets, steps=200)      # moves every float initializer: weights, biases, scales
    onnx.save(graph.model(), "trained.onnx")

What a training framework does for large models, small enough to read. The gradient of a scale is that of "Learned Step
Size Quantization" (Esser et al., 2020): rounding counts as the identity, clipping as itself.
"""
import numpy
from onnx import helper, numpy_helper

QUANTIZATION = ("QuantizeLinear", "DequantizeLinear")


def along(parameter, node, x):
    """A scale or zero point in the shape that broadcasts against x."""
    axis = {a.name: helper.get_attribute_value(a) for a in node.attribute}.get("axis", 1)
    return parameter if parameter.ndim == 0 else parameter.reshape([-1 if i == axis % x.ndim else 1
                                                                     for i in range(x.ndim)])


def summed(gradient, like):
    """A gradient of what was broadcast: summed to the shape of the parameter."""
    axes = tuple(i for i in range(gradient.ndim) if like.ndim == 0 or gradient.shape[i] != like.size)
    return gradient.sum(axes).reshape(like.shape)


class Gemm:
    @staticmethod
    def forward(node, a, b, c=0):
        return a @ (b.T if Gemm.transposed(node) else b) + c

    @staticmethod
    def backward(node, gradient, _, a, b, *c):
        turned = Gemm.transposed(node)
        grad_b = gradient.T @ a if turned else a.T @ gradient
        return [gradient @ (b if turned else b.T), grad_b, *(gradient.sum(0).reshape(x.shape) for x in c)]

    @staticmethod
    def transposed(node):
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert attributes.get("alpha", 1) == 1 and attributes.get("beta", 1) == 1 and not attributes.get("transA", 0)
        return attributes.get("transB", 0)


class Relu:
    @staticmethod
    def forward(_, x):
        return numpy.maximum(x, 0)

    @staticmethod
    def backward(_, gradient, y, x):
        return [gradient * (x > 0)]


class QuantizeLinear:
    """Gives the integers as floats, so that gradients pass."""

    @staticmethod
    def forward(node, x, scale, zero):
        limits = numpy.iinfo(zero.dtype)
        q = numpy.rint(x / along(scale, node, x)) + along(zero, node, x)
        return numpy.clip(q, limits.min, limits.max).astype(numpy.float32)

    @staticmethod
    def backward(node, gradient, _, x, scale, zero):
        limits, s = numpy.iinfo(zero.dtype), along(scale, node, x)
        q = x / s + along(zero, node, x)
        inside = gradient * ((q >= limits.min) & (q <= limits.max))
        return [inside / s, summed(-inside * x / s ** 2, scale), None]


class DequantizeLinear:
    @staticmethod
    def forward(node, q, scale, zero):
        return (q - along(zero, node, q).astype(numpy.float32)) * along(scale, node, q)

    @staticmethod
    def backward(node, gradient, _, q, scale, zero):
        return [gradient * along(scale, node, q),
                summed(gradient * (q - along(zero, node, q).astype(numpy.float32)), scale), None]


OPERATORS = {c.__name__: c for c in (Gemm, Relu, QuantizeLinear, DequantizeLinear)}


class Graph:
    """An ONNX model with one input and one output, whose float initializers are to be trained."""

    def __init__(self, model):
        unknown = {node.op_type for node in model.graph.node} - set(OPERATORS)
        if unknown:
            raise ValueError(f"want a graph of {sorted(OPERATORS)}, got {sorted(unknown)}, too")
        self.original = model
        self.values = {i.name: numpy_helper.to_array(i).copy() for i in model.graph.initializer}
        self.trained = [name for name, value in self.values.items() if value.dtype == numpy.float32]
        self.scales = {node.input[1] for node in model.graph.node if node.op_type in QUANTIZATION}
        self.input, self.output = model.graph.input[0].name, model.graph.output[0].name

    def run(self, x):
        """Every value of the graph, by name."""
        values = {**self.values, self.input: x}
        for node in self.original.graph.node:
            values[node.output[0]] = OPERATORS[node.op_type].forward(node, *(values[i] for i in node.input))
        return values

    def __call__(self, x):
        return self.run(x)[self.output]

    def gradients(self, values, gradient):
        """Of every trained initializer, when `gradient` is that of the output."""
        total = {self.output: gradient}
        for node in reversed(self.original.graph.node):
            inputs = [values[i] for i in node.input]
            y = node.output[0]
            for name, part in zip(node.input, OPERATORS[node.op_type].backward(node, total[y], values[y], *inputs)):
                if part is not None:
                    total[name] = total[name] + part if name in total else part
        return {name: total[name] for name in self.trained}

    def fit(self, x, targets, steps, rate=0.003):
        """Adam on the mean squared error over all of x. Scales move by factors: they stay positive. Returns the
        error before each step."""
        first = {name: 0 for name in self.trained}
        second = dict(first)
        errors = []
        for step in range(1, steps + 1):
            values = self.run(x)
            difference = values[self.output] - targets
            errors.append(float(numpy.mean(difference ** 2)))
            for name, g in self.gradients(values, 2 * difference / difference.size).items():
                scale = name in self.scales
                g = g * self.values[name] if scale else g
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g ** 2
                move = rate * (first[name] / (1 - 0.9 ** step)) / (numpy.sqrt(second[name] / (1 - 0.999 ** step)) + 1e-12)
                new = self.values[name] * numpy.exp(-move) if scale else self.values[name] - move
                self.values[name] = numpy.asarray(new, numpy.float32)
        return errors

    def model(self):
        """The ONNX model with the initializers as they are now, all of them inside."""
        model = type(self.original)()
        model.CopyFrom(self.original)
        del model.graph.initializer[:]
        model.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in self.values.items())
        return model
