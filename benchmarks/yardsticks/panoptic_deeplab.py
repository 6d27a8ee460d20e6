# SPDX-License-Identifier: Apache-2.0
"""What users of PyTorch do today: the grouping of Panoptic-DeepLab, on any device.

One center heatmap, one offset field, both upsampled with the logits to the size of the image: centers are local maxima,
every thing pixel goes to the nearest center, every instance takes its majority class. It answers a smaller question
than section 3.4 (no boxes, no voting, no rescoring), from the heads of the mass center alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor

from deeperlab import Heads

WINDOW = 7  # of the maximum filter
LIMIT = 0.1  # least probability of a center
MOST = 200  # centers
CHUNK = 1 << 18  # pixels whose distances to all centers are held at a time


@torch.inference_mode()
def group(heads: Heads, things: Sequence[int]) -> tuple[Tensor, Tensor]:
    """One image, with its batch dimension: semantic and instance maps int64 [H, W]."""
    size = heads.default_size
    center = len(heads.graph.keypoints) - 1

    def upsampled(head: Tensor) -> Tensor:
        return F.interpolate(head.float(), size=size, mode="bilinear", align_corners=True)[0]

    semantic = upsampled(heads.semantic).argmax(0)
    heat = upsampled(heads.heatmap[:, center : center + 1])[0].sigmoid()
    offset = upsampled(heads.long_range[:, 2 * center : 2 * center + 2])
    thing = torch.zeros(heads.classes, dtype=torch.bool, device=heat.device)
    thing[list(things)] = True

    top = F.max_pool2d(heat[None], WINDOW, 1, WINDOW // 2)[0]
    score = torch.where((heat == top) & (heat > LIMIT), heat, -1).flatten()
    score, index = score.topk(min(MOST, score.numel()))
    index = index[score > 0]
    centers = torch.stack((index % size[1], index // size[1]), -1).float()
    instance = torch.zeros_like(semantic)
    if len(centers) == 0:
        return semantic, instance
    y, x = thing[semantic].nonzero(as_tuple=True)
    target = torch.stack((x + offset[0, y, x], y + offset[1, y, x]), -1)
    nearest = [torch.cdist(part, centers).argmin(1) for part in torch.split(target, CHUNK)]
    own = torch.cat(nearest) + 1 if nearest else y
    instance[y, x] = own
    votes = torch.bincount(own * heads.classes + semantic[y, x], minlength=(len(centers) + 1) * heads.classes)
    semantic[y, x] = votes.view(-1, heads.classes).argmax(1)[own]
    return semantic, instance
