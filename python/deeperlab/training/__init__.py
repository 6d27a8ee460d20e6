# SPDX-License-Identifier: Apache-2.0
"""Training: from annotations to a network, exactly resumable.

Two levels. `train` runs what a `Config` says, as `deeperlab train` does. Beneath it are the pure parts, for a loop of
one's own: `losses` (plain functions), batches that are a pure function of seed, step and slot, and the validation.
"""

from __future__ import annotations

from .config import Config

__all__ = ["Config"]
