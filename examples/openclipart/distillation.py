"""Training of each tower by its teachers."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from examples.openclipart.augmentation import normalised, transformed, written_otherwise
from examples.openclipart.teachers import DINO_SIDE, mixed_precision, seen
from examples.openclipart.texts import Text

TEACHER = 384  # width of MiniLM's embeddings and of each half of DINOv2's
TEMPERATURE = 0.05


@dataclass(frozen=True)
class Budget:
    """Training time and step size."""

    minutes: float
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.05
    warm_up: float = 0.05


class Readout(nn.Module):
    """From a tower's projection to two teacher embeddings; used in pretraining only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * TEACHER)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        spread = nn.functional.normalize(features, dim=1) * features.shape[1] ** 0.5  # elements of about 1
        first, second = self.linear(spread).chunk(2, dim=1)
        return first, second


def agreement(predicted: Tensor, teacher: Tensor, contrast: float) -> Tensor:
    """One minus cosine, plus `contrast` times InfoNCE of the prediction against the teacher's embeddings."""
    predicted, teacher = nn.functional.normalize(predicted, dim=1), nn.functional.normalize(teacher, dim=1)
    similarity = predicted @ teacher.T  # (B, B)
    # Items that the teacher cannot distinguish are not used as negatives of each other.
    places = torch.arange(len(teacher), device=teacher.device)
    same = (teacher @ teacher.T > 0.97) & (places != places[:, None])
    logits = (similarity / TEMPERATURE).masked_fill(same, -math.inf)
    return 1 - similarity.diagonal().mean() + contrast * nn.functional.cross_entropy(logits, places)


@dataclass(frozen=True)
class Meanings:
    """MiniLM's embeddings (N, 384) of N texts, alone and in their context."""

    alone: Tensor
    in_context: Tensor


def train_text_tower(
    model: CLIPModel, tokenizer: CLIPTokenizer, texts: list[Text], weights: Tensor, targets: Meanings, budget: Budget
) -> None:
    """Train the text tower on the meaning of each text, alone and in its context.

    Weights (N,) are the sampling weights of the texts.
    """
    device = model.device
    readout = Readout(model.config.projection_dim).to(device)
    tower = nn.ModuleList([model.text_model, model.text_projection, readout])
    batches = of_like_length(weights, [len(text.text) for text in texts], budget.batch_size)
    for step, chosen in zip(steps("Text tower", tower, budget), batches, strict=False):
        batch = [written_otherwise(texts[i].text) for i in chosen.tolist()]
        tokens = tokenizer(batch, padding=True, truncation=True, return_tensors="pt").to(device)
        with mixed_precision(device.type):
            features = model.text_projection(model.text_model(**tokens).pooler_output)
        alone, in_context = readout(features.float())
        loss = agreement(alone, targets.alone[chosen].to(device), 0.2)
        step.take(loss + agreement(in_context, targets.in_context[chosen].to(device), 0.2))


def of_like_length(weights: Tensor, lengths: list[int], batch_size: int, at_once: int = 8) -> Iterator[Tensor]:
    """Batches of indices sampled by weight, each of texts of similar length: less padding, more steps."""
    long = torch.tensor(lengths)
    while True:
        drawn = torch.multinomial(weights, at_once * batch_size, replacement=True)
        by_length = torch.split(drawn[long[drawn].argsort()], batch_size)
        yield from (by_length[i] for i in torch.randperm(at_once).tolist())


def train_image_tower(
    model: CLIPModel,
    dino: nn.Module,
    pixels: Tensor,
    captions: Tensor,
    axes: Tensor,
    budget: Budget,
) -> None:
    """Train the image tower on the meaning of the caption on fixed axes, and on what DINOv2 sees in the same view.

    Tower and teacher see the same random variant of a picture (Beyer et al. 2022, arXiv 2106.05237).

    Args:
        pixels: (N, 3, H, W) of bytes.
        captions: MiniLM's embeddings of the captions (N, 384), centred.
        axes: (384, P).
    """
    device, side = model.device, model.config.vision_config.image_size
    axes, captions, pixels = axes.to(device), captions.to(device), pixels.to(device)
    readout = Readout(model.config.projection_dim).to(device)
    tower = nn.ModuleList([model.vision_model, model.visual_projection, readout])
    sample = seen(dino, transformed(pixels[torch.randperm(len(pixels))[:1024]], DINO_SIDE))
    mean, std = sample.mean(0), sample.std(0)
    for step in steps("Image tower", tower, budget):
        chosen = torch.randint(len(pixels), (budget.batch_size,), device=device)
        views = transformed(pixels[chosen], DINO_SIDE)
        token_seen, patches_seen = ((seen(dino, views) - mean) / std).chunk(2, dim=1)
        with mixed_precision(device.type):
            pooled = model.vision_model(normalised(views * 255, side)).pooler_output
            features = model.visual_projection(pooled).float()
        token, patches = readout(features)
        loss = agreement(features @ axes.T, captions[chosen], 0.2)
        step.take(loss + agreement(token, token_seen, 0.2) + agreement(patches, patches_seen, 0.0))


def principal_axes(embeddings: Tensor, count: int) -> Tensor:
    """The directions of largest variance of centred embeddings (N, D), orthonormal, (D, count)."""
    ascending: Tensor = torch.linalg.eigh(embeddings.T @ embeddings).eigenvectors
    return ascending.flip(1)[:, :count]


def turn_text_tower(model: CLIPModel, tokenizer: CLIPTokenizer, texts: list[Text], wanted: Tensor) -> None:
    """Rotate the text projection so that the features of the texts are as close as possible to the wanted ones (N, P).

    Both towers then share one space. A rotation (orthogonal Procrustes) keeps all distances between texts.
    """
    tokens = tokenizer([text.text for text in texts], padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        pooled = model.text_model(**tokens.to(model.device)).pooler_output
        features = nn.functional.normalize(model.text_projection(pooled), dim=1)
    left, _, right = torch.linalg.svd(nn.functional.normalize(wanted.to(features), dim=1).T @ features)
    model.text_projection.weight.data = left @ right @ model.text_projection.weight.data


def steps(title: str, module: nn.Module, budget: Budget) -> Iterator["Step"]:
    """Yield a step that accepts a loss, until the time is up; warm-up, then cosine by time; AdamW."""
    module.train()
    optimizer = torch.optim.AdamW(
        parameter_groups(module, budget.weight_decay), lr=budget.learning_rate, betas=(0.9, 0.98)
    )
    step = Step(module, optimizer)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[loss]}"))
    with Progress(*columns) as progress:
        task = progress.add_task(title, total=1.0, loss="")
        start = time.monotonic()
        while (done := (time.monotonic() - start) / (60 * budget.minutes)) < 1:
            step.done = done
            rate = min(done / budget.warm_up, 0.5 + 0.5 * math.cos(math.pi * done))
            for group in optimizer.param_groups:
                group["lr"] = budget.learning_rate * max(rate, 1e-3)
            yield step
            progress.update(task, completed=done, loss=f"step {step.count} loss {step.mean:.3f}")
    print(f"{title}: {step.count} steps of {budget.batch_size}, loss {step.mean:.4f}", flush=True)
    module.eval()


class Step:
    """Accepts a loss, updates the weights and keeps a running mean; `done` is the elapsed share of the time."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.module, self.optimizer, self.count, self.mean, self.done = module, optimizer, 0, math.nan, 0.0

    def take(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.count += 1
        self.mean = loss.item() if math.isnan(self.mean) else 0.98 * self.mean + 0.02 * loss.item()


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay only for matrices."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
