"""Files of other programs and broken downloads: what they are, and what to do with them. No code in them is run."""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

_TO_TRANSFORMERS = (
    "convert it to transformers' format (convert_clip_original_pytorch_to_hf.py in the repository of transformers), "
    "or take a converted model from the hub, such as openai/clip-vit-base-patch32, and import its folder"
)
_OLD_TRANSFORMERS = "load its folder with transformers 4, {}, save_pretrained, and import the new folder"
_TENSORFLOW = f"is TensorFlow's; {_OLD_TRANSFORMERS.format('CLIPModel.from_pretrained(FOLDER, from_tf=True)')}"
_ARCHIVE = "is an archive; unpack it and give the folder in it"
_STARTS = (  # of a file, ignoring case
    (rb"version https://git-lfs", "is a Git LFS pointer in place of the file; run `git lfs pull` in its folder"),
    (rb"\s*<(!doctype|html|head|\?xml)", "is a web page, such as the error page of a download; download it again"),
    (rb"GGUF", "is a GGUF file of llama.cpp; import the model that it was made from, in transformers' format"),
    (rb"\x89HDF\r\n", _TENSORFLOW),
    (rb"\x1f\x8b|7z\xbc\xaf|\xfd7zXZ|Rar!|BZh|\x28\xb5\x2f\xfd|.{257}ustar", _ARCHIVE),
)
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_SUFFIXES = {
    ".h5": _TENSORFLOW,
    ".index": _TENSORFLOW,
    ".pb": _TENSORFLOW,
    ".msgpack": f"is Flax's; {_OLD_TRANSFORMERS.format('CLIPModel.from_pretrained(FOLDER, from_flax=True)')}",
    ".onnx": "is an ONNX graph, whose weights cannot be split or merged; import the model that it was exported from",
    ".npz": "holds arrays of NumPy; load them into a CLIPModel or SiglipModel, save_pretrained, and import that folder",
    ".tflite": "is a TensorFlow Lite graph; import the model that it was exported from",
}
_NAMES = (  # parts of the names of tensors and fields
    (
        r"pytorch-lightning_version",
        "is a checkpoint of Lightning; load it and save_pretrained its CLIPModel",
    ),
    (r"shared_magnitude|modality_A|cls_head", None),  # of MoRA's authors
    (r"lora_A|lora_B", "holds an adapter of PEFT; give its folder, which also holds adapter_config.json"),
    (r"lora_(up|down|te|unet)", "is a LoRA of diffusers or kohya; convert it to PEFT's format and give the folder"),
    (
        r"visual\.(conv1|transformer|trunk|layer1|attnpool|head)|transformer\.resblocks",
        f"is a CLIP of open_clip or OpenAI's code; {_TO_TRANSFORMERS}",
    ),
    (
        r"(text|vision)_model\.(encoder|embeddings)",
        "holds weights under transformers' names; load them into a CLIPModel or SiglipModel (load_state_dict), "
        "save_pretrained, and import that folder",
    ),
    (r"param_groups|exp_avg", "is the state of an optimizer; give the model that was saved beside it"),
)
_PICKLES = 5  # in a file of torch.save's older format; the fourth holds the names


def damaged_file(path: Path) -> str | None:
    """What is in the place of a file, by its first bytes, and the cure; None if that is not recognised."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(1024)
    if not start:
        return "is empty; copy it again"
    for pattern, kind in _STARTS:
        if re.match(pattern, start, re.IGNORECASE | re.DOTALL):
            return kind
    if path.suffix in WEIGHT_SUFFIXES and re.fullmatch(rb"[\t\n\r\x20-\x7e]+", start):
        line = start.decode().strip().partition("\n")[0][:60]
        return f"is a text in place of the file ({line!r}); download it again"
    return None


def foreign_file(path: Path) -> str | None:
    """What a file is and the cure, to follow its name in a message; None if it is not recognised."""
    kind = damaged_file(path) or _SUFFIXES.get(path.suffix)
    if kind is not None or not path.is_file():
        return kind
    entries = _zip_entries(path)
    if any(name.endswith("constants.pkl") for name in entries):
        return f"is a TorchScript archive, such as OpenAI's CLIP models; {_TO_TRANSFORMERS}"
    if entries and not any(name.endswith("data.pkl") for name in entries):
        return _ARCHIVE
    names = "\n".join(_names(path, entries))
    return next((kind for pattern, kind in _NAMES if re.search(pattern, names)), None)


def foreign_folder(folder: Path) -> str | None:
    """The file that explains why a folder holds no whole model in transformers' format, with the cure; None without."""
    if (folder / "zero_to_fp32.py").is_file():
        return "it is a checkpoint of DeepSpeed; run zero_to_fp32.py in it and save_pretrained the model"
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        missing = [shard for shard in _shards(path) if not (folder / shard).is_file()]
        if missing:
            return f"{missing[0]} is missing, which {path.name} lists; copy it too"
        if kind := damaged_file(path) or _SUFFIXES.get(path.suffix):
            return f"{path.name} {kind}"
    if (folder / "open_clip_config.json").is_file():
        return f"it is a model of open_clip; {_TO_TRANSFORMERS}"
    if (folder / "config.json").is_file():
        return None
    return next((f"{path.name} {kind}" for path in files if (kind := foreign_file(path))), None)


def _shards(path: Path) -> list[str]:
    """The files that an index of sharded weights lists; none if the file is no index."""
    if not path.name.endswith(".index.json"):
        return []
    try:
        shards = json.loads(path.read_bytes())["weight_map"].values()
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return []
    return sorted({shard for shard in shards if isinstance(shard, str)})


def _zip_entries(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:
        return []


def _names(path: Path, entries: list[str]) -> Iterator[str]:
    """The names of tensors and fields in a file of safetensors or of torch.save."""
    with path.open("rb") as file:
        start = file.read(9)
        file.seek(0)
        if start[8:] == b"{":
            size = int.from_bytes(file.read(8), "little")
            yield file.read(min(size, path.stat().st_size)).decode(errors="replace")
        elif start.startswith(b"\x80"):
            yield from _pickled_texts(file)
    for entry in entries:
        if entry.endswith("data.pkl"):
            with (
                suppress(RuntimeError),  # it is encrypted, or compressed by another method
                zipfile.ZipFile(path) as archive,
                archive.open(entry) as pickled,
            ):
                yield from _pickled_texts(pickled)


def _pickled_texts(file: IO[bytes]) -> Iterator[str]:
    with suppress(ValueError, zipfile.BadZipFile):  # the end of the pickles, or a damaged one
        for _ in range(_PICKLES):
            yield from (value for _, value, _ in pickletools.genops(file) if isinstance(value, str))
