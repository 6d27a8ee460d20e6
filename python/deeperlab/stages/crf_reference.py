# SPDX-License-Identifier: Apache-2.0
"""The fully connected CRF in plain NumPy: `crf` and `crf_filter`, whose bits the kernels give, and `exact`, which sums
over all pairs of pixels.

Arithmetic of the first two is float32, rounded once per operation as written. Rows of values are [P, C] for the
P = H · W pixels of an image. Arguments are valid (the public `deeperlab.crf` checks); heads may hold NaN and ±inf.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .reference import NAN, ONE, ZERO, exp

Array = NDArray[Any]
F = np.float32
CORNERS, GROUP = 6, 8
PART_ROWS, PART_COLUMNS = 16, 64
IMPOSSIBLE = F(-1e30)
WIDE = 2.5


def log(x: Array) -> Array:
    """The natural logarithm of float32 [...] from 1 to 2²⁴, within 0.81 ulp. x = 2ⁿ·(1 + f), f in [−1/3, 1/3]."""
    bits = x.view(np.int32)
    n = (bits - np.int32(0x3F2AAAAB)) >> np.int32(23)
    f = (bits - (n << np.int32(23))).view(F) - ONE
    p = np.full_like(f, F(-1.28923625e-1))
    for coefficient in (
        *(1.39851108e-1, -1.21841215e-1, 1.40057445e-1, -1.66804969e-1, 2.00104132e-1, -2.49997973e-1, 3.33332151e-1),
    ):
        p = p * f + F(coefficient)
    square, whole = f * f, n.astype(F)
    rest = ((f * square) * p + whole * F(-2.12194440e-4)) - square * F(0.5)
    found: Array = (rest + f) + whole * F(0.693359375)
    return found


@dataclass(frozen=True)
class Lattice:
    """The permutohedral lattice of one image: the corners of each pixel's simplex, and how vertices lie beside others.

    Attributes:
        vertex: [P, 6] from 1 on; weight: [P, 6] float32, which add up to 1.
        beside: [6, 2, M + 1] the vertices before and after each along an axis, 0: none.
        group: [P, 6] what a part of 16 rows and 64 columns, from the first pixel on, and a vertex have in common.
        groups: [G, 2] the part and the vertex of each, part by part.
    """

    vertex: Array
    weight: Array
    beside: Array
    group: Array
    groups: Array

    @classmethod
    def of(cls, image: Array, sigma_alpha: float, sigma_beta: float) -> Lattice:
        """Build it for uint8 [H, W, 3]: five features, scaled so that the blur along all axes has variance 1."""
        (height, width, _), unit = image.shape, math.sqrt(2 / 3) * CORNERS
        y, x = np.indices((height, width), F).reshape(2, -1)
        colors = image.reshape(-1, 3).astype(F).T
        sigma = (sigma_alpha, sigma_alpha, sigma_beta, sigma_beta, sigma_beta)
        feature = [v * F(unit / math.sqrt((i + 1) * (i + 2)) / sigma[i]) for i, v in enumerate((x, y, *colors))]
        at, total = np.zeros((CORNERS, x.size), F), np.zeros(x.size, F)
        for i in range(5, 0, -1):  # onto the plane of points whose six coordinates add up to 0
            at[i] = total - feature[i - 1] * F(i)
            total = total + feature[i - 1]
        at[0] = total
        nearest = np.rint(at * F(1 / 6))
        base, rest = nearest.astype(np.int32) * CORNERS, at - nearest * F(6)
        rank = np.zeros_like(base)
        for i in range(CORNERS):
            for j in range(i + 1, CORNERS):
                rank[i] += rest[i] < rest[j]
                rank[j] += ~(rest[i] < rest[j])
        rank += nearest.astype(np.int32).sum(0)  # back to the plane, if rounding has left it
        turn = np.where(rank < 0, 6, np.where(rank > 5, -6, 0)).astype(np.int32)
        rank, base = rank + turn, base + turn
        rest = (at - base.astype(F)) * F(1 / 6)
        ordered = np.take_along_axis(rest, np.argsort(rank, axis=0), axis=0)
        weight = [(ordered[5] - ordered[0]) + ONE, *(ordered[5 - k] - ordered[6 - k] for k in range(1, 6))]
        corner = np.stack([base + np.where(rank < 6 - k, k, k - 6) for k in range(CORNERS)], axis=-1)  # [6, P, 6]
        vertices, vertex = np.unique(corner[:5].reshape(5, -1), axis=1, return_inverse=True)
        names = {tuple(key): i + 1 for i, key in enumerate(vertices.T.tolist())}
        beside = np.zeros((CORNERS, 2, len(names) + 1), np.intp)
        for axis in range(CORNERS):
            step = np.where(np.arange(5) == axis, -5, 1)
            for side, moved in enumerate((vertices.T - step, vertices.T + step)):
                beside[axis, side, 1:] = [names.get(tuple(key), 0) for key in moved.tolist()]
        vertex = vertex.reshape(-1, CORNERS) + 1
        part = (y // PART_ROWS) * -(-width // PART_COLUMNS) + x // PART_COLUMNS
        pairs = np.stack([np.broadcast_to(part[:, None], vertex.shape), vertex], axis=-1).reshape(-1, 2).astype(np.intp)
        groups, group = np.unique(pairs, axis=0, return_inverse=True)
        return cls(vertex, np.stack(weight, axis=-1), beside, group.reshape(vertex.shape), groups)

    def splat(self, rows: Array) -> Array:
        """Sum what the pixels say to each vertex, of each part of the image by itself: [P, C] -> [M + 1, C]."""
        sums = np.zeros((len(self.groups), rows.shape[1]), F)
        np.add.at(sums, self.group.ravel(), (self.weight[..., None] * rows[:, None]).reshape(-1, rows.shape[1]))
        summed = np.zeros((self.beside.shape[2], rows.shape[1]), F)
        np.add.at(summed, self.groups[:, 1], sums)
        return summed

    def blur(self, vertices: Array, transposed: bool) -> Array:
        """Blur [M + 1, C] along the six axes by ½, 1, ½; vertex 0 holds 0."""
        for axis in range(5, -1, -1) if transposed else range(CORNERS):
            before, after = self.beside[axis]
            vertices = vertices + (vertices[before] + vertices[after]) * F(0.5)
            vertices[0] = ZERO
        return vertices

    def slice(self, vertices: Array) -> Array:
        """Give back to the pixels: [M + 1, C] -> [P, C]."""
        said: Array = np.zeros((len(self.weight), vertices.shape[1]), F)
        for k in range(CORNERS):
            said = said + self.weight[:, k, None] * vertices[self.vertex[:, k]]
        return said


def _factors(total: Array, after: bool, transposed: bool) -> tuple[Array, Array]:
    """What the pixels' values are multiplied with before a filter, and what after it: n^-½ both, or 1/n on one side."""
    if after:
        one = np.ones_like(total)
        return (ONE / total, one) if transposed else (one, ONE / total)
    root = ONE / np.sqrt(total)
    return root, root


class _Line:
    """The spatial kernel along one axis: a Gaussian over nodes, which lie on every pixel, or, if it is wide, two apart.
    Then a pixel between two of them gives each of them half, and gets half of what each of them has."""

    def __init__(self, length: int, sigma: float, after: bool, transposed: bool) -> None:
        self.length, self.step = length, 2 if sigma >= WIDE else 1
        self.nodes = length // 2 + 1 if self.step == 2 else length
        variance = (sigma * sigma - 1) / 4 if self.step == 2 else sigma * sigma  # of σ², 1 is the halves'
        reach = int(min(3 * math.sqrt(variance), self.nodes - 1))
        self.weight = exp(-(np.arange(reach + 1, dtype=F) ** 2) * F(0.5 / variance))
        one = np.ones((length, 1, 1), F)
        total = self.up(self.filter(self.down(one, one[:, 0, 0], 0), 0), 0)
        self.before, self.after = _factors(total[:, 0, 0], after, transposed)

    def down(self, values: Array, factor: Array, axis: int) -> Array:
        """What the nodes are given by [H, W, C], each pixel times its factor."""
        values = np.moveaxis(values, axis, 0)
        own = values * factor[:, None, None]
        if self.step == 2:
            half = values * (factor * F(0.5))[:, None, None]
            given = np.zeros((self.nodes, *values.shape[1:]), F)
            given[: len(own[::2])] = own[::2]
            given[: len(half[1::2])] += half[1::2]
            given[1 : 1 + len(half[1::2])] += half[1::2]
            own = given
        return np.moveaxis(own, 0, axis)

    def filter(self, nodes: Array, axis: int) -> Array:
        """Filter along an axis; beyond the ends lies 0."""
        reach = len(self.weight) - 1
        framed = np.pad(nodes, [(reach, reach) if a == axis else (0, 0) for a in range(3)])
        at = [framed.take(np.arange(self.nodes) + r, axis) for r in range(2 * reach + 1)]
        said: Array = at[reach] * self.weight[0]
        for r in range(1, reach + 1):
            said = said + (at[reach - r] + at[reach + r]) * self.weight[r]
        return said

    def up(self, nodes: Array, axis: int) -> Array:
        """What the nodes say to the pixels."""
        i = np.arange(self.length)
        if self.step == 1:
            return nodes
        between = (nodes.take(i // 2, axis) + nodes.take((i + 1) // 2, axis)) * F(0.5)
        is_between = (i % 2 == 1).reshape([-1 if a == axis else 1 for a in range(3)])
        return np.where(is_between, between, nodes.take(i // 2, axis))


class _Filters:
    """Both kernels for one image uint8 [H, W, 3]."""

    def __init__(
        self,
        image: Array,
        *,
        w1: float,
        sigma_alpha: float,
        sigma_beta: float,
        w2: float,
        sigma_gamma: float,
        after: bool,
        transposed: bool = False,
    ) -> None:
        self.size, self.w1, self.w2, self.transposed = image.shape[:2], F(w1), F(w2), transposed
        if w1 > 0:
            self.lattice = Lattice.of(image, sigma_alpha, sigma_beta)
            ones = np.ones((len(self.lattice.weight), 1), F)
            total = self.lattice.slice(self.lattice.blur(self.lattice.splat(ones), False))
            before, behind = _factors(total, after, transposed)
            self.give, self.get = before, behind * self.w1
        self.rows, self.columns = (_Line(n, sigma_gamma, after, transposed) for n in self.size)

    def add(self, unary: Array, q: Array) -> Array:
        """Return unary + Σ_m w_m K_m q, all [P, C]."""
        score = unary
        if self.w2 > 0:
            rows, columns = self.rows, self.columns
            nodes = rows.down(columns.down(q.reshape(*self.size, -1), columns.before, 1), rows.before, 0)
            nodes = columns.filter(rows.filter(nodes, 0), 1)
            factor = columns.after * (rows.after * self.w2)[:, None]
            said = columns.up(rows.up(nodes, 0), 1) * factor[..., None]
            score = score + said.reshape(q.shape)
        if self.w1 > 0:
            vertices = self.lattice.blur(self.lattice.splat(q * self.give), self.transposed)
            score = score + self.lattice.slice(vertices) * self.get
        return score


@np.errstate(invalid="ignore", over="ignore")
def scores(semantic: Array, size: tuple[int, int], stride: int, probabilities: bool) -> Array:
    """Scores of every pixel from a head [C, h, w], the greatest being 0: [P, C]. NaN is a class that cannot be."""
    values = semantic.astype(F)
    for axis, length in ((2, size[1]), (1, size[0])):
        nodes = values.shape[axis]
        before = np.minimum(np.arange(length) // stride, nodes - 1)
        past = np.where(before < nodes - 1, np.arange(length) % stride, 0)
        f = (past.astype(F) / F(stride)).reshape((-1, 1) if axis == 1 else (-1,))
        a, b = values.take(before, axis), values.take(before + (past > 0), axis)
        values = np.where(f == 0, a, a * (ONE - f) + b * f)
    rows = values.reshape(len(values), -1).T
    low, high = (F(2.0**-23), ONE) if probabilities else (IMPOSSIBLE, -IMPOSSIBLE)
    rows = np.where(rows > low, rows, low)
    rows = np.where(rows < high, rows, high)
    if probabilities:
        rows = -log(ONE / rows)
    below: Array = np.maximum(rows - rows.max(axis=1, keepdims=True), F(4) * IMPOSSIBLE)
    return below


def softmax(rows: Array) -> Array:
    """Q of scores [P, C]; what is less than e⁻⁴⁰ of the greatest is 0. Sums go over every eighth class first."""
    below = rows - rows.max(axis=1, keepdims=True)
    share = np.where(below < F(-40), ZERO, exp(below))
    s = np.zeros((len(rows), GROUP), F)
    for first in range(0, rows.shape[1], GROUP):
        part = share[:, first : first + GROUP]
        s[:, : part.shape[1]] = s[:, : part.shape[1]] + part
    s = s.T
    total: Array = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
    q: Array = share * (ONE / total)[:, None]
    return q


def crf(semantic: Array, image: Array, *, stride: int, iterations: int, probabilities: bool, **kernels: Any) -> Array:
    """Q by mean field, of a head [N, C, h, w] and images uint8 [N, H, W, 3]: float32 [N, C, H, W].

    Args:
        semantic, image: as above.
        stride: px between the nodes of the head.
        iterations: updates after Q has begun as that of the head.
        probabilities: whether the head holds them, not logits.
        kernels: w1, sigma_alpha, sigma_beta, w2, sigma_gamma, and after, the normalization.
    """
    out = np.full((*semantic.shape[:2], *image.shape[1:3]), NAN)
    for n in range(len(out)):
        unary = scores(semantic[n], image.shape[1:3], stride, probabilities)
        filters, q = _Filters(image[n], **kernels), softmax(unary)
        for _ in range(iterations):
            q = softmax(filters.add(unary, q))
        out[n] = q.T.reshape(out.shape[1:])
    return out


def crf_filter(values: Array, image: Array, **kernels: Any) -> Array:
    """Σ_m w_m K_m v of values v float32 [N, C, H, W], with the kernels of `crf`, or `transposed` ones."""
    out = np.full(values.shape, NAN)
    for n in range(len(out)):
        rows = values[n].reshape(values.shape[1], -1).T
        out[n] = _Filters(image[n], **kernels).add(np.zeros_like(rows), rows).T.reshape(out.shape[1:])
    return out


def exact(
    unary: Array,
    image: Array,
    *,
    w1: float,
    sigma_alpha: float,
    sigma_beta: float,
    w2: float,
    sigma_gamma: float,
    iterations: int,
    after: bool,
) -> Array:
    """Mean field over all pairs of pixels, in float64: O(P²) time and memory, so for small images.

    Args:
        unary: scores [C, H, W], log P.
        image: uint8 [H, W, 3].
        w1, sigma_alpha, sigma_beta, w2, sigma_gamma, iterations, after: as `crf`.

    Returns:
        Q, float64 [C, H, W].
    """

    def distances(features: Array) -> Array:
        squares = (features**2).sum(1)
        found: Array = np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0)
        return found

    place = np.indices(image.shape[:2]).reshape(2, -1).T.astype(np.float64)
    color = image.reshape(-1, 3).astype(np.float64)
    near = distances(place)
    message = np.zeros_like(near)
    for weight, exponent in (
        (w1, near / (2 * sigma_alpha**2) + distances(color) / (2 * sigma_beta**2)),
        (w2, near / (2 * sigma_gamma**2)),
    ):
        kernel = np.exp(-exponent)
        total = kernel.sum(1)
        message += weight * (kernel / total[:, None] if after else kernel / np.sqrt(total[:, None] * total))
    scores_of = unary.reshape(len(unary), -1).T.astype(np.float64)

    def normalized(rows: Array) -> Array:
        e = np.exp(rows - rows.max(1, keepdims=True))
        shares: Array = e / e.sum(1, keepdims=True)
        return shares

    q = normalized(scores_of)
    for _ in range(iterations):
        q = normalized(scores_of + message @ q)
    found: Array = q.T.reshape(unary.shape)
    return found
