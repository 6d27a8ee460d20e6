# SPDX-License-Identifier: Apache-2.0
"""The ceiling that the representation sets on a user's own annotations, and why each lost instance is lost."""

from __future__ import annotations

from .ceiling import NOTE, ImageReport, Oracle, assigned_to
from .diagnose import Diagnosis, Lost, Truth

__all__ = ["NOTE", "Diagnosis", "ImageReport", "Lost", "Oracle", "Truth", "assigned_to"]
