"""Parts of the training data that are validated on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from annotated import LABELS, Scenes, write

from deeperlab.training.folds import fold_of, leave_out
from deeperlab.training.index import id_of, packed
from deeperlab.training.sources import Source, Sources


def ids(source: Source) -> list[object]:
    return [id_of(source.samples, n) for n in range(len(source.samples))]


def test_folds_are_of_equal_size_and_an_image_keeps_its_own_whatever_others_there_are() -> None:
    folds = Counter(fold_of(image_id, 5) for image_id in range(10_000))
    assert sorted(folds) == [1, 2, 3, 4, 5]
    assert all(abs(count - 2000) < 160 for count in folds.values())  # four standard deviations
    assert (fold_of("aachen_000001", 5), fold_of(139, 5)) == (2, 2)


@pytest.mark.parametrize("pack_first", [False, True])
def test_every_image_is_validated_on_in_one_fold_and_trained_on_in_the_others(tmp_path: Path, pack_first: bool) -> None:
    sources = Sources(
        LABELS, (Source("files", write(tmp_path, 12), 3.0), Source("drawn", Scenes(20))), Source("own", Scenes(1))
    )
    held = Counter[object]()
    for i in (1, 2, 3):
        fold = leave_out(packed(sources), f"{i}/3") if pack_first else packed(leave_out(sources, f"{i}/3"))
        assert fold.val is not None
        assert [source.weight for source in fold.train] == [3.0, 1.0]
        assert sorted(map(str, ids(fold.val) + ids(fold.train[0]) + ids(fold.train[1]))) == sorted(
            map(str, [*range(1, 13), *range(20)])
        )
        assert all(fold_of(image_id, 3) == i for image_id in ids(fold.val))  # type: ignore[arg-type]
        for source in (*fold.train, fold.val):
            assert [sample.image_id for sample in source.samples] == ids(source)
        held.update(ids(fold.val))
    assert held == Counter([*range(1, 13), *range(20)])


def test_without_folds_sources_stay() -> None:
    sources = Sources(LABELS, (Source("drawn", Scenes(20)),), None)
    assert leave_out(sources, "") is sources


def test_folds_without_images_are_told() -> None:
    sources = Sources(LABELS, (Source("drawn", Scenes(1)),), None)
    part = fold_of(0, 2)
    with pytest.raises(ValueError, match=f"data.fold: expected images of drawn outside of part {part}/2, got none"):
        leave_out(sources, f"{part}/2")
    with pytest.raises(ValueError, match=f"data.fold: expected images in part {3 - part}/2, got none"):
        leave_out(sources, f"{3 - part}/2")
