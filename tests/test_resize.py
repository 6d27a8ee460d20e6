# SPDX-License-Identifier: Apache-2.0
"""The way to the size that a network sees and back: strips and counts give the bits of the whole at once."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from deeperlab import fuse, scenes
from deeperlab.panoptic import Panoptic
from deeperlab.predictor import resize, without_small_stuff
from deeperlab.targets import encode_heads

MEAN, STD = torch.tensor([120.0, 110.0, 100.0]), torch.tensor([58.0, 57.0, 56.0])


@pytest.mark.parametrize("strip", [1, 500, 1 << 17])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((60, 90), (60, 90)), ((60, 90), (22, 33)), ((90, 60), (129, 86)), ((300, 5), (33, 1)), ((7, 60), (7, 41))],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_strips_give_the_bits_of_the_whole(
    strip: int, shape: Any, size: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resize, "STRIP", strip)
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    pixels = image.permute(2, 0, 1)[None].float()
    if size != shape:
        pixels = interpolate(pixels, size, mode="bilinear", antialias=True)
    expected = ((pixels - MEAN[:, None, None]) / STD[:, None, None])[0].permute(1, 2, 0).to(dtype)
    out = torch.empty((*size, 3), dtype=dtype)
    resize.scaled(image, size, MEAN, STD, out)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("size", [(97, 129), (193, 258), (40, 50), (300, 70), (1, 1), (1000, 3)])
def test_pixels_are_counted_as_they_are(size: tuple[int, int]) -> None:
    scene = scenes.draw(1, (97, 129), instances=6, num_classes=9, num_things=4, least_area=100)
    semantic, instance = (torch.from_numpy(m.astype(np.int32)) for m in (scene.category, scene.instance))
    semantic[instance == 0] = torch.where(semantic[instance == 0] == 5, -1, semantic[instance == 0])  # void, too
    count = int(instance.max())
    category = torch.zeros(9, dtype=torch.int32)
    area = torch.bincount(instance.flatten(), minlength=10)[1:10].int()
    points = torch.zeros((9, 5, 2))
    given = Panoptic(
        semantic, instance, points, torch.zeros(9), category, area, torch.zeros(9, dtype=torch.int32),
        torch.tensor(count, dtype=torch.int32), torch.tensor(False), (0, 1, 2, 3),
    )  # fmt: skip
    found = resize.resized(given, size)
    y, x = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip((97, 129), size, strict=True))
    np.testing.assert_array_equal(found.instance, instance.numpy()[y[:, None], x], strict=True)
    np.testing.assert_array_equal(found.semantic, semantic.numpy()[y[:, None], x], strict=True)
    if size != (97, 129):
        np.testing.assert_array_equal(found.area, np.bincount(found.instance.ravel(), minlength=10)[1:])
        loose = np.where((found.instance == 0) & (found.semantic >= 0), found.semantic, -1)
        np.testing.assert_array_equal(found.class_area, np.bincount(loose.ravel() + 1, minlength=10)[1:])
        assert found.area.dtype == found.class_area.dtype == torch.int32


@pytest.mark.parametrize("size", [(60, 90), (22, 33), (129, 86), (7, 41)])
def test_arrays_are_scaled_as_tensors_are_but_for_rounding(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    mean, std = np.float32([120, 110, 100]), np.float32([58, 57, 56])
    want = torch.empty((*size, 3))
    resize.scaled(torch.from_numpy(image), size, torch.from_numpy(mean), torch.from_numpy(std), want)
    found = resize.scaled_array(image, size, mean, std)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, want.numpy(), atol=1e-4)  # a 150th of a level of 256


def test_maps_change_size_and_lose_small_stuff_as_arrays_as_they_do_as_tensors() -> None:
    scene = scenes.draw(1, (97, 129), instances=6, num_classes=9, num_things=4, least_area=100)
    found = fuse(encode_heads(scene.category, scene.instance, 9), range(4))
    for size in ((97, 129), (193, 258), (40, 50), (1, 1)):
        for share in (0.0, 0.1, 0.4):
            a = without_small_stuff(resize.resized(found, size), share)
            b = without_small_stuff(resize.resized(found.to("cpu"), size), share)
            for field in fields(Panoptic):
                x, y = getattr(a, field.name), getattr(b, field.name)
                np.testing.assert_array_equal(x, y if field.name == "things" else y.numpy(), field.name, strict=True)
    batch = replace(found, **{f.name: getattr(found, f.name)[None] for f in fields(Panoptic) if f.name != "things"})
    together, alone = without_small_stuff(batch, 0.3)[0], without_small_stuff(found, 0.3)
    np.testing.assert_array_equal(together.semantic, alone.semantic)
    assert (alone.semantic == -1).any()
