"""The frozen layers' outputs on disk: computed once, so that the trunks need not run in every epoch."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from training.data.examples import Example
from training.data.splits import TaskData
from training.learning.batches import Batch, RawInputs
from training.model.classifier import MissingModalityClassifier
from training.model.preprocessing import Preprocessor

_BATCH = 64
_FREE_SHARE = 0.8  # of the free disk space that a cache may take


@dataclass(frozen=True)
class _Rows:
    """Token vectors of many inputs, one after the other, and the start of each.

    Shapes:
        tokens: (sum of lengths, D), memory-mapped; starts: (inputs + 1,).
    """

    tokens: NDArray[np.float32]
    starts: NDArray[np.int64]

    def of(self, row: int) -> Tensor:
        """(L, D)"""
        return torch.from_numpy(np.array(self.tokens[self.starts[row] : self.starts[row + 1]]))


class TrunkOutputs:
    """Trunk outputs of every distinct image and text of a task's data. The last row is the absent input."""

    def __init__(self, images: _Rows, texts: _Rows, image_row: dict[object, int], text_row: dict[object, int]) -> None:
        self._images, self._texts = images, texts
        self._image_row, self._text_row = image_row, text_row

    def images(self, items: list[Example]) -> Batch:
        """`image_hidden` (I + 1, N, Dv)."""
        rows = [self._image_row[key] for key in (*(item.image for item in items), None)]
        return {"image_hidden": torch.stack([self._images.of(row) for row in rows])}

    def texts(self, items: list[Example]) -> Batch:
        """`text_hidden` (T + 1, L, Dt), zeros after the end, and `last_token` (T + 1,)."""
        rows = [self._text_row[key] for key in (*(item.text for item in items), None)]
        hidden = [self._texts.of(row) for row in rows]
        last = torch.tensor([len(tokens) - 1 for tokens in hidden])
        return {"text_hidden": torch.nn.utils.rnn.pad_sequence(hidden, batch_first=True), "last_token": last}


def needed_bytes(model: MissingModalityClassifier, preprocessor: Preprocessor, data: TaskData) -> int:
    """The disk space of a cache of this data."""
    images, texts = _contents(data)
    vision, text = model.backbone.config.vision_config, model.backbone.config.text_config
    positions = model.image_trunk.embeddings.num_positions
    lengths = int((preprocessor.texts(texts).last_token + 1).sum())
    return 4 * int(len(images) * positions * vision.hidden_size + lengths * text.hidden_size)


def open_or_build(
    model: MissingModalityClassifier,
    preprocessor: Preprocessor,
    data: TaskData,
    folder: Path,
    announce: Callable[[str], None],
) -> TrunkOutputs | None:
    """The cache of these trunks on this data; None, with an announcement, if the disk has no room for it.

    Its files are named by a digest of the trunk's weights, the preprocessing and the content. So a file is read only
    for the inputs that it was made from.
    """
    images, texts = _contents(data)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        "image": folder / f"image-{_key(model.image_trunk, preprocessor.image_description(), images)}",
        "text": folder / f"text-{_key(model.text_trunk, preprocessor.text_description(), texts)}",
    }
    if not all(path.with_suffix(".starts.npy").exists() for path in paths.values()):
        needed, free = needed_bytes(model, preprocessor, data), shutil.disk_usage(folder).free
        size = f"{needed / 1e9:.2f} GB"
        if needed > _FREE_SHARE * free:
            announce(
                f"the frozen layers' outputs would take {size}, {free / 1e9:.2f} GB are free: training without a cache"
            )
            return None
        announce(f"the frozen layers' outputs take {size} in {folder} while training")
    inputs, device = RawInputs(preprocessor), next(model.parameters()).device
    row_of = {item.image: item.row for split in data.splits().values() for item in split.items}

    @torch.no_grad()
    def image_rows() -> Iterable[Tensor]:
        for batch in _batches(images, "frozen image layers"):
            items = [Example(row_of.get(value, 0), value, None, ()) for value in batch]
            pixels = inputs.images(items)["pixel_values"][: len(batch)]
            yield from model.image_trunk(pixels.to(device)).cpu()

    @torch.no_grad()
    def text_rows() -> Iterable[Tensor]:
        for batch in _batches(texts, "frozen text layers"):
            tokens = preprocessor.texts(batch)
            hidden = model.text_trunk(tokens.input_ids.to(device)).cpu()
            yield from (row[: int(last) + 1] for row, last in zip(hidden, tokens.last_token, strict=True))

    return TrunkOutputs(
        _rows(paths["image"], image_rows),
        _rows(paths["text"], text_rows),
        {content: row for row, content in enumerate(images)},
        {content: row for row, content in enumerate(texts)},
    )


def _contents(data: TaskData) -> tuple[list[Any], list[Any]]:
    """The distinct images and texts of all splits, the absent one last. Texts are in the order of their length."""
    items = [item for split in data.splits().values() for item in split.items]
    images = dict.fromkeys(item.image for item in items if item.image is not None)
    texts = dict.fromkeys(item.text for item in items if item.text is not None)
    return [*images, None], [*sorted(texts, key=lambda text: (len(text), text)), None]


def _key(trunk: torch.nn.Module, preprocessing: object, contents: list[Any]) -> str:
    digest = hashlib.sha256(repr(preprocessing).encode())
    for name, value in trunk.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    for content in contents:
        data = content.read_bytes() if isinstance(content, Path) else content or b""
        digest.update(hashlib.sha256(data.encode() if isinstance(data, str) else data).digest())
    return digest.hexdigest()[:32]


def _batches(contents: list[Any], name: str) -> Iterable[list[Any]]:
    for start in track(range(0, len(contents), _BATCH), name):
        yield contents[start : start + _BATCH]


def _rows(path: Path, compute: Callable[[], Iterable[Tensor]]) -> _Rows:
    tokens, starts = path.with_suffix(".f32"), path.with_suffix(".starts.npy")
    if not starts.exists():
        lengths, part = [], tokens.with_suffix(".part")
        with part.open("wb") as file:
            for row in compute():
                lengths.append(len(row))
                file.write(row.contiguous().numpy().tobytes())
        part.replace(tokens)
        unfinished = starts.with_suffix(".part.npy")
        np.save(unfinished, np.cumsum([0, *lengths]))
        unfinished.replace(starts)  # last: once it exists, both files are complete
    begin = np.load(starts)
    mapped = np.memmap(tokens, dtype=np.float32, mode="r").reshape(int(begin[-1]), -1)
    return _Rows(mapped, begin)
