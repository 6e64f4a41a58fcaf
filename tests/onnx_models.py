"""Write small ONNX models, without the package that is made for it: its protocol buffers need a number and a length."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

FLOAT = 1
# Of an attribute's value.
INTEGER, INTEGERS = 2, 7


def write_model(
    nodes: Sequence[bytes],
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, Sequence[int]],
    constants: Mapping[str, NDArray[np.float32]] | None = None,
) -> bytes:
    """Give the bytes of a model of some nodes, with inputs, outputs and constants of these names and shapes."""
    graph = b"".join(_part(1, node) for node in nodes) + _part(2, b"test")
    for name, values in (constants or {}).items():
        dims = b"".join(_number(1, n) for n in values.shape)
        graph += _part(5, dims + _number(2, FLOAT) + _part(8, name.encode()) + _part(9, values.tobytes()))
    for field, arrays in ((11, inputs), (12, outputs)):
        for name, shape in arrays.items():
            dims = b"".join(_part(1, _number(1, n)) for n in shape)
            kind = _part(1, _number(1, FLOAT) + _part(2, dims))
            graph += _part(field, _part(1, name.encode()) + _part(2, kind))
    return _number(1, 8) + _part(7, graph) + _part(8, _part(1, b"") + _number(2, 13))


def node(operator: str, inputs: Sequence[str], output: str, **attributes: int | Sequence[int]) -> bytes:
    """Give one operation, with attributes that are integers."""
    written = b"".join(_part(1, name.encode()) for name in inputs) + _part(2, output.encode())
    written += _part(4, operator.encode())
    for name, value in attributes.items():
        if isinstance(value, int):
            values, kind = _number(3, value), INTEGER
        else:
            values, kind = b"".join(_number(8, n) for n in value), INTEGERS
        written += _part(5, _part(1, name.encode()) + values + _number(20, kind))
    return written


def _varint(value: int) -> bytes:
    written = b""
    while value > 127:
        written += bytes([value & 127 | 128])
        value >>= 7
    return written + bytes([value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _part(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


# A small encoder: one product, and what is below zero cut off.
SIDE, N_FEATURES = 8, 24
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.5, 0.2]
WEIGHTS = np.random.default_rng(0).normal(size=(3 * SIDE**2, N_FEATURES)).astype(np.float32)
NODES = [
    node("Flatten", ["image"], "flat"),
    node("MatMul", ["flat", "weights"], "product"),
    node("Relu", ["product"], "row"),
]
LINEAR = write_model(
    NODES, {"image": (1, 3, SIDE, SIDE)}, {"row": (1, N_FEATURES), "flat": (1, 192)}, {"weights": WEIGHTS}
)


def save(folder: Path, model: bytes = LINEAR, name: str = "tiny", **changes: Any) -> Path:
    """Write a model and its description."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.onnx").write_bytes(model)
    described = {
        "title": "A test's",
        "file": f"{name}.onnx",
        "sha256": hashlib.sha256(model).hexdigest(),
        "image_size": SIDE,
        "mean": MEAN,
        "std": STD,
    }
    kept = {key: value for key, value in (described | changes).items() if value is not None}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(kept))
    return folder
