# SPDX-License-Identifier: Apache-2.0
"""The options of commands that read pictures: how large they may be, and where links may lead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

FollowLinks = Annotated[
    bool,
    typer.Option("--follow-links", help="Read files that are links out of their folder, as in the hub's cache or DVC."),
]
MaxPixels = Annotated[
    int | None, typer.Option(min=1, help="Refuse larger pictures and videos; by default Pillow's 89478485.")
]


@contextmanager
def pixel_limit(max_pixels: int | None) -> Iterator[None]:
    """Set the limit of pixels, which is Pillow's own, that all who decode ask for."""
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = before if max_pixels is None else max_pixels
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
