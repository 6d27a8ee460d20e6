# SPDX-License-Identifier: Apache-2.0
"""Data: annotation formats, label sets, and archives of heads.

Annotations, each as `Samples` of one form (`sample`): `segments` (COCO panoptic), `instances` (COCO), `cityscapes`,
`vistas`, `voc`, `ade20k`, `pairs`, `two_channel`, `label_map`. `coco` reads and writes COCO panoptic files as they are.
`labels` knows the classes, `folders` what a folder holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        archive,
        containers,
        faults,
        fields,
        files,
        folders,
        ids,
        labels,
        layouts,
        network_folder,
        photos,
        pointers,
        sample,
        tensor_file,
        text,
    )
    from .formats import (
        ade20k,
        cityscapes,
        coco,
        instances,
        label_map,
        pairs,
        predictions,
        sbd,
        segments,
        two_channel,
        vistas,
        voc,
    )

_FORMATS = (
    "ade20k",
    "cityscapes",
    "coco",
    "instances",
    "label_map",
    "pairs",
    "predictions",
    "sbd",
    "segments",
    "two_channel",
    "vistas",
    "voc",
)

__all__ = [
    "ade20k",
    "archive",
    "cityscapes",
    "coco",
    "containers",
    "faults",
    "fields",
    "files",
    "folders",
    "ids",
    "instances",
    "label_map",
    "labels",
    "layouts",
    "network_folder",
    "pairs",
    "photos",
    "pointers",
    "predictions",
    "sample",
    "sbd",
    "segments",
    "tensor_file",
    "text",
    "two_channel",
    "vistas",
    "voc",
]


if not TYPE_CHECKING:  # or a type checker would believe any name

    def __getattr__(name: str) -> Any:
        if name in __all__:
            import importlib

            return importlib.import_module(f".formats.{name}" if name in _FORMATS else f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
