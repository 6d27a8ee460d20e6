# SPDX-License-Identifier: Apache-2.0
"""The network of a folder in ONNX Runtime: model.onnx beside config.json and model.safetensors, and no torch."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._threads import thread_count
from ..data import labels as label_files
from ..data.files import FormatError, open_file, read_bytes
from ..data.labels import LABELS, LabelSet
from ..data.network_folder import CONFIG, GRAPH, WEIGHTS, graph_key, read_config
from ..data.tensor_file import read_arrays, read_header
from ..graph import Graph
from ..heads import Heads, names_of

MAX_GRAPH_BYTES = 1 << 24


class OnnxNetwork:
    """What `OnnxParser` asks of a network: heads of images, and what its config says.

    `model.onnx` is made where the folder has none, or one of another network: by torch and onnxscript.

    Args:
        folder: of `save_pretrained`.

    Attributes:
        config: all arguments that make the network.
        num_classes, image_size, radius, fusion, stuff_area, graph: of them.
        mean, std: of red, green and blue in 0 … 1.
        labels: of labels.json; None: there is none.
        has_trained_weights: whether anybody trained it.

    Raises:
        ImportError: ONNX Runtime is not installed, or what makes model.onnx is not.
        FormatError: a file is damaged, or they do not fit each other.
        OSError: a file is missing, or cannot be read or written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            import onnxruntime
        except ImportError as fault:
            raise ImportError("networks run without torch by ONNX Runtime: pip install 'deeperlab[onnx]'") from fault
        folder = Path(folder)
        config, self._weights = read_config(folder / CONFIG), read_header(folder / WEIGHTS)
        self.has_trained_weights = self._weights.is_trained
        path = _current_graph(folder, graph_key(config, self._weights))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count(None)
        # Threads that wait for work would take the processors from those that decode, fuse and write.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors, which are raised too
        with open_file(folder / WEIGHTS) as file:
            weights = file.read()
        # Not by their path: ONNX Runtime refuses links that lead out of the folder, as in the caches of hubs. Those
        # before 1.24, which are the last for Python 3.10, do not, and read the file themselves.
        if hasattr(options, "add_external_initializers_from_files_in_memory"):
            options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            (self._input,) = (given.name for given in self._session.get_inputs())
            told = self._session.get_modelmeta().custom_metadata_map
            self.mean, self.std, self._stride = (json.loads(told[name]) for name in ("mean", "std", "stride"))
            self.config: dict[str, Any] = json.loads(told["config"]) | config
        except Exception as fault:
            raise FormatError(path, f"not what deeperlab.models.export_onnx makes: {_line(fault)}") from fault
        try:
            self.graph = Graph.from_config(self.config["graph"])
        except (ValueError, TypeError) as fault:
            raise FormatError(folder / CONFIG, str(fault)) from fault
        self.num_classes: int = self.config["num_classes"]
        self.image_size, self.radius = self.config["image_size"], self.config["radius"]
        self.fusion, self.stuff_area = self.config["fusion"], self.config["stuff_area"]
        self.labels: LabelSet | None = None
        if (folder / LABELS).is_file():
            self.labels = label_files.read(folder / LABELS)

    def __call__(self, images: NDArray[np.float32]) -> Heads:
        """Compute heads of images [N, 3, H, W], less `mean`, over `std`.

        Raises:
            RuntimeError: ONNX Runtime cannot, as where memory does not suffice.
        """
        try:
            heads = self._session.run(names_of(self.graph), {self._input: images})
        except Exception as fault:
            raise RuntimeError(f"ONNX Runtime: {_line(fault)}") from fault
        return Heads.of_outputs(heads, self._stride, self.graph)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Read the tensors of the file, as floats of 32 bits where they are shorter."""
        return dict(read_arrays(self._weights))


def _current_graph(folder: Path, key: str) -> Path:
    """Return the path of a model.onnx that is of this config and these weights; it is made if need be."""
    path = folder / GRAPH
    if path.is_file() and key.encode() in read_bytes(path, MAX_GRAPH_BYTES, "a graph"):
        return path
    if missing := [name for name in ("torch", "onnxscript") if importlib.util.find_spec(name) is None]:
        there = "is of other weights or another config" if path.is_file() else "is not there"
        raise ImportError(
            f"{path} {there}, and {' and '.join(missing)}, by which it is made, not installed: pip install "
            f"'deeperlab[torch]' onnxscript, or run deeperlab.models.export_onnx({str(folder)!r}) where they are, and "
            "copy the file"
        )
    from ..models import export_onnx

    return export_onnx(folder)


def _line(fault: Exception) -> str:
    return " ".join(str(fault).split()) or type(fault).__name__
