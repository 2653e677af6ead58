"""The exported graphs, run as the service runs them, and the logits of PyTorch that they must agree with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from rich.progress import track
from safetensors.numpy import load
from torch import Tensor

from model_store import Pattern, Precision, Problem, openvino
from model_store.session_options import session_options
from training.data.examples import Example
from training.data.golden import pattern_items
from training.data.missing import natural_table
from training.data.splits import Split
from training.export.onnx_graphs import WEIGHTS, GraphFiles
from training.export.parity import Parity
from training.export.static_int8 import Feed
from training.learning.batches import RawInputs
from training.learning.encoded_split import EncodedSplit
from training.learning.runs import TrainedTask
from training.model.preprocessing import TokenBatch

_CHECKED_ITEMS = 32  # per presence pattern


class OnnxModel:
    """Graphs, head and absent features. Each text runs at its own length. The tower of an absent input does not run."""

    def __init__(
        self,
        files: GraphFiles,
        absent: dict[str, Tensor],
        trained: TrainedTask,
        precision: Precision = Precision.FP32,
    ) -> None:
        graphs = {name: data for name, data in files.items() if name not in WEIGHTS.values()}
        self._sessions = {name: _open(data, precision) for name, data in graphs.items()}
        self._weights = {tail: load(files[name]) for tail, name in WEIGHTS.items() if name in files}
        self._absent, self._head, self._preprocessor = absent, trained.model.head, trained.preprocessor
        self._inputs = RawInputs(trained.preprocessor)

    @torch.no_grad()
    def logits(self, item: Example) -> Tensor:
        """(C,)"""
        image, text = self._absent["image"], self._absent["text"]
        if item.image is not None:
            image = self._image_features([item])[0]
        if item.text is not None:
            text = self._text_features(self._preprocessor.texts([item.text]))[0]
        return self._head(torch.cat([image, text]))  # type: ignore[no-any-return]

    def encode(self, split: Split, targets: Tensor, name: str, batch_size: int) -> EncodedSplit:
        """Run each tower once over the distinct inputs of a split, texts of equal length together. Shows progress."""
        images: dict[bytes | Path | None, Tensor] = {None: self._absent["image"]}
        texts: dict[str | None, Tensor] = {None: self._absent["text"]}
        distinct = list({item.image: item for item in split.items if item.image is not None}.values())
        for start in track(range(0, len(distinct), batch_size), f"{name}: images"):
            batch = distinct[start : start + batch_size]
            images |= zip([item.image for item in batch], self._image_features(batch), strict=True)
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

    def inputs(self, images: Sequence[Example], texts: Sequence[Example]) -> dict[str, list[Feed]]:
        """The inputs of each graph, one for each item."""
        pixels = [{"pixel_values": self._inputs.image(item).unsqueeze(0).numpy()} for item in images]
        tokens = [self._preprocessor.texts([item.text]) for item in texts]
        ids = [{"input_ids": each.input_ids.numpy()} for each in tokens]
        hidden = [self._run("text_trunk", **each) for each in ids]
        return {
            "image_trunk": pixels,
            "image_tail": [{"image_hidden": self._run("image_trunk", **each)} for each in pixels],
            "text_trunk": ids,
            "text_tail": [
                {"text_hidden": each, "last_token": text.last_token.numpy()}
                for each, text in zip(hidden, tokens, strict=True)
            ],
        }

    def _image_features(self, items: list[Example]) -> Tensor:
        pixels = torch.stack([*map(self._inputs.image, items)])
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
        return self._sessions[graph].run(None, inputs | self._weights.get(graph, {}))[0]  # type: ignore[no-any-return]


def _open(graph: bytes, precision: Precision) -> ort.InferenceSession:
    by_openvino = precision is Precision.BF16 or (precision is Precision.INT8 and openvino.is_fast())
    if not by_openvino:
        return ort.InferenceSession(graph, session_options(), providers=["CPUExecutionProvider"])
    return openvino.openvino_session(graph, session_options(), precision, threads=torch.get_num_threads())


@torch.no_grad()
def reference_logits(trained: TrainedTask, items: list[Example]) -> Tensor:
    """(B, C) of the merged PyTorch model, run as plain transformers code: every tower runs whole for every item."""
    backbone, preprocessor = trained.model.backbone.eval(), trained.preprocessor
    pixels = torch.stack([*map(RawInputs(preprocessor).image, items)])
    ids = preprocessor.texts([item.text for item in items]).input_ids
    image = backbone.get_image_features(pixel_values=pixels).pooler_output
    text = backbone.get_text_features(input_ids=ids).pooler_output
    if trained.config.problem is Problem.RETRIEVAL:
        image = image * torch.tensor([[float(item.image is not None)] for item in items])
        text = text * torch.tensor([[float(item.text is not None)] for item in items])
    return trained.model.head(torch.cat([image, text], dim=-1))  # type: ignore[no-any-return]


def measure_parity(onnx_model: OnnxModel, trained: TrainedTask, examples: Split) -> Parity:
    """Compare logits with PyTorch's, per presence pattern."""
    errors, largest = {}, {}
    for pattern in Pattern:
        items = pattern_items(examples, pattern)[:_CHECKED_ITEMS]
        logits, expected = torch.stack([onnx_model.logits(item) for item in items]), reference_logits(trained, items)
        errors[pattern] = float((logits - expected).abs().max())
        largest[pattern] = float(expected.abs().max())
    return Parity(errors, largest)


def absent_features(trained: TrainedTask) -> dict[str, Tensor]:
    """`image` and `text` (P,): the towers' features of a white picture and of an empty text; for retrieval zeros."""
    model, inputs = trained.model, RawInputs(trained.preprocessor)
    with torch.no_grad():
        image, text = model.absent(*model.features(**inputs.images([]), **inputs.texts([])))
    return {"image": image.contiguous(), "text": text.contiguous()}
