# SPDX-License-Identifier: Apache-2.0
"""A network's graph as ONNX, beside its weights: model.onnx holds no weight, but where in model.safetensors it lies."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deeperlab.data.files import replace
from deeperlab.data.network_folder import CONFIG, GRAPH, WEIGHTS, graph_key, read_config
from deeperlab.data.tensor_file import Header, read_header
from deeperlab.heads import names_of

from .registry import from_pretrained

INPUT = "images"
PREFIX = "network."
"""Of the names of weights, in `Exportable`."""
EXAMPLE = (2, 3, 65, 97)
"""Any size will do; the axes of images, height and width are dynamic."""
TYPES = {"F64": "DOUBLE", "F32": "FLOAT", "F16": "FLOAT16", "BF16": "BFLOAT16"}
"""ONNX's names of the types of safetensors."""


def export_onnx(folder: str | os.PathLike[str]) -> Path:
    """Write model.onnx into the folder of a network, for ONNX Runtime and others: a hundred kilobytes.

    Its input is `images`, float32 [N, 3, H, W] of any size, less `mean`, over `std`. Its outputs are the heads of the
    network by their names, float32, of nodes at `stride` px. Its metadata holds these three and the network's `config`
    as JSON.
    The weights stay in model.safetensors, so the two files belong together; those of half precision are widened when
    the graph is loaded. The same folder gives the same bytes.

    Args:
        folder: of `save_pretrained`.

    Returns:
        The path of model.onnx.

    Raises:
        ImportError: onnxscript is not installed.
        FormatError, OSError: as `models.from_pretrained`, or the file cannot be written.
    """
    folder = Path(folder)
    try:
        import onnx
        from onnx_ir.passes import common
        from onnxscript import optimizer
    except ImportError as fault:
        raise ImportError(f"{GRAPH} is made by onnxscript: pip install onnxscript") from fault
    model, weights = from_pretrained(folder), read_header(folder / WEIGHTS)
    with _quiet():
        program: Any = torch.onnx.export(
            model.exportable(), (torch.zeros(EXAMPLE),), input_names=[INPUT], output_names=list(names_of(model.graph)),
            dynamic_shapes=({0: "batch", 2: "height", 3: "width"},), dynamo=True, verbose=False, optimize=False,
        )  # fmt: skip
        # Not all that the exporter could do: it would make other weights, of batch norms, or one of two that are equal.
        optimizer.fold_constants(program.model)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(program.model)
        _share_constants(program.model.graph)
        common.CommonSubexpressionEliminationPass()(program.model)
        common.RemoveUnusedNodesPass()(program.model)
        traced = program.model_proto
    plain = onnx.ModelProto(ir_version=traced.ir_version, producer_name="deeperlab")
    plain.opset_import.extend(entry for entry in traced.opset_import if not entry.domain)
    outside = _weights_outside(onnx, traced.graph, weights)
    _require_same(onnx, traced.graph, outside, model.state_dict())
    plain.graph.CopyFrom(_bare(onnx, traced.graph, outside))
    facts = {name: json.dumps(getattr(model, name)) for name in ("mean", "std", "stride", "config")}
    onnx.helper.set_model_props(plain, facts | {"made_of": graph_key(read_config(folder / CONFIG), weights)})
    path = folder / GRAPH
    replace(path, lambda file: file.write(plain.SerializeToString(deterministic=True)))
    return path


def _share_constants(graph: Any) -> None:
    """Let constants that are equal be one, but no weights; those that are zero and added to a convolution, none."""
    first: dict[Any, Any] = {}
    for name, value in graph.initializers.items():
        constant = value.const_value
        if not name.startswith(PREFIX):
            kept = first.setdefault((constant.dtype, tuple(constant.shape), constant.tobytes()), value)
            if kept is not value:
                value.replace_all_uses_with(kept)
    for node in graph:
        bias = node.inputs[2] if node.op_type == "Conv" and len(node.inputs) == 3 else None
        if bias is not None and not bias.name.startswith(PREFIX) and not bias.const_value.numpy().any():
            node.replace_input_with(2, None)


def _weights_outside(onnx: Any, graph: Any, weights: Header) -> dict[str, tuple[Any, Any]]:
    """Describe where the weights lie: by the name of each in the graph its tensor, and the node that widens it."""
    outside = {}
    for tensor in graph.initializer:
        name = tensor.name.removeprefix(PREFIX)
        if (place := weights.places.get(name)) is None:
            continue
        linked = onnx.TensorProto(
            name=name, dims=place.shape, data_location=onnx.TensorProto.EXTERNAL,
            data_type=onnx.TensorProto.DataType.Value(TYPES[place.dtype]),
        )  # fmt: skip
        for key, value in (("location", WEIGHTS), ("offset", place.offset), ("length", place.length)):
            linked.external_data.add(key=key, value=str(value))
        widened = None
        if linked.data_type != tensor.data_type:
            widened = onnx.helper.make_node("Cast", [name], [tensor.name], to=tensor.data_type)
        outside[tensor.name] = linked, widened
    return outside


def _require_same(onnx: Any, graph: Any, outside: dict[str, tuple[Any, Any]], weights: dict[str, Tensor]) -> None:
    """Raise a RuntimeError where the exporter has left out, moved or changed a weight."""
    traced = {tensor.name: tensor for tensor in graph.initializer}
    kept = {linked.name: onnx.numpy_helper.to_array(traced[name]) for name, (linked, _) in outside.items()}
    for name, weight in weights.items():
        if weight.is_floating_point() and not (name in kept and np.array_equal(kept[name], weight)):
            raise RuntimeError(f"{name}: not in the graph as it is in the file, by onnx {onnx.__version__}")


def _bare(onnx: Any, graph: Any, outside: dict[str, tuple[Any, Any]]) -> Any:
    """Return a graph without what only readers of its making want to know, its values numbered, its weights outside."""
    kept = [*graph.input, *graph.output, *(linked for linked, _ in outside.values())]
    names = {value.name: value.name for value in kept}
    names |= {name: linked.name for name, (linked, widened) in outside.items() if widened is None}

    def short(name: str) -> str:
        return names.setdefault(name, str(len(names))) if name else ""

    bare = onnx.GraphProto(name="deeperlab")
    bare.initializer.extend(linked for linked, _ in outside.values())
    for tensor in graph.initializer:
        if tensor.name not in outside:
            data = onnx.numpy_helper.to_array(tensor)
            bare.initializer.append(onnx.numpy_helper.from_array(data, short(tensor.name)))
    for node in (*(widened for _, widened in outside.values() if widened), *graph.node):
        ends = {"input": map(short, node.input), "output": map(short, node.output)}
        bare.node.add(op_type=node.op_type, domain=node.domain, attribute=node.attribute, **ends)
    for values, given in ((bare.input, graph.input), (bare.output, graph.output)):
        for value in given:
            values.add(name=value.name, type=value.type)
    return bare


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what the exporter says of packages that no network here needs, and of its own future."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
