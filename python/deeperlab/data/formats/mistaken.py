# SPDX-License-Identifier: Apache-2.0
"""Files that are taken for panoptic ones: what they are, and what to do with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def describe_mode(mode: str) -> str:
    """Say what a PNG of a Pillow mode usually holds: "; …", or nothing."""
    return f"; {_PNG[mode]}" if mode in _PNG else ""


def describe_unlisted(present: set[int], category_ids: set[int]) -> str:
    """Say of a PNG whose ids are not those listed that it has two channels, where its red is that of the categories."""
    categories = {value & 255 for value in present if value}
    two_channels = max(present, default=0) < 1 << 16 and bool(categories) and categories <= category_ids
    return "; a two-channel PNG (red: category), which deeperlab.data.two_channel reads?" if two_channels else ""


def describe_ids(category_ids: set[int]) -> str:
    """Say which ids of categories are known, where another was used."""
    first = ", ".join(map(str, sorted(category_ids)[:8])) + (", …" if len(category_ids) > 8 else "")
    return f": {first}; ids of the data set are needed, which trainIds and numbers of classes are not"


def _entry_of(entries: list[Any]) -> tuple[str, str] | None:
    first = entries[0] if entries else None
    if isinstance(first, Mapping):
        for key, what, remedy in _ENTRIES:
            if key in first:
                return what, remedy
    return None


def _scored(entries: list[Any]) -> str:
    return " with scores, as COCO's results of detection" if "score" in entries[0] else ""
