# SPDX-License-Identifier: Apache-2.0
"""The counterpart of `fuse` for detectors: boxes with masks, and a semantic map, to a panoptic map."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ._layout import dtype_of, kind_of, shape_of
from ._threads import thread_count
from .fuse import class_ids
from .panoptic import Panoptic

VARIANTS = ("panopticapi", "detectron2")
_FLOATS = ("float32", "float16", "bfloat16")
_INTEGERS = ("uint8", "int16", "int32", "int64")


def merge_top_down(
    boxes: Any,
    scores: Any,
    labels: Any,
    masks: Any,
    semantic: Any,
    things: Iterable[int] | Any,
    *,
    num_classes: int | None = None,
    stride: int = 4,
    size: tuple[int, int] | None = None,
    variant: str = "panopticapi",
    paste: str = "detectron2",
    mask_threshold: float = 0.5,
    score_threshold: float = 0.5,
    overlap_threshold: float = 0.5,
    stuff_area: int = 64 * 64,
    max_instances: int | None = None,
    num_threads: int | None = None,
) -> Panoptic:
    """Merge the detections of a Mask R-CNN with the map of a semantic network (Panoptic Segmentation, section 7).

    Detections are taken best first, of equal scores the one that comes first: one that scores below `score_threshold`,
    or whose mask is empty, or of whose mask more than `overlap_threshold` is taken already, is dropped; any other
    becomes an instance of its own class and takes the pixels of its mask that are free. Then the classes of stuff fill
    what is left, but for those of fewer than `stuff_area` pixels there; the rest is void. docs/top_down.md has more.

    Tensors or arrays, of one image or of a batch of N, in which images with fewer detections are filled up with ones
    of score −1. On the CPU the result has the same bits for both, for any number of threads and for any position in a
    batch; the CUDA kernels give them on emulated threads. Memory does not grow with K · H · W. It is not
    differentiable.

    Args:
        boxes: float [N, K, 4]: x0, y0, x1, y1 in px, where pixel x reaches from x to x + 1. None where masks are those
            of the whole image.
        scores: float [N, K].
        labels: integers [N, K], the class of each detection: of `things`.
        masks: probabilities [N, K, m, m] or [N, K, 1, m, m] of masks within the boxes, m up to 256, which are pasted;
            or bool or uint8 [N, K, H, W] (or [N, K, 1, H, W]), masks of the whole image, 0 outside.
        semantic: logits [N, C, h, w] on nodes as of `Heads`, at `stride`; or integer labels [N, H, W], void outside
            [0, C).
        things: the classes that have instances: ids in [0, C), or a boolean mask [C].
        num_classes: C; needed with integer labels only.
        stride: px between the nodes of logits; 1: they are as large as the image.
        size: (H, W) of the image in px; by default that of labels or whole masks, or ((h − 1)·stride + 1,
            (w − 1)·stride + 1).
        variant: which classes of `semantic` are no stuff and leave pixels void: those of `things` ("panopticapi"), or
            class 0, which stands for any thing ("detectron2").
        paste: how masks are laid over boxes, after "detectron2" (pixel centers, the box as it is; a pixel is in a mask
            from `mask_threshold` on) or "torchvision" (boxes of whole pixels; above `mask_threshold`).
        mask_threshold: a probability, more than 0.
        score_threshold, overlap_threshold: see above.
        stuff_area: px; 0 keeps all stuff.
        max_instances: M, the instances that the result has room for; more set `truncated`. None: K.
        num_threads: for NumPy arrays only (default: all processors that the process may use); tensors follow
            `torch.set_num_threads`.

    Returns:
        A `Panoptic` as of `fuse`, with no keypoints (P = 0).

    Raises:
        ValueError, TypeError: an argument that does not fit, named with what was expected and what came: also scores
            of NaN, boxes of no numbers and labels of no thing, among those that score enough; on a GPU, where nothing
            waits, such a detection is dropped.
        MemoryError, RuntimeError: there is not enough memory, for arrays and for tensors.
    """
    batched = _check_kinds(scores, {"labels": labels, "masks": masks, "semantic": semantic} | _given(boxes))
    n, k = scores.shape if batched else (1, *scores.shape)
    arrays = {"semantic": semantic, "labels": labels} | {"scores": scores} | _given(boxes)
    arrays = {name: array if batched else array[None] for name, array in arrays.items()}
    arrays["masks"] = _masks(masks if batched else masks[None], n, k)
    whole = dtype_of(arrays["masks"]) == "uint8"
    if boxes is None:
        if not whole:
            raise TypeError("boxes: expected those of the masks, got None; masks of the whole image are bool or uint8")
        arrays["boxes"] = _zeros_like(scores, (n, k, 4))
    classes, is_labels = _classes(arrays["semantic"], num_classes)
    height, width = _size(arrays, size, stride, is_labels, whole)
    thing_ids = class_ids(things, classes)
    if variant not in VARIANTS:
        raise ValueError(f"variant: expected one of {VARIANTS}, got {variant!r}")
    if not isinstance(paste, str):
        raise TypeError(f"paste: expected str, got {paste!r}")
    no_stuff = set(thing_ids) if variant == "panopticapi" else {0}
    options: dict[str, Any] = {
        "things": list(thing_ids),
        "stuff": [c for c in range(classes) if c not in no_stuff],
        "num_classes": classes,
        "stride": _integer("stride", stride),
        "size": (height, width),
        "paste": paste,
        "mask_threshold": _number("mask_threshold", mask_threshold),
        "score_threshold": _number("score_threshold", score_threshold),
        "overlap_threshold": _number("overlap_threshold", overlap_threshold),
        "stuff_area": _integer("stuff_area", stuff_area),
        "max_instances": max(1, k) if max_instances is None else _integer("max_instances", max_instances),
    }
    given = [arrays["semantic"], arrays["masks"]]
    given += [_exact(arrays[name], dtype) for name, dtype in (("boxes", "float32"), ("scores", "float32"),
                                                              ("labels", "int32"))]  # fmt: skip
    if isinstance(scores, np.ndarray):
        from ._numpy import top_down

        result = top_down(*given, **options, num_threads=thread_count(num_threads))
    else:
        if num_threads is not None:
            raise ValueError(f"num_threads: expected None for tensors, got {num_threads}; use torch.set_num_threads")
        from ._torch_library import call, require_kernels
        from .stages.torch_ops import top_down as top_down_tensors

        require_kernels("scores", scores)
        result = call(top_down_tensors, *(tensor.detach() for tensor in given), **options)
    semantic_map, instance, score, *rest = result
    keypoints = _zeros_like(score, (n, options["max_instances"], 0, 2))
    fields = (semantic_map, instance, keypoints, score, *rest)
    if not batched:
        fields = tuple(field[0, ...] for field in fields)  # [0, ...] keeps count an array in NumPy
    return Panoptic(*fields, things=thing_ids)  # type: ignore[misc]


def _given(boxes: Any) -> dict[str, Any]:
    return {} if boxes is None else {"boxes": boxes}


def _check_kinds(scores: Any, others: dict[str, Any]) -> bool:
    """Tensors or arrays of one device, with the dimensions that `scores` has; returns whether it is a batch."""
    kind = kind_of("scores", scores)
    if scores.ndim not in (1, 2):
        raise ValueError(f"scores: expected [N, K] or [K], got shape {shape_of(scores)}")
    floats, integers = (*_FLOATS, "float64"), _INTEGERS
    expected = {
        "scores": (floats, {0: "[N, K]"}),
        "boxes": (floats, {1: "[N, K, 4]"}),
        "labels": (integers, {0: "[N, K]"}),
        "masks": ((*_FLOATS, "bool", "uint8"), dict.fromkeys((2, 3), "[N, K, m, m] or [N, K, H, W]")),
        "semantic": ((*_FLOATS, *integers), dict.fromkeys((1, 2), "[N, C, h, w] or [N, H, W]")),
    }
    for name, array in {"scores": scores, **others}.items():
        if kind_of(name, array) is not kind:
            raise TypeError(f"{name}: expected {kind.__name__} as scores is, got {type(array).__name__}")
        if getattr(array, "device", None) != getattr(scores, "device", None):
            raise ValueError(f"{name}: expected device {scores.device} as scores, got {array.device}")
        dtypes, dimensions = expected[name]
        if dtype_of(array) not in dtypes:
            raise TypeError(f"{name}: expected dtype {', '.join(dtypes)}, got {dtype_of(array)}")
        if array.ndim - scores.ndim not in dimensions:
            shapes = f"{next(iter(dimensions.values()))}, N as scores has it"
            raise ValueError(f"{name}: expected {shapes}, got shape {shape_of(array)}")
    return bool(scores.ndim == 2)


def _masks(masks: Any, n: int, k: int) -> Any:
    """[N, K, m, m] of floats, or uint8 [N, K, H, W]."""
    shape = shape_of(masks)
    if len(shape) == 5:
        if shape[2] != 1:
            raise ValueError(f"masks: expected one a detection, [N, K, 1, m, m], got shape {shape}")
        masks = masks[:, :, 0]
    if shape[:2] != [n, k]:
        raise ValueError(f"masks: expected {k} for each of {n} images, as scores has, got shape {shape}")
    if dtype_of(masks) == "bool":
        return masks.view(np.uint8) if isinstance(masks, np.ndarray) else masks.byte()
    height, width = shape[-2:]
    if dtype_of(masks) != "uint8" and (height != width or height > 256):
        whole = "masks of the whole image are bool or uint8, such as masks > 0.5"
        raise ValueError(f"masks: expected probabilities [N, K, m, m], m <= 256, got shape {shape}; {whole}")
    return masks


def _classes(semantic: Any, num_classes: int | None) -> tuple[int, bool]:
    """C, and whether the map is one of labels."""
    is_labels = dtype_of(semantic) in _INTEGERS
    if semantic.ndim != (3 if is_labels else 4):
        what = "integer labels [N, H, W] or logits [N, C, h, w]"
        raise ValueError(f"semantic: expected {what}, got {dtype_of(semantic)} {shape_of(semantic)}")
    if num_classes is not None:
        num_classes = _integer("num_classes", num_classes)
    if not is_labels:
        if num_classes not in (None, semantic.shape[1]):
            raise ValueError(f"num_classes: expected {semantic.shape[1]} as semantic has, got {num_classes}")
        return semantic.shape[1], False
    if num_classes is None or num_classes < 1:
        raise ValueError(f"num_classes: expected at least 1 with integer labels, got {num_classes}")
    return num_classes, True


def _size(arrays: dict[str, Any], size: Any, stride: Any, is_labels: bool, whole: bool) -> tuple[int, int]:
    """(H, W) in px; labels and whole masks have no other."""
    known = {name: tuple(arrays[name].shape[-2:]) for name in ("semantic",) * is_labels + ("masks",) * whole}
    if size is None:
        if known:
            size = next(iter(known.values()))
        else:
            size = tuple((side - 1) * stride + 1 for side in arrays["semantic"].shape[-2:])
    elif not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size: expected (H, W), got {size!r}")
    height, width = (_integer("size", side) for side in size)
    for name, found in known.items():
        if found != (height, width):
            raise ValueError(f"{name}: expected {height} x {width} px, got {found[0]} x {found[1]}")
    return height, width


def _exact(array: Any, dtype: str) -> Any:
    """Contiguous, of one dtype."""
    if isinstance(array, np.ndarray):
        return np.ascontiguousarray(array, dtype)
    import torch

    return array.to(getattr(torch, dtype)).contiguous()


def _zeros_like(array: Any, shape: tuple[int, ...]) -> Any:
    if isinstance(array, np.ndarray):
        return np.zeros(shape, np.float32)
    return array.new_zeros(shape).float()


def _integer(name: str, value: Any) -> int:
    value = value.tolist() if isinstance(value, np.integer) else value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    return value


def _number(name: str, value: Any) -> float:
    value = value.tolist() if isinstance(value, (np.floating, np.integer)) else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    return float(value)
