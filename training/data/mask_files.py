"""Files of missing tables: the authors' .pt and our .npy, with the settings in the file name."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config import MissingConfig
from training.data.dataset_layout import SPLIT_NAMES
from training.errors import DataError

_NAME = re.compile(
    r"(?:^|_)(?:split)?(?P<split>train|validation|val|dev|test)_missing_(?P<type>text|image|both)"
    r"_(?:ratio)?(?P<ratio>[0-9.e-]+)(?:_both(?P<both_ratio>[0-9.e-]+)_seed(?P<seed>\d+))?"
)
_UNREADABLE = (  # what NumPy and torch raise for a file of another kind, or a damaged one
    *(OSError, EOFError, ValueError, RuntimeError, AttributeError, TypeError, LookupError, MemoryError),
    pickle.UnpicklingError,
)


def mask_name(task: str, split: str, config: MissingConfig) -> str:
    """The file name of our table: its settings, and the name of the file that it was read from, if any."""
    drawn = f"{config.type}_ratio{config.ratio:g}_both{config.both_ratio:g}_seed{config.seed}"
    read = f"_from_{Path(config.table).stem}" if config.table else ""
    return f"{task}_{split}_missing_{drawn}{read}.npy"


def read_mask(path: Path, images: Sequence[int]) -> NDArray[np.int8]:
    """The entries (images,) of a file: 0 complete, 1 text missing, 2 image missing. Raises DataError.

    Args:
        images: the numbers of entries that fit the split; the last is the number of images that the data lists.
    """
    try:
        values: NDArray[Any]
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix == ".pt":
            import torch  # here, because it takes over a second, and most tables are drawn

            values = torch.load(path, map_location="cpu", weights_only=True).numpy()
        else:
            raise ValueError("its name must end in .pt or .npy")
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
            raise ValueError("it is no array of numbers")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; mend the path") from error
    except _UNREADABLE as error:
        is_other = isinstance(error, LookupError) or not str(error)
        reason = "its content is of another kind" if is_other else str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read as a missing table ({reason}); name another") from error
    if values.shape not in [(count,) for count in images]:
        shape = " x ".join(f"{size:,}" for size in values.shape) or "no"
        equal = "" if len({*images}) == 1 else f", of which {images[0]:,} differ"
        raise DataError(f"{path} has {shape} entries, the split {images[-1]:,} images{equal}; name the split's table")
    if not np.isin(values, (0, 1, 2)).all():
        raise DataError(f"{path} has entries other than 0 (complete), 1 (no text) and 2 (no image); name another")
    return values.astype(np.int8)


def check_name(path: Path, split: str, config: MissingConfig) -> None:
    """Raise DataError when a file name states another split or setting than the configuration."""
    settings = _NAME.search(path.stem)
    if settings is None:
        return
    if settings["split"] not in (split, *SPLIT_NAMES[split]):
        raise DataError(f"{path} is the table of {settings['split']} by its name; name the table of {split}")
    for field in ("type", "ratio", "both_ratio", "seed"):
        value = getattr(config, field)
        if settings[field] is not None and settings[field] not in _spellings(value):
            raise DataError(
                f"{path} has {field} {settings[field]} by its name, but missing.{split}.{field} is {value}; "
                f"set missing.{split}.{field} to the table's value, or name another table"
            )


def _spellings(value: str | float) -> set[str]:
    """The spellings of a value in file names: 0.7 is also 07."""
    spelled = {str(value), f"{value:g}"} if isinstance(value, int | float) else {value}
    return spelled | {text.replace(".", "") for text in spelled}
