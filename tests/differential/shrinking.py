"""Makes a failing graph small: nodes go as long as the failure stays."""
from drawing import MakeModel, TensorType


class Subgraph:
    """Some of a drawing's nodes; what they read from removed nodes becomes a graph input with its recorded tensor."""

    def __init__(self, drawing, nodes, symbolic):
        self.values = {v.name: v for v in drawing.values}
        self.drawing, self.nodes, self.symbolic = drawing, nodes, symbolic

    def Parts(self):
        """(model, fed Values, output Values)."""
        produced = [n for node in self.nodes for n in node.output if n in self.values]
        read = [n for node in self.nodes for n in Reads(node) if n in self.values]
        constants = [t for t in self.drawing.initializers if t.name in read]
        known = {*produced, *(t.name for t in constants)}
        fed = [self.values[n] for n in dict.fromkeys(read) if n not in known]
        outputs = [self.values[n] for n in produced if n not in read]

        def Declared(v):
            return [f"{v.name}_{i}" for i in range(v.rank)] if self.symbolic else v.shape
        model = MakeModel(self.nodes, [TensorType(v.name, v.array, Declared(v)) for v in fed],
                          [TensorType(v.name, v.array, [None] * v.rank) for v in outputs], constants, self.drawing.opset)
        return model, fed, outputs


def Reads(node):
    """Names that a node reads, in its nested graphs too (names are unique over a drawing)."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from Reads(inner)


def Shrink(drawing, fails):
    """The smallest Subgraph found for which fails(subgraph) still holds; None if the whole graph does not fail."""
    for symbolic in (False, True):
        best = Subgraph(drawing, list(drawing.nodes), symbolic)
        if fails(best):
            break
    else:
        return None
    chunk = max(1, len(best.nodes) // 2)
    while True:
        smaller = False
        for start in range(len(best.nodes) - chunk, -1, -chunk):
            nodes = best.nodes[:start] + best.nodes[start + chunk:]
            candidate = Subgraph(drawing, nodes, best.symbolic)
            if nodes and fails(candidate):
                best, smaller = candidate, True
        if chunk == 1 and not smaller:
            return best
        chunk = max(1, chunk // 2) if not smaller else chunk
