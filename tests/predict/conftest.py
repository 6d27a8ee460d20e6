# SPDX-License-Identifier: Apache-2.0
"""Photographs, and networks in the place of the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from predicting import SIZES, Net, picture

from deeperlab import models


@pytest.fixture(autouse=True)
def nets(monkeypatch: pytest.MonkeyPatch) -> None:
    """`net` and `other` take the place of the networks; a file makes them trained."""

    def load(model: Net, file: Path) -> None:
        file.read_bytes()
        model.has_trained_weights = True

    monkeypatch.setattr(models, "list_models", lambda: ["net", "other"])
    monkeypatch.setattr(models, "create", lambda name, num_classes: Net(name, trained=False, num_classes=num_classes))
    monkeypatch.setattr(models, "load_weights", load)
    monkeypatch.setattr(models, "from_pretrained", lambda folder: Net(Path(folder).name))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for i, (name, size) in enumerate(SIZES.items()):
        place = folder / "below" if i == 3 else folder
        Image.fromarray(picture(size, i)).save(place / f"{name}.png")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.md").write_text("")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "trained").mkdir()
    return tmp_path / "trained"
