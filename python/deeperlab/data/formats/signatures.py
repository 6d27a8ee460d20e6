# SPDX-License-Identifier: Apache-2.0
"""What kind of picture a file is, by its first bytes."""

from __future__ import annotations

from .chunks import SIGNATURE

HEAD_BYTES = 64
"""In which every kind says what it is."""

_SIGNATURES = {
    SIGNATURE: "Png",
    b"\xff\xd8\xff": "Jpeg",
    b"GIF87a": "Gif",
    b"GIF89a": "Gif",
    b"BM": "Bmp",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "Tiff"),
}
_AVIF = (b"avif", b"avis")
_HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def kind_of(head: bytes) -> str | None:
    """Return Png, Jpeg, Gif, Bmp, Tiff, Webp, Avif or Heif, or None of other first bytes."""
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "Webp"
    if head[4:8] == b"ftyp":
        brands = head[8:12] + head[16 : int.from_bytes(head[:4], "big")]
        return next((kind for kind, of in (("Avif", _AVIF), ("Heif", _HEIF)) if any(b in brands for b in of)), None)
    return None
