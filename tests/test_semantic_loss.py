# SPDX-License-Identifier: Apache-2.0
"""The compiled semantic loss: beside its plain form in float64, at the edges of what it takes, and as torch sees it."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from simd_digests import semantic_loss_alone, semantic_loss_case
from torch import Tensor

from deeperlab.training import losses, plain
from deeperlab.training.batches import SOME_STUFF, VOID

Options = dict[str, Any]


def random_call(seed: int, n: int, classes: int, size: tuple[int, int], stride: int) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    nodes = [-(-side // stride) for side in size]
    logits = 3 * torch.randn(n, classes, *nodes, generator=random)
    labels = torch.randint(VOID, classes, (n, *size), generator=random)
    return logits, labels, torch.rand(n, *size, generator=random)


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    """Of a sum in which every image has another weight."""
    return torch.autograd.grad((loss * torch.arange(1, len(loss) + 1)).sum(), logits, retain_graph=True)[0]


def compare(logits: Tensor, labels: Tensor, weight: Tensor | None, tolerance: float = 2e-6, **options: Any) -> Tensor:
    """The losses, having seen that they and their gradients are those of the plain form in float64."""
    options = {"stride": 4, "top_k": 0.15, "stuff": (), **options}
    own, wide = logits.detach().requires_grad_(), logits.detach().double().requires_grad_()
    found = losses.semantic(own, labels, weight=weight, **options)
    want = plain.semantic(wide, labels, None if weight is None else weight.double(), **options)
    assert found.dtype == torch.float32
    made = gradient(found, own)
    assert (found.shape, made.shape) == (want.shape, logits.shape)
    torch.testing.assert_close(found.double(), want, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(made.double(), gradient(want, wide), rtol=tolerance, atol=tolerance)
    return found


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 2),
    classes=st.integers(1, 7),
    size=st.tuples(st.integers(1, 40), st.integers(1, 90)),
    stride=st.sampled_from([1, 2, 3, 4, 8, 16, 17]),
    top_k=st.sampled_from([1.0, 0.15, 0.5, 1e-6]),
    with_stuff=st.booleans(),
)
def test_losses_and_gradients_are_those_of_the_plain_form(
    seed: int, n: int, classes: int, size: tuple[int, int], stride: int, top_k: float, with_stuff: bool
) -> None:
    logits, labels, weight = random_call(seed, n, classes, size, stride)
    stuff = tuple(range(0, classes, 2)) if with_stuff else ()
    if stuff:
        labels[labels == 0] = SOME_STUFF
    compare(logits, labels, weight, stride=stride, top_k=top_k, stuff=stuff)


@pytest.mark.parametrize("nodes", [(5, 7), (6, 9), (9, 40)])
def test_nodes_past_the_image_say_nothing_that_is_not_asked(nodes: tuple[int, int]) -> None:
    """A network that pads its input has nodes beyond the last that the image needs."""
    logits, (_, labels, weight) = torch.randn(2, 5, *nodes), random_call(0, 2, 5, (17, 25), 4)
    compare(logits, labels, weight)


def test_one_class_costs_nothing() -> None:
    assert not compare(torch.randn(2, 1, 3, 4), torch.zeros(2, 9, 13, dtype=torch.uint8), None).any()


def test_one_pixel_is_its_cross_entropy() -> None:
    logits = torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1)
    loss = compare(logits, torch.ones(1, 1, 1, dtype=torch.int16), None, top_k=0.15)
    assert loss.item() == pytest.approx(math.log(math.e**-1 + 1 + math.e**2), abs=1e-6)


@pytest.mark.parametrize("top_k", [1, 0.15])
def test_no_pixel_costs_nothing(top_k: float) -> None:
    logits = torch.full((2, 3, 2, 3), math.nan).requires_grad_()
    loss = losses.semantic(logits, torch.full((2, 5, 9), VOID), top_k=top_k)
    assert loss.tolist() == [0, 0]
    assert not gradient(loss, logits).any()


def test_huge_logits_stay_finite() -> None:
    logits, labels, weight = random_call(1, 2, 5, (17, 25), 4)
    loss = compare(1e4 * logits.sign(), labels, weight, tolerance=2e-3)
    assert loss.isfinite().all()
    far = torch.full((1, 5, 2, 2), -1e38).index_fill(1, torch.tensor(2), 1e38).requires_grad_()
    assert gradient(losses.semantic(far, torch.ones(1, 5, 5, dtype=torch.int64)), far).isfinite().all()


def test_a_masked_class_takes_no_part() -> None:
    logits, labels, weight = random_call(2, 2, 4, (9, 13), 4)
    masked = torch.cat([logits, torch.full((2, 1, 3, 4), -math.inf)], 1)
    without = losses.semantic(logits, labels, weight=weight)
    torch.testing.assert_close(losses.semantic(masked, labels, weight=weight), without)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_overflowed_give_nan_to_their_image(value: float) -> None:
    logits, labels, _ = random_call(3, 2, 5, (17, 25), 4)
    labels[1] = 0
    logits[1, 3, 2, 2] = value
    logits.requires_grad_()
    loss = losses.semantic(logits, labels)
    assert loss.isnan().tolist() == [False, True]
    made = gradient(loss, logits)
    assert made[0].isfinite().all()
    assert made[1].isnan().any()


def test_a_void_pixel_passes_no_nan_on() -> None:
    """Not even to a neighbor, which is interpolated from the same nodes with weight zero."""
    logits, labels, _ = random_call(4, 1, 5, (17, 25), 4)
    labels[:] = 2
    logits[0, 3, 2, 2] = math.nan
    labels[0, 5:12, 5:12] = VOID
    logits.requires_grad_()
    loss = losses.semantic(logits, labels, top_k=1)
    assert loss.isfinite().all()
    assert gradient(loss, logits).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_before_anything_is_computed(dtype: torch.dtype) -> None:
    logits, labels, weight = random_call(5, 2, 6, (33, 90), 4)
    half = logits.to(dtype).requires_grad_()
    wide = half.detach().float().requires_grad_()
    one, other = (losses.semantic(x, labels, weight=weight) for x in (half, wide))
    assert torch.equal(one, other)
    made = gradient(one, half)
    assert made.dtype == dtype
    assert torch.equal(made, gradient(other, wide).to(dtype))


def test_the_order_of_memory_and_the_type_of_labels_are_of_no_account() -> None:
    logits, labels, weight = random_call(6, 2, 6, (33, 90), 4)
    own = logits.clone().requires_grad_()
    want = losses.semantic(own, labels, weight=weight)
    forms = {
        "channels last": (logits.to(memory_format=torch.channels_last), labels, weight),
        "transposed": (logits.mT.contiguous().mT, labels.mT.contiguous().mT, weight.mT.contiguous().mT),
        "inside": (torch.cat([logits, logits], 3)[..., : logits.shape[3]], labels.to(torch.int32), weight),
        "int16": (logits, labels.to(torch.int16), weight),
    }
    for name, (some, of_labels, of_weight) in forms.items():
        some = some.detach().requires_grad_()
        loss = losses.semantic(some, of_labels, weight=of_weight)
        assert torch.equal(loss, want), name
        assert torch.equal(gradient(loss, some), gradient(want, own)), name


def test_threads_and_the_place_in_a_batch_do_not_change_a_bit() -> None:
    logits, labels, weight = random_call(7, 4, 6, (65, 90), 4)

    def run(images: slice) -> tuple[Tensor, Tensor]:
        own = logits[images].clone().requires_grad_()
        loss = losses.semantic(own, labels[images], weight=weight[images])
        return loss, torch.autograd.grad(loss.sum(), own)[0]

    threads = torch.get_num_threads()
    whole = run(slice(None))
    try:
        torch.set_num_threads(3)
        one_by_one = [run(slice(i, i + 1)) for i in range(4)]
        for again in (run(slice(None)), [torch.cat(parts) for parts in zip(*one_by_one, strict=True)]):
            assert all(torch.equal(one, other) for one, other in zip(again, whole, strict=True))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore:Input #0 requires gradient and is not a double precision")  # 2 % will do
def test_gradients_are_the_slopes_of_the_loss() -> None:
    logits, labels, weight = random_call(8, 2, 3, (5, 6), 4)
    for top_k, stuff in ((1.0, ()), (0.4, (0, 2))):
        labels[0, 0, 0] = SOME_STUFF if stuff else 0
        torch.autograd.gradcheck(
            lambda x, k=top_k, s=stuff: losses.semantic(x, labels, weight=weight, top_k=k, stuff=s),
            logits.clone().requires_grad_(), eps=1e-2, atol=2e-3, rtol=1e-2,
        )  # fmt: skip


def test_a_second_derivative_is_refused() -> None:
    """It would be 0 in silence, as that of a gradient penalty."""
    logits, labels, _ = random_call(12, 2, 3, (5, 6), 4)
    logits.requires_grad_()
    loss = losses.semantic(logits, labels).sum()
    (slope,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match=r"semantic_loss: expected a first derivative, got a second"):
        (loss + slope.square().sum()).backward()


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_what_the_handler_of_a_signal_raises_is_raised(direction: str) -> None:
    def handle(*_: object) -> None:
        raise TimeoutError

    def compute() -> None:
        signal.setitimer(signal.ITIMER_REAL, 1e-3)
        while True:  # until it meets a call
            losses.semantic(logits, labels) if direction == "forward" else loss.backward(retain_graph=True)

    logits, labels, _ = random_call(13, 2, 40, (200, 200), 4)
    loss = losses.semantic(logits.requires_grad_(), labels, top_k=1).sum()
    before = signal.signal(signal.SIGALRM, handle)
    try:
        with pytest.raises(TimeoutError):
            compute()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
def test_the_operators_are_sound_for_torch() -> None:
    logits, labels, weight = random_call(9, 2, 5, (17, 25), 4)
    options: Options = {"stride": 4, "stuff": [1, 2]}
    op = torch.ops.deeperlab
    for some in (logits.requires_grad_(), logits.detach().bfloat16()):
        torch.library.opcheck(op.semantic_loss.default, (some, labels, weight), {**options, "top_k": 0.15})
    _loss, *pixels = op.semantic_loss(logits.detach(), labels, weight, top_k=0.15, **options)
    given = (logits.detach(), labels, weight, *pixels, torch.ones(2))
    torch.library.opcheck(op.semantic_loss_backward.default, given, options)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
def test_the_loss_and_its_gradient_compile_as_one_graph(dynamic: bool) -> None:
    def step(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        return losses.semantic(logits * 2, labels, weight=weight, stuff=(1,)).mean()

    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for size in ((17, 25), (33, 21)):
        logits, labels, weight = random_call(10, 2, 5, size, 4)
        found = []
        for function in (step, compiled):
            own = logits.clone().requires_grad_()
            loss = function(own, labels, weight)
            found.append((loss, *torch.autograd.grad(loss, own)))
        assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_meta_tensors_give_shapes() -> None:
    labels = torch.empty(3, 13, 21, dtype=torch.int64, device="meta")
    loss = losses.semantic(torch.empty(3, 5, 4, 6, device="meta"), labels)
    assert (loss.shape, loss.dtype, loss.device.type) == ((3,), torch.float32, "meta")


def test_an_empty_batch_has_no_losses() -> None:
    logits = torch.zeros(0, 5, 3, 4, requires_grad=True)
    loss = losses.semantic(logits, torch.zeros(0, 9, 13, dtype=torch.int64))
    assert loss.shape == (0,)
    assert torch.autograd.grad(loss.sum(), logits)[0].shape == logits.shape


BAD: list[tuple[Options, str]] = [
    ({"logits": torch.zeros(1, 5, 3)}, "logits: expected shape [N, C, h, w], got 3 dimensions"),
    ({"logits": torch.zeros(1, 5, 3, 4).double()}, "logits: expected float32, float16 or bfloat16, got Double"),
    ({"logits": torch.zeros(1, 0, 3, 4)}, "logits: expected 1 to 32768 classes, got 0"),
    ({"logits": torch.zeros(2, 5, 3, 4)}, "labels: expected shape [2, 9, 13], got [1, 9, 13]"),
    ({"logits": torch.zeros(1, 5, 2, 4)}, "labels: expected 1 to stride * h = 8 by 1 to stride * w = 16 pixels, got"),
    ({"labels": torch.zeros(1, 9, 13)}, "labels: expected uint8, int16, int32 or int64, got Float"),
    ({"labels": torch.zeros(9, 13, dtype=torch.int64)}, "labels: expected shape [N, H, W], got 2 dimensions"),
    ({"labels": torch.full((1, 9, 13), 255)}, "labels: expected classes 0 to 4, -1 for no label, got 255"),
    ({"labels": torch.full((1, 9, 13), -3), "stuff": (1,)}, "-1 for no label or -2 for some stuff, got -3"),
    ({"labels": torch.full((1, 9, 13), -2)}, "labels: expected -2, some stuff, only where stuff has classes, got -2"),
    ({"weight": torch.ones(1, 9, 12)}, "weight: expected shape [1, 9, 13], got [1, 9, 12]"),
    ({"weight": torch.ones(1, 9, 13).double()}, "weight: expected float32, got Double"),
    ({"weight": torch.ones(1, 9, 13, requires_grad=True)}, "weight: expected a tensor that requires no gradient"),
    ({"logits": np.zeros((1, 5, 3, 4))}, "logits: expected a tensor, got ndarray"),
    ({"labels": None}, "labels: expected a tensor, got NoneType"),
    ({"stride": 0}, "stride: expected 1 to 65536, got 0"),
    ({"top_k": 0.0}, "top_k: expected more than 0 and at most 1, got 0"),
    ({"top_k": 1.5}, "top_k: expected more than 0 and at most 1, got 1.5"),
    ({"top_k": math.nan}, "top_k: expected more than 0 and at most 1, got nan"),
    ({"stuff": (5,)}, "stuff: expected class ids in [0, 5), got 5"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_what_does_not_fit_is_named(change: Options, message: str) -> None:
    given = {"logits": torch.zeros(1, 5, 3, 4), "labels": torch.zeros(1, 9, 13, dtype=torch.int64), **change}
    with pytest.raises((ValueError, TypeError, RuntimeError), match=re.escape(message)):
        losses.semantic(**given)


@pytest.mark.parametrize("name", ["logits", "labels", "weight", "pixel_loss", "log_sum", "cut", "gradient"])
def test_the_gradient_names_what_does_not_fit(name: str) -> None:
    logits, labels, weight = random_call(11, 2, 5, (17, 25), 4)
    _loss, *pixels = torch.ops.deeperlab.semantic_loss(logits, labels, weight, stride=4, top_k=0.15, stuff=[])
    found = zip(("pixel_loss", "log_sum", "cut", "gradient"), (*pixels, torch.ones(2)), strict=True)
    given = {"logits": logits, "labels": labels, "weight": weight, **dict(found)}
    assert torch.ops.deeperlab.semantic_loss_backward(**given, stride=4, stuff=[]).shape == logits.shape
    for other in (given[name][None], given[name][..., :1], given[name][:1], given[name].to(torch.complex64)):
        blamed = "|".join(given) if name in ("logits", "labels") else name  # the others' shapes follow from these
        with pytest.raises(ValueError, match=rf"\A({blamed}): expected .+, got .+"):
            torch.ops.deeperlab.semantic_loss_backward(**{**given, name: other}, stride=4, stuff=[])


def test_a_label_beside_the_classes_is_found_wherever_it_is() -> None:
    for place in ((0, 0, 0), (1, 8, 12), (1, 3, 5)):
        labels = torch.zeros(2, 9, 13, dtype=torch.int32)
        labels[place] = 5
        with pytest.raises(ValueError, match="got 5"):
            losses.semantic(torch.zeros(2, 5, 3, 4), labels)


MEMORY = """
import re, sys, torch
from torch.nn.functional import cross_entropy, interpolate
from deeperlab.training import losses
torch.set_num_threads(1)

def peak():  # of this program; ru_maxrss would begin at that of its parent
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

logits, labels = torch.randn(1, 66, 181, 181, requires_grad=True), torch.randint(0, 66, (1, 721, 721))
losses.semantic(logits[:, :, :2, :2], labels[:, :8, :8]).sum().backward()
cross_entropy(logits[:, :, :2, :2], labels[:, :2, :2]).backward()
before = peak()
if sys.argv[1] == "ours":
    losses.semantic(logits, labels).sum().backward()
else:
    upsampled = interpolate(logits, (721, 721), mode="bilinear", align_corners=True)
    cross_entropy(upsampled, labels, ignore_index=-1).backward()
print(peak() - before)
"""


@pytest.mark.slow
def test_the_loss_takes_an_eighth_of_the_memory_of_upsampled_logits() -> None:
    def peak(which: str) -> int:
        done = subprocess.run([sys.executable, "-c", MEMORY, which], check=True, capture_output=True, text=True)
        return int(done.stdout)

    assert 0 < peak("ours") <= peak("torch") / 8


def test_arrays_and_tensors_have_the_same_losses(assert_same: Any) -> None:
    for seed in range(10):
        arrays, options = semantic_loss_case(np.random.default_rng(seed))
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        found = torch.ops.deeperlab.semantic_loss(*tensors, **options)
        want = semantic_loss_alone(np.random.default_rng(seed))[:4]
        for one, other in zip(found, want, strict=True):
            assert_same(one, other)
