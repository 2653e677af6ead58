"""LitServe with PyTorch in half precision, in a typical set-up: requests are batched, absent towers do not run.

The features of an absent image (a white picture) and of an absent text (the empty string) are computed once. Texts are
padded to the longest of their batch. Several workers share a GPU, because each decodes its own requests.
"""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import litserve
import torch
import typer
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

Input = tuple[Tensor | None, list[int] | None]  # pixel values (3, S, S), token ids

BATCH_TIMEOUT_SECONDS = 0.01
_BATCH_SIZES = {"cuda": 64, "cpu": 8}


class TorchAPI(litserve.LitAPI):  # type: ignore[misc]
    """Decode and tokenise items one by one, then run the towers on the batch."""

    def __init__(self, models: Path, dtype: torch.dtype) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        super().__init__(max_batch_size=_BATCH_SIZES[device], batch_timeout=BATCH_TIMEOUT_SECONDS)
        self._folder, self._dtype = models / "merged", dtype

    def setup(self, device: str) -> None:
        self.model = CLIPModel.from_pretrained(self._folder, dtype=self._dtype).eval().to(device)
        self.tokenizer = CLIPTokenizer.from_pretrained(self._folder)
        self.processor = CLIPImageProcessorPil.from_pretrained(self._folder)
        head = load_file(self._folder / "head.safetensors", device=device)
        self.weight, self.bias = head["weight"].to(self._dtype), head["bias"].to(self._dtype)
        self.labels: list[str] = json.loads((self._folder / "labels.json").read_text())
        with torch.inference_mode():
            self.absent_image = self._images([self._pixels(Image.new("RGB", (64, 64), "white"))])
            self.absent_text = self._texts([self.tokenizer("")["input_ids"]])

    def decode_request(self, request: dict[str, str]) -> Input:
        pixels = ids = None
        if "image" in request:
            pixels = self._pixels(Image.open(BytesIO(base64.b64decode(request["image"]))).convert("RGB"))
        if "text" in request:
            ids = self.tokenizer(request["text"], truncation=True)["input_ids"]
        return pixels, ids

    def batch(self, inputs: list[Input]) -> list[Input]:
        return inputs

    @torch.inference_mode()
    def predict(self, inputs: list[Input]) -> list[list[float]]:
        images = self.absent_image.repeat(len(inputs), 1)
        texts = self.absent_text.repeat(len(inputs), 1)
        pixels = {row: pixels for row, (pixels, _) in enumerate(inputs) if pixels is not None}
        ids = {row: ids for row, (_, ids) in enumerate(inputs) if ids is not None}
        if pixels:
            images[[*pixels]] = self._images([*pixels.values()])
        if ids:
            texts[[*ids]] = self._texts([*ids.values()])
        logits = torch.cat([images, texts], dim=-1) @ self.weight.T + self.bias
        scores: list[list[float]] = logits.float().softmax(-1).tolist()
        return scores

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        return output

    def encode_response(self, output: list[float]) -> dict[str, list[dict[str, str | float]]]:
        best = sorted(zip(self.labels, output, strict=True), key=lambda pair: -pair[1])
        return {"labels": [{"label": label, "score": score} for label, score in best]}

    def _pixels(self, picture: Image.Image) -> Tensor:
        pixels: Tensor = self.processor(picture, return_tensors="pt")["pixel_values"][0]
        return pixels

    def _images(self, pixels: list[Tensor]) -> Tensor:
        """(B, P)"""
        batch = torch.stack(pixels).to(self.model.device, self._dtype)
        features: Tensor = self.model.get_image_features(pixel_values=batch).pooler_output
        return features

    def _texts(self, texts: list[list[int]]) -> Tensor:
        """(B, P)"""
        tokens: Any = self.tokenizer.pad({"input_ids": texts}, return_tensors="pt").to(self.model.device)
        features: Tensor = self.model.get_text_features(**tokens).pooler_output
        return features


def main(
    models: Annotated[Path, typer.Option()],
    port: Annotated[int, typer.Option()],
    dtype: Annotated[str, typer.Option(help="float16, bfloat16 or float32.")] = "float16",
    workers: Annotated[int, typer.Option()] = 1,
) -> None:
    """Serve on loopback."""
    server = litserve.LitServer(
        TorchAPI(models, getattr(torch, dtype)), accelerator="auto", devices=1, workers_per_device=workers
    )
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    typer.run(main)
