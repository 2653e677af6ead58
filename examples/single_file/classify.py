"""Label one item with model.onnx: python classify.py FOLDER [--image FILE] [--text TEXT]

`mora-train export RUN --output FOLDER --single-file` writes the folder. The program needs numpy, onnxruntime, pillow
and tokenizers, and nothing else of this repository.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from tokenizers import Tokenizer


def pixel_values(picture: Image.Image, image: dict[str, Any]) -> np.ndarray:
    """(1, 3, H, W): RGB over white, resized, cropped at the centre, scaled to 0..1, normalised."""
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):  # 16-bit grey; `convert` would clip it to white
        grey = np.asarray(upright)
        grey = np.where(grey == upright.info.get("transparency", -1), 0xFFFF, grey)
        upright = Image.fromarray((grey >> 8).astype(np.uint8))
    upright = upright.convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
    if image["exact_size"]:
        height, width = image["exact_size"]
    else:
        width, height = (edge * image["shortest_edge"] // min(picture.size) for edge in picture.size)
    picture = picture.resize((width, height), Image.Resampling[image["resample"].upper()])
    if image["crop"]:
        crop_height, crop_width = image["crop"]
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
        picture = picture.crop((left, top, left + crop_width, top + crop_height))
    pixels = (np.asarray(picture) / 255 - image["mean"]) / image["std"]
    return pixels.transpose(2, 0, 1)[None].astype(np.float32)


def input_ids(words: str, text: dict[str, Any], tokenizer: Tokenizer) -> np.ndarray:
    """(1, L): the tokens of the text with its end token, cut at `max_length`."""
    tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a text is plain text
    tokenizer.enable_truncation(text["max_length"])
    tokenizer.no_padding()
    if text["padding"]:
        tokenizer.enable_padding(length=text["padding"]["length"], pad_id=text["padding"]["token"])
    return np.array([tokenizer.encode(words).ids], np.int64)


def scores(logits: np.ndarray, problem: str, temperature: float) -> np.ndarray:
    """(C,) in 0..1, as the service answers them."""
    scaled = logits.astype(np.float64) / temperature
    if problem == "multi_label":
        return 1 / (1 + np.exp(-scaled))
    powers = np.exp(scaled - scaled.max())
    return powers / powers.sum()


def main() -> None:
    """Print the labels with their scores, the best first."""
    parser = argparse.ArgumentParser(description="Label one item with model.onnx.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--text")
    asked = parser.parse_args()
    words = asked.text if asked.text and asked.text.strip() else ""
    if not (asked.image or words):
        parser.error("give --image, --text or both")
    manifest = json.loads((asked.folder / "manifest.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(asked.folder / "model.onnx", providers=["CPUExecutionProvider"])

    # A missing image is a white picture, a missing text is the empty string.
    picture = Image.open(asked.image) if asked.image else Image.new("RGB", (64, 64), "white")
    pixels = pixel_values(picture, manifest["image"])
    ids = input_ids(words, manifest["text"], Tokenizer.from_file(str(asked.folder / "tokenizer.json")))
    last_token = np.array([ids.shape[1] - 1])
    inputs = {"pixel_values": pixels, "input_ids": ids, "last_token": last_token}
    logits = session.run(["logits"], inputs)[0][0]  # (C,)

    pattern = "both" if asked.image and words else "image" if asked.image else "text"
    calibration = manifest["calibration"][pattern]
    of_labels = scores(logits, manifest["problem"], calibration["temperature"])
    limits = calibration["thresholds"] or [of_labels.max()] * len(of_labels)
    for number in np.argsort(-of_labels, kind="stable"):
        is_selected = bool(of_labels[number] >= limits[number])
        print(json.dumps({"label": manifest["labels"][number], "score": of_labels[number], "selected": is_selected}))


if __name__ == "__main__":
    main()
