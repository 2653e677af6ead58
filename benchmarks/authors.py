"""The authors' way: the merged model in PyTorch behind FastAPI.

As in the paper's code, an absent image is a white picture and an absent text the empty string, both towers always run,
and every text is padded to the tower's 77 tokens. The endpoint is a plain `def`, which FastAPI runs on its threads;
PyTorch keeps its default threads.
"""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Annotated

import torch
import typer
import uvicorn
from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil


class Request(BaseModel):
    """One item; an image is base64."""

    image: str | None = None
    text: str | None = None


class Classifier:
    """Both towers of CLIP and a linear head, as plain transformers code."""

    def __init__(self, models: Path) -> None:
        merged = models / "merged"
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = CLIPModel.from_pretrained(merged, dtype=torch.float32).eval().to(self._device)
        self._tokenizer = CLIPTokenizer.from_pretrained(merged)
        self._processor = CLIPImageProcessorPil.from_pretrained(merged)
        self._head = load_file(merged / "head.safetensors", device=self._device)
        self._labels: list[str] = json.loads((merged / "labels.json").read_text())

    @torch.inference_mode()
    def scores(self, picture: Image.Image, text: str) -> dict[str, float]:
        """Label to score."""
        pixels = self._processor(picture, return_tensors="pt")["pixel_values"]
        tokens = self._tokenizer(text, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
        image_features = self._model.get_image_features(pixel_values=pixels.to(self._device)).pooler_output
        text_features = self._model.get_text_features(input_ids=tokens.to(self._device)).pooler_output
        features = torch.cat([image_features, text_features], dim=-1)
        logits = features @ self._head["weight"].T + self._head["bias"]
        return dict(zip(self._labels, logits.softmax(-1)[0].tolist(), strict=True))


def create_app(classifier: Classifier) -> FastAPI:
    """`POST /classify`."""
    app = FastAPI()

    @app.post("/classify")
    def classify(request: Request) -> dict[str, list[dict[str, str | float]]]:
        picture = Image.new("RGB", (64, 64), "white")
        if request.image is not None:
            picture = Image.open(BytesIO(base64.b64decode(request.image))).convert("RGB")
        scores = classifier.scores(picture, request.text or "")
        best = sorted(scores.items(), key=lambda pair: -pair[1])
        return {"labels": [{"label": label, "score": score} for label, score in best]}

    @app.get("/health")
    def health() -> str:
        return "ok"

    return app


def main(models: Annotated[Path, typer.Option()], port: Annotated[int, typer.Option()]) -> None:
    """Serve on loopback."""
    uvicorn.run(create_app(Classifier(models)), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    typer.run(main)
