# SPDX-License-Identifier: Apache-2.0
"""Files that are taken for panoptic ones: what they are, and what to do with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..containers import matching
from ..fields import Field
from ..files import FormatError
from .signatures import kind_of

_CONVERT = (
    "panoptic files list segments_info and have PNGs, which panopticapi's converters/detection2panoptic_coco_format.py "
    "makes of masks of things and stuff"
)
_BOXES = "of boxes there is no panoptic map"
_ENTRIES = (
    ("segments_info", "panoptic annotations", "an object is needed that has them under 'annotations'"),
    ("segmentation", "instances (polygons or RLE)", _CONVERT),
    ("keypoints", "instances with keypoints", _BOXES.replace("boxes", "keypoints")),
    ("bbox", "instances with boxes only", _BOXES),
    ("caption", "captions", "panoptic annotations are another file"),
    ("isthing", "categories", "give it as --categories"),
    ("labels", "frames of Scalabel, as BDD100K has them", "its own converter to COCO's panoptic format makes the file"),
)
"""A key of the entries of a list, what they are, and the remedy."""
_OBJECTS = (
    (("shapes", "imagePath"), "polygons of LabelMe", "convert them to COCO's panoptic format first"),
    (("objects",), "polygons of one image, as of Cityscapes or Vistas", "give the panoptic JSON of the data set"),
    (("labels", "mapping"), "the configuration of Vistas", "give panoptic_2018.json or panoptic_2020.json"),
    (("classes",), "a label set", "give the panoptic JSON of the data set"),
)
"""Keys of an object, what it is, and the remedy."""
_FOLDERS = (
    ("labels/*.txt", "labels/*/*.txt", "*/labels/*.txt"),
    "boxes or polygons of YOLO; convert polygons to COCO's instances",
), (
    ("*.xml", "Annotations/*.xml", "*/*.xml"),
    f"boxes in XML, as of PASCAL VOC; {_BOXES}",
), (
    ("SegmentationClass/*.png", "*/SegmentationClass/*.png"),
    "PASCAL VOC, but without SegmentationObject or lists in ImageSets/Segmentation",
)  # fmt: skip
"""Files of a folder, and what it is."""
_LISTS = ("*.json", "annotations/*.json", "*/*.json")
_MAX_BYTES = 1 << 26
"""Of a JSON that is looked into."""
_NAMES = {
    "segments_info": "COCO's panoptic annotations; call it panoptic_<split>.json, beside the folder panoptic_<split>",
    "segmentation": "COCO's instances; call it instances_<split>.json, in the folder itself or in annotations",
}
LABEL_ID = "; label_id, as transformers has it, is a class: give the id of its category as category_id"
INTERPOLATED = (
    "; such ids come of a resize with interpolation, of JPEG or of a photograph: maps are resized by nearest neighbors "
    "and saved as PNG"
)
_PNG = {
    "I;16": "such are Cityscapes' instanceIds and Vistas' instances, which deeperlab.data.cityscapes and vistas read",
    "P": "a palette holds classes or objects, as VOC's PNGs, which deeperlab.data.voc reads",
    "L": "8-bit gray holds classes, as labelTrainIds, which tell no instances apart",
    "RGB": "24-bit RGB holds segment ids, as COCO's panoptic format, which deeperlab.data.segments reads",
    "RGBA": "save it without its alpha channel",
    "LA": "save it without its alpha channel",
}


def describe_json(value: Any) -> str | None:
    """Say what a JSON is that is no panoptic data set, and the remedy; None where it may be one, or is unknown."""
    if isinstance(value, list):
        found = _entry_of(value)
        return None if found is None else f"a list of {found[0]}{_scored(value)}; {found[1]}"
    if not isinstance(value, Mapping):
        return None
    annotations = value.get("annotations")
    if isinstance(annotations, list) and (found := _entry_of(annotations)) and found[0] != _ENTRIES[0][1]:
        return f"COCO annotations of {found[0]}; {found[1]}"
    if "annotations" not in value:
        for keys, what, remedy in _OBJECTS:
            if all(key in value for key in keys):
                return f"{what}; {remedy}"
    return None


def describe_folder(root: Path) -> str:
    """Say what a folder looks like in which no data set was found: "; …", or nothing."""
    for pattern in _LISTS:
        for path in matching(root, pattern)[:1]:
            try:
                value = Field.load(path, max_bytes=_MAX_BYTES).value
            except (FormatError, OSError):
                continue
            if not isinstance(value, Mapping) or "classes" in value:  # lists of categories and label sets say nothing
                continue
            annotations = value.get("annotations")
            first = annotations[0] if isinstance(annotations, list) and annotations else None
            named = next((what for key, what in _NAMES.items() if isinstance(first, Mapping) and key in first), None)
            if what := named or describe_json(value):
                return f"; {path.relative_to(root)} looks like {what}"
    for patterns, what in _FOLDERS:
        if any(matching(root, pattern) for pattern in patterns):
            return f"; it looks like {what}"
    return ""


def has_scores_within(value: Mapping[str, Any]) -> bool:
    """Tell whether segments of a file have scores, as those of predictions have."""
    annotations = value.get("annotations")
    for annotation in annotations if isinstance(annotations, list) else ():
        segments = annotation.get("segments_info") if isinstance(annotation, Mapping) else None
        if isinstance(segments, list) and any(
            isinstance(segment, Mapping) and "score" in segment for segment in segments
        ):
            return True
    return False


def describe_picture(head: bytes) -> str:
    """Say what a file is by its first bytes, where it should be a map in PNG: "; …", or nothing."""
    kind = kind_of(head)
    if kind is None:
        return ""
    keeps = kind in ("Bmp", "Tiff", "Gif")
    remedy = "save it as PNG, with the same values" if keeps else "a photograph? it keeps no ids: maps are saved as PNG"
    return f" but {kind.upper()}; {remedy}"


def describe_mode(mode: str, wanted: Collection[str]) -> str:
    """Say what a PNG of a Pillow mode usually holds, where others are wanted: "; …", or nothing."""
    if mode == "RGB" and "P" in wanted:
        return "; are these colors of classes? their numbers are needed, in a palette or as gray"
    return f"; {_PNG[mode]}" if mode in _PNG else ""


def describe_unlisted(pixels: Mapping[int, int], listed: Collection[int], category_ids: set[int]) -> str:
    """Say what a PNG may be whose ids are not those listed: "; …", or nothing.

    Args:
        pixels: of each id in the map.
        listed: the ids that it should have.
        category_ids: of their categories.
    """
    present = pixels.keys() - {0}
    if {_swapped(value) for value in present} <= set(listed):
        return (
            "; red and blue are swapped, as cv2.imwrite does with RGB: cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR) before it"
        )
    categories = {value & 255 for value in present}
    if max(present) < 1 << 16 and categories <= category_ids:
        return "; a two-channel PNG (red: category), which deeperlab.data.two_channel reads?"
    return INTERPOLATED if is_interpolated(pixels, listed) else ""


def is_interpolated(pixels: Mapping[int, int], listed: Collection[int]) -> bool:
    """Tell whether ids of a map look as if they were computed from others.

    Several, void beside, are not listed: far smaller than those that are, as at the borders of segments, or
    far more, as of JPEG.
    """
    others = [count for value, count in pixels.items() if value and value not in listed]
    segments = [count for value, count in pixels.items() if value in listed]
    small = bool(segments) and 8 * np.mean(others or [0]) < np.mean(segments)
    return len(others) > 1 and (small or len(others) > 8 + 2 * len(listed))


def describe_ids(category_ids: set[int]) -> str:
    """Say which ids of categories are known, where another was used."""
    first = ", ".join(map(str, sorted(category_ids)[:8])) + (", …" if len(category_ids) > 8 else "")
    return f": {first}; ids of the data set are needed, which trainIds and numbers of classes are not"


def _swapped(value: int) -> int:
    """The id of a color whose red and blue are exchanged."""
    return (value & 255) << 16 | value & 0xFF00 | value >> 16


def _entry_of(entries: list[Any]) -> tuple[str, str] | None:
    first = entries[0] if entries else None
    if isinstance(first, Mapping):
        for key, what, remedy in _ENTRIES:
            if key in first:
                return what, remedy
    return None


def _scored(entries: list[Any]) -> str:
    return " with scores, as COCO's results of detection" if "score" in entries[0] else ""
