# SPDX-License-Identifier: Apache-2.0
"""The losses of the training: what each one says of itself."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, interpolate, l1_loss

from deeperlab import STAR, Heads
from deeperlab.training import losses
from deeperlab.training.batches import SOME_STUFF, VOID
from deeperlab.training.losses import LossWeights

N, C, P, E = 4, 6, len(STAR.keypoints), len(STAR.edges)
HEADS = {"semantic": C, "heatmap": P, "short_range": 2 * P, "middle_range": 2 * E, "long_range": 2 * P}


def make_heads(n: int = N, h: int = 5, w: int = 7, dtype: torch.dtype = torch.float32) -> Heads:
    made: dict[str, Any] = {name: torch.randn(n, c, h, w).to(dtype).requires_grad_() for name, c in HEADS.items()}
    return Heads(**made)


def make_targets(n: int = N, h: int = 5, w: int = 7) -> Any:
    def valid(channels: int) -> Tensor:
        return torch.rand(n, channels, h, w) < torch.rand(n, 1, 1, 1)  # not alike in all images

    return SimpleNamespace(
        heatmap=(torch.rand(n, P, h, w) < 0.3).float(),
        **{f"{name}_range": torch.randn(n, HEADS[f"{name}_range"], h, w) for name in ("short", "middle", "long")},
        heatmap_valid=valid(1),
        short_valid=valid(P),
        middle_valid=valid(E),
        long_valid=valid(1),
    )


def part_of(value: Any, images: slice) -> Any:
    if isinstance(value, Heads):
        return value.map(lambda head: head[images])
    return SimpleNamespace(**{name: tensor[images] for name, tensor in vars(value).items()})


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_all_pixels_count_alike_where_nothing_is_left_out() -> None:
    logits, labels = torch.randn(2, C, 5, 7), torch.randint(0, C, (2, 17, 25))
    upsampled = interpolate(logits, (17, 25), mode="bilinear", align_corners=True)
    expected = cross_entropy(upsampled, labels, reduction="none").mean((1, 2))
    torch.testing.assert_close(losses.semantic(logits, labels, top_k=1), expected)


def test_the_hardest_pixels_are_chosen_without_their_weights() -> None:
    logits, labels, weight = torch.randn(1, C, 3, 4), torch.randint(0, C, (1, 3, 4)), torch.rand(1, 3, 4)
    pixel = cross_entropy(logits, labels, reduction="none").flatten()
    hardest = pixel.argsort(descending=True)[:3]  # ceil(0.2 · 12)
    expected = (weight.flatten() * pixel)[hardest].mean()
    torch.testing.assert_close(losses.semantic(logits, labels, stride=1, weight=weight, top_k=0.2)[0], expected)


def test_exactly_k_pixels_count_and_the_first_of_equals() -> None:
    logits = torch.zeros(1, 2, 1, 10, requires_grad=True)
    losses.semantic(logits, torch.zeros(1, 1, 10, dtype=torch.int32), stride=1, top_k=0.25).backward()
    assert logits.grad is not None
    assert (logits.grad[0, 0, 0] != 0).tolist() == [True] * 3 + [False] * 7


def test_void_pixels_are_no_pixels() -> None:
    logits, labels = torch.randn(1, C, 3, 4), torch.randint(0, C, (1, 3, 4))
    labels[0, 1] = VOID
    rows = [0, 2]
    without = losses.semantic(logits[:, :, rows], labels[:, rows], stride=1, top_k=0.5)
    torch.testing.assert_close(losses.semantic(logits, labels, stride=1, top_k=0.5), without)


def test_an_image_without_labels_has_loss_0_and_gradient_0() -> None:
    logits = torch.randn(2, C, 3, 4, requires_grad=True)
    labels = torch.randint(0, C, (2, 9, 13))
    labels[0] = VOID
    loss = losses.semantic(logits, labels)
    loss.sum().backward()
    assert logits.grad is not None
    assert loss[0] == 0
    assert loss[1] > 0
    assert not logits.grad[0].any()


def test_some_stuff_has_the_probability_of_all_stuff() -> None:
    logits = torch.randn(1, C, 3, 4)
    labels = torch.full((1, 3, 4), SOME_STUFF)
    expected = -logits.softmax(1)[:, [1, 4]].sum(1).log().mean((1, 2))
    torch.testing.assert_close(losses.semantic(logits, labels, stride=1, top_k=1, stuff=(4, 1)), expected)


def test_the_heatmap_loss_is_the_sum_over_valid_nodes() -> None:
    heads, targets = make_heads(), make_targets()
    valid = targets.heatmap_valid.expand_as(targets.heatmap)
    expected = binary_cross_entropy_with_logits(heads.heatmap[valid], targets.heatmap[valid], reduction="sum")
    torch.testing.assert_close(losses.heatmap(heads.heatmap, targets.heatmap, targets.heatmap_valid), expected)


@pytest.mark.parametrize("name", ["short", "middle", "long"])
def test_offset_losses_are_sums_over_both_channels_of_valid_nodes(name: str) -> None:
    heads, targets = make_heads(), make_targets()
    prediction, target = getattr(heads, f"{name}_range"), getattr(targets, f"{name}_range")
    mask = getattr(targets, f"{name}_valid")
    valid = mask.expand(-1, target.shape[1] // 2, -1, -1).repeat_interleave(2, 1)
    expected = l1_loss(prediction[valid], target[valid], reduction="sum")
    torch.testing.assert_close(losses.offsets(prediction, target, mask), expected)


def test_what_is_not_valid_may_be_anything() -> None:
    heads, targets = make_heads(), make_targets()
    for name, loss in (("heatmap", losses.heatmap), ("short_range", losses.offsets)):
        head, valid = getattr(heads, name), getattr(targets, f"{name.removesuffix('_range')}_valid")
        spoilt = valid.expand(-1, P, -1, -1).repeat_interleave(head.shape[1] // P, 1).logical_not()
        prediction = head.detach().masked_fill(spoilt, float("nan")).requires_grad_()
        loss(prediction, getattr(targets, name), valid).backward()
        assert prediction.grad is not None
        assert prediction.grad.isfinite().all()


def test_nothing_to_compare_has_no_offsets() -> None:
    for n, pairs in ((0, 2), (2, 0)):  # no image; a graph without edges
        prediction = torch.ones(n, 2 * pairs, 3, 4)
        assert losses.offsets(prediction, prediction, torch.ones(n, pairs, 3, 4, dtype=torch.bool)) == 0


@pytest.mark.parametrize("shape", [(1, 4, 3, 5), (2, 4, 1, 5), (2, 2, 3, 5), (4, 3, 5)])
def test_predictions_of_another_shape_than_their_target_are_refused(shape: tuple[int, ...]) -> None:
    """Torch would expand most of them."""
    values, valid = torch.ones(2, 4, 3, 5), torch.ones(2, 1, 3, 5, dtype=torch.bool)
    for name, loss in (("logits", losses.heatmap), ("prediction", losses.offsets)):
        with pytest.raises(ValueError, match=rf"{name}: expected the shape of target, \[2, 4, 3, 5\], got \[.+\]"):
            loss(torch.ones(shape), values, valid)


@pytest.mark.parametrize(
    "instance", [torch.ones(8, 8, dtype=torch.int32), torch.ones(2, 8, 8)], ids=["one map", "floats"]
)
def test_instances_to_be_weighed_are_a_batch_of_integers(instance: Tensor) -> None:
    with pytest.raises(ValueError, match=r"instance: expected integers \[N, H, W\], got (int32|float32) \[.+\]"):
        losses.instance_weight(instance)


@pytest.mark.parametrize("far", [1, 2**40, -1])
def test_pixels_of_small_instances_weigh_more(far: int) -> None:
    instance = torch.zeros(2, 8, 8, dtype=torch.int64)
    instance[0, :2, :2] = 7 * far  # 4 px
    instance[0, 4:, :] = 9 * far  # 32 px
    instance[1, :3, :3] = 9 * far  # 9 px; the same id in another image
    weight = losses.instance_weight(instance, area=5)
    assert weight.dtype == torch.float32
    assert torch.equal(weight == 3, instance == 7 * far)
    assert torch.equal(weight == 1, instance != 7 * far)
    assert (losses.instance_weight(instance, area=10, weight=2)[1] == 2).sum() == 9
    if far == 1:
        assert torch.equal(losses.instance_weight(instance.to(torch.uint8), area=5), weight)
    assert losses.instance_weight(instance[:0]).shape == (0, 8, 8)


def test_the_share_of_pixels_falls_linearly() -> None:
    assert [losses.ramp(step, 4, 0.2) for step in (0, 1, 2, 4, 9)] == pytest.approx([1, 0.8, 0.6, 0.2, 0.2])
    assert losses.ramp(0, 0, 0.2) == 0.2


def test_counts_are_what_the_sums_are_over() -> None:
    targets = make_targets()
    labels = torch.full((N, 17, 25), VOID)
    labels[1, 3, 4], labels[2] = 0, SOME_STUFF
    found = dict(zip(losses.TERMS, losses.counts(targets, labels).tolist(), strict=True))
    ones = make_heads().map(lambda head: torch.ones_like(head))
    for name in ("short", "middle", "long"):
        zeros = torch.zeros_like(getattr(targets, f"{name}_range"))
        errors = losses.offsets(getattr(ones, f"{name}_range"), zeros, getattr(targets, f"{name}_valid"))
        assert found[f"{name}_range"] == errors
    assert found["heatmap"] == targets.heatmap_valid.sum() * P
    assert found["semantic"] == 2


def test_a_batch_in_two_parts_has_the_gradients_of_the_whole() -> None:
    n = 8
    heads, targets = make_heads(n), make_targets(n)
    labels, weight = torch.randint(VOID, C, (n, 17, 25)), 1 + torch.rand(n, 17, 25)
    labels[5] = VOID  # the parts have other numbers of images with labels
    tensors = [getattr(heads, field.name) for field in fields(LossWeights)]
    counts = losses.counts(targets, labels)
    whole, terms = losses.total(heads, targets, labels, weight, counts)
    expected = torch.autograd.grad(whole, tensors)
    parts = [slice(0, 4), slice(4, 8)]
    by_part = [losses.counts(part_of(targets, part), labels[part]) for part in parts]
    assert torch.equal(sum(by_part), counts)  # type: ignore[arg-type]
    made = [
        losses.total(part_of(heads, part), part_of(targets, part), labels[part], weight[part], counts) for part in parts
    ]
    loss = made[0][0] + made[1][0]
    torch.testing.assert_close(loss, whole)
    for name, term in terms.items():
        torch.testing.assert_close(made[0][1][name] + made[1][1][name], term)
    for gradient, other in zip(torch.autograd.grad(loss, tensors), expected, strict=True):
        torch.testing.assert_close(gradient, other)


def test_the_loss_is_the_weighted_sum_of_five_terms() -> None:
    heads, targets, labels = make_heads(), make_targets(), torch.randint(0, C, (N, 17, 25))
    weights = LossWeights(1, 2, 3, 4, 5)
    loss, terms = losses.total(heads, targets, labels, None, losses.counts(targets, labels), weights)
    assert tuple(terms) == losses.TERMS
    torch.testing.assert_close(loss, sum((i + 1) * term for i, term in enumerate(terms.values())))
    assert not any(term.requires_grad for term in terms.values())


def test_nothing_to_compare_is_no_loss() -> None:
    heads, targets = make_heads(), make_targets()
    for name in ("heatmap_valid", "short_valid", "middle_valid", "long_valid"):
        getattr(targets, name).zero_()
    labels = torch.full((N, 17, 25), VOID)
    loss, _terms = losses.total(heads, targets, labels, None, losses.counts(targets, labels))
    assert loss == 0


def test_losses_of_half_precision_heads_are_float32() -> None:
    heads, targets, labels = make_heads(dtype=torch.bfloat16), make_targets(), torch.randint(0, C, (N, 17, 25))
    counts = losses.counts(targets, labels)
    loss, terms = losses.total(heads, targets, labels, None, counts)
    assert {loss.dtype, *(term.dtype for term in terms.values())} == {torch.float32}
    wide, _ = losses.total(heads.map(torch.Tensor.float), targets, labels, None, counts)
    assert loss == wide


@pytest.mark.slow
def test_the_whole_loss_compiles_as_one_graph() -> None:
    targets, labels = make_targets(), torch.randint(0, C, (N, 17, 25))
    counts, weight = losses.counts(targets, labels), torch.rand(N, 17, 25)

    def run(*heads: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return losses.total(Heads(*heads), targets, labels, weight, counts, stuff=(1,))

    heads = [getattr(make_heads(), name) for name in HEADS]
    (one, terms), (other, of_other) = run(*heads), torch.compile(run, fullgraph=True, backend="aot_eager")(*heads)
    torch.testing.assert_close(other, one)
    torch.testing.assert_close(of_other, terms)
