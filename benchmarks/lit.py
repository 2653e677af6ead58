"""LitServe with the single-file ONNX model of both towers on ONNX Runtime, in a typical set-up.

Requests are batched. Texts are padded to the longest of their batch, not to 77 tokens. An absent image is a white
picture whose pixels are prepared once, and an absent text is the empty string. Several workers share the cores evenly,
as LitServe's documentation recommends for CPUs.
"""

from __future__ import annotations

import base64
import json
import os
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import litserve
import numpy as np
import onnxruntime
import typer
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from service.models.graphs import has_cuda, providers

Input = tuple[NDArray[np.float32], list[int]]  # pixel values (3, S, S), token ids

MAX_BATCH_SIZE = 8
BATCH_TIMEOUT_SECONDS = 0.01


class ClassifierAPI(litserve.LitAPI):  # type: ignore[misc]
    """Decode and tokenise items one by one, then run the model on the batch."""

    def __init__(self, models: Path, workers: int) -> None:
        super().__init__(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_SECONDS)
        self._folder, self._workers = models / "merged", workers

    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(len(os.sched_getaffinity(0)) // self._workers, 1)
        self.session = onnxruntime.InferenceSession(self._folder / "model.onnx", options, providers=providers())
        self.tokenizer = CLIPTokenizer.from_pretrained(self._folder)
        self.processor = CLIPImageProcessorPil.from_pretrained(self._folder)
        self.labels: list[str] = json.loads((self._folder / "labels.json").read_text())
        self.white = self._pixels(Image.new("RGB", (64, 64), "white"))

    def decode_request(self, request: dict[str, str]) -> Input:
        pixels = self.white
        if "image" in request:
            pixels = self._pixels(Image.open(BytesIO(base64.b64decode(request["image"]))).convert("RGB"))
        return pixels, self.tokenizer(request.get("text", ""), truncation=True)["input_ids"]

    def batch(self, inputs: list[Input]) -> dict[str, NDArray[Any]]:
        texts = [ids for _, ids in inputs]
        longest = max(map(len, texts))
        padding = self.tokenizer.pad_token_id
        return {
            "pixel_values": np.stack([pixels for pixels, _ in inputs]),
            "input_ids": np.array([ids + [padding] * (longest - len(ids)) for ids in texts], np.int64),
            "last_token": np.array([len(ids) - 1 for ids in texts], np.int64),
        }

    def predict(self, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        (logits,) = self.session.run(None, inputs)
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return np.asarray(powers / powers.sum(-1, keepdims=True))

    def unbatch(self, output: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return list(output)

    def encode_response(self, output: NDArray[np.float32]) -> dict[str, list[dict[str, str | float]]]:
        best = sorted(zip(self.labels, output.tolist(), strict=True), key=lambda pair: -pair[1])
        return {"labels": [{"label": label, "score": score} for label, score in best]}

    def _pixels(self, picture: Image.Image) -> NDArray[np.float32]:
        return np.asarray(self.processor(picture, return_tensors="np")["pixel_values"][0], np.float32)


def main(
    models: Annotated[Path, typer.Option()],
    port: Annotated[int, typer.Option()],
    workers: Annotated[int, typer.Option()] = 1,
) -> None:
    """Serve on loopback."""
    server = litserve.LitServer(
        ClassifierAPI(models, workers), accelerator="cuda" if has_cuda() else "cpu", workers_per_device=workers
    )
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    typer.run(main)
