"""The exported graphs, run as the service will run them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from training.data.examples import Example
from training.data.missing import natural_table
from training.data.splits import Split
from training.export.onnx_graphs import GraphFiles
from training.learning.evaluation import EncodedSplit
from training.model.preprocessing import Preprocessor, TokenBatch


class OnnxModel:
    """Graphs, head and absent features: each text at its own length, absent towers skipped."""

    def __init__(
        self, files: GraphFiles, absent: dict[str, Tensor], head: torch.nn.Linear, preprocessor: Preprocessor
    ) -> None:
        self._sessions = {
            name: ort.InferenceSession(data, providers=["CPUExecutionProvider"])
            for name, data in files.by_name().items()
        }
        self._absent, self._head, self._preprocessor = absent, head, preprocessor

    @torch.no_grad()
    def logits(self, item: Example) -> Tensor:
        """(C,)"""
        image, text = self._absent["image"], self._absent["text"]
        if item.image is not None:
            image = self._image_features([item.image])[0]
        if item.text is not None:
            text = self._text_features(self._preprocessor.texts([item.text]))[0]
        return self._head(torch.cat([image, text]))  # type: ignore[no-any-return]

    def encode(self, split: Split, targets: Tensor, name: str, batch_size: int) -> EncodedSplit:
        """Run each tower once over what differs in a split, texts of one length together, with a progress bar."""
        images: dict[bytes | Path | None, Tensor] = {None: self._absent["image"]}
        texts: dict[str | None, Tensor] = {None: self._absent["text"]}
        given = list(dict.fromkeys(item.image for item in split.items if item.image is not None))
        for start in track(range(0, len(given), batch_size), f"{name}: images"):
            batch = given[start : start + batch_size]
            images |= zip(batch, self._image_features(batch), strict=True)
        words = list(dict.fromkeys(item.text for item in split.items if item.text is not None))
        for rows, tokens in track([*self._text_batches(words, batch_size)], f"{name}: texts"):
            texts |= zip((words[row] for row in rows), self._text_features(tokens), strict=True)
        return EncodedSplit(
            image=torch.stack([images[item.image] for item in split.items]),
            text=torch.stack([texts[item.text] for item in split.items]),
            absent_image=self._absent["image"],
            absent_text=self._absent["text"],
            targets=targets,
            natural=natural_table(split),
        )

    def _image_features(self, images: list[bytes | Path]) -> Tensor:
        pixels = torch.stack([self._preprocessor.image(image) for image in images])
        hidden = self._run("image_trunk", pixel_values=pixels.numpy())
        return torch.from_numpy(self._run("image_tail", image_hidden=hidden))

    def _text_features(self, tokens: TokenBatch) -> Tensor:
        hidden = self._run("text_trunk", input_ids=tokens.input_ids.numpy())
        return torch.from_numpy(self._run("text_tail", text_hidden=hidden, last_token=tokens.last_token.numpy()))

    def _text_batches(self, texts: list[str], batch_size: int) -> Iterator[tuple[list[int], TokenBatch]]:
        """Texts of one length: their rows, and their tokens without padding."""
        if not texts:
            return
        tokens = self._preprocessor.texts([*texts])
        for last in sorted(set(tokens.last_token.tolist())):
            for rows in (tokens.last_token == last).nonzero().flatten().split(batch_size):
                yield rows.tolist(), TokenBatch(tokens.input_ids[rows, : last + 1], tokens.last_token[rows])

    def _run(self, graph: str, **inputs: NDArray[Any]) -> NDArray[np.float32]:
        return self._sessions[graph].run(None, inputs)[0]  # type: ignore[no-any-return]
