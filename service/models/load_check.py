"""The check of a loaded version: it answers its golden examples, the longest text and the most elongated picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from threading import Timer

import numpy as np
from numpy.typing import NDArray
from onnxruntime import RunOptions
from PIL import Image

from model_store import GoldenExample, ImagePreprocessing, Pattern, Precision, Store
from service.api.item import Item
from service.models.head import Features
from service.models.loaded_model import Model
from service.models.preparation import Prepared, decode, decoding_bytes
from service.models.refusal import RefusedError, ShortageError, refusing

_OTHER_PROCESSOR = "; if the export ran on another kind of processor, set MORA_PRECISION to fp32"
_LONGEST_EDGE = 65_535  # of a JPEG


class LoadCheck:
    """Runs a model on one item after another, without queues, through everything that an answer may need.

    Args:
        seconds: time limit of one item.
    """

    def __init__(self, store: Store, seconds: float) -> None:
        self._store = store
        self._seconds = seconds

    def run(self, model: Model) -> None:
        """Blocking.

        Raises:
            RefusedError: `golden_mismatch` for a golden example without the answer of the export, `signature` for the
                longest text or the most elongated picture without an answer, `load` for what may pass.
            StoreError: a golden picture cannot be read.
        """
        for example in model.manifest.golden:
            self._run_golden_example(model, example)
        self._run_largest(model)

    def _run_golden_example(self, model: Model, example: GoldenExample) -> None:
        picture = None if example.image is None else self._store.read(example.image)
        item = Item(image=picture, text=example.text or None)
        with refusing("golden_mismatch", f"the golden example {example.pattern}"):
            if item.pattern is not example.pattern:
                raise RefusedError("golden_mismatch", f"a golden example of {example.pattern} has {item.pattern}")
            logits = model.logits(self._answered(model, model.prepare(item)))
            difference = float(np.abs(logits - np.array(example.logits)).max())
        tolerance = model.golden_tolerance
        if difference > tolerance:
            message = f"{model.precision} logits of the golden example {example.pattern} are off by {difference:.3g}"
            cure = "" if model.precision is Precision.FP32 else _OTHER_PROCESSOR
            raise RefusedError("golden_mismatch", f"{message}, more than {tolerance:.3g}{cure}")

    def _run_largest(self, model: Model) -> None:
        """Answer the largest item that a request can hold: its text is cut at `max_length` tokens."""
        max_length = model.manifest.text.max_length
        with refusing("signature", f"a text of {max_length} tokens (max_length) with the most elongated picture"):
            tokens = model.tokenizer.tokenize("a picture of " * max_length)
            if (length := tokens.input_ids.shape[1]) > max_length:
                message = f"the tokenizer cuts a text at {length} tokens, beyond its max_length of {max_length}"
                raise RefusedError("tokenizer", message)
            picture = _most_elongated(model.manifest.image, model.max_image_pixels, model.max_decode_bytes)
            self._answered(model, Prepared(picture, tokens))

    def _answered(self, model: Model, item: Prepared) -> Features:
        """The features of an item, whose answer and explanation are finite for each of its modalities."""
        with self._time_limit() as options:
            features = model.features(item, options)
        size = model.manifest.backbone.feature_size
        for pattern, vector in ((Pattern.IMAGE, features.image), (Pattern.TEXT, features.text)):
            if vector is not None and vector.shape != (size,):
                raise ValueError(f"the {pattern} tower gives features of shape {vector.shape}, expected {(size,)}")
        for part in (features, features._replace(image=None), features._replace(text=None)):
            if part.image is not None or part.text is not None:
                model.check_finite(part)
        if not model.is_retrieval:
            model.contributions(features)
        return features

    @contextmanager
    def _time_limit(self) -> Iterator[RunOptions]:
        """Options that stop the runs of the block after the time limit. Raises ShortageError then."""
        options = RunOptions()
        timer = Timer(self._seconds, setattr, (options, "terminate", True))
        timer.start()
        try:
            yield options
        except RuntimeError as error:
            if options.terminate:
                raise ShortageError(f"an item of the load check takes over {self._seconds:g} seconds") from error
            raise
        finally:
            timer.cancel()


@lru_cache(maxsize=4)
def _most_elongated(image: ImagePreprocessing, max_pixels: int, max_bytes: int) -> NDArray[np.float32]:
    """`pixel_values` (1, 3, H, W) of a picture of one row, as long as the limits of pixels and memory allow.

    They are kept, because most versions prepare pictures alike and this one takes half a second.
    """
    edge = image.shortest_edge or 1  # resizing enlarges the row by this factor, in both directions
    length = max(1, min(_LONGEST_EDGE, max_pixels // edge**2))
    while length > 1 and decoding_bytes(_row(length), image, max_pixels) > max_bytes:
        length //= 2
    return decode(_row(length), image, max_pixels)


def _row(length: int) -> bytes:
    file = BytesIO()
    Image.new("L", (length, 1)).save(file, "PNG")
    return file.getvalue()
