# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - who lacks torch is told before it is imported
"""The validation: what `deeperlab predict` and `deeperlab eval` would say of the network as it is now."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._layout import require_torch

require_torch("deeperlab.training.validation")

import torch

from .._threads import in_order
from ..conventions import HeadsWarning
from ..data.formats.photo import write_jpeg
from ..data.labels import LabelSet
from ..data.sample import Sample
from ..graph import STAR, Graph
from ..metrics import EvaluationResult
from ..params import FuseParams
from .ceiling import Ceiling, Prover, parser_of
from .config import Config
from .head_costs import HeadCosts
from .merit import PQ, Merit, merit_of
from .pictures import draw
from .tally import Gather, Tally, alone, maps_of


@dataclass(frozen=True)
class Validation:
    """One validation.

    Attributes:
        result: PQ, PC and IoU over all images.
        ceiling: what a perfect network reaches on the same images, by `merit`.
        labels: names and roles of the categories of `result`.
        heads: name → what `merit` gains with the truth in its place, most first; None where it was not asked for.
        seconds: of this process, and
        network, fusion: the shares of them that the two took; reading and counting take the rest.
        merit: the figure that the network is judged by: PQ, or mIoU where it finds no instances.
    """

    result: EvaluationResult
    ceiling: float
    labels: LabelSet
    heads: Mapping[str, float] | None
    seconds: float
    network: float
    fusion: float
    merit: Merit = PQ

    @property
    def pq(self) -> float:
        """Over all classes that are annotated or predicted; NaN where there are none."""
        return self.result.pq.all.pq

    @property
    def ceiling_share(self) -> float:
        """What `merit` says, as a share of what a perfect network reaches."""
        return self.merit.of(self.result) / self.ceiling if self.ceiling else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: fractions, None where nothing counts; `heads` only where it was asked for."""
        pq, iou = self.result.pq.to_dict(), self.result.iou.to_dict()
        covering = self.result.pc.to_dict()["normalized"]
        groups = (("", "All"), ("_things", "Things"), ("_stuff", "Stuff"))
        told: dict[str, Any] = {
            f"{name}{ending}": pq[group][name] for ending, group in groups for name in ("pq", "sq", "rq")
        }
        told |= {"pc": covering["All"]["pc"], "miou": iou["miou"]}
        told |= {"ceiling": _or_none(self.ceiling), "ceiling_share": _or_none(self.ceiling_share)}
        told |= {"judged_by": self.merit.key} if self.merit is not PQ else {}
        told |= {"seconds": round(self.seconds, 3)}
        told |= {"network_share": round(self.network, 4), "fusion_share": round(self.fusion, 4)}
        if self.heads is not None:
            told["heads"] = {name: _or_none(gained) for name, gained in self.heads.items()}
        told["per_class"] = {
            name: {
                "thing": thing,
                **{name: value for name, value in pq["per_class"][str(category)].items() if name != "iou"},  # a sum
                "pc": covering["per_class"][str(category)],
                "miou": iou["per_class"][str(category)],
            }
            for name, thing, category in zip(self.labels.names, self.labels.isthing, self.labels.ids, strict=True)
        }
        return told


class Validator:
    """Validates a network on the same images, again and again.

    What is compared is what `deeperlab predict` would write with the network's weights, `--size` as
    `config.validate.size`: batch norms folded, float32 whatever the training's precision, images one by one, maps
    brought back to the size of their images, and counted by `deeperlab.metrics` as `deeperlab eval` counts them. The
    network itself stays as it is, also its mode; while it is validated there are its weights once more.

    With several processes each validates its share of the images, and all get the result over all images: the same
    bits as one process.

    Args:
        samples: the data; `config.validate.images` of them are taken, spread evenly.
        labels: of the samples.
        config: `validate` and `data.radius` count.
        graph: the network's keypoints and edges.
        stride: px between the nodes of its heads.
        rank, world: which process this is, of how many.

    Raises:
        ValueError: there are no samples.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        labels: LabelSet,
        config: Config,
        graph: Graph = STAR,
        *,
        stride: int = 4,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not len(samples):
            raise ValueError("samples: expected at least one to validate on, got none")
        self.samples, self.labels, self.config, self.graph = samples, labels, config, graph
        self._stride = stride
        self.merit = merit_of(graph)
        self.numbers = spread(len(samples), config.validate.images)
        pictured = spread(len(self.numbers), config.validate.pictures) if config.validate.pictures else ()
        self.pictured = [self.numbers[i] for i in pictured]
        others = [number for number in self.numbers if number not in self.pictured]
        self._share = (self.pictured if rank == 0 else []) + others[world - 1 - rank :: world]
        self._ceiling: Ceiling | None = None
        self._has_warned = False

    def ceiling(self, *, gather: Gather = alone, progress: Callable[[int, int], None] | None = None) -> Ceiling:
        """Send the truth through the validation, once; later calls return the same.

        Args:
            gather, progress: as of `validate`.

        Raises:
            CeilingError: it does not reach `config.validate.ceiling`.
            FormatError, OSError: a file cannot be read, as of `Sample.image`.
        """
        prover = Prover(self.labels, self.config, self.graph, self._stride)
        if self._ceiling is None:
            self._ceiling = prover.measure(self.samples, self._share, gather, progress)
        prover.require(self._ceiling, self.samples)
        return self._ceiling

    def validate(
        self,
        model: Any,
        *,
        heads: bool = False,
        pictures: Path | None = None,
        gather: Gather | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Validation:
        """Validate a network. It measures the ceiling first where `ceiling` has not.

        Args:
            model: as `deeperlab.Parser` takes it.
            heads: whether to tell which head costs how much: a fusion more for each of them, and image.
            pictures: a folder, made if absent, for pictures of `config.validate.pictures` of the images, 0.jpg, …; of
                several processes the first has all of these images.
            gather: takes an object and returns those of all processes, as `torch.distributed.all_gather_object` does;
                None: there is one process.
            progress: called after every image of this process: how many are done, of how many.

        Raises:
            CeilingError: as `ceiling`.
            FloatingPointError: a head holds NaN or infinity; it and the image are named.
            FormatError, OSError: a file cannot be read, as of `Sample.image`, or written.
        """
        gather = gather or alone
        ceiling = self.ceiling(gather=gather)
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        with warnings.catch_warnings():
            if self._has_warned:  # what is true of the first validation need not be said at each
                warnings.filterwarnings("ignore", "model: .*batch norms")
            self._has_warned = True
            parser = parser_of(_for_inference(model), self.labels, self.config)
        clock = _Clock(parser.device)
        tally = Tally(self.labels)
        params = parser.params or FuseParams()
        costs = HeadCosts(self.labels, self.config.data.radius, params, self.graph) if heads else None
        with clock.watch(parser.model), warnings.catch_warnings():
            warnings.simplefilter("ignore", HeadsWarning)  # a network that has learnt little follows no convention
            for done, (number, sample, image) in enumerate(self._read(), start=1):
                with clock.parsing():
                    parsed = next(parser.stream([image]))
                    maps = maps_of(parsed.panoptic)
                if broken := parsed.heads.not_finite():
                    raise FloatingPointError(
                        f"validation: {', '.join(broken)} of image {sample.image_id!r}: expected finite numbers, got "
                        "NaN or infinity; the training has diverged"
                    )
                result, _ = tally.add(number, maps, sample)
                if pictures is not None and number in self.pictured:
                    drawn = draw(image, sample, parsed, maps, result, self.labels)
                    write_jpeg(pictures / f"{self.pictured.index(number)}.jpg", drawn)
                if costs is not None:
                    costs.add(number, parsed, sample)
                if progress is not None:
                    progress(done, len(self._share))
        found = tally.compute(gather)
        gained = None if costs is None else costs.compute(found, gather)
        seconds = time.perf_counter() - start
        shares = clock.network / seconds, clock.fusion / seconds
        return Validation(found, ceiling.figure, self.labels, gained, seconds, *shares, self.merit)

    def _read(self) -> Iterator[tuple[int, Sample, Any]]:
        """Number, sample and image of this process's share; the next are read while one is parsed."""

        def read(number: int) -> tuple[int, Sample, Any]:
            sample = self.samples[number]
            return number, sample, sample.image()

        return in_order(read, self._share, 1)


class _Clock:
    """Seconds in the network, and in the rest of the parser: the fusion, with the scaling of images and maps."""

    def __init__(self, device: torch.device) -> None:
        self.network = self.fusion = self._begin = 0.0
        self._device = device

    def _now(self) -> float:
        """Seconds, once the device has done what it was asked for."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    @contextmanager
    def watch(self, model: torch.nn.Module) -> Iterator[None]:
        """Time the calls of a network."""

        def begin(*_: Any) -> None:
            self._begin = self._now()

        def end(*_: Any) -> None:
            passed = self._now() - self._begin
            self.network, self.fusion = self.network + passed, self.fusion - passed

        hooks = model.register_forward_pre_hook(begin), model.register_forward_hook(end)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def parsing(self) -> Iterator[None]:
        """Time what is done within: all of it but the network is the fusion's."""
        begin = self._now()
        yield
        self.fusion += self._now() - begin


def spread(number: int, wanted: int) -> tuple[int, ...]:
    """Choose so many of a number of things, spread evenly; 0, or more than there are: all."""
    if not 0 < wanted < number:
        return tuple(range(number))
    return tuple((2 * i + 1) * number // (2 * wanted) for i in range(wanted))


def _for_inference(model: Any) -> Any:
    """A copy, as `deeperlab predict` makes it: the network stays in its mode, its layout and on its device."""
    return model.fold_batch_norm() if hasattr(model, "fold_batch_norm") else copy.deepcopy(model)


def _or_none(value: float) -> float | None:
    return None if value != value else value
