# SPDX-License-Identifier: Apache-2.0
"""Kills `deeperlab predict` at random moments and gives the same command again: FOLDER KILLS SEED.

Every command is a fork of this process, so that a kill hits the work and not the imports. It fails where a file is
listed and not there, where one is left that no record tells of, or where the end is not that of a run without a kill.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from predicting import Net, contents, picture, write_video

from deeperlab import models
from deeperlab.cli import app


def start(*arguments: object) -> int:
    """The process of a command."""
    if process := os.fork():
        return process
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    try:
        arguments = ("predict", *arguments, "--device", "cpu", "--labels", "cityscapes")
        os._exit(app([str(argument) for argument in arguments], standalone_mode=False) or 0)
    finally:
        os._exit(99)


def finish(process: int) -> int:
    """The exit code of a process; less than 0: the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def listed(out: Path) -> set[str]:
    """The PNGs that the JSON lists, all of which are there."""
    listing = out / "panoptic.json"
    files = {a["file_name"] for a in json.loads(listing.read_bytes())["annotations"]} if listing.exists() else set()
    assert all((out / "panoptic" / file).is_file() for file in files)
    return files


def main(work: Path, wanted: int, seed: int) -> None:
    models.from_pretrained = lambda folder: Net(Path(folder).name)  # type: ignore[assignment]
    torch.set_num_threads(1)
    photos, out, chance, kills = work / "photos", work / "out", random.Random(seed), 0
    for folder in (photos / "below", work / "model", work / "other"):
        folder.mkdir(parents=True)
    for i in range(16):
        Image.fromarray(picture((65, 65), i)).save(photos / ("below" if i % 3 else ".") / f"{i}.png")
    for name, frames in (("film.mp4", 30), ("below/film.mp4", 15)):
        write_video(photos / name, frames=frames)
    commands = {
        "first": (photos, "--model", work / "model", "--heads"),
        "again": (photos, "--model", work / "other", "--heads", "--overwrite"),
    }
    expected = {}
    for name, command in commands.items():
        begin = time.perf_counter()
        assert finish(start(*command, "--out", work / name)) == 0
        seconds, expected[name] = time.perf_counter() - begin, contents(work / name)
    while kills < wanted:
        shutil.rmtree(out, ignore_errors=True)
        for name, command in commands.items():
            while chance.random() < 0.7:
                process = start(*command, "--out", out)
                time.sleep(chance.uniform(0, seconds))
                os.kill(process, signal.SIGKILL)
                code = finish(process)
                assert code in (0, -signal.SIGKILL), code
                kills += code != 0
                listed(out)
            if chance.random() < 0.3:  # whatever the next command is, nothing unfinished stays
                assert finish(start(photos / "0.png", *command[1:], "--out", out)) == 0
                there = {file.relative_to(out / "panoptic").as_posix() for file in out.glob("panoptic/**/*.png")}
                assert listed(out) == there, listed(out) ^ there
            assert finish(start(*command, "--out", out)) == 0
            found = contents(out)
            differ = [file for file in found | expected[name] if found.get(file) != expected[name].get(file)]
            assert not differ, differ
    print(f"{kills} kills")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
