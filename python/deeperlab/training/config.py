# SPDX-License-Identifier: Apache-2.0
"""Every option of the training: frozen dataclasses that are a TOML file's tables, and the only home of defaults.

Steps are those of the optimizer. Sizes are in px.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .losses import LossWeights


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    Attributes:
        name: One of `deeperlab.models.list_models()`.
        weights: Where the training begins: a file or a folder of trained weights; empty: random ones. Heads of another
            number of classes stay random, and are named.
        options: Of `deeperlab.models.create`, such as `bn_momentum`.
    """

    name: str = "wider_mobilenet_v2"
    weights: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataConfig:
    """What is trained on, and how an image becomes a sample.

    Attributes:
        source: `scenes`; a folder, zip or tar file of a known format; or a TOML file that lists several (docs/data.md).
        format: Of the folder, one of `deeperlab.data.folders.FORMATS`; empty: what its files show.
        labels: Name or file of the label set; empty: that of the format.
        options: Arguments of the format's reader, such as `divisor` of `label_map`.
        crop: Height and width of a sample, or one side. Sizes 16 m + 1 leave no padding.
        sampling: Where a sample is cut out: anywhere in the image; or in the square around an object, 1.2 times as long
            as its box, and all other things become some stuff; or around a proposal, a box whose IoU with that of an
            object is at least 0.5. Squares are brought to the size of the sample, then scaled. An image without objects
            is cut anywhere.
        scale: Smallest and largest factor of a random scaling, uniform in its logarithm.
        longest_side: Images are brought to this longer side before the random scaling; 0: as they are.
        flip: Probability of a mirrored sample.
        jitter: Strength of the random brightness, contrast and saturation; the hue takes a quarter of it.
        elastic: Standard deviation, px of the sample, of the random displacements on a grid of 3 × 3, between which the
            sample is deformed smoothly, as U-Net's; 0: not at all.
        void: Heatmap on void pixels: trained as background, or left out.
        keypoints: Of objects that the crop cuts: those of the visible part, or of the whole object.
        radius: Of the keypoint disks.
        workers: Processes that make samples; 0: the training process does.
        max_broken: Files that may be skipped, each named, before the run stops.
        fold: `i/k`, from `1/k` to `k/k`: part i of the training images, told apart by a hash of their ids, is left out
            and validated on, in place of what else there is to validate on; empty: no folds.
        overfit: Train and validate on the first so many images alone, to see whether they are learned by heart; 0: all.
        scenes: Arguments of `deeperlab.scenes.draw` where `source` is `scenes`, and `count`, `count_val`.
    """

    source: str = ""
    format: str = ""
    labels: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    crop: int | tuple[int, int] = 721
    sampling: Literal["image", "objects", "proposals"] = "image"
    scale: tuple[float, float] = (0.5, 2.0)
    longest_side: int = 0
    flip: float = 0.5
    jitter: float = 0.4
    elastic: float = 0.0
    void: Literal["background", "ignore"] = "background"
    keypoints: Literal["visible", "whole"] = "visible"
    radius: float = 25.0
    workers: int = 2
    max_broken: int = 10
    fold: str = ""
    overfit: int = 0
    scenes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainConfig:
    """The optimization.

    Attributes:
        steps: Of the optimizer, in all.
        batch: Samples of a step, over all processes and accumulated batches.
        accumulate: Parts that a process computes the samples of a step in; the step is the same.
        optimizer: AdamW, or the paper's SGD with momentum.
        lr: Learning rate after the warm-up.
        schedule: How it falls to 0: (1 − t)^power, or half a cosine; or it stays.
        power: Of the polynomial.
        warmup: Steps in which the learning rate rises from 0.
        weight_decay: Not applied to batch norms and biases.
        momentum: Of SGD.
        backbone_lr: Factor of the backbone's learning rate.
        clip_grad: Greatest norm of the gradient; 0: unbounded.
        ema: Decay of the averaged weights, which are validated and saved; 0: none.
        precision: Of forward and backward; losses are float32. "auto": bf16 where the device multiplies it, else fp32.
        sync_bn: Batch norm over all processes, where there are several.
        freeze_bn: Batch norms that keep the statistics they came with.
        frozen_stages: Parts of the backbone, from the first, that stay as they came: 1 is what comes before its blocks.
        compile: Through torch.compile.
        channels_last: Memory layout.
        recompute: Compute the backbone's activations again in the backward pass rather than keep them.
        seed: Of weights and samples.
        deterministic: Refuse operators that have no deterministic form.
        device: `auto`, or one of torch's.
        save_every: Steps between two states on disk.
        log_every: Steps between two lines of metrics.jsonl.
        patience: Validations without a better PQ (mIoU without keypoints) before the run ends; 0: none.
        max_hours: After which the process saves and ends, as a job of a cluster has to; when the run is resumed they
            count anew. 0: none.
        trackers: Of accelerate, besides metrics.jsonl: tensorboard, wandb, mlflow.
    """

    steps: int = 90_000
    batch: int = 8
    accumulate: int = 1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 5e-4
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    power: float = 0.9
    warmup: int = 1000
    weight_decay: float = 0.0
    momentum: float = 0.9
    backbone_lr: float = 1.0
    clip_grad: float = 10.0
    ema: float = 0.9998
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    sync_bn: bool = True
    freeze_bn: Literal["none", "backbone", "all"] = "none"
    frozen_stages: int = 0
    compile: bool = False
    channels_last: bool = True
    recompute: bool = False
    seed: int = 0
    deterministic: bool = False
    device: str = "auto"
    save_every: int = 1000
    log_every: int = 50
    patience: int = 0
    max_hours: float = 0.0
    trackers: tuple[str, ...] = ()


@dataclass(frozen=True)
class LossConfig:
    """The loss.

    Attributes:
        weights: Of the five terms.
        top_k: Share of an image's pixels that the semantic loss counts, the hardest ones.
        top_k_steps: Steps in which that share falls from 1.
        small_area: Instances of fewer px count `small_weight` times in the semantic loss.
        small_weight: See there.
        class_balance: Power of the inverse frequency of its class in the sample by which a pixel counts in the semantic
            loss; 0: all pixels alike, 1: all classes alike.
        border_weight: What a pixel between two instances counts more there, as in U-Net: this times
            exp(−(d1 + d2)² / 2 σ²), d1 and d2 being its distances to the nearest two instances. 0: off.
        border_sigma: σ, px.
        auxiliary: Weight of the loss of a second semantic head, where the network has one (PSPNet).
    """

    weights: LossWeights = field(default_factory=LossWeights)
    top_k: float = 0.15
    top_k_steps: int = 0
    small_area: int = 4096
    small_weight: float = 3.0
    class_balance: float = 0.0
    border_weight: float = 0.0
    border_sigma: float = 5.0
    auxiliary: float = 0.4


@dataclass(frozen=True)
class ValidateConfig:
    """The validation, along the path of `deeperlab.Parser` and `deeperlab.metrics`.

    Attributes:
        every: Steps between two; 0: only at the end.
        images: At most so many, spread evenly over the data; 0: all.
        pictures: Images that are drawn each time.
        size: Longer side that images are brought to; 0: `data.longest_side`, and where that is 0 they are as they are.
        heads: Whether to tell which head costs how much, by putting the truth in its place; at the end only,
            always, or never.
        ceiling: Least share of the ceiling that the truth itself must reach before the first step.
    """

    every: int = 5000
    images: int = 500
    pictures: int = 4
    size: int = 0
    heads: Literal["end", "always", "never"] = "end"
    ceiling: float = 0.98


@dataclass(frozen=True)
class Config:
    """One run. `config_file` reads and writes it.

    Attributes:
        recipe: Name of the recipe that the run began with; options may differ from it. Empty: none.
    """

    recipe: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    validate: ValidateConfig = field(default_factory=ValidateConfig)
