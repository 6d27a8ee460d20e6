# SPDX-License-Identifier: Apache-2.0
"""Pictures of an evaluation: one for each image, and a list of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..data.formats.coco import Annotation, Dataset
    from ..metrics import ImageEvaluation

LISTING, OPTION = "pictures.json", "--pictures"
MARK = f"deeperlab eval {OPTION}"


class Pictures:
    """Draws ground truth, prediction and errors of every image into a folder, over its photograph where there is one.

    Args:
        data: the annotations.
        out: the folder, made if absent.
        images: the folder of the photographs; None: the maps alone.

    Raises:
        FormatError: a photograph is not there, or two images would have one picture.
        FileExistsError: `out` holds files that are not of an earlier run.
        OSError: `out` is no folder, or may not be written.
    """

    def __init__(self, data: Dataset, out: Path, images: Path | None) -> None:
        from ..data.files import FormatError, check_names, check_ours, clean_up

        self._data, self._out = data, out
        if images is not None:
            images.stat()  # or every photograph would be missed
        self._photographs = {
            a.image_id: None if images is None else _photograph(images, a, data) for a in data.annotations
        }
        names = [self._name(annotation) for annotation in data.annotations]
        try:
            check_names(out, names, OPTION)
        except ValueError as fault:
            raise FormatError(data.path, f"pictures: {fault}") from fault
        check_ours(out, (LISTING, *names), LISTING, MARK, OPTION)
        clean_up(out, names)
        self._categories = {category.id: category.isthing for category in data.categories}
        self._names = {category.id: category.name for category in data.categories}

    def draw(self, image: ImageEvaluation, prediction: Any, target: Any) -> None:
        """Draw one image; by several threads at once."""
        from ..data.files import FormatError
        from ..data.formats.photo import Photo
        from ..data.formats.png import write_rgb
        from ..visualize import comparison

        path = self._photographs[image.target.image_id]
        photograph, size = None, target[0].shape
        if path is not None:
            with Photo(path) as photo:
                if size not in (photo.size, photo.upright_size):
                    shown, mapped = (f"{width} × {height} px" for height, width in (photo.upright_size, size))
                    raise FormatError(path, f"is {shown}, but {image.target.file_name} {mapped}")
                photograph = photo.read(exif=size != photo.size)
        drawn = comparison(photograph, prediction, target, self._categories, self._names, num_threads=1)
        place = self._out / self._name(image.target)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_rgb(place, drawn)

    def finish(self, reports: list[dict[str, Any]]) -> None:
        """List the pictures with their figures, the worst first; `reports`: the `to_dict()` of each image."""
        from ..data.files import replace

        names = {annotation.image_id: self._name(annotation) for annotation in self._data.annotations}
        entries = [{"picture": names[report["image_id"]], **report} for report in reports]
        entries.sort(key=lambda entry: 2.0 if entry["pq"] is None else entry["pq"])
        text = json.dumps({"info": {"description": MARK}, "images": entries}, indent=1, allow_nan=False).encode()
        self._out.mkdir(parents=True, exist_ok=True)
        replace(self._out / LISTING, lambda file: file.write(text))

    @staticmethod
    def _name(annotation: Annotation) -> str:
        return str(Path(annotation.file_name).with_suffix(".png"))


def _photograph(folder: Path, annotation: Annotation, data: Dataset) -> Path:
    """The file that `images` names, or one with the stem of the annotation, of any suffix of photographs."""
    from ..data.files import FormatError, is_relative_name
    from ..data.photos import photo_beside

    named = annotation.image_file_name or annotation.file_name
    for name in (named, Path(named).name, annotation.file_name):
        if is_relative_name(name):
            found = photo_beside(folder, name, follow_links=data.follow_links)
            if found is not None and found.is_file():
                return found
    text = f"no photograph of image {annotation.image_id!r} of {data.path.name}, neither {named} nor of another suffix"
    raise FormatError(folder, text)
