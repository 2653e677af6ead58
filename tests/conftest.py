"""What several packages' tests need: a tiny CLIP and a tiny SigLIP in transformers' format, and pictures."""

from __future__ import annotations

import json
import os
import re
import string
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MORA_RUNTIME"] = "onnxruntime"  # tests of OpenVINO ask for it; else each load would measure both
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # two processes of torch on two cores: more threads only wait for each other

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from model_store import Store
from tests.support.tiny import Shelf

COLORS = ["red", "green", "blue"]
_WAITING = ("tests/browser/", "tests/faults/")  # for servers and for time to pass
_COMPUTING = ("tests/deploy/", "tests/docs/", "tests/examples/", "tests/integration/", "tests/training/")


# Parts of `make test`, the longest first, so that its processes end at about the same time.
_LONGEST = (
    "waiting",
    "faults/load",
    "training/pipeline",
    "training/learning",
    "integration/test_main_path.py",
    "docs/test_tutorial.py",
    "training/export",
    "deploy/test_prometheus.py",
)


def _part(nodeid: str) -> str:
    """The tests that run in one process: one half of those that mostly wait, or a folder or a file of others."""
    part = "/".join(nodeid.split("::")[0].split("/")[1:3])
    return "waiting" if nodeid.startswith(_WAITING) and part != "faults/load" else part


_FULL_ONLY = ("test_control_", "test_timing_")  # a planted fault is caught; a time is measured and has a goal


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="the tests that are marked slow, too")
    parser.addoption("--full-faults", action="store_true", help="every test, full counts, docs/reliability.md")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--full-faults"):
        markers = ["full_only"] if config.getoption("--slow") else ["full_only", "slow"]
        left_out = {
            item for item in items if item.name.startswith(_FULL_ONLY) or any(map(item.get_closest_marker, markers))
        }
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=[*left_out])
    parts = [*_LONGEST, *dict.fromkeys(_part(item.nodeid) for item in items)]
    items.sort(key=lambda item: parts.index(_part(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Four processes on two cores: two begin with the tests that wait, the others with the other parts."""
    from xdist.scheduler import LoadScopeScheduling

    class Parts(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _part(nodeid)

    config.option.loadscopereorder = False
    return Parts(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that compute run at low priority: to a test that waits, a slow machine looks like a fault."""
    if "PYTEST_XDIST_WORKER" in os.environ and item.nodeid.startswith(_COMPUTING) and not os.nice(0):
        os.nice(10)


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A smooth random RGB picture of (width, height)."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty store for tiny tasks."""
    return Shelf(Store(tmp_path / "store"))


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    """`png(seed, size)`: an encoded picture."""

    def encode(seed: int, size: tuple[int, int] = (40, 30), format: str = "PNG") -> bytes:
        file = BytesIO()
        picture(seed, size).save(file, format)
        return file.getvalue()

    return encode


@pytest.fixture(scope="session")
def parquet_of(png: Callable[..., bytes]) -> Callable[..., dict[str, str]]:
    """`parquet_of(folder)`: writes the splits of a made task, pictures of noise named by a colour, some cells empty.

    `validation` is the number of its first picture and of its rows.
    """

    def write(folder: Path, validation: tuple[int, int] = (100, 9)) -> dict[str, str]:
        paths = {}
        for split, (start, count) in {"train": (0, 24), "validation": validation, "test": (200, 12)}.items():
            rows = [
                {
                    "image": None if i % 7 == 3 else png(start + i),
                    "text": ("" if i % 2 else None) if i % 7 == 5 else f"a {COLORS[i % 3]} picture {i}",
                    "label": COLORS[i % 3],
                    "labels": [COLORS[i % 3], COLORS[(i + 1) % 3]] if i % 4 else [],
                }
                for i in range(count)
            ]
            paths[split] = str(folder / f"{split}.parquet")
            pq.write_table(pa.Table.from_pylist(rows), paths[split])
        return paths

    return write


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP with towers of different width and depth, its tokenizer and image processor."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = tmp_path_factory.mktemp("backbone")
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    vocabulary = [
        "<|startoftext|>",
        "<|endoftext|>",
        *letters,
        *(f"{letter}</w>" for letter in letters),
        "re",
        "red</w>",
    ]
    tokens = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = CLIPTokenizer(vocab=tokens, merges=[("r", "e"), ("re", "d</w>")], model_max_length=24)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    shared = {"num_attention_heads": 4, "attention_dropout": 0.0}
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config={
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 4,
            "image_size": 32,
            "patch_size": 8,
            **shared,
        },
        text_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "vocab_size": len(tokens),
            "max_position_embeddings": 77,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
            **shared,
        },
        projection_dim=24,
    )
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random SigLIP, with tokenizer and image processor as the hub's SigLIP repositories have them."""
    import torch
    from transformers import SiglipConfig, SiglipModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    folder = tmp_path_factory.mktemp("siglip")
    tokenizer = _siglip_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(_SIGLIP_TOKENIZER_CONFIG))
    SiglipImageProcessorPil(
        size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(folder)
    shared = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4, "attention_dropout": 0.0}
    torch.manual_seed(0)
    config = SiglipConfig(
        vision_config={"num_hidden_layers": 4, "image_size": 32, "patch_size": 8, **shared},
        text_config={
            "num_hidden_layers": 3,
            "vocab_size": tokenizer.get_vocab_size(),
            "max_position_embeddings": 16,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 1,
            **shared,
        },
    )
    SiglipModel(config).save_pretrained(folder)
    return folder


_SIGLIP_TOKENIZER_CONFIG = {
    "do_lower_case": True,
    "eos_token": "</s>",
    "model_input_names": ["input_ids"],
    "model_max_length": 16,
    "pad_token": "</s>",
    "tokenizer_class": "SiglipTokenizer",
    "unk_token": "<unk>",
}


def _siglip_tokenizer() -> Tokenizer:
    """Lower-cases, drops punctuation, ends with `</s>`, which is also what pads."""
    words = ["a", "picture", *COLORS]
    pieces = ["\u2581", *string.ascii_lowercase, *string.digits, *(f"\u2581{word}" for word in words)]
    special = ["<pad>", "</s>", "<unk>"]
    vocabulary = [(piece, 0.0) for piece in special] + [(piece, -1.0) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace(Regex(f"[{re.escape(string.punctuation)}]"), ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(
        [AddedToken(token, lstrip=True, rstrip=True, normalized=False) for token in special[1:]]
    )
    return tokenizer
