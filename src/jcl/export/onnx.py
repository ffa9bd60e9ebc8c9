"""ONNX: one file with the network, and its preparation and labels as metadata."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from jcl.backbones import Backbone
from jcl.data.block_plan import block_of
from jcl.errors import DataError
from jcl.export.anysize import AnySize, check_same, fixed_size, sizes_to_check
from jcl.export.contents import contents, need
from jcl.files import write_atomically

__all__ = ["PACKAGES", "write_onnx"]

OPSET = 18

_Attempt: TypeAlias = tuple[dict[int, Any], list[tuple[int, ...]], str]
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def write_onnx(path: Path, network: Backbone, info: Mapping[str, Any]) -> None:
    """Write a network as ONNX: input `image` (b, c, h, w), output `logits` (b, k, h, w), both float32.

    Of a network that sees blocks they are (b, c, d, h, w) and (b, k, d, h, w), of the block that it was trained on.
    The channels are those of a slice, or of a slice and its neighbours: then `channels` in the metadata names them.
    Batch, height and width are free, or, with blocks and with a network that the exporter cannot follow for every size,
    the batch alone or none; `sizes` in the file's metadata says which. The other metadata are the `contents` of a run,
    as JSON. The file is written only when onnxruntime gives the answers of PyTorch.

    Raises:
        UsageError: a package is missing.
        DataError: it cannot be exported, answers otherwise than PyTorch, or the file cannot be written.
    """
    need("an ONNX file", "onnx", PACKAGES)
    stride, channels = network.stride, network.in_channels
    block = block_of(info["recipe"])
    padded = (int(info["recipe"]["padded"][0]), int(info["recipe"]["padded"][1]))
    for free, batches, sizes in _attempts(padded, stride) if block is None else _fixed(block):
        exported = AnySize(network, stride).eval() if 2 in free else network
        image = torch.rand(batches[0][0], channels, *batches[0][1:])
        content = _as_onnx(exported, image, free)
        if content is not None:
            content = _with_metadata(content, {**contents(info), "sizes": sizes})
            check_same(network, _run(content), batches, channels=channels, what=str(path))
            write_atomically(path, content)
            return
    raise DataError(
        f"{path}: PyTorch's exporter cannot follow this network ({info['backbone']['name']}); take --to monai"
    )


def _attempts(padded: tuple[int, int], stride: int) -> Iterator[_Attempt]:
    """Free axes, batches (b, h, w) to check (the first is traced), and what is said of them: the freest first."""
    batch = {0: torch.export.Dim("batch", min=1)}
    sides = {2: torch.export.Dim("height", min=stride + 1), 3: torch.export.Dim("width", min=stride + 1)}
    several = [(3, 2 * stride + 3, 3 * stride), *sizes_to_check(padded, stride)]
    yield {**batch, **sides}, several, f"any number of images, of any size above {stride} x {stride}"
    yield from _fixed(fixed_size(padded, stride))


def _fixed(sides: tuple[int, ...]) -> Iterator[_Attempt]:
    """Likewise, of one size."""
    what, size = ("image", "images") if len(sides) == 2 else ("block", "blocks"), " x ".join(map(str, sides))
    yield {0: torch.export.Dim("batch", min=1)}, [(3, *sides), (1, *sides)], f"any number of {what[1]}, of {size} only"
    yield {}, [(1, *sides)], f"one {what[0]}, of {size} only"


def _as_onnx(network: nn.Module, image: Float[Tensor, "b c *space"], free: dict[int, Any]) -> bytes | None:
    """The network as an ONNX file; None where the exporter fails or does not keep all of `free` free."""
    # the exporter warns at length of operators of torchvision and of its own use of what is deprecated
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                network, (image,), dynamo=True, input_names=["image"], output_names=["logits"],
                dynamic_shapes=(free,), opset_version=OPSET, verbose=False,
            )  # fmt: skip
        except torch.onnx.OnnxExporterError:
            return None
    assert program is not None
    model = program.model_proto
    sides = model.graph.input[0].type.tensor_type.shape.dim
    return model.SerializeToString() if all(sides[axis].dim_param for axis in free) else None


def _with_metadata(content: bytes, values: Mapping[str, Any]) -> bytes:
    """The model with its metadata: text as it is, all else as JSON. It is checked against the standard as well."""
    import onnx

    model = onnx.load(io.BytesIO(content))
    onnx.checker.check_model(model, full_check=True)
    nodes = (*model.graph.node, *(node for function in model.functions for node in function.node))
    for part in (model.graph, *model.functions, *nodes, *model.graph.value_info, *model.graph.initializer):
        del part.metadata_props[:]  # the exporter's traces, with the paths of the sources on this machine
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    onnx.helper.set_model_props(model, texts)
    return model.SerializeToString()


def _run(content: bytes) -> Callable[[Float[Tensor, "b c *space"]], Float[Tensor, "b k *space"]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b k *space"]:
        (logits,) = session.run(["logits"], {"image": images.numpy()})
        return torch.from_numpy(np.asarray(logits))

    return run
