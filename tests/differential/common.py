"""What the functions that draw operators share: the register, element types, axes, windows."""
F = ("f32", "f32", "f32", "f32", "f64", "f16")
SIGNED = ("i8", "i16", "i32", "i64")
UNSIGNED = ("u8", "u16", "u32", "u64")
INTS = SIGNED + UNSIGNED
NUMBERS = F + INTS
ANY = NUMBERS + ("bool",)
MIXED = ("f32", "f32", "f64", "f16", "i32", "i64", "u8", "i8", "bool")

DRAWS = {}


def Draws(*names):
    def Register(function):
        for name in names:
            DRAWS[name] = function
        return function
    return Register


def Axes(d, rank, least=0):
    """Some axes of `rank`, counted from either end."""
    axes = [int(a) for a in d.rng.permutation(rank)[:d.Int(least, rank)]]
    return [a - rank if d.opset >= 11 and d.Chance(0.3) else a for a in axes]


def Argument(d, values, since, attribute):
    """Integers as an input from opset `since` on, as an attribute before: (inputs, attributes)."""
    if d.opset >= since:
        return [d.Constant(values)], {}
    return [], {attribute: values}


def OneAxis(d, rank):
    return d.Int(-rank if d.opset >= 11 else 0, rank - 1)


def Window(d, spatial, rank, since_dilations=1, since_ceil=None, kernel=None):
    """Attributes of a sliding window that fits into the spatial sizes."""
    out = {"kernel_shape": kernel or [d.Int(1, min(3, s)) for s in spatial]}
    if d.Chance(0.7):
        out["strides"] = [d.Int(1, 3) for _ in range(rank)]
    if d.Chance(0.3) and d.opset >= since_dilations:
        out["dilations"] = [2 if (k - 1) * 2 < s else 1 for k, s in zip(out["kernel_shape"], spatial)]
    if d.Chance(0.3):
        out["auto_pad"] = d.Pick(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
    if out.get("auto_pad", "NOTSET") == "NOTSET" and d.Chance(0.6):
        out["pads"] = [d.Int(0, k - 1) for k in out["kernel_shape"] * 2]
    if since_ceil is not None and d.opset >= since_ceil and d.Chance(0.3):
        out["ceil_mode"] = 1
    return out


def PoolWindow(d, *arguments):
    window = Window(d, *arguments)
    if window.get("auto_pad", "NOTSET").startswith("SAME"):
        window.pop("dilations", None)  # ONNX Runtime forgets them there
        if any(k < s for k, s in zip(window["kernel_shape"], window.get("strides", []))):
            window.pop("auto_pad")  # and takes less than no padding
    return window


def Image(d, types=("f32", "f32", "f32", "f64"), low=-3.0, high=3.0, test=None):
    rank = d.Pick([1, 2, 2, 2, 3])
    x = d.Operand(types, low, high, ranks=(rank + 2, rank + 2), test=test)
    if x.fed and not x.used and d.Chance(0.5):  # a little more than an operand's usual sizes
        x = d.Fresh(x.type, (d.Int(1, 2), d.Pick([1, 2, 3, 4, 6, 8]), *(d.Int(3, 9) for _ in range(rank))), low, high)
    return x, x.rank - 2
