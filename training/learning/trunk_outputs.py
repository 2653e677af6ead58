"""The outputs of the frozen layers on disk: computed once, so that no epoch runs the trunks again."""

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
_TOKENS, _STARTS = ".f32", ".starts.npy"  # endings of the two files of a cache
_FREE_SHARE = 0.8  # of the free disk space that a cache may take


@dataclass(frozen=True)
class _Outputs:
    """Token vectors of many inputs, one input after the other.

    Shapes:
        tokens: (sum of lengths, D), memory-mapped; starts: (inputs + 1,).
    """

    tokens: NDArray[np.float32]
    starts: NDArray[np.int64]
    row_of: dict[object, int]  # the row of each input by its content; None is the absent input

    def of(self, contents: list[Any]) -> list[Tensor]:
        """The vectors (L, D) of each input, and of the absent input behind them."""
        rows = [self.row_of[content] for content in [*contents, None]]
        return [torch.from_numpy(np.array(self.tokens[self.starts[row] : self.starts[row + 1]])) for row in rows]


@dataclass(frozen=True)
class TrunkOutputs:
    """Trunk outputs of every distinct image and text of a task's data."""

    image_outputs: _Outputs
    text_outputs: _Outputs

    def images(self, items: list[Example]) -> Batch:
        """`image_hidden` (I + 1, N, Dv)."""
        return {"image_hidden": torch.stack(self.image_outputs.of([item.image for item in items]))}

    def texts(self, items: list[Example]) -> Batch:
        """`text_hidden` (T + 1, L, Dt), zeros after the end, and `last_token` (T + 1,)."""
        hidden = self.text_outputs.of([item.text for item in items])
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
    may_build: bool = True,
) -> TrunkOutputs | None:
    """The cache of these trunks on this data; None, with an announcement, if the disk has no room for it.

    The name of a file is a digest of the trunk's weights, the preprocessing and the inputs. So a file is never read
    for other inputs than its own.

    Args:
        may_build: False in all but one of the processes of a training; None is returned if no cache exists then.
    """
    images, texts = _contents(data)
    image_path = folder / f"image-{_key(model.image_trunk, preprocessor.image_description(), images)}"
    text_path = folder / f"text-{_key(model.text_trunk, preprocessor.text_description(), texts)}"
    if not (_is_cached(image_path) and _is_cached(text_path)):
        if not may_build:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        needed, free = needed_bytes(model, preprocessor, data), shutil.disk_usage(folder).free
        size = f"{needed / 1e9:.2f} GB"
        if needed > _FREE_SHARE * free:
            announce(
                f"the frozen layers' outputs would take {size}, {free / 1e9:.2f} GB are free: training without a cache"
            )
            return None
        announce(f"the frozen layers' outputs take {size} in {folder} while training")
    inputs, device = RawInputs(preprocessor), next(model.parameters()).device
    row_of = {item.image: item.row for split in data.splits().values() for item in split.sides}

    @torch.no_grad()
    def image_outputs() -> Iterable[Tensor]:
        for batch in _batches(images, "frozen image layers"):
            items = [Example(row_of.get(image, 0), image, None, ()) for image in batch]
            pixels = inputs.images(items)["pixel_values"][: len(batch)]
            yield from model.image_trunk(pixels.to(device)).cpu()

    @torch.no_grad()
    def text_outputs() -> Iterable[Tensor]:
        for batch in _batches(texts, "frozen text layers"):
            tokens = preprocessor.texts(batch)
            hidden = model.text_trunk(tokens.input_ids.to(device)).cpu()
            yield from (row[: int(last) + 1] for row, last in zip(hidden, tokens.last_token, strict=True))

    return TrunkOutputs(_cached(image_path, images, image_outputs), _cached(text_path, texts, text_outputs))


def _contents(data: TaskData) -> tuple[list[Any], list[Any]]:
    """The distinct images and texts of all splits, however the items are divided; the absent input, None, is last."""
    items = [item for split in data.splits().values() for item in split.sides]
    images = dict.fromkeys(
        item.image for item in sorted(items, key=lambda item: item.picture or b"") if item.image is not None
    )
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


def _is_cached(path: Path) -> bool:
    """Whether both files of this name exist: a kill may have come while they were removed."""
    return all(path.with_suffix(suffix).exists() for suffix in (_TOKENS, _STARTS))


def _cached(path: Path, contents: list[Any], compute: Callable[[], Iterable[Tensor]]) -> _Outputs:
    """The outputs in the files of this name, computed and written first if the files do not exist."""
    tokens, starts = path.with_suffix(_TOKENS), path.with_suffix(_STARTS)
    if not _is_cached(path):
        lengths, unfinished = [0], path.with_suffix(".part.npy")
        try:
            with unfinished.open("wb") as file:
                for row in compute():
                    lengths.append(len(row))
                    file.write(row.contiguous().numpy().tobytes())
            unfinished.replace(tokens)
            np.save(unfinished, np.cumsum(lengths))
            unfinished.replace(starts)  # last: once it exists, both files are complete
        except OSError:
            unfinished.unlink(missing_ok=True)
            tokens.unlink(missing_ok=True)
            raise
    begin = np.load(starts)
    mapped = np.memmap(tokens, dtype=np.float32, mode="r").reshape(int(begin[-1]), -1)
    return _Outputs(mapped, begin, {content: row for row, content in enumerate(contents)})
