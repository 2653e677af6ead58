"""Variants of a training picture or text, made in batches."""
# ruff: noqa: S311 (random variation, not secrets)

import math
import random
import re

import torch
from torch import Tensor, nn

LONG = 60  # characters of a text that is no name
CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)


def normalised(pixels: Tensor, side: int) -> Tensor:
    """Convert bytes of any size (B, 3, H, W) as the image processor does, to (B, 3, side, side)."""
    small = nn.functional.interpolate(pixels.float() / 255, (side, side), mode="bicubic", antialias=True)
    return (small.clamp(0, 1) - CLIP_MEAN.to(small)) / CLIP_STD.to(small)


def transformed(pixels: Tensor, side: int) -> Tensor:
    """Apply random affine maps and colours to a batch of bytes, (B, 3, H, W) -> (B, 3, side, side) in 0..1."""
    count = len(pixels)
    images = pixels.float() / 255
    grid = nn.functional.affine_grid(random_affine(count).to(images), [count, 3, side, side], align_corners=False)
    white = 1 - nn.functional.grid_sample(1 - images, grid, align_corners=False)  # outside the picture is white
    return randomly_coloured(white).clamp(0, 1)


def random_affine(count: int) -> Tensor:
    """Rotation, anisotropic scale, shear, shift and mirroring, (count, 2, 3)."""
    angle = (torch.rand(count) - 0.5) * math.radians(30)
    scale = torch.exp((torch.rand(count, 2) - 0.4) * 0.5)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    shear = (torch.rand(count) - 0.5) * 0.3
    shift = (torch.rand(count, 2) - 0.5) * 0.25
    rows = [
        torch.stack([mirror * scale[:, 0] * angle.cos(), scale[:, 0] * (shear - angle.sin()), shift[:, 0]], dim=1),
        torch.stack([mirror * scale[:, 1] * angle.sin(), scale[:, 1] * angle.cos(), shift[:, 1]], dim=1),
    ]
    matrix = torch.stack(rows, dim=1)
    unchanged = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(count, 2, 3)
    return torch.where(torch.rand(count, 1, 1) < 0.15, unchanged, matrix)


def randomly_coloured(images: Tensor) -> Tensor:
    """Contrast, saturation (down to grey), tint and brightness; white stays near white."""
    count = len(images)

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(count, channels, 1, 1, device=images.device)

    grey = images.mean(dim=1, keepdim=True)
    saturation = torch.where(draw(0, 1) < 0.12, 0.0, draw(0.5, 1.5))
    images = grey + saturation * (images - grey)
    return 1 - (1 - images) * draw(0.6, 1.2) * draw(0.85, 1.15, 3)


def written_otherwise(text: str) -> str:
    """A short text, sometimes spelt as in a file name: joined words, missing letters, numbers, authors' marks."""
    draw = random.random()
    if draw < 0.5 or len(text) > LONG:
        return text
    if draw < 0.62:
        return re.sub(r"\s+", random.choice(["_", "-", ""]), text)
    if draw < 0.72:
        return f"{text}{random.choice([' ', '_', ''])}{random.randint(1, 30):0{random.choice([1, 2])}}"
    if draw < 0.82 and len(text) > 4:
        at = random.randrange(1, len(text) - 1)
        return text[:at] + text[at + 1 :]
    if draw < 0.9 and " " not in text:
        return random.choice(["k", "g", "gnome ", "x ", "the ", "a ", "my "]) + text
    return (
        text.upper()
        if draw < 0.93
        else random.choice(["the {}", "a {}", "{} icon", "{} symbol", "{} (B and W)"]).format(text)
    )
