"""How to draw each operator of the table: its inputs and attributes, one function per operator or family.

A function gets a Drawing and the operator's name and adds one node with d.Node(...); it may raise Rejected. A new
operator is one function with @Draws("Name") in a draw_*.py, or a line in UNDRAWN with the reason why there is none.
"""
import draw_models  # noqa: F401
import draw_numbers  # noqa: F401
import draw_tensors  # noqa: F401
from common import DRAWS

# Operators of ai.onnx that no graph draws, and why.
UNDRAWN = {
    "Bernoulli": "random", "Multinomial": "random", "RandomNormal": "random", "RandomNormalLike": "random",
    "RandomUniform": "random", "RandomUniformLike": "random",
    "DeformConv": "ONNX Runtime has no CPU kernel", "ImageDecoder": "ONNX Runtime has no kernel",
    "SimplifiedLayerNormalization": "ONNX Runtime's own: tests/python/microsoft_operators_test.py",
}

__all__ = ["DRAWS", "UNDRAWN"]
