# SPDX-License-Identifier: Apache-2.0
"""Images in tiles: plans that miss nothing, heads that are those of the whole, and commands that say how they cut."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeperlab.predictor import Average, Tile, Window, sliding, take_window, tiles

SIDES = st.integers(1, 700)
MULTIPLES = st.sampled_from([1, 4, 8, 16, 32])


@st.composite
def plans(draw: Any, *, mirror: bool) -> tuple[tuple[int, int], int, int, int, list[Tile]]:
    """Size, tile, halo, multiple, and the plan."""
    size, multiple, halo = (draw(SIDES), draw(SIDES)), draw(MULTIPLES), draw(st.integers(0, 100))
    around = halo if mirror else -(-halo // multiple) * multiple
    tile = 2 * around + multiple + draw(st.integers(0, 200))
    return size, tile, halo, multiple, tiles(size, tile, halo, multiple=multiple, mirror=mirror)


def times_written(plan: list[Tile], size: tuple[int, int]) -> np.ndarray:
    times = np.zeros(size, int)
    for tile in plan:
        w = tile.write
        assert Window(0, 0, *size).size == size
        assert w == w.clipped(size)
        times[w.top : w.bottom, w.left : w.right] += 1
    return times


def axes(tile: Tile, size: tuple[int, int]) -> list[tuple[int, int, int, int, int]]:
    """First and end of read, first and end of write, and the length, along both axes."""
    r, w = tile.read, tile.write
    return [(r.top, r.bottom, w.top, w.bottom, size[0]), (r.left, r.right, w.left, w.right, size[1])]


@given(plans(mirror=False))
def test_tiles_write_every_pixel_once_and_read_the_halo_around_it_or_the_border(plan: Any) -> None:
    size, tile, halo, multiple, cut = plan
    assert (times_written(cut, size) == 1).all()
    for one in cut:
        for first, end, begin, stop, length in axes(one, size):
            assert first % multiple == begin % multiple == 0
            assert stop % multiple == 0 or stop == length
            assert 0 <= first <= max(0, begin - halo)
            assert min(length, stop + halo) <= end <= length
            assert end - first <= tile


@given(plans(mirror=True))
def test_mirrored_tiles_write_every_pixel_once_and_read_the_halo_on_every_side(plan: Any) -> None:
    size, tile, halo, multiple, cut = plan
    assert (times_written(cut, size) == 1).all()
    for one in cut:
        for first, end, begin, stop, _ in axes(one, size):
            assert begin % multiple == 0
            assert first == begin - halo
            assert end - first == tile
            assert end >= stop + halo


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 9), st.integers(1, 40))
def test_of_images_and_tiles_of_16_m_plus_1_px_all_tiles_are_of_one_size(h: int, w: int, halo: int, more: int) -> None:
    tile = 16 * (2 * halo + more) + 1
    cut = tiles((16 * h + 1, 16 * w + 1), tile, 16 * halo)
    assert {one.read.size for one in cut} == {(min(tile, 16 * h + 1), min(tile, 16 * w + 1))}


def test_no_fewer_tiles_would_do() -> None:
    """And what they have too much is parted: halos of 256 px here."""
    assert len(tiles((1025, 2049), 1025, 128)) == 3
    assert [(one.read.left, one.write.left) for one in tiles((17, 2049), 1025, 128)] == [
        (0, 0),
        (512, 768),
        (1024, 1280),
    ]
    assert [one.read.left for one in tiles((17, 1793), 1025, 128)] == [0, 768]  # not a pixel too much
    assert [one.read.left for one in tiles((17, 1809), 1025, 128)] == [0, 400, 784]
    assert tiles((100, 50), 2049, 512) == [Tile(Window(0, 0, 100, 50), Window(0, 0, 100, 50))]


def test_u_net_is_given_572_px_for_388() -> None:
    (one,) = tiles((384, 384), 572, 92, mirror=True)
    assert one == Tile(Window(-92, -92, 480, 480), Window(0, 0, 384, 384))
    assert [one.read.left for one in tiles((16, 1000), 572, 92, mirror=True, multiple=4)] == [-92, 296, 684]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (((0, 5), 65, 0), "height: expected at least 1, got 0"),
        (((5, 5, 5), 65, 0), r"size: expected \(H, W\), got \(5, 5, 5\)"),
        ((5, 65, 0), r"size: expected \(H, W\), got 5"),
        (((5.0, 5), 65, 0), "height: expected an int, got 5.0"),
        (((5, 5), 65, -1), "halo: expected at least 0, got -1"),
        (((5, 5), 65, 1.5), "halo: expected an int, got 1.5"),
        (((5, 5), 111, 48), "tile: expected at least 112, 16 beside a halo of 48 on either side, got 111"),
    ],
)
def test_plans_that_cannot_be_are_refused(arguments: Any, fault: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{fault}$"):
        tiles(*arguments)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 50), st.data())
def test_windows_that_slide_cover_all_at_steps_and_end_with_the_image(h: int, w: int, tile: int, data: Any) -> None:
    step = data.draw(st.integers(1, tile))
    plan = sliding((h, w), tile, step)
    size = plan[-1].write.bottom, plan[-1].write.right
    assert size == (h, w)
    assert (times_written(plan, size) >= 1).all()
    assert {one.read.size for one in plan} == {(min(tile, size[0]), min(tile, size[1]))}
    lefts = sorted({one.read.left for one in plan})
    assert all(b - a <= step for a, b in itertools.pairwise(lefts))


def test_steps_that_leave_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match="step: expected a multiple of 8, at most the tile of 64 px, got 72"):
        sliding((100, 100), 64, 72, multiple=8)
    with pytest.raises(ValueError, match=r"^size: expected \(H, W\), got \[100, 100, 3\]$"):
        sliding([100, 100, 3], 64, 64)  # type: ignore[arg-type]


@given(
    st.integers(1, 9), st.integers(1, 9), st.tuples(*[st.integers(-30, 30)] * 2), st.tuples(*[st.integers(1, 30)] * 2)
)
def test_windows_are_mirrored_as_numpy_reflects(h: int, w: int, corner: tuple[int, int], size: tuple[int, int]) -> None:
    image = np.arange(h * w * 3).reshape(h, w, 3)
    padded = np.pad(image, ((70, 70), (70, 70), (0, 0)), "reflect")  # does not repeat the edge
    window = Window(*corner, corner[0] + size[0], corner[1] + size[1])
    want = padded[70 + window.top :, 70 + window.left :][: size[0], : size[1]]
    np.testing.assert_array_equal(take_window(image, window), want)


def test_a_window_of_the_image_is_a_view() -> None:
    image = np.zeros((5, 6, 3), np.uint8)
    assert np.shares_memory(take_window(image, Window(1, 1, 5, 6)), image)


INSIDE = Window(-1, 0, 3, 3)


@pytest.mark.parametrize(
    ("image", "window", "fault"),
    [
        (np.zeros((0, 5, 3)), INSIDE, r"image: expected at least one pixel, \[H, W, …\], got shape \[0, 5, 3\]"),
        (np.zeros(5), INSIDE, r"image: expected at least one pixel, \[H, W, …\], got shape \[5\]"),
        ([[1]], INSIDE, "image: expected an array or a tensor, got list"),
        (np.zeros((5, 5)), Window(3, 3, 1, 4), r"window: expected top <= bottom and left <= right, got Window\(.*\)"),
    ],
)
def test_windows_of_what_is_no_image_are_refused(image: Any, window: Window, fault: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{fault}$"):
        take_window(image, window)


@pytest.mark.parametrize("weights", ["uniform", "tent"])
def test_windows_that_agree_have_themselves_for_a_mean(weights: Any) -> None:
    whole = np.random.default_rng(0).normal(size=(2, 37, 53))
    average = Average(whole.shape, weights)
    for tile in sliding(whole.shape[1:], 20, 13):
        w = tile.write
        average.add(tile, whole[:, w.top : w.bottom, w.left : w.right])
    np.testing.assert_allclose(average.mean(), whole, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, np.int64])
@pytest.mark.parametrize("weights", ["uniform", "tent"])
def test_narrow_numbers_are_added_up_as_wide_ones(weights: Any, dtype: Any) -> None:
    average = Average((1, 600, 600), weights)
    for tile in sliding((600, 600), 580, 20):  # in the middle a window weighs more than float16 holds
        average.add(tile, np.full((1, *tile.write.size), 3, dtype))
    assert average.mean().dtype == np.float32
    np.testing.assert_allclose(average.mean(), 3, rtol=1e-6)


def test_the_tent_weighs_the_middle_and_uniform_weights_do_not() -> None:
    means = {}
    for weights in ("uniform", "tent"):
        average = Average((1, 5), weights)  # type: ignore[arg-type]
        average.add(Tile(Window(0, 0, 1, 3), Window(0, 0, 1, 3)), np.zeros((1, 3)))
        average.add(Tile(Window(0, 1, 1, 5), Window(0, 1, 1, 5)), np.ones((1, 4)))
        means[weights] = average.mean()[0].tolist()
    assert means["uniform"] == [0, 0.5, 0.5, 1, 1]
    assert means["tent"] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])


def test_averages_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="weights: expected uniform or tent, got 'gauss'"):
        Average((1, 1), "gauss")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mean: expected at least one window, got none"):
        Average((1, 1)).mean()
    with pytest.raises(ValueError, match=r"values: expected shape \[2, 3, 3\], got \[2, 3, 4\]"):
        Average((2, 9, 9)).add(Tile(Window(0, 0, 3, 3), Window(0, 0, 3, 3)), np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match=r"shape: expected \[…, H, W\], got \[9\]"):
        Average((9,))
    beyond = Tile(Window(0, 0, 3, 10), Window(0, 0, 3, 10))
    with pytest.raises(ValueError, match=r"tile: expected one that writes within 9 × 9 px, got Window\(top=0, "):
        Average((2, 9, 9)).add(beyond, np.zeros((2, 3, 10)))


torch = pytest.importorskip("torch", reason="needs deeperlab[torch]")

from deeperlab import Heads, fuse, scenes  # noqa: E402
from deeperlab.data import labels  # noqa: E402
from deeperlab.models import coarsest_stride, create, receptive_field  # noqa: E402
from deeperlab.predictor import Parser  # noqa: E402
from deeperlab.predictor.mosaic import Mosaic  # noqa: E402

VOC = labels.preset("voc")
OFFSETS = ("short_range", "middle_range", "long_range")


def network(**options: Any) -> Any:
    """MobileNetV2 with a narrow decoder: what it sees is as wide as that of the whole network."""
    torch.manual_seed(0)
    sizes = {"decoder_channels": 4, "decoder_kernel": 3, "head_kernel": 3, "shallow_heads": True}
    model = create("mobilenet_v2", len(VOC), **sizes | options)
    for head in model.heads.values():
        torch.nn.init.normal_(head[-1].weight, std=1)
    model.mark_untrained()
    return model.eval()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A strip, so that it takes little time though the network sees far."""
    return scenes.draw(3, (43, 1130), instances=12).image


@pytest.mark.slow
@pytest.mark.parametrize(("turned", "batch"), [(False, 1), (True, 3)])
def test_with_the_halo_of_the_receptive_field_heads_are_those_of_the_whole(
    image: np.ndarray, turned: bool, batch: int
) -> None:
    image = image.transpose(1, 0, 2).copy() if turned else image
    model = network(aspp=False)
    halo = receptive_field(model).halo
    whole = next(Parser(model, VOC, size=0).stream([image]))
    parser = Parser(model, VOC, tile=2 * halo + 129, halo=halo, batch=batch)
    told: list[tuple[int, int]] = []
    found = next(parser.stream([image], lambda done, total: told.append((done, total))))
    assert told[-1] == (5, 5)
    for name in ("heatmap", *OFFSETS):
        a, b = getattr(found.heads, name), getattr(whole.heads, name)
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))
    assert found.heads.semantic.shape == image.shape[:2]
    assert found.heads.semantic.dtype == torch.uint8
    labels_of_whole = fuse(whole.heads, (), size=whole.size).semantic
    assert (found.heads.semantic == labels_of_whole).float().mean() > 0.999
    assert (found.panoptic.semantic == whole.panoptic.semantic).float().mean() > 0.99


class Coarse(torch.nn.Module):
    """Five strides of 2, and heads there: nodes every 32 px."""

    num_classes, mean, std = len(VOC), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        channels = (3, 8, 8, 8, 8, len(VOC) + 41)
        pairs = itertools.pairwise(channels)
        self.layers = torch.nn.ModuleList(torch.nn.Conv2d(a, b, 3, 2, padding=1) for a, b in pairs)

    def forward(self, x: torch.Tensor) -> Heads:
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else x.relu())
        return Heads(*x.split((len(VOC), 5, 10, 16, 10), dim=1), stride=32)


@pytest.mark.parametrize("width", [433, 449, 440])
@pytest.mark.parametrize(("tile", "batch"), [(161, 1), (177, 2), (193, 5)])
def test_windows_of_a_network_of_stride_32_begin_at_its_nodes(width: int, tile: int, batch: int) -> None:
    """Though images are padded to 16 m + 1 px, and tiles may be of that size."""
    model, image = Coarse().eval(), scenes.draw(5, (43, width), instances=4).image
    assert coarsest_stride(model) == 32
    whole = next(Parser(model, VOC, size=0).stream([image]))
    parser = Parser(model, VOC, tile=tile, batch=batch)
    assert parser.halo == 0  # an eighth of the tile is less than 32
    found = next(Parser(model, VOC, tile=tile, halo=32, batch=batch).stream([image]))
    for name in ("heatmap", *OFFSETS):
        torch.testing.assert_close(getattr(found.heads, name), getattr(whole.heads, name), rtol=1e-5, atol=1e-6)
    assert (found.heads.semantic == fuse(whole.heads, (), size=whole.size).semantic).float().mean() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stride"), [("fcn8s", 32), ("deconvnet", 32), ("unet", 16)])
def test_networks_that_pool_tell_their_coarsest_stride_and_tiles_give_the_labels_of_the_whole(
    name: str, stride: int
) -> None:
    torch.manual_seed(0)
    model = create(name, len(VOC), graph="none").eval()
    for layer in model.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            torch.nn.init.kaiming_normal_(layer.weight)
    model.mark_untrained()
    assert coarsest_stride(model) == stride
    halo = receptive_field(model, multiple=stride).halo
    image = scenes.draw(3, (17, 2 * halo + 433), instances=6).image
    parser = Parser(model, VOC, tile=2 * halo + 161, halo=halo)
    assert parser.halo == halo
    whole, found = (next(one.stream([image])) for one in (Parser(model, VOC, size=0), parser))
    labels_of_whole = fuse(whole.heads, (), size=whole.size).semantic
    assert len(torch.unique(labels_of_whole)) > 3
    assert (found.heads.semantic == labels_of_whole).float().mean() > 0.999


def test_with_no_halo_they_are_not(image: np.ndarray) -> None:
    model = network(aspp=False)
    whole = next(Parser(model, VOC, size=0).stream([image]))
    found = next(Parser(model, VOC, tile=257, halo=0).stream([image]))
    assert (found.heads.heatmap - whole.heads.heatmap).abs().max() > 0.01 * whole.heads.heatmap.abs().max()


@pytest.mark.parametrize("classes", [256, 257])
def test_labels_of_tiles_are_those_of_the_whole_to_the_bit(classes: int) -> None:
    rng = np.random.default_rng(classes)
    heads = Heads(*(rng.normal(size=(c, 9, 13)).astype(np.float32) for c in (classes, 5, 10, 16, 10)))
    size, mosaic = (31, 47), Mosaic((31, 47), (33, 49))
    for tile in tiles((33, 49), 33, 8, multiple=8):
        rows, columns = tile.read.nodes(4)
        mosaic.add(tile, heads.map(lambda head: head[:, rows, columns]))  # noqa: B023 - called at once
    made = mosaic.heads()
    assert made.semantic.dtype == (np.uint8 if classes == 256 else np.int16)
    np.testing.assert_array_equal(made.semantic, fuse(heads, (), size=size).semantic)
    for name in ("heatmap", *OFFSETS):
        np.testing.assert_array_equal(getattr(made, name), getattr(heads, name))
    assert mosaic.finite


def test_more_nodes_than_one_fusion_takes_are_refused_after_the_first_tile() -> None:
    h = w = 8193
    size = 4 * h - 3, 4 * w - 3
    one = np.zeros((1, 1, 1), np.float32)
    heads = Heads(*(np.broadcast_to(one, (c, 9, 9)) for c in (2, 5, 10, 16, 10)))
    with pytest.raises(ValueError, match=f"at most 2\\^26 nodes .* got {h} x {w}") as ours:
        Mosaic(size, size).add(Tile(Window(0, 0, 33, 33), Window(0, 0, 33, 33)), heads)
    whole = Heads(*(np.broadcast_to(one, (c, h, w)) for c in (2, 5, 10, 16, 10)))
    with pytest.raises(ValueError, match="heatmap: expected at most") as theirs:
        fuse(whole, ())
    assert str(ours.value) == str(theirs.value)


def test_the_halo_is_what_the_network_sees_and_an_eighth_of_the_tile_at_most() -> None:
    near = torch.nn.Conv2d(3, 5, 7, padding=3)
    near.num_classes, near.mean, near.std = len(VOC), (0, 0, 0), (1, 1, 1)  # type: ignore[assignment]
    parser = Parser(near, VOC, tile=513)
    assert (parser.tile, parser.halo, parser.size) == (513, 16, None)
    assert Parser(network(), VOC, tile=513).halo == 64
    assert Parser(network(), VOC, tile=513, halo=100).halo == 112
    assert Parser(network(), VOC, size=641, tile=513, halo=0).size == 641
    assert Parser(network(), VOC).tile is None


def test_images_that_are_no_larger_than_a_tile_are_not_cut(image: np.ndarray) -> None:
    small = image[:, :65]
    parser = Parser(network(aspp=False), VOC, tile=65, halo=0, batch=4)
    parsed = list(parser.stream([small, image[:, :100], small]))
    assert [one.panoptic.size for one in parsed] == [(43, 65), (43, 100), (43, 65)]
    assert [one.heads.has_labels for one in parsed] == [False, True, False]
