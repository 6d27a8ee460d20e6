# SPDX-License-Identifier: Apache-2.0
"""The ceiling of the validation: truth → heads → fusion → PQ along its very path, before the first step. Of a network
without keypoints it is mIoU.

If what a perfect network emits does not come back as what was annotated, no training can learn it: the losses fall and
PQ stays low. Beside it stands the ceiling of the representation alone, that of `deeperlab oracle`: the same heads
assigned to the true keypoints, without any voting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..data.ids import ImageId
from ..data.labels import LabelSet
from ..data.sample import Sample
from ..graph import Graph
from ..heads import Heads
from ..metrics import EvaluationResult, match
from ..oracle import Diagnosis, Truth, assigned_to
from ..params import FuseParams
from ..predictor import Parsed, Parser
from .config import Config
from .merit import PQ, Merit, merit_of
from .tally import Gather, Maps, Tally, alone, maps_of
from .truth import PerfectNetwork, crowd_of, resized, truth_of

WORST = 3
"""Images that a refusal names."""


class CeilingError(ValueError):
    """The truth itself does not reach the ceiling: a run with these options cannot learn what is annotated."""


class ImageCeiling(NamedTuple):
    """What one image reaches, NaN where it has nothing to count: by the fusion, and by the true keypoints."""

    number: int
    image_id: ImageId
    figure: float
    representation: float


@dataclass(frozen=True)
class Ceiling:
    """What a perfect network would reach on the images of a validation.

    Attributes:
        result: of the fusion of perfect heads.
        representation: of the same heads assigned to the true keypoints; crowd and void are left out of both.
        images: every image by itself, in their order.
        merit: the figure that counts.
    """

    result: EvaluationResult
    representation: EvaluationResult
    images: tuple[ImageCeiling, ...]
    merit: Merit = PQ

    @property
    def figure(self) -> float:
        """What a perfect network reaches, by `merit`."""
        return self.merit.of(self.result)

    @property
    def share(self) -> float:
        """`figure` as a share of that of the representation; NaN where nothing is annotated. 1 without keypoints, where
        there is nothing that the fusion could lose."""
        best = self.merit.of(self.representation)
        return self.figure / best if best else math.nan

    @property
    def worst(self) -> list[ImageCeiling]:
        """The images that lose most, at most `WORST`."""
        lossy = [image for image in self.images if image.representation > image.figure]
        return sorted(lossy, key=lambda image: image.figure - image.representation)[:WORST]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: fractions, None where undefined."""
        pq, best = self.result.pq.to_dict(), self.representation.pq.to_dict()
        return {
            **{
                name: pq[group]["pq"] for name, group in (("pq", "All"), ("pq_things", "Things"), ("pq_stuff", "Stuff"))
            },
            "representation": best["All"]["pq"],
            "images": len(self.images),
        }


class Prover:
    """Sends truths through the validation.

    Args:
        labels, config, graph, stride: as of `Validator`.
    """

    def __init__(self, labels: LabelSet, config: Config, graph: Graph, stride: int = 4) -> None:
        self._labels, self._config, self._graph, self._merit = labels, config, graph, merit_of(graph)
        self._network = PerfectNetwork(len(labels), config.data.radius, graph, stride)
        self._network.fusion = dict(config.model.options.get("fusion", {}))
        self._parser = parser_of(self._network, labels, config)
        self._params = self._parser.params or FuseParams()

    def measure(
        self,
        samples: Sequence[Sample],
        numbers: Sequence[int],
        gather: Gather = alone,
        progress: Callable[[int, int], None] | None = None,
    ) -> Ceiling:
        """Measure the ceiling over samples, of which this process has those of the given numbers."""
        found, best = Tally(self._labels), Tally(self._labels)
        images = []
        for done, number in enumerate(numbers, start=1):
            sample = samples[number]
            proof = self._prove(sample)
            left_out = crowd_of(sample, self._graph) | (sample.category < 0)
            results = [
                tally.add(number, (np.where(left_out, -1, category), instance), sample)[0]
                for tally, (category, instance) in (
                    (found, maps_of(proof.parsed.panoptic)),
                    (best, resized(proof.best, sample.category.shape)),
                )
            ]
            images.append(ImageCeiling(number, sample.image_id, *map(self._merit.of, results)))
            if progress is not None:
                progress(done, len(numbers))
        everywhere = sorted(image for share in gather(images) for image in share)
        return Ceiling(found.compute(gather), best.compute(gather), tuple(everywhere), self._merit)

    def require(self, ceiling: Ceiling, samples: Sequence[Sample]) -> None:
        """Refuse a ceiling below `config.validate.ceiling`.

        Raises:
            CeilingError: it is; the worst images are named with what was lost, and where.
        """
        least, best = self._config.validate.ceiling, self._merit.of(ceiling.representation)
        if ceiling.share >= least:
            return
        if math.isnan(ceiling.share):
            raise CeilingError("validation: expected annotated pixels that count, found none; look at data.labels")
        size, radius = self._config.validate.size, self._config.data.radius
        raise CeilingError(
            f"validation: the truth itself, as heads and fused, reaches {self._merit.name} {100 * ceiling.figure:.1f}, "
            f"{100 * ceiling.share:.1f} % of the {100 * best:.1f} that its true keypoints reach; expected "
            f"{100 * least:g} % (validate.ceiling). Worst: "
            f"{'; '.join(self._explain(image, samples[image.number]) for image in ceiling.worst)}. Look at "
            f"validate.size = {size or '0, as they are,'} and data.radius = {radius:g} px: disks of things that are "
            "small or close run into each other; at the annotations of these images; or accept it with a lower "
            "validate.ceiling"
        )

    def _prove(self, sample: Sample) -> _Proof:
        size = self._parser.input_size(*sample.category.shape)
        truth = self._network.truth = truth_of(sample, self._labels, self._graph, size)
        parsed = next(self._parser.stream([sample.image()]))
        heads = parsed.heads.map(lambda head: head.numpy())
        best = assigned_to(truth.keypoints, heads, self._labels.things, truth.size, self._params)
        return _Proof(truth, parsed, heads, best)

    def _explain(self, image: ImageCeiling, sample: Sample) -> str:
        """An image of a message, with the largest thing that the fusion lost and its true keypoints did not."""
        proof = self._prove(sample)
        found = proof.parsed.seen.numpy()
        missed, lost_anyway = (
            self._missed(proof.truth, maps) for maps in ((found.semantic, found.instance), proof.best)
        )
        missed = sorted(missed, key=lambda i: (i in lost_anyway, -np.count_nonzero(proof.truth.instance == i)))
        told = f"{image.image_id!r}, {100 * image.figure:.1f} of {100 * image.representation:.1f}"
        if not missed:
            return told
        things = self._labels.things
        diagnosis = Diagnosis(proof.heads, things, self._params, proof.truth, found, proof.best)
        lost = diagnosis.explain(proof.truth.segments[missed[0] - 1], missed[0] in lost_anyway)
        more = f" (and {len(missed) - 1} more)" if len(missed) > 1 else ""
        return f"{told}: a {lost.category} of {lost.area} px is lost in `{lost.stage}`, {lost.reason}{more}"

    def _missed(self, truth: Truth, maps: Maps) -> list[int]:
        """The instances of a truth that nothing matches, at the size that is seen."""
        prediction = np.where(truth.ignored, -1, maps[0]), maps[1]
        found = match(prediction, (truth.category, truth.instance), dict(enumerate(self._labels.isthing)))
        return [number for number in found.missed_ids if number > 0]


class _Proof(NamedTuple):
    """A truth as it is seen, what its heads are parsed to, the heads, and what its true keypoints make of them."""

    truth: Truth
    parsed: Parsed
    heads: Heads
    best: Maps


def parser_of(model: Any, labels: LabelSet, config: Config) -> Parser:
    """Make the parser of a validation: images one by one, in float32, where the network is."""
    return Parser(model, labels, size=config.validate.size or config.data.longest_side)
