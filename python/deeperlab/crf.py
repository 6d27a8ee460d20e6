# SPDX-License-Identifier: Apache-2.0
"""The fully connected CRF: probabilities of a head made to follow the edges of its image, by mean field."""

from __future__ import annotations

import operator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ._layout import kind_of, shape_of
from ._threads import thread_count

Normalization = Literal["symmetric", "after"]
NORMALIZATIONS = ("symmetric", "after")
MAX_WEIGHT, LEAST_SIGMA, MAX_SIGMA, MAX_ITERATIONS = 1e4, 1e-2, 1e6, 1 << 16


@dataclass(frozen=True)
class CRFParams:
    """Kernels of the fully connected CRF, and how often the mean field is updated.

    k(i, j) = w1 · exp(−|p_i − p_j|² / 2σα² − |I_i − I_j|² / 2σβ²) + w2 · exp(−|p_i − p_j|² / 2σγ²) for pixels at p
    with colors I of 0 … 255 (Krähenbühl and Koltun, NIPS 2011; DeepLab v1, section 2.3; v2, section 3.3). The weights
    of DeepLab were found by search for its own networks; another network is worth a search of its own.

    Attributes:
        w1: weight of the bilateral kernel; 0: there is none.
        sigma_alpha: its width, px.
        sigma_beta: its width, in levels of color.
        w2: weight of the spatial kernel; 0: there is none.
        sigma_gamma: its width, px.
        iterations: updates of the mean field.
        normalization: of a kernel K with n = K·1: "symmetric" is n^−½ K n^−½ (Krähenbühl and Koltun, ICML 2013),
            "after" K/n (NIPS 2011, from which DeepLab's own program descends).

    Raises:
        ValueError, TypeError: a value out of bounds, named with what was expected.
    """

    w1: float = 5.0
    sigma_alpha: float = 50.0
    sigma_beta: float = 10.0
    w2: float = 3.0
    sigma_gamma: float = 3.0
    iterations: int = 10
    normalization: Normalization = "symmetric"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("w1", 0.0, MAX_WEIGHT),
            ("sigma_alpha", LEAST_SIGMA, MAX_SIGMA),
            ("sigma_beta", LEAST_SIGMA, MAX_SIGMA),
            ("w2", 0.0, MAX_WEIGHT),
            ("sigma_gamma", LEAST_SIGMA, MAX_SIGMA),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
                raise TypeError(f"{name}: expected a number, got {value!r}")
            if not low <= value <= high:  # False for NaN
                raise ValueError(f"{name}: expected {low:g} to {high:g}, got {value}")
            object.__setattr__(self, name, float(value))
        if isinstance(self.iterations, bool) or not hasattr(self.iterations, "__index__"):
            raise TypeError(f"iterations: expected an int, got {self.iterations!r}")
        if not 0 <= self.iterations <= MAX_ITERATIONS:
            raise ValueError(f"iterations: expected 0 to {MAX_ITERATIONS}, got {self.iterations}")
        object.__setattr__(self, "iterations", operator.index(self.iterations))
        if self.normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization: expected one of {NORMALIZATIONS}, got {self.normalization!r}")

    @classmethod
    def preset(cls, name: str) -> CRFParams:
        """One of DeepLab's settings, or of the published library: a key of `PRESETS`.

        Raises:
            ValueError: there is none of this name.
        """
        if name not in PRESETS:
            raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
        return PRESETS[name]

    def kernels(self) -> dict[str, Any]:
        """The options of the operators but for the iterations."""
        made = asdict(self)
        del made["iterations"]
        made["after"] = made.pop("normalization") == "after"
        return made


PRESETS = {
    "deeplab_v1": CRFParams(5, 50, 10, 3, 3),
    "deeplab_v1_msc": CRFParams(3, 95, 3, 3, 3),
    "deeplab_v1_coco_largefov": CRFParams(5, 67, 3, 3, 3),
    "deeplab_v2": CRFParams(4, 67, 3, 3, 1),
    "densecrf": CRFParams(10, 80, 13, 3, 3),
}
"""(w1, σα, σβ, w2, σγ), all with 10 iterations: DeepLab v1, its multi-scale and its COCO-trained variants, as its
published scripts have them; v2 as a PyTorch port of it does, whose σγ is 1; and the example of the published library.
"""


def crf(
    semantic: Any,
    image: Any,
    params: CRFParams | str | None = None,
    *,
    stride: int | None = None,
    probabilities: bool = False,
    num_threads: int | None = None,
    **changes: Any,
) -> Any:
    """Refine the classes of an image by a fully connected CRF with Potts energies, by mean field.

    Q begins as softmax of the logits; an update is Q ← softmax(log P + Σ_m w_m K_m Q). The bilateral kernel is
    filtered on the permutohedral lattice, the spatial one along rows and columns, out to four of its standard
    deviations. A pixel speaks to itself too, as in the published library. The result has the same bits for tensors
    and arrays, on the CPU and on a GPU, for any number of threads and any place in a batch. Images are done one
    after the other: the memory beyond the result is that of one of them, at 21 classes some 430 bytes a pixel
    (docs/crf.md). It is not differentiable: `deeperlab.models.CRF` is.

    Args:
        semantic: logits [N, C, h, w] or [C, h, w], float32, float16 or (tensors) bfloat16. Node (i, j) is pixel
            (stride·i, stride·j), as in `Heads`, and pixels between nodes are bilinear. NaN and −inf are classes that
            cannot be, +inf one that must.
        image: uint8 RGB [N, H, W, 3] or [H, W, 3], of the same kind as `semantic`; H <= stride·h, W <= stride·w.
        params: of the kernels, or the name of a preset (`CRFParams.preset`); None: `CRFParams()`, DeepLab v1.
        stride: px between nodes; None: 1 where semantic has the size of the image, else 4.
        probabilities: whether `semantic` holds probabilities; they are clamped to [2⁻²³, 1].
        num_threads: for NumPy arrays only (default: all processors that the process may use); tensors follow
            `torch.set_num_threads`.
        changes: fields of `CRFParams` that differ from those of `params`.

    Returns:
        Q float32 [N, C, H, W] or [C, H, W], of the kind of `semantic`; each pixel adds up to 1, and what is less than
        e⁻⁴⁰ of its greatest is 0. On a GPU the host waits once an image, unless w1 is 0, for the size of the lattice;
        so a call cannot be captured in a CUDA graph.

    Raises:
        ValueError, TypeError: an argument that does not fit, named with what was expected and what came; among them a
            sigma so small that the lattice cannot be numbered.
        MemoryError, RuntimeError: there is not enough memory, for arrays and for tensors.
    """
    params = params_of(params, changes)
    kind = kind_of("semantic", semantic)
    if kind_of("image", image) is not kind:
        raise TypeError(f"image: expected a {kind.__name__} as semantic is, got {type(image).__name__}")
    batched, sizes = semantic.ndim == 4, shape_of(image)
    if semantic.ndim not in (3, 4):
        raise ValueError(f"semantic: expected shape [C, h, w] or [N, C, h, w], got {shape_of(semantic)}")
    if image.ndim != semantic.ndim or sizes[-1] != 3:
        expected = "[N, H, W, 3]" if batched else "[H, W, 3]"
        raise ValueError(f"image: expected shape {expected}, got {sizes}")
    if stride is None:
        stride = 1 if shape_of(semantic)[-2:] == sizes[-3:-1] else 4
    given = (semantic, image) if batched else (semantic[None], image[None])
    options: dict[str, Any] = {
        "stride": operator.index(stride),
        "iterations": params.iterations,
        "probabilities": bool(probabilities),
        **params.kernels(),
    }
    if kind is np.ndarray:
        from ._numpy import crf as crf_arrays

        q = crf_arrays(*given, **options, num_threads=thread_count(num_threads))
    else:
        if num_threads is not None:
            raise ValueError(f"num_threads: expected None for tensors, got {num_threads}; use torch.set_num_threads")
        from ._torch_library import call, require_kernels
        from .stages.crf_ops import crf as crf_tensors

        require_kernels("semantic", semantic)
        q = call(crf_tensors, given[0].detach(), given[1], **options)
    return q if batched else q[0]


def params_of(params: CRFParams | str | None, changes: dict[str, Any] | None = None) -> CRFParams:
    """`CRFParams` from them, the name of a preset or None, with some fields changed.

    Raises:
        TypeError, ValueError: they are none, or a field does not exist.
    """
    if isinstance(params, str):
        params = CRFParams.preset(params)
    params = CRFParams() if params is None else params
    if not isinstance(params, CRFParams):
        raise TypeError(f"params: expected deeperlab.CRFParams or the name of a preset, got {type(params).__name__}")
    fields = asdict(params)
    for name in changes or ():
        if name not in fields:
            raise TypeError(f"{name}: expected an argument of crf or a field of CRFParams, {', '.join(fields)}")
    return CRFParams(**(fields | (changes or {})))
