# SPDX-License-Identifier: Apache-2.0
"""Batch norms: their momentum, and the warning of statistics that training has hardly moved."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from deeperlab import Heads, Parser, models
from deeperlab.data import labels
from deeperlab.models.norms import batch_norms, initial_share

LABELS = labels.preset("cityscapes")


class Small(nn.Module):
    """One convolution and norm as the backbone, two more as the head."""

    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    num_classes = len(LABELS)

    def __init__(self, momentum: float | None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 1, 4), nn.BatchNorm2d(8, momentum=momentum))
        self.neck = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, momentum=momentum))
        self.head = nn.Sequential(nn.Conv2d(8, 60, 1), nn.BatchNorm2d(60, momentum=momentum))
        for weight in self.parameters():
            if weight.ndim == 4:
                nn.init.normal_(weight, std=0.3, generator=generator)

    def forward(self, images: Tensor) -> Heads:
        return Heads(*self.head(self.neck(self.backbone(images))).split((19, 5, 10, 16, 10), dim=1))


def batches(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return list(torch.randn((count, 2, 3, 33, 33), generator=generator))


def trained(momentum: float | None, steps: int) -> Small:
    model = Small(momentum).train()
    with torch.no_grad():
        for images in batches(steps):
            model(images)
    return model.eval()


def test_all_norms_have_the_momentum_that_the_network_was_given() -> None:
    for options, momentum in (({}, 0.01), ({"bn_momentum": 3e-4}, 3e-4)):
        with torch.device("meta"):
            model = models.create("mobilenet_v2", 19, **options)
        assert {norm.momentum for norm in batch_norms(model).values()} == {momentum}
        assert model.config["bn_momentum"] == momentum


def test_what_is_left_of_the_statistics_before_training_is_told_as_it_is() -> None:
    norm = batch_norms(trained(0.01, 40))["neck.1"]
    assert initial_share(norm) == pytest.approx(0.99**40)
    variance = batches(1)[0].new_ones(8)
    torch.testing.assert_close(
        norm.running_var - initial_share(norm) * variance,
        (1 - initial_share(norm)) * trained(None, 40).neck[1].running_var,
        rtol=0.05,
        atol=0.01,
    )


@pytest.mark.parametrize(("momentum", "steps", "share"), [(3e-4, 50, 99), (0.01, 100, 37), (0.01, 290, 5)])
def test_the_parser_warns_of_a_training_too_short_for_the_momentum(momentum: float, steps: int, share: int) -> None:
    with pytest.warns(UserWarning, match=f"model: the statistics of the batch norms are still {share} % what"):
        Parser(trained(momentum, steps), LABELS)


@pytest.mark.parametrize(("momentum", "steps"), [(0.01, 310), (0.3, 10), (None, 1)])
def test_the_parser_is_silent_after_a_training_long_enough(momentum: float | None, steps: int) -> None:
    Parser(trained(momentum, steps), LABELS)


def test_a_pretrained_backbone_hides_no_fresh_heads() -> None:
    model = trained(3e-4, 20)
    model.backbone[1].running_var.fill_(0.2)
    with pytest.warns(UserWarning, match="still 99 % what they were made with"):
        Parser(model, LABELS)


def test_statistics_counted_anew_after_the_training_are_not_warned_of() -> None:
    model = trained(3e-4, 20)
    update_bn(batches(20), model)
    Parser(model, LABELS)


def test_one_norm_that_never_saw_an_image_is_named() -> None:
    model = trained(0.1, 60)
    model.head[1].reset_running_stats()
    with pytest.warns(UserWarning, match=r"1 of 3 batch norms, as head\.1, have the statistics they were made with"):
        Parser(model, LABELS)


def test_folding_warns_for_a_trained_network_and_no_other() -> None:
    model = models.create("mobilenet_v2", 3, decoder_channels=4, semantic_channels=4, instance_channels=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fold_batch_norm()
    for parameter in model.heads.parameters():
        nn.init.normal_(parameter)
    assert model.has_trained_weights
    with pytest.warns(UserWarning, match="batch norms, as .*, have the statistics"):
        model.fold_batch_norm()
