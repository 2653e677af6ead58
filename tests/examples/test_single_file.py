"""The programs of docs/single-file.md give the answers of the service, from model.onnx alone."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from model_store import Calibration, Pattern, Store
from model_store.items.pictures import pixel_values
from model_store.manifest import ImagePreprocessing
from model_store.publishing import publish
from service.cli import app
from tests.conftest import picture
from training.config import TaskConfig
from training.data.splits import load_data
from training.export.bundle import export_task
from training.export.onnx_graphs import export_single_file
from training.learning.runs import TrainedTask, build

ROOT = Path(__file__).parents[2]
PROGRAMS, PAGE = ROOT / "examples/single_file", ROOT / "docs/single-file.md"
PACKAGES = ROOT / "build/clients/single-file/node_modules"
TASKS = [("clip", "single_label"), ("clip", "multi_label"), ("siglip", "single_label")]
LONG = "a red picture of much more than twenty-four tokens"
ITEMS = [
    ("square.png", "a red picture"),
    ("square.png", LONG),
    ("square.png", None),
    ("square.png", " "),
    (None, "Blue, or GREEN?"),
    (None, LONG),
]


@pytest.fixture(scope="module", params=TASKS, ids=" ".join)
def exported(request, tmp_path_factory, tiny_backbone, tiny_siglip, parquet_of) -> Path:
    """A folder as of `mora-train export --single-file`, with the store of the same version in it."""
    family, problem = request.param
    folder = tmp_path_factory.mktemp("exported")
    values = {
        "task": "colors",
        "problem": problem,
        "backbone": str({"clip": tiny_backbone, "siglip": tiny_siglip}[family]),
    }
    columns = {"label": "labels" if problem == "multi_label" else "label"}
    values |= {"data": parquet_of(folder) | columns, "export": {"precisions": []}}
    config = TaskConfig.model_validate(values)
    data = load_data(config)
    model, preprocessor = build(config, len(data.labels))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.state_dict().values():  # as if trained
            value += 0.05 * torch.randn(value.shape, generator=generator)
    limits = (0.45, 0.5, 0.55) if problem == "multi_label" else None
    heat = {
        pattern: Calibration(temperature=1 + 0.5 * number, thresholds=limits) for number, pattern in enumerate(Pattern)
    }
    mix = {"both": 0.4, "image": 0.3, "text": 0.3}
    trained = TrainedTask(config, data.labels, data.fingerprint, mix, heat, model.eval(), preprocessor)
    bundle = export_task(trained, {"validation": {}, "test": {}}, data, None)
    bundle.write(folder)
    (folder / "model.onnx").write_bytes(export_single_file(trained.model))
    publish(Store(folder / "store"), bundle.draft, bundle.blobs, None)
    picture(3, (32, 32)).save(folder / "square.png")
    return folder


MODES = [("RGB", (90, 41)), ("L", (33, 70)), ("RGBA", (64, 64)), ("LA", (40, 41)), ("I;16", (41, 40))]


def drawn_in(mode: str, size: tuple[int, int]) -> Image.Image:
    """A picture of a mode; Pillow's own conversion to 16 bits would keep the values of 8 bits."""
    if mode != "I;16":
        return picture(5, size).convert(mode)
    return Image.fromarray(np.asarray(picture(5, size).convert("L")).astype(np.uint16) * 0x0101)


def line_of(image: Path | None, text: str | None) -> list[str]:
    return [*(["--image", str(image)] if image else []), *(["--text", text] if text else [])]


def answer_of_the_service(folder: Path, line: list[str]) -> dict[str, tuple[float, bool]]:
    done = CliRunner().invoke(app, ["classify", *line, "--json", "--store", str(folder / "store")])
    assert done.exit_code == 0, done.output
    return {each["label"]: (each["score"], each["selected"]) for each in json.loads(done.stdout)["labels"]}


def answer_of(command: list[str | Path], folder: Path, line: list[str]) -> dict[str, tuple[float, bool]]:
    done = subprocess.run([*command, folder, *line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = [json.loads(each) for each in done.stdout.splitlines()]
    assert [each["score"] for each in answer] == sorted((each["score"] for each in answer), reverse=True)
    return {each["label"]: (each["score"], each["selected"]) for each in answer}


def python(_: Path) -> list[str | Path]:
    return [sys.executable, PROGRAMS / "classify.py"]


def javascript(folder: Path) -> list[str | Path]:
    if not (shutil.which("node") and PACKAGES.is_dir()):
        pytest.skip(f"NOT TESTED: node is not installed, or {PACKAGES} does not exist (make client-test)")
    (folder / "node_modules").symlink_to(PACKAGES)
    shutil.copy(PROGRAMS / "classify.mjs", folder)
    return ["node", folder / "classify.mjs"]


@pytest.mark.parametrize("program", [python, javascript])
@pytest.mark.slow
def test_the_answers_are_those_of_the_service(exported, tmp_path, program: Callable[[Path], list[str | Path]]):
    command = program(tmp_path)
    for image, text in ITEMS:
        line = line_of(exported / image if image else None, text)
        expected, given = answer_of_the_service(exported, line), answer_of(command, exported, line)

        assert given.keys() == expected.keys()
        for label, (score, is_selected) in expected.items():
            assert given[label] == (pytest.approx(score, abs=1e-4), is_selected), (line, label)


@pytest.mark.parametrize("program", [python, javascript])
@pytest.mark.parametrize(("mode", "size"), MODES)
@pytest.mark.slow
def test_a_picture_of_any_mode_and_size_is_read(exported, tmp_path, program, mode, size):
    drawn_in(mode, size).save(tmp_path / "picture.png")
    line = line_of(tmp_path / "picture.png", None)

    expected, given = answer_of_the_service(exported, line), answer_of(program(tmp_path), exported, line)

    tolerance = 1e-4 if program is python else 0.02  # sharp rounds in between
    for label, (score, _) in expected.items():
        assert given[label][0] == pytest.approx(score, abs=tolerance)


PREPROCESSING = ImagePreprocessing(
    shortest_edge=24, exact_size=None, crop=(24, 24), resample="bicubic", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)
)


def program_pixels(path: Path) -> np.ndarray:
    """`pixel_values` of classify.py."""
    spec = importlib.util.spec_from_file_location("classify", PROGRAMS / "classify.py")
    classify = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(classify)
    with Image.open(path) as opened:
        return classify.pixel_values(opened, PREPROCESSING.model_dump())[0]


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_the_pixels_are_those_of_the_service(tmp_path, mode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    drawn_in(mode, (40, 60)).save(path, exif=exif)
    np.testing.assert_allclose(program_pixels(path), pixel_values(path.read_bytes(), PREPROCESSING), atol=1e-5)


def test_transparent_pixels_of_16_bits_are_white(tmp_path):
    for value, name in ((0x8000, "key.png"), (0xFFFF, "white.png")):
        options = {"transparency": value} if value == 0x8000 else {}
        Image.fromarray(np.full((24, 24), value, np.uint16)).save(tmp_path / name, **options)

    np.testing.assert_equal(program_pixels(tmp_path / "key.png"), program_pixels(tmp_path / "white.png"))


@pytest.mark.parametrize("program", [python, javascript])
@pytest.mark.slow
def test_a_picture_with_exif_is_turned_upright(exported, tmp_path, program):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(7, (32, 32)).save(tmp_path / "picture.png", exif=exif)
    line = line_of(tmp_path / "picture.png", "a red picture")

    expected, given = answer_of_the_service(exported, line), answer_of(program(tmp_path), exported, line)

    assert [*given] == [*expected]
    for label, (score, _) in expected.items():
        assert given[label][0] == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("program", [python, javascript])
@pytest.mark.parametrize("line", [[], ["--text", ""], ["--text", " \t"]])
@pytest.mark.slow
def test_an_item_without_image_and_text_is_refused(exported, tmp_path, program, line):
    done = subprocess.run([*program(tmp_path), exported, *line], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "give" in done.stderr


def test_the_page_lists_the_inputs_and_the_opset_of_the_file(exported):
    model = onnx.load(exported / "model.onnx")
    page = PAGE.read_text(encoding="utf-8")

    kinds = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}
    for value in [*model.graph.input, *model.graph.output]:
        kind = kinds[value.type.tensor_type.elem_type]
        assert re.search(rf"^\| `{value.name}` \| {kind} \|", page, re.MULTILINE), value.name
    assert [entry.domain for entry in model.opset_import] == [""]
    assert f"opset {model.opset_import[0].version}," in page
    assert f"IR version {model.ir_version}" in page
    assert not any(tensor.external_data for tensor in model.graph.initializer)
