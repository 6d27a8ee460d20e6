# SPDX-License-Identifier: Apache-2.0
"""The network that a run begins with, and what training makes of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from torch import nn

from .. import shipped
from ..data import labels as label_files
from ..data.files import FormatError
from ..data.labels import LABELS, LabelSet
from ..data.network_folder import WEIGHTS
from ..data.sample import Sample
from ..models import MAX_IMAGE_SIZE, Network, WeightsError, create, load_backbone, load_weights
from ..models.norms import batch_norms
from .config import Config, TrainConfig
from .recompute import recompute

LOOKED_AT = 9
"""Images whose sizes are looked at."""


def image_size(config: Config, samples: Sequence[Sample]) -> int:
    """Return the longer side, px, to which `Parser` shall bring images for a network: that of the validation.

    `validate.size`, or `data.longest_side`, or, where images are taken as they are, the median of a few of them; those
    that cannot be read do not count. An `image_size` among the options of the network goes before all of these.
    """
    if "image_size" in config.model.options:
        return int(config.model.options["image_size"])
    size = config.validate.size or config.data.longest_side
    if not size:
        sizes = []
        for i in range(0, len(samples), -(-len(samples) // LOOKED_AT)):
            with suppress(FormatError, OSError):
                sizes.append(max(samples[i].category.shape))
        size = sorted(sizes)[len(sizes) // 2] if sizes else MAX_IMAGE_SIZE
    return min(size, MAX_IMAGE_SIZE)


def create_network(config: Config, labels: LabelSet, samples: Sequence[Sample]) -> Network:
    """Make the network of a run, with random weights.

    Args:
        config: of the run.
        labels: its classes.
        samples: on which it is trained, as of `image_size`.
    """
    options = {**config.model.options, "image_size": image_size(config, samples), "radius": config.data.radius}
    return create(config.model.name, len(labels), **options)


def load_initial_weights(network: Network, source: str | os.PathLike[str], labels: LabelSet) -> list[str]:
    """Load the weights that a run begins with: of a whole network, or of a backbone.

    Where a whole network has other classes, all but what depends on their number is taken. They are others
    where their number is, or where a labels.json beside the file says so.

    Args:
        network: changed in place.
        source: a folder of `save_pretrained`, a network of the package by its name, or a file as of
            `deeperlab.models.load_weights` or `load_backbone`.
        labels: the classes of the network.

    Returns:
        Which parts of the network stay random.

    Raises:
        WeightsError, FormatError, OSError: the weights do not fit, are damaged, or cannot be read.
    """
    file = shipped.path_of(source)
    file = file / WEIGHTS if file.is_dir() else file
    beside = file.with_name(LABELS)
    are_others = beside.exists() and label_files.read(beside).names != labels.names
    try:
        load_weights(network, file, new_classes=are_others)
    except WeightsError as fault:
        if not any("heads." in name for name in (*fault.unexpected, *fault.misfits)):
            return list(load_backbone(network, file))
        faults = (*fault.missing, *fault.unexpected, *fault.misfits)
        if are_others or not {fault.partition(" ")[0] for fault in faults} <= set(network.of_classes()):
            raise
        load_weights(network, file, new_classes=True)
        are_others = True
    last = "the last layer of heads.semantic" if len(network.of_classes()) == 2 else "the layers of the classes"
    return [last] if are_others else []


def prepare(network: Network, config: TrainConfig, world: int) -> Network:
    """Make a network ready to be trained by so many processes; its weights, and their names, stay as they are."""
    if config.sync_bn and world > 1:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    if config.recompute:
        recompute(network.backbone)
    if config.compile:
        network.compile()
    set_training_mode(network, config.freeze_bn, config.frozen_stages)
    return network


def set_training_mode(network: Network, freeze_bn: str, frozen_stages: int = 0) -> None:
    """Put a network into training mode, and what keeps its weights or statistics out of it.

    Args:
        network: changed in place.
        freeze_bn: which batch norms keep their statistics: none, those of the backbone, or all.
        frozen_stages: parts of the backbone, from the first, that neither learn nor count: what comes before its
            `blocks`, then each of these.

    Raises:
        ValueError: the backbone has fewer parts.
    """
    network.train()
    parts = stages(network.backbone)
    if frozen_stages > len(parts):
        raise ValueError(f"train.frozen_stages: expected at most {len(parts)} of this backbone, got {frozen_stages}")
    frozen = {"none": {}, "backbone": batch_norms(network.backbone), "all": batch_norms(network)}[freeze_bn]
    for norm in frozen.values():
        norm.eval()
    for module in (module for part in parts[:frozen_stages] for module in part):
        module.eval().requires_grad_(False)


def stages(backbone: nn.Module) -> list[list[nn.Module]]:
    """List what comes before the `blocks` of a backbone, if it has weights, then each of these."""
    stem = [m for name, m in backbone.named_children() if name != "blocks" and next(m.parameters(), None) is not None]
    return [*([stem] if stem else []), *([block] for block in backbone.get_submodule("blocks").children())]
