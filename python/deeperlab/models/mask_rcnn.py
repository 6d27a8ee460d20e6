# SPDX-License-Identifier: Apache-2.0
"""torchvision's Mask R-CNN from a file of its weights: which of them it is, and of how many classes, the file tells."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import torch
from torch import nn

from deeperlab.data.files import FormatError

from .weights import read_tensors

_CLASSES = "roi_heads.box_predictor.cls_score.weight"
_FIRST, _SECOND = "roi_heads.box_head.fc6.weight", "roi_heads.box_head.0.0.weight"
"""A tensor of `maskrcnn_resnet50_fpn` alone, and one of `maskrcnn_resnet50_fpn_v2`."""
_TRAINED_NORM = "backbone.body.bn1.num_batches_tracked"


def load_mask_rcnn(file: str | os.PathLike[str]) -> nn.Module:
    """Make torchvision's `maskrcnn_resnet50_fpn` or `maskrcnn_resnet50_fpn_v2` with the weights of a file.

    Its options are torchvision's defaults. Batch norms of the first one that count no batches are frozen ones with an
    epsilon of 0, which the weights that torchvision publishes for COCO were trained with; the others have 1e-5.

    Args:
        file: the `state_dict()` of one, as of `load_weights`; older names of its tensors are known.

    Returns:
        It, in eval mode, on the CPU. Its labels are 1 … its number of classes − 1.

    Raises:
        FormatError: damaged, a pickle of more than tensors, or of another network.
        OSError: the file cannot be read.
        ImportError: torchvision is not installed, or does not load beside this torch.
    """
    tensors = read_tensors(file)
    if _CLASSES not in tensors or (_FIRST in tensors) == (_SECOND in tensors):
        known = "maskrcnn_resnet50_fpn or maskrcnn_resnet50_fpn_v2"
        raise FormatError(file, f"expected the state_dict of torchvision's {known}, got tensors of another network")
    classes = len(tensors[_CLASSES])
    detection = _detection()
    model: Any
    if _FIRST in tensors:
        norms = import_module("torchvision.ops.misc")
        norm = nn.BatchNorm2d if _TRAINED_NORM in tensors else norms.FrozenBatchNorm2d
        utils = import_module("torchvision.models.detection.backbone_utils")
        backbone = utils.resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=norm)
        model = detection.MaskRCNN(backbone, num_classes=classes)
        for layer in model.modules():
            if isinstance(layer, norms.FrozenBatchNorm2d):
                layer.eps = 0.0
    else:
        model = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=classes)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as fault:
        told = " ".join(str(fault).split())
        raise FormatError(file, f"does not fit torchvision's Mask R-CNN: {told[:300]}") from fault
    network: nn.Module = model.eval()
    return network


def _detection() -> Any:
    try:
        return import_module("torchvision.models.detection")
    except ImportError as fault:
        remedy = "pip install 'deeperlab[maskrcnn]'"
        raise ImportError(f"Mask R-CNN needs torchvision: {remedy}; {fault}") from fault
    except Exception as fault:  # an operator that it lacks beside another torch than its own
        told = f"torchvision does not load beside torch {torch.__version__}; install its release of that torch: {fault}"
        raise ImportError(told) from fault
