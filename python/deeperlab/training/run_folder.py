# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: what lies where, and the lines of its metrics.

* `config.toml`: all options, resolved.
* `data.json`: what was found of the data before the first step, with all files that something is wrong with.
* `state/`: everything that the run goes on from.
* `last/`, `best/`: networks for `models.from_pretrained`, with their `labels.json`.
* `metrics.jsonl`: an object a line, of steps, or of steps and a validation; `metrics.csv`: the same as a table.
* `pictures/`: of the validations, below their step.
* `page.html`, `curves.png`: what it all looks like.
* `fault/`: what `replay` needs of a step that failed.
* `lock`: held by the process that trains.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..data import labels as label_files
from ..data.files import TEMPORARY, FormatError, replace
from ..data.formats.segments import list_names
from ..data.labels import LABELS, LabelSet
from .config import Config
from .config_file import changes, read


class RunFolder:
    """The paths of a run, and its metrics."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config, self.state = self.path / "config.toml", self.path / "state" / "state.pt"
        self.last, self.best = self.path / "last", self.path / "best"
        self.metrics, self.table = self.path / "metrics.jsonl", self.path / "metrics.csv"
        self.pictures, self.fault = self.path / "pictures", self.path / "fault"
        self.data = self.path / "data.json"
        self.page, self.curves = self.path / "page.html", self.path / "curves.png"
        self._lock: IO[bytes] | None = None
        self._is_new, self._was_there = False, self.path.exists()

    def require_new(self) -> None:
        """Refuse a folder that holds a run already.

        Raises:
            FileExistsError: it does.
        """
        if self.config.exists() or self.state.exists():
            remedy = "go on with it (resume=True; --resume, with --set for what is to change), or give another folder"
            raise FileExistsError(errno.EEXIST, f"holds a run already; {remedy}", str(self.path))

    def require_run(self) -> None:
        """Refuse a folder that holds no run.

        Raises:
            FileNotFoundError: it does not.
        """
        if not self.config.exists():
            raise FileNotFoundError(errno.ENOENT, "holds no run: there is no config.toml", str(self.path))

    def claim(self, *, resume: bool) -> None:
        """Make the folder, keep other processes from it until `close`, and remove what killed ones left unfinished.

        Raises:
            BlockingIOError: another process trains in it.
            FileExistsError, FileNotFoundError: as `require_new` and `require_run`.
        """
        if self._lock is not None:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / "lock").open("ab")
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # which workers, unlike a flock, do not inherit
        except OSError as fault:  # another one: the file system knows no locks
            if fault.errno in (errno.EACCES, errno.EAGAIN):
                self.close()
                raise BlockingIOError(errno.EAGAIN, "another process trains in this folder", str(self.path)) from None
        self.require_run() if resume else self.require_new()
        self._is_new = not resume
        for folder in (self.path, self.state.parent, self.last, self.best, self.fault):
            for left in folder.glob(".*.tmp"):
                if TEMPORARY.fullmatch(left.name):
                    left.unlink()

    def close(self) -> None:
        """Let other processes train in it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def require_classes(self, labels: LabelSet) -> None:
        """Refuse other classes, another order of them, or other things among them, than those of the network there.

        Raises:
            FormatError: they are others; or labels.json is damaged.
        """
        file = self.last / LABELS
        if not file.exists():
            return
        known = label_files.read(file)
        if known.names != labels.names:
            now, before = list_names(labels.names), list_names(known.names)
            raise FormatError(file, f"the run began with the classes {before}; the data have {now}")
        if known.things != labels.things:
            now, before = (list_names([each.names[c] for c in each.things]) for each in (labels, known))
            raise FormatError(file, f"the run began with the things {before}; the data have {now}")

    def create(self, config: str) -> None:
        """Write the options into it as TOML."""
        replace(self.config, lambda file: file.write(config.encode()))

    @contextmanager
    def undone_by_faults(self) -> Iterator[None]:
        """Leave nothing of a run that begins here if a fault comes before its first step, so that it can begin anew."""
        try:
            yield
        except Exception:
            if self._is_new:
                trackers, lock = self.path / "trackers.json", self.path / "lock"
                for file in (self.config, self.data, self.metrics, trackers, lock):
                    file.unlink(missing_ok=True)
                if not self._was_there:
                    with suppress(OSError):  # trackers have written there
                        self.path.rmdir()
            raise

    def changed(self, config: Config) -> str:
        """Say which options are others than those that the run had before; empty: none."""
        told = changes(read(self.config), config).values()
        return f"goes on with other options: {', '.join(told)}" if told else ""

    def write_data(self, found: Mapping[str, Any]) -> None:
        """Keep what was found of the data."""
        text = json.dumps(plain(found), indent=1, allow_nan=False) + "\n"
        replace(self.data, lambda file: file.write(text.encode()))

    def of_others(self, config: Config, fault: Exception) -> str:
        """Say why a state does not fit, by the options of network and optimizer in which the run differs, if any."""
        told = [
            text
            for name, text in changes(read(self.config), config).items()
            if name.startswith("model.") or name == "train.optimizer"
        ]
        expected = "expected the state of a network and an optimizer as in the options, got that of others: "
        return f"{expected}{', '.join(told) or fault}"

    def lines(self) -> list[dict[str, Any]]:
        """Read the metrics; a last line that a kill has cut is left out.

        Raises:
            FormatError: another line is no JSON object with a step.
        """
        if not self.metrics.exists():
            return []
        found: list[dict[str, Any]] = []
        for number, line in enumerate(self.metrics.read_bytes().splitlines(keepends=True), start=1):
            if not line.endswith(b"\n"):
                break
            try:
                found.append(json.loads(line))
            except ValueError as fault:
                raise FormatError(self.metrics, f"line {number}: expected an object of JSON ({fault})") from fault
            if not isinstance(found[-1], dict) or not isinstance(found[-1].get("step"), int):
                raise FormatError(self.metrics, f"line {number}: expected an object of JSON with its step")
        return found

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line to the metrics; what is not finite becomes null.

        Raises:
            OSError: not all of it could be written. The next process to come here drops what there is of it.
        """
        text = json.dumps({name: plain(value) for name, value in line.items()}, allow_nan=False) + "\n"
        with self.metrics.open("ab") as file:
            file.write(text.encode())

    def forget_from(self, step: int) -> None:
        """Drop the lines of a step and of those after it, which are going to come again.

        Raises:
            FormatError: as `lines`.
        """
        kept = [line for line in self.lines() if line["step"] < step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        replace(self.metrics, lambda file: file.write(text.encode()))

    def write_table(self) -> None:
        """Write metrics.csv anew: a row a line, a column for every name of a number, as they first came."""
        lines = [
            {name: value for name, value in line.items() if not isinstance(value, (dict, str))} for line in self.lines()
        ]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(name for line in lines for name in line)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        replace(self.table, lambda file: file.write(text.getvalue().encode()))


def plain(value: Any) -> Any:
    """Return None for numbers that are not finite, which JSON does not know, also within mappings and lists."""
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not -float("inf") < value < float("inf") else value
