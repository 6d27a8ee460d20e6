# Made by `make stubs` from the table of parameters in src/common.
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def simd() -> str: ...
def parameters() -> dict[str, tuple[str, float, float, float, tuple[str, ...]]]: ...
def operators() -> dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...], int]]: ...
def overlap(*maps: Array) -> tuple[Array, ...]: ...
def find_runs(*maps: Array) -> tuple[Array, Array, Array, Array]: ...
def pixel_boxes(length: Array, y: Array, x: Array, label: Array, count: int) -> Array: ...
def spread(length: Array, value: Array, height: int, width: int) -> Array: ...
def draw(image: Array, category: Array, instance: Array, shades: Array, **how: Any) -> Array: ...
def unfilter(data: bytes, height: int, width: int, pixel_bytes: int) -> Array: ...
def fuse(
    semantic: Array,
    heatmap: Array,
    short_range: Array,
    middle_range: Array,
    long_range: Array,
    *,
    things: Sequence[int],
    num_classes: int,
    edges: Sequence[int],
    stride: int,
    size: Sequence[int],
    long_steps: int,
    long_short_steps: int,
    long_voters: str,
    vote_cell: int,
    short_weight: float,
    long_weight: float,
    radius: float,
    peak_threshold: float,
    max_candidates: int,
    middle_steps: int,
    kappa: Sequence[float],
    oks_cell: bool,
    instance_threshold: float,
    nms_radius: float,
    nms_radius_min: float,
    nms_relative: float,
    box_iou: float,
    max_instances: int,
    max_distance: float | None,
    majority: str,
    fit_area: float,
    num_threads: int = 1,
) -> tuple[Array, Array, Array, Array, Array, Array, Array, Array, Array]: ...
def argmax(
    semantic: Array,
    *,
    num_classes: int,
    stride: int,
    nodes: Sequence[int],
    size: Sequence[int],
    num_threads: int = 1,
) -> tuple[Array, Array]: ...
def refine(
    long_range: Array,
    short_range: Array,
    *,
    stride: int,
    long_steps: int,
    long_short_steps: int,
    num_threads: int = 1,
) -> Array: ...
def vote(
    heatmap: Array,
    short_range: Array,
    target: Array,
    node_label: Array,
    *,
    things: Sequence[int],
    stride: int,
    size: Sequence[int],
    long_voters: str,
    vote_cell: int,
    short_weight: float,
    long_weight: float,
    num_threads: int = 1,
) -> Array: ...
def peaks(
    votes: Array,
    *,
    stride: int,
    nodes: Sequence[int],
    vote_cell: int,
    radius: float,
    peak_threshold: float,
    max_candidates: int,
    num_threads: int = 1,
) -> tuple[Array, Array, Array, Array]: ...
def trace(
    position: Array,
    candidate: Array,
    count: Array,
    middle_range: Array,
    short_range: Array,
    *,
    edges: Sequence[int],
    stride: int,
    size: Sequence[int],
    middle_steps: int,
    num_threads: int = 1,
) -> Array: ...
def rescore(
    keypoints: Array,
    count: Array,
    votes: Array,
    heatmap: Array,
    *,
    stride: int,
    vote_cell: int,
    radius: float,
    kappa: Sequence[float],
    oks_cell: bool,
    num_threads: int = 1,
) -> tuple[Array, Array]: ...
def select(
    candidate: Array,
    count: Array,
    keypoints: Array,
    keypoint_score: Array,
    score: Array,
    *,
    instance_threshold: float,
    nms_radius: float,
    nms_radius_min: float,
    nms_relative: float,
    box_iou: float,
    max_instances: int,
    num_threads: int = 1,
) -> tuple[Array, Array, Array, Array]: ...
def assign(
    target: Array,
    node_label: Array,
    label: Array,
    keypoints: Array,
    count: Array,
    *,
    things: Sequence[int],
    stride: int,
    max_distance: float | None,
    num_threads: int = 1,
) -> tuple[Array, Array, Array]: ...
def merge(
    label: Array,
    instance: Array,
    node_label: Array,
    node_instance: Array,
    node_distance: Array,
    keypoints: Array,
    count: Array,
    *,
    things: Sequence[int],
    num_classes: int,
    radius: float,
    majority: str,
    fit_area: float,
    num_threads: int = 1,
) -> tuple[Array, Array, Array, Array]: ...
def resample(
    head: Array,
    *,
    stride: int,
    offsets: bool,
    num_threads: int = 1,
) -> Array: ...
def semantic_loss(
    logits: Array,
    labels: Array,
    weight: Array,
    *,
    stride: int,
    top_k: float,
    stuff: Sequence[int],
    num_threads: int = 1,
) -> tuple[Array, Array, Array, Array]: ...
def semantic_loss_backward(
    logits: Array,
    labels: Array,
    weight: Array,
    pixel_loss: Array,
    log_sum: Array,
    cut: Array,
    gradient: Array,
    *,
    stride: int,
    stuff: Sequence[int],
    num_threads: int = 1,
) -> Array: ...
def encode(
    instance: Array,
    ignore: Array,
    ids: Array,
    points: Array,
    *,
    edges: Sequence[int],
    keypoints: str,
    disk_radius: float,
    stride: int,
    max_instances: int,
    num_threads: int = 1,
) -> tuple[Array, Array, Array, Array, Array, Array, Array, Array, Array, Array, Array]: ...
def top_down(
    semantic: Array,
    masks: Array,
    boxes: Array,
    scores: Array,
    labels: Array,
    *,
    things: Sequence[int],
    stuff: Sequence[int],
    num_classes: int,
    stride: int,
    size: Sequence[int],
    paste: str,
    mask_threshold: float,
    score_threshold: float,
    overlap_threshold: float,
    stuff_area: int,
    max_instances: int,
    num_threads: int = 1,
) -> tuple[Array, Array, Array, Array, Array, Array, Array, Array]: ...
def crf(
    semantic: Array,
    image: Array,
    *,
    stride: int,
    w1: float,
    sigma_alpha: float,
    sigma_beta: float,
    w2: float,
    sigma_gamma: float,
    iterations: int,
    after: bool,
    probabilities: bool,
    num_threads: int = 1,
) -> Array: ...
def crf_filter(
    values: Array,
    image: Array,
    *,
    w1: float,
    sigma_alpha: float,
    sigma_beta: float,
    w2: float,
    sigma_gamma: float,
    after: bool,
    transposed: bool,
    num_threads: int = 1,
) -> Array: ...
