"""Which operators between layers may compute on bytes, and what onnxruntime gains or loses by it.

Measured on a processor with VNNI, onnxruntime 1.31, one thread (`tests/bench/integer_operators.py`).
"""

# Operators that onnxruntime has an integer kernel of when a quantiser stands on every side.
MIXING = frozenset({"Add", "AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid"})
# Those that write less than they read: with bytes, less is turned into floats behind them.
SHRINKING = frozenset({"Add", "AveragePool", "GlobalAveragePool", "Mul"})
# Operators that move or choose numbers: they work on bytes as they are, and the scale stays.
CARRYING = frozenset(
    {
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "MaxPool",
        "ReduceMax",
        "ReduceMin",
        "Reshape",
        "Resize",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)

# How many times as fast an operator is that takes bytes and gives bytes, where that is why it computes in floats.
_TIMES = {
    "Softmax": 0.2,
    "Clip": 0.5,
    "Div": 0.6,
    "Erf": 0.8,
    "HardSigmoid": 0.5,
    "HardSwish": 0.7,
    "LayerNormalization": 0.9,
    "Pad": 0.6,
    "ReduceMean": 0.7,
    "Where": 0.3,
    "Sub": 0.5,
    "Tanh": 0.7,
}

LIGHT = (
    "a convolution of each channel by itself with floats before or behind it: its integers save less time (0.6 to 1.2 "
    "times as fast) than rounding for it costs"
)
TRANSPOSED = (
    "onnxruntime has no integer kernel of ConvTranspose: with roundings it is 0.8 times as fast as in floats"
)
PRODUCT = (
    "a product of two activations, or a weight that is computed: both would be rounded on every run, which costs "
    "signal and gains little (1.1 to 1.5 times as fast); `attention` asks for it"
)
ALREADY = "it is quantised already: its weight comes out of a DequantizeLinear"
INNER = "inside a loop or branch, whose tensors are not seen from outside: their ranges are not known"


def why_float(op: str) -> str:
    """Return why an operator between layers computes in floats."""
    if op in MIXING or op in CARRYING:
        return "floats come in, or floats are read from it: rounding for it alone costs more than its integers save"
    if op in _TIMES:
        return f"on bytes it is {_TIMES[op]:g} times as fast as on floats"
    return "onnxruntime has no integer kernel of it"
