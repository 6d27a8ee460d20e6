# SPDX-License-Identifier: Apache-2.0
"""The fully connected CRF: the bits of the reference, the answer of the sum over all pairs, gradients, errors."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from crf_cases import IMAGE, random_case, scene
from hypothesis import given, settings
from hypothesis import strategies as st

import deeperlab
from deeperlab import CRFParams, _numpy
from deeperlab.crf import PRESETS
from deeperlab.models import CRF
from deeperlab.predictor.refine import refined
from deeperlab.stages import crf_ops
from deeperlab.stages import crf_reference as reference

KERNELS: dict[str, Any] = {
    **{"w1": 2.0, "sigma_alpha": 6.0, "sigma_beta": 20.0, "w2": 1.5, "sigma_gamma": 2.0, "after": False}
}


@pytest.mark.parametrize("seed", range(16))
def test_the_kernels_give_the_bits_of_the_reference(seed: int) -> None:
    semantic, image, options = random_case(seed)
    expected = reference.crf(semantic, image, **options)
    for threads in (1, 3):
        np.testing.assert_array_equal(_numpy.crf(semantic, image, **options, num_threads=threads), expected)


@pytest.mark.parametrize(
    ("size", "classes", "options"),
    [
        ((40, 200), 150, {"sigma_gamma": 6.0, "iterations": 1}),  # more classes than a few vectors hold
        ((33, 130), 3, {"after": True}),  # three parts in a row, the last of two columns, and three below each other
        ((70, 20), 9, {"w1": 0.0}),
        ((1100, 3), 2, {"iterations": 1}),  # more bands than threads have room
        *(((height, width), 21, {"sigma_gamma": 3.0}) for height in (1, 16, 17, 32) for width in (1, 64, 65, 128)),
    ],
)
def test_images_of_several_parts(size: tuple[int, int], classes: int, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(7)
    image = rng.integers(0, 40, (1, *size, 3)).astype(np.uint8)
    semantic = rng.normal(0, 3, (1, classes, size[0] // 4 + 1, size[1] // 4 + 1)).astype(np.float32)
    options = {**KERNELS, "stride": 4, "iterations": 2, "probabilities": False, **options}
    expected = reference.crf(semantic, image, **options)
    for threads in (1, 2, 5):
        np.testing.assert_array_equal(_numpy.crf(semantic, image, **options, num_threads=threads), expected)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("transposed", [False, True])
def test_the_filter_gives_the_bits_of_the_reference(seed: int, transposed: bool) -> None:
    semantic, image, options = random_case(seed)
    for name in ("stride", "iterations", "probabilities"):
        del options[name]
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(*semantic.shape[:2], *image.shape[1:3])).astype(np.float32)
    expected = reference.crf_filter(values, image, **options, transposed=transposed)
    found = _numpy.crf_filter(values, image, **options, transposed=transposed, num_threads=2)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_what_is_not_finite_is_as_far_as_can_be(value: float) -> None:
    semantic, image = (array[None] for array in scene(1)[:2])
    semantic[:, 0] = value
    options = {**KERNELS, "stride": 4, "iterations": 2, "probabilities": False}
    found = _numpy.crf(semantic, image, **options)
    np.testing.assert_array_equal(found, reference.crf(semantic, image, **options))
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert (found[:, 0] == (1 if value > 0 else 0)).all()


@pytest.mark.parametrize("normalization", ["symmetric", "after"])
@pytest.mark.parametrize("preset", PRESETS)
def test_it_agrees_with_the_sum_over_all_pairs_of_pixels(preset: str, normalization: Any) -> None:
    params = replace(CRFParams.preset(preset), normalization=normalization)
    labels, errors = [], []
    for seed in range(2):
        semantic, image, _ = scene(seed)
        found = deeperlab.crf(semantic, image, params)
        unary = reference.scores(semantic, image.shape[:2], 4, False).T.reshape(found.shape)
        exact = reference.exact(unary, image, **params.kernels(), iterations=params.iterations)
        labels.append(found.argmax(0) == exact.argmax(0))
        errors.append(np.abs(found - exact))
    assert np.mean(labels) >= 0.994
    assert np.mean(errors) <= 0.003


PUBLISHED = {
    "symmetric": [
        [0.00371, 0.00105, 0.00145, 0.01129],
        [0.00191, 0.08373, 0.21136, 0.09828],
        [0.93007, 0.89207, 0.20972, 0.66305],
    ],
    "after": [
        [0.00346, 0.00108, 0.00140, 0.01240],
        [0.00182, 0.08222, 0.17711, 0.14043],
        [0.94505, 0.90171, 0.15781, 0.68717],
    ],
}


@pytest.mark.parametrize("normalization", PUBLISHED)
def test_the_lattice_is_that_of_the_published_library(normalization: Any) -> None:
    """Another embedding of the features approximates the kernel as well, and gives other labels where colors are busy:
    these are values of the C++ that pydensecrf 1.0rc3 bundles."""
    y, x = np.indices((30, 40))
    colors = ((7 * x + 3 * y) % 256, (5 * y * y // 4 + x) % 256, (x * y) % 256)
    z = np.arange(4)[:, None, None]
    logits = 2 * np.sin(0.35 * x * (z + 1) + 0.2 * y) + 1.5 * np.cos(0.3 * y * (z + 1) - 0.1 * x)
    params = CRFParams(w1=5, sigma_alpha=8, sigma_beta=30, w2=0, iterations=2, normalization=normalization)
    q = deeperlab.crf(logits.astype(np.float32), np.stack(colors, -1).astype(np.uint8), params, stride=1)
    np.testing.assert_allclose(q[1, 7::8, 4::9], PUBLISHED[normalization], atol=6e-6)


def test_it_mends_a_noisy_head() -> None:
    for seed in range(4):
        semantic, image, label = scene(seed)
        before = deeperlab.crf(semantic, image, iterations=0).argmax(0) == label
        after = deeperlab.crf(semantic, image).argmax(0) == label
        assert after.mean() > 0.98 > before.mean()


def test_in_an_image_of_one_color_wide_kernels_average() -> None:
    values = np.random.default_rng(0).random((1, 3, 20, 30), np.float32)
    gray = np.full((1, 20, 30, 3), 128, np.uint8)
    for kernel in ({"w1": 1.0, "w2": 0.0}, {"w1": 0.0, "w2": 1.0}):
        wide = KERNELS | kernel | {"sigma_alpha": 1e4, "sigma_gamma": 1e4, "after": True}
        found = _numpy.crf_filter(values, gray, **wide, transposed=False)
        np.testing.assert_allclose(found, values.mean((2, 3), keepdims=True).repeat(20, 2).repeat(30, 3), atol=0.01)


@settings(max_examples=6)
@given(st.permutations(range(5)), st.integers(0, 3))
def test_classes_are_alike_to_it(order: list[int], seed: int) -> None:
    semantic, image, _ = scene(seed)
    found = deeperlab.crf(semantic, image, iterations=3)
    turned = deeperlab.crf(semantic[order], image, iterations=3)
    np.testing.assert_allclose(turned, found[order], atol=2e-5)


@settings(max_examples=6)
@given(st.integers(1, 5), st.integers(0, 2), st.integers(0, 1 << 20))
def test_threads_batch_and_kind_change_no_bit(threads: int, place: int, seed: int) -> None:
    semantic, image, _ = scene(seed % 4)
    rng = np.random.default_rng(seed)
    others = rng.normal(size=(3, *semantic.shape)).astype(np.float32)
    images = rng.integers(0, 256, (3, *image.shape), np.uint8)
    others[place], images[place] = semantic, image
    alone = deeperlab.crf(semantic, image, iterations=2, num_threads=1)
    batch = deeperlab.crf(others, images, iterations=2, num_threads=threads)
    np.testing.assert_array_equal(batch[place], alone)
    tensors = deeperlab.crf(torch.from_numpy(others), torch.from_numpy(images), iterations=2)
    np.testing.assert_array_equal(tensors.numpy(), batch)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_heads_count_as_their_floats(dtype: torch.dtype) -> None:
    semantic, image = (torch.from_numpy(array) for array in scene(1)[:2])
    narrow = semantic.to(dtype)
    assert torch.equal(deeperlab.crf(narrow, image), deeperlab.crf(narrow.float(), image))


def test_strides_of_memory_change_no_bit() -> None:
    semantic, image, _ = scene(2)
    expected = deeperlab.crf(semantic, image)
    planar = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)
    last = np.ascontiguousarray(semantic.transpose(1, 2, 0)).transpose(2, 0, 1)
    np.testing.assert_array_equal(deeperlab.crf(last, planar), expected)


def test_probabilities_are_as_good_as_their_logits() -> None:
    semantic, image, _ = scene(3)
    p = deeperlab.crf(semantic, image, iterations=0)
    found = deeperlab.crf(p, image, probabilities=True)
    np.testing.assert_allclose(found, deeperlab.crf(semantic, image), atol=1e-3)


def test_no_iteration_is_softmax_of_the_upsampled_head() -> None:
    semantic, image, _ = scene(0)
    tensor = torch.from_numpy(semantic)[None]
    up = CRF()._upsample(tensor, torch.from_numpy(image)[None])
    found = deeperlab.crf(semantic, image, iterations=0)
    np.testing.assert_allclose(found, up.softmax(1)[0].numpy(), atol=1e-6)


def test_presets_are_those_of_deeplab() -> None:
    assert CRFParams.preset("deeplab_v1") == CRFParams() == CRFParams(5, 50, 10, 3, 3, 10, "symmetric")
    assert PRESETS["deeplab_v1_msc"] == CRFParams(3, 95, 3)
    assert PRESETS["deeplab_v1_coco_largefov"] == CRFParams(5, 67, 3)
    assert PRESETS["deeplab_v2"] == CRFParams(4, 67, 3, 3, 1)
    semantic, image, _ = scene(0)
    one = deeperlab.crf(semantic, image, "deeplab_v2", iterations=2)
    np.testing.assert_array_equal(one, deeperlab.crf(semantic, image, CRFParams(4, 67, 3, 3, 1, 2)))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.filterwarnings("ignore:Input #:UserWarning")  # of float32: the filter is linear, so long steps do
def test_the_gradient_of_the_filter(after: bool) -> None:
    torch.manual_seed(0)
    values = torch.randn(2, 3, 4, 5, requires_grad=True)
    image = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8)

    def filtered(x: torch.Tensor) -> torch.Tensor:
        return crf_ops.crf_filter(x, image, **KERNELS | {"after": after}, transposed=False)

    steps = {"eps": 0.5, "atol": 1e-4, "rtol": 1e-4}
    assert torch.autograd.gradcheck(filtered, values, **steps)
    assert torch.autograd.gradgradcheck(filtered, values, **steps)


def test_the_symmetric_filter_is_nearly_its_own_transpose() -> None:
    """Nearly: axes are blurred in turn, and vertices that no pixel touches are left out."""
    rng = np.random.default_rng(0)
    image = IMAGE
    x, y = rng.normal(size=(2, 1, 3, *image.shape[:2])).astype(np.float32)

    def product(transposed: bool, after: bool) -> float:
        options = KERNELS | {"after": after, "transposed": transposed}
        a, b = (y, x) if transposed else (x, y)
        return float((_numpy.crf_filter(a, image[None], **options).astype(np.float64) * b).sum())

    assert product(True, False) == pytest.approx(product(False, False), rel=1e-4, abs=1e-3)
    assert product(True, True) == pytest.approx(product(False, True), rel=1e-4, abs=1e-3)


def test_the_layer_gives_q_and_gradients_of_logits_and_weights() -> None:
    semantic, image = (torch.from_numpy(array)[None] for array in scene(1)[:2])
    layer = CRF(CRFParams(iterations=3))
    semantic.requires_grad_()
    scores = layer(semantic, image)
    expected = deeperlab.crf(semantic, image, iterations=3)
    np.testing.assert_allclose(scores.softmax(1).detach().numpy(), expected.numpy(), atol=1e-4)
    aim = torch.randn_like(scores)
    q = (scores.softmax(1) * aim).sum()
    q.backward()
    for parameter in (layer.w1, layer.w2):
        value, found, step = parameter.item(), parameter.grad, 0.05
        around = []
        for moved in (value + step, value - step):
            with torch.no_grad():
                parameter.fill_(moved)
                around.append((layer(semantic, image).double().softmax(1) * aim).sum().item())
                parameter.fill_(value)
        assert found is not None
        assert found.item() == pytest.approx((around[0] - around[1]) / (2 * step), rel=0.02, abs=0.02)
    assert semantic.grad is not None
    direction = torch.randn_like(semantic)
    with torch.no_grad():
        ahead, behind = (
            (layer(semantic + e * direction, image).double().softmax(1) * aim).sum() for e in (0.01, -0.01)
        )
    expected_slope = ((ahead - behind) / 0.02).item()
    assert (semantic.grad * direction).sum().item() == pytest.approx(expected_slope, rel=0.02, abs=0.05)


def test_opcheck() -> None:
    semantic, image = (torch.from_numpy(array)[None] for array in scene(0)[:2])
    options = {**KERNELS, "stride": 4, "iterations": 1, "probabilities": False}
    torch.library.opcheck(crf_ops.crf, (semantic, image), options)
    values = torch.randn(1, 2, *image.shape[1:3], requires_grad=True)
    torch.library.opcheck(crf_ops.crf_filter, (values, image), {**KERNELS, "transposed": False})


def test_an_empty_batch() -> None:
    found = deeperlab.crf(np.zeros((0, 3, 4, 4), np.float32), np.zeros((0, 9, 9, 3), np.uint8), stride=4)
    assert found.shape == (0, 3, 9, 9)


def test_labels_of_the_refined_heads() -> None:
    semantic, image, _ = scene(0)
    h, w = semantic.shape[1:]
    rest = (np.zeros((channels, h, w), np.float32) for channels in (5, 10, 16, 10))
    heads = deeperlab.Heads(semantic, *rest)
    made = refined(heads, image, CRFParams())
    np.testing.assert_array_equal(made.semantic, deeperlab.crf(semantic, image).argmax(0))
    panoptic = deeperlab.fuse(made, [1], size=image.shape[:2])
    np.testing.assert_array_equal(panoptic.semantic, made.semantic)


@pytest.mark.parametrize(
    ("change", "fault", "words"),
    [
        ({"params": "deeplab_v9"}, ValueError, "preset: expected one of deeplab_v1, "),
        ({"params": 3}, TypeError, "params: expected deeperlab.CRFParams or the name of a preset, got int"),
        ({"w3": 1.0}, TypeError, "w3: expected an argument of crf or a field of CRFParams, w1, "),
        ({"w1": -1.0}, ValueError, "w1: expected 0 to 10000, got -1"),
        ({"w1": "5"}, TypeError, "w1: expected a number, got '5'"),
        ({"sigma_beta": np.nan}, ValueError, "sigma_beta: expected 0.01 to 1e+06, got nan"),
        ({"sigma_beta": 0.01, "sigma_alpha": 0.01}, ValueError, "sigma_beta: expected a lattice "),
        ({"iterations": 1.5}, TypeError, "iterations: expected an int, got 1.5"),
        ({"iterations": -1}, ValueError, "iterations: expected 0 to 65536, got -1"),
        (
            {"normalization": "before"},
            ValueError,
            "normalization: expected one of ('symmetric', 'after'), got 'before'",
        ),
        ({"stride": 3}, ValueError, "image: expected 1 to stride * h = 39 by 1 to stride * w = 51 pixels, got 48 x 64"),
        ({"image": np.zeros((48, 64, 4), np.uint8)}, ValueError, "image: expected shape [H, W, 3], got [48, 64, 4]"),
        ({"image": np.zeros((48, 64, 3), np.float32)}, TypeError, "image: expected uint8, got float32"),
        ({"image": torch.zeros(48, 64, 3)}, TypeError, "image: expected a ndarray as semantic is, got Tensor"),
        ({"semantic": np.zeros((13, 17), np.float32)}, ValueError, "semantic: expected shape [C, h, w] or "),
        ({"semantic": np.zeros((3, 13, 17), np.int32)}, TypeError, "semantic: expected float32 or float16"),
        ({"num_threads": 0}, ValueError, "num_threads: expected 1 to 1024, got 0"),
    ],
)
def test_faults_are_named(change: dict[str, Any], fault: type[Exception], words: str) -> None:
    semantic, image, _ = scene(0)
    given = {"semantic": semantic, "image": image} | change
    with pytest.raises(fault, match=re.escape(words)):
        deeperlab.crf(**given)


def test_faults_of_tensors_are_named() -> None:
    semantic, image = (torch.from_numpy(array) for array in scene(0)[:2])
    with pytest.raises(ValueError, match="num_threads: expected None for tensors, got 2"):
        deeperlab.crf(semantic, image, num_threads=2)
    with pytest.raises(ValueError, match="image: expected at most 26 x 34 px, got 48 x 64"):
        CRF(stride=2)(semantic[None], image[None])
