"""Files of other programs and broken downloads are named for what they are, and none of their code runs.

Covers training.model.source_files.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from training.errors import BackboneError, SourceError
from training.model.backbones import load_backbone
from training.model.foreign_files import foreign_file, foreign_folder
from training.model.import_source import read_source
from training.model.source_files import read_description, read_tensors

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
PAGE = b"\n<!DOCTYPE html><html><title>403</title></html>"
CONVERT = "convert_clip_original_pytorch_to_hf.py"
Save = Callable[[Path], object]


def state(*names: str) -> dict[str, Tensor]:
    return {name: torch.zeros(2) for name in names}


def saved(*names: str, **options: bool) -> Save:
    return lambda path: torch.save(state(*names), path, **options)


def written(content: bytes) -> Save:
    return lambda path: path.write_bytes(content)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/config.json", "{}")


OPEN_CLIP = ("visual.transformer.resblocks.0.attn.in_proj_weight", "transformer.resblocks.0.mlp.c_fc.weight")
LIGHTNING = {"pytorch-lightning_version": "2.0", "hyper_parameters": argparse.Namespace(a=1), **state("clip.weight")}
FILES: dict[str, tuple[str, Save, str]] = {
    "open_clip": ("open_clip_pytorch_model.bin", saved(*OPEN_CLIP), CONVERT),
    "open_clip, older torch": ("model.pt", saved(*OPEN_CLIP, _use_new_zipfile_serialization=False), CONVERT),
    "open_clip, safetensors": ("open_clip_model.safetensors", lambda path: save_file(state(*OPEN_CLIP), path), CONVERT),
    "open_clip, training": ("epoch_3.pt", lambda path: torch.save({"state_dict": state(*OPEN_CLIP)}, path), CONVERT),
    "open_clip, timm": ("siglip.pt", saved("visual.trunk.blocks.0.attn.qkv.weight"), CONVERT),
    "OpenAI": (
        "ViT-B-32.pt",
        lambda path: torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(2)), path),
        "TorchScript archive.*openai/clip-vit-base-patch32",
    ),
    "Lightning": ("last.ckpt", lambda path: torch.save(LIGHTNING, path), "Lightning; load it and save_pretrained"),
    "transformers": ("model.pt", saved("text_model.encoder.layers.0.mlp.fc1.weight"), "load_state_dict"),
    "PEFT": ("adapter.safetensors", lambda path: save_file(state("a.lora_A.weight"), path), "give its folder"),
    "kohya": ("style.safetensors", lambda path: save_file(state("lora_te_q.lora_up.weight"), path), "kohya"),
    "optimizer": ("optimizer.pt", lambda path: torch.save({"param_groups": []}, path), "state of an optimizer"),
    "TensorFlow": ("tf_model.h5", written(b"\x89HDF\r\n\x1a\n"), "from_tf=True"),
    "Flax": ("flax_model.msgpack", written(b"\x82\xa6params"), "from_flax=True"),
    "ONNX": ("model.onnx", written(b"\x08\x08\x12\x07pytorch"), "ONNX graph"),
    "GGUF": ("model.gguf", written(b"GGUF\x03\0\0\0"), "GGUF file"),
    "zip": ("model.zip", zipped, "unpack it"),
    "gzip": ("model.tar.gz", written(gzip.compress(b"model")), "unpack it"),
    "NumPy": ("model.npz", lambda path: np.savez(path, a=np.zeros(2)), "arrays of NumPy"),
    "page": ("model.pt", written(PAGE), "web page"),
    "answer": ("model.safetensors", written(b'{"error": "Repository not found"}'), "Repository not found"),
    "LFS": ("model.safetensors", written(LFS), "git lfs pull"),
    "empty": ("model.bin", written(b""), "is empty"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_another_program_is_named_with_what_to_do(tiny_backbone: Path, tmp_path: Path, kind: str) -> None:
    name, save, message = FILES[kind]
    save(tmp_path / name)

    with pytest.raises(SourceError, match=f"{name} (?=is |holds ).*{message}") as raised:
        read_source(tmp_path / name, str(tiny_backbone))

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"\x80\x02garbage", bytes(range(256)), b"PK\x03\x04cut short"])
def test_a_file_that_is_not_recognised_is_left_to_its_reader(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "best_model.pt").write_bytes(content)

    assert foreign_file(tmp_path / "best_model.pt") is None


def test_the_authors_file_and_a_whole_model_are_not_foreign(tiny_backbone: Path, tmp_path: Path) -> None:
    saved("model.vision_model.encoder.layers.1.self_attn.q_proj.modality_A")(tmp_path / "best_model.pt")

    assert foreign_file(tmp_path / "best_model.pt") is None
    assert foreign_folder(tiny_backbone) is None


def copied(backbone: Path, folder: Path, name: str, content: bytes) -> Path:
    shutil.copytree(backbone, folder)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(content)
    return folder


INDEX = json.dumps({"metadata": {}, "weight_map": {"a": "model-1-of-2.safetensors"}}).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", LFS, r"model\.safetensors is a Git LFS pointer"),
        ("model.safetensors", PAGE, r"model\.safetensors is a web page"),
        ("tf_model.h5", b"\x89HDF\r\n\x1a\n", r"tf_model\.h5 is TensorFlow's"),
        ("flax_model.msgpack", b"\x82\xa6params", r"flax_model\.msgpack is Flax's"),
        ("model.safetensors.index.json", INDEX, r"model-1-of-2\.safetensors is missing, which"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "model-1-of-2.safetensors"}}', "is missing, which"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": 5}}', r"copy config\.json and model\.safetensors"),
        ("open_clip_config.json", b"{}", "it is a model of open_clip"),
        ("zero_to_fp32.py", b"", "run zero_to_fp32.py"),
        ("model.safetensors", b"\x09\0\0\0\0\0\0\0{ truncat", r"copy config\.json and model\.safetensors"),
    ],
)
def test_a_folder_without_whole_weights_says_why(
    tiny_backbone: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    folder = copied(tiny_backbone, tmp_path / "model", name, content)

    with pytest.raises(SourceError, match=message):
        read_source(folder, str(tiny_backbone))
    with pytest.raises(BackboneError, match=message):
        load_backbone(str(folder))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("checkpoint-5/adapter_config.json", "a model is in .*checkpoint-5; give that folder"),
        ("snapshots/0123/config.json", "a model is in .*0123; give that folder"),
        ("open_clip_config.json", "it is a model of open_clip"),
        ("model.onnx", r"model\.onnx is an ONNX graph"),
        ("notes.txt", r"it has neither adapter_config\.json nor config\.json"),
    ],
)
def test_a_folder_that_is_no_model_says_where_one_is_or_what_it_holds(
    tiny_backbone: Path, tmp_path: Path, file: str, message: str
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("{}")

    with pytest.raises(SourceError, match=message):
        read_source(tmp_path, str(tiny_backbone))


def test_a_checkpoint_in_shards_is_imported(tiny_backbone: Path, tmp_path: Path) -> None:
    backbone = load_backbone(str(tiny_backbone))
    backbone.save_pretrained(tmp_path / "sharded", max_shard_size="200KB")

    source = read_source(tmp_path / "sharded", str(tiny_backbone))

    assert len([*(tmp_path / "sharded").glob("*.safetensors")]) > 1
    assert all(value.equal(backbone.state_dict()[name]) for name, value in source.towers.state_dict().items())


@pytest.mark.parametrize(
    ("content", "message"),
    [(LFS, "Git LFS"), (PAGE, "web page"), (b"", "is empty"), (b"{", "cannot be read"), (b"[]", "not a JSON object")],
)
def test_a_description_that_cannot_be_read_says_why(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "adapter_config.json").write_bytes(content)

    with pytest.raises(SourceError, match=rf"adapter_config\.json .*{message}"):
        read_description(tmp_path / "adapter_config.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LFS, "Git LFS"),
        (PAGE, "web page"),
        (b"\x01" * 99, "not a readable safetensors file .*; copy the whole file again"),
        (None, r"a\.safetensors: No such file or directory; correct the path"),
    ],
)
def test_tensors_that_cannot_be_read_say_why(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a.safetensors").write_bytes(content)

    with pytest.raises(SourceError, match=message):
        read_tensors(tmp_path / "a.safetensors")
