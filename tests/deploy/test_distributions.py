"""The wheel and the sdist: what is in them, that building is reproducible, and that the wheel serves by itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from email.parser import Parser
from hashlib import sha256
from pathlib import Path
from urllib.request import Request, urlopen
from zipfile import ZipFile

import pytest

from tests.support.sampling import each
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
PACKAGES = ("model_store", "service", "training")
FILES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "CHANGELOG.md", "CITATION.cff", "SECURITY.md")
NOT_OURS = shutil.ignore_patterns("__pycache__", ".staging", ".lock")
STORE = ("tasks", "blobs")  # of the package model_store
ITEM = {"task": "clipart-category", "text": "a red apple"}


def copy_of_the_sources(folder: Path, has_store: bool = True) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=NOT_OURS)
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    if not has_store:
        for name in STORE:
            shutil.rmtree(folder / "model_store" / name)
    return folder


def build(sources: Path, *options: str, **environment: str) -> dict[str, Path]:
    """The distributions that `python -m build` makes, by suffix."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", *options]
    done = subprocess.run(
        command, cwd=sources, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.suffix: path for path in (sources / "dist").iterdir()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build(copy_of_the_sources(tmp_path_factory.mktemp("whole")), "--wheel")[".whl"]


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_packages_and_the_licence(wheel, tmp_path):
    sources = copy_of_the_sources(tmp_path)
    expected = {f"{package}/{name}" for package in PACKAGES for name in files_below(sources / package)}
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        fields = Parser().parsestr(archive.read(metadata).decode())
        for name in ("LICENSE", "NOTICE"):
            path = metadata.replace("METADATA", f"licenses/{name}")
            assert archive.read(path) == (ROOT / name).read_bytes()

    assert names == expected
    assert {"model_store/tasks/clipart-category/live", "service/playground/index.html", "service/py.typed"} <= names
    assert fields["License-Expression"] == "Apache-2.0"
    assert {"cpu", "gpu", "train", "otel"} <= {*fields.get_all("Provides-Extra")}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_command_has_its_version(package):
    done = subprocess.run([sys.executable, "-m", package, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"mora-serve \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize(("module", "command"), [("pyarrow", "fit"), ("matplotlib", "data")])
def test_without_the_extra_of_training_one_line_says_what_to_install(module, command, tmp_path):
    rows = "".join(f"item {number},{'ab'[number % 2]}\n" for number in range(40))
    (tmp_path / "task.csv").write_text(f"text,label\n{rows}")
    config = "task: t\nproblem: single_label\nbackbone: b\ndata: {train: task.csv, image: null}\n"
    (tmp_path / "task.yaml").write_text(config)
    words = [command, str(tmp_path / "task.yaml")]
    script = f"import sys; sys.modules['{module}'] = None; from training.__main__ import main; main()"

    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("error: mora-train needs the extra train (pip install 'mora-serve[train]'); ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("mask", "modified", "environment"),
    each(
        [
            (0o022, 1.0e9, {}),
            (0o077, 1.7e9, {"TZ": "Asia/Tokyo", "LC_ALL": "C"}),
            (0o002, 1.3e9, {"PYTHONHASHSEED": "7"}),
        ],
        tried=[(0o077, 1.7e9, {"TZ": "Asia/Tokyo", "LC_ALL": "C"})],
    ),
)
@pytest.mark.slow
def test_equal_sources_give_equal_bytes(tmp_path, mask, modified, environment):
    """Whatever the umask, the time and the folder. Without the store, whose compression takes long."""
    digests = []
    for number in range(2):
        before = os.umask(mask if number else 0o022)
        try:
            sources = copy_of_the_sources(tmp_path / str(number) / ("deep" * number), has_store=False)
            for path in [*sources.rglob("*")] if number else []:
                path.chmod((path.stat().st_mode | 0o600) & ~mask)
                os.utime(path, (modified, modified))
            made = build(sources, **(environment if number else {}))
        finally:
            os.umask(before)
        digests.append({suffix: sha256(path.read_bytes()).hexdigest() for suffix, path in made.items()})

    assert digests[0] == digests[1]
    assert digests[0].keys() == {".whl", ".gz"}


@pytest.mark.slow
def test_a_wheel_that_is_built_from_the_sdist_is_the_same(tmp_path):
    sources = copy_of_the_sources(tmp_path / "sources", has_store=False)
    (sources / "notes.txt").write_text("of the one who builds")
    direct = build(sources, "--wheel")[".whl"].read_bytes()
    with tarfile.open(build(sources, "--sdist")[".gz"]) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()

    assert build(unpacked, "--wheel")[".whl"].read_bytes() == direct
    assert not {"notes.txt", "tests"} & {path.name for path in unpacked.iterdir()}
    assert {*FILES, *PACKAGES, "PKG-INFO"} <= {path.name for path in unpacked.iterdir()}


@pytest.mark.slow
def test_the_wheel_serves_its_embedded_store_in_an_empty_environment(wheel, tmp_path):
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    install = ["-m", "pip", "--python", environment, "install", "--quiet", "--no-index", "--no-deps", wheel]
    subprocess.run([sys.executable, *install], check=True)
    (own,) = environment.glob("lib/python3*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # as a package index would give them
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MORA_"))}
    log = tmp_path / "log"

    command = [environment / "bin/mora-serve", "run", "--port", "0", "--log-format", "json", "--runtime", "onnxruntime"]
    with log.open("wb") as file, subprocess.Popen(command, stderr=file, cwd=folder, env=variables) as process:
        try:
            eventually(lambda: '"listening"' in log.read_text() or process.poll() is not None, 120)
            listening = re.search(r'"url": ?"([^"]+)"', log.read_text())
            assert listening, log.read_text()
            body, headers = json.dumps(ITEM).encode(), {"Content-Type": "application/json"}
            with urlopen(Request(f"{listening[1]}/classify", body, headers), timeout=60) as response:
                answer = json.load(response)
        finally:
            process.kill()
    where = [environment / "bin/python", "-c", "import model_store; print(model_store.DEFAULT_STORE)"]
    store = subprocess.run(where, capture_output=True, text=True, cwd=folder, env=variables, check=True).stdout

    assert (answer["task"], answer["labels"][0]["label"]) == ("clipart-category", "food")
    assert Path(store.strip()).is_relative_to(own)
