"""Reading of a store: valid versions, and refused files.

Covers model_store.errors.
"""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from model_store import (
    CorruptError,
    ItemScores,
    ManifestDraft,
    NotFoundError,
    Pattern,
    Precision,
    Store,
    activate,
    blob_of,
    collect_garbage,
    publish,
    publishing,
)
from model_store.files import digest_line, read_beneath
from model_store.manifest import TaskName
from model_store.store import MAX_MANIFEST_BYTES

PEAK = """
import pathlib, resource, sys
from model_store import Store
store, kib = Store(pathlib.Path(sys.argv[1])), lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = kib()
store.manifest("fruit", 1)
print(kib() - before)
"""  # KiB that reading a manifest adds to a process
HEX = "0123456789abcdef" * 4


@pytest.fixture
def published(store, draft):
    return publish(store, *draft())


def blob_path(store: Store, manifest) -> Path:
    return store.root / "blobs/sha256" / manifest.head.sha256


def reason_of_refusal(store: Store) -> str:
    with pytest.raises(CorruptError) as caught:
        store.verify("fruit")
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_the_measured_error_of_a_precision_is_kept_and_widens_its_tolerance(store, draft):
    manifest, blobs = draft()
    fp32 = manifest.graphs[Precision.FP32]
    measured = {
        "max_logit_error": {Pattern.BOTH: 0.2, Pattern.IMAGE: 0.3, Pattern.TEXT: 0.0},
        "metric_change": {Pattern.BOTH: 0.12, Pattern.IMAGE: -0.5, Pattern.TEXT: 0.0},
    }
    graphs = {Precision.FP32: fp32, Precision.INT8: fp32.model_copy(update=measured), Precision.FP16: fp32}
    publish(store, manifest.model_copy(update={"graphs": graphs}), blobs)

    manifest = store.manifest("fruit", 1)

    assert manifest.graphs == graphs
    assert manifest.tolerance(Precision.INT8) == 0.6
    assert manifest.tolerance(Precision.FP16) == manifest.tolerance(Precision.FP32) == manifest.golden_tolerance


@pytest.mark.parametrize("missing", [("metric_change",), ("effects",), ("metric_change", "effects")])
def test_a_manifest_without_measured_effects_is_read(draft, missing):
    manifest, _ = draft()
    content = manifest.model_dump(mode="json")
    for field in missing:
        del content["graphs"]["fp32"][field]

    assert ManifestDraft.model_validate(content) == manifest


def test_a_version_of_schema_1_is_read(store, published):
    path = store.root / "tasks/fruit/1/manifest.json"
    content = json.loads(path.read_text()) | {"schema_version": 1}
    del content["test_scores"], content["graphs"]["fp32"]["effects"]
    path.with_name("manifest.sha256").unlink()
    path.write_text(json.dumps(content))

    manifest = store.verify("fruit")

    assert (manifest.schema_version, manifest.test_scores) == (1, None)
    assert store.test_scores(manifest) is None
    assert manifest.files() == published.files()


@pytest.mark.parametrize("name", ["image_trunk", "image_tail", "text_trunk", "text_tail"])
def test_bf16_has_no_graphs_of_its_own(draft, name):
    manifest, _ = draft()
    fp32 = manifest.graphs[Precision.FP32]
    other = fp32.model_copy(update={name: blob_of(b"another")})
    with pytest.raises(ValidationError, match="bf16 has graphs of its own"):
        ManifestDraft.model_validate({**manifest.model_dump(), "graphs": {Precision.FP32: fp32, Precision.BF16: other}})
    same = ManifestDraft.model_validate(
        {**manifest.model_dump(), "graphs": {Precision.FP32: fp32, Precision.BF16: fp32}}
    )
    assert same.files() == manifest.model_copy(update={"graphs": {Precision.FP32: fp32}}).files()


@pytest.mark.parametrize("schema", [0, 3, 99, -1, 10**18, "2", None, 1.5, [2]])
def test_a_manifest_of_another_release_is_refused_with_the_schemas_that_are_read(store, published, schema):
    path = store.root / "tasks/fruit/1/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": schema}))

    with pytest.raises(CorruptError, match=r"another release of this program; this one reads 1 and 2") as caught:
        store.verify("fruit")

    assert len(str(caught.value)) < 200


SCORES = {
    "metric": "accuracy",
    "items": "a" * 64,
    "majority_label": "apple",
    "majority": [1, 0],
    "patterns": {"both": [1, None], "image": [0, 1], "text": [None, None]},
}


def publish_with_scores(store, draft, content):
    manifest, blobs = draft()
    blob = blob_of(content)
    return publish(store, manifest.model_copy(update={"test_scores": blob}), {**blobs, blob.sha256: content})


def test_test_scores_are_a_file_of_their_version(store, draft):
    manifest = publish_with_scores(store, draft, json.dumps(SCORES).encode())

    assert store.test_scores(manifest) == ItemScores.model_validate(SCORES)
    assert manifest.files()["test_scores.json"] == manifest.test_scores
    assert collect_garbage(store) == {}
    (store.root / "blobs/sha256" / manifest.test_scores.sha256).write_bytes(b"changed")
    assert reason_of_refusal(store) == "size"
    with pytest.raises(CorruptError):
        store.test_scores(manifest)


@pytest.mark.parametrize("content", [b"{}", b"[1, 0]", b"not json", b"\xff", json.dumps(SCORES | {"rows": 2}).encode()])
def test_test_scores_of_another_form_are_refused(store, draft, content):
    manifest = publish_with_scores(store, draft, content)

    with pytest.raises(CorruptError, match=r"test_scores\.json of fruit version 1 is not valid: .*publish the version"):
        store.test_scores(manifest)


def test_every_single_bit_flip_is_found(store, published):
    random_bits = random.Random(0)  # noqa: S311
    for blob in published.blobs():
        path = store.root / "blobs/sha256" / blob.sha256
        data = path.read_bytes()
        for bit in random_bits.sample(range(8 * len(data)), k=min(40, 8 * len(data))):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(flipped)
            assert reason_of_refusal(store) == "sha256"
        path.write_bytes(data)
    store.verify("fruit")


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: b"", lambda data: data + b"\0"])
def test_a_blob_of_another_size_is_refused(store, published, change):
    path = blob_path(store, published)
    path.write_bytes(change(path.read_bytes()))

    assert reason_of_refusal(store) == "size"


@pytest.mark.parametrize("name", ["tasks/fruit/1/manifest.json", "blobs/sha256", "blob", "tasks/fruit/1/"])
def test_a_missing_file_is_refused(store, published, name):
    path = blob_path(store, published) if name == "blob" else store.root / name
    path.rename(store.root / "elsewhere")
    if name.endswith("/"):
        path.mkdir()

    assert reason_of_refusal(store) == "missing"


def test_a_missing_version_is_not_found(store, published):
    (store.root / "tasks/fruit/1").rename(store.root / "elsewhere")

    with pytest.raises(NotFoundError, match="no version 1"):
        store.verify("fruit")


@pytest.mark.parametrize(
    "name", ["tasks", "tasks/fruit", "tasks/fruit/1", "tasks/fruit/1/manifest.json", "tasks/fruit/live", "blobs",
             "blobs/sha256", "blob"],
)  # fmt: skip
def test_a_symlink_is_refused_wherever_it_is(store, published, tmp_path, name):
    path = blob_path(store, published) if name == "blob" else store.root / name
    moved = tmp_path / "the same content"
    path.rename(moved)
    path.symlink_to(moved)

    assert reason_of_refusal(store) == "link"


def test_a_dangling_live_symlink_is_an_error(store, published):
    (store.root / "tasks/fruit/live").unlink()
    (store.root / "tasks/fruit/live").symlink_to("nowhere")

    with pytest.raises(CorruptError):
        store.live("fruit")


@pytest.mark.parametrize("name", ["tasks/fruit/1/manifest.json", "tasks/fruit/live", "blob"])
@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "device"])
def test_only_regular_files_are_read(store, published, monkeypatch, name, kind):
    path = blob_path(store, published) if name == "blob" else store.root / name
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)  # opening it for reading would wait for ever
    elif kind == "socket":
        monkeypatch.chdir(path.parent)  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")

    assert reason_of_refusal(store) == "link"


@pytest.mark.parametrize(
    "name", ["tasks/fruit/1/manifest.json", "tasks/fruit/1/manifest.sha256", "tasks/fruit/live", "blob"]
)
def test_a_file_with_several_hard_links_is_read_as_long_as_its_content_holds(store, published, tmp_path, name):
    path = blob_path(store, published) if name == "blob" else store.root / name
    os.link(path, tmp_path / "backup")
    assert store.verify("fruit") == published

    (tmp_path / "backup").write_bytes(b"?" * path.stat().st_size)

    assert reason_of_refusal(store) in ("manifest", "sha256")


def test_a_copy_by_hard_links_is_whole_and_stays_it(store, draft, published, tmp_path):
    subprocess.run(["cp", "-al", str(store.root), str(tmp_path / "copy")], check=True)
    copy = Store(tmp_path / "copy")

    publish(store, *draft())
    activate(store, "fruit", 1)
    collect_garbage(store)

    assert (copy.live("fruit"), copy.versions("fruit"), copy.verify("fruit")) == (1, [1], published)
    assert store.verify("fruit", 2).version == 2


def denying(monkeypatch, name: str, code: int) -> None:
    """Have the system refuse to look at entries of this name."""

    def denied(real):
        def call(path, *arguments, **options):
            if Path(path).name == name:
                raise OSError(code, "denied")
            return real(path, *arguments, **options)

        return call

    for function in ("stat", "lstat", "iterdir"):
        monkeypatch.setattr(Path, function, denied(getattr(Path, function)))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("live", lambda store: store.live("fruit")),
        ("withdrawn", lambda store: store.is_withdrawn("fruit")),
        ("newest", lambda store: store.newest("fruit")),
        ("fruit", lambda store: store.versions("fruit")),
        ("fruit", lambda store: store.tasks()),
        ("tasks", lambda store: store.tasks()),
        ("tasks", lambda store: store.entries()),
        ("tasks", lambda store: store.folder_id()),
        ("manifest.sha256", lambda store: store.verify("fruit")),
        ("manifest.sig", lambda store: store.signature("fruit", 1)),
    ],
)
def test_an_entry_that_cannot_be_looked_at_is_not_taken_for_a_missing_one(
    store, published, monkeypatch, code, name, read
):
    denying(monkeypatch, name, code)

    with pytest.raises(CorruptError) as caught:
        read(store)

    assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("make", [lambda root: None, Path.mkdir])
def test_a_folder_that_is_no_store_has_no_tasks_and_is_told_from_an_empty_store(tmp_path, make):
    make(tmp_path / "store")
    store = Store(tmp_path / "store")

    assert store.tasks() == []
    with pytest.raises(CorruptError, match="mount the store there") as caught:
        store.entries()
    assert caught.value.reason == "missing"
    (tmp_path / "store/tasks").mkdir(parents=True)
    assert store.entries() == []


CHANGES = {
    "unlinked": ("missing", Path.unlink),
    "cut": ("size", lambda path: os.truncate(path, path.stat().st_size - 1)),
    "longer": ("size", lambda path: os.truncate(path, path.stat().st_size + 1)),
    "a folder": ("link", lambda path: (path.unlink(), path.mkdir())),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_check_finds_a_fault_without_reading(store, published, monkeypatch, name):
    monkeypatch.setattr("model_store.store.read_beneath", None)
    store.check(published.blobs())
    reason, change = CHANGES[name]
    change(blob_path(store, published))

    with pytest.raises(CorruptError) as caught:
        store.check(published.blobs())
    assert caught.value.reason == reason


def test_a_blob_that_was_found_damaged_counts_as_damaged_until_it_changes(store, published, monkeypatch):
    path = blob_path(store, published)
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))
    store.check(published.blobs())
    for attempt in (store.read, store.read):
        with pytest.raises(CorruptError):
            attempt(published.head)
    with pytest.raises(CorruptError, match="another SHA-256"):
        store.check(published.blobs())

    path.write_bytes(content)
    store.check(published.blobs())

    path.write_bytes(bytes(len(content)))
    with pytest.raises(CorruptError):
        store.read(published.head)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 31)
    store.check(published.blobs())


@pytest.mark.parametrize("size", [2**31, 2**63 - 1, 2**63, 10**30])
def test_a_manifest_with_a_huge_blob_size_takes_no_memory(store, published, size):
    path = store.root / "tasks/fruit/1/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["head"]["size"] = size
    path.write_text(json.dumps(manifest))
    path.with_suffix(".sha256").write_bytes(digest_line(path.read_bytes()))

    assert reason_of_refusal(store) == "size"


@pytest.mark.parametrize("filling", ["[]", "{}", "0", '"a"', "[[[[]]]]"])
@pytest.mark.slow
def test_the_largest_manifest_that_is_read_takes_little_memory(store, published, filling):
    path = store.root / "tasks/fruit/1/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["provenance"]["config"] = {"filled": "@"}
    head, tail = json.dumps(manifest).split('"@"')
    number = (MAX_MANIFEST_BYTES - len(head) - len(tail)) // (len(filling) + 1)

    def write(count: int) -> None:
        path.write_text(f"{head}[{','.join([filling] * count)}]{tail}")
        path.with_suffix(".sha256").write_bytes(digest_line(path.read_bytes()))

    write(number - 1)
    measured = subprocess.run([sys.executable, "-c", PEAK, store.root], capture_output=True, check=True)
    assert int(measured.stdout) < 250 * 1024
    write(number + 2)
    assert reason_of_refusal(store) == "size"


def test_an_oversize_file_is_refused_before_it_is_read(store, published):
    for path in (store.root / "tasks/fruit/1/manifest.json", store.root / "tasks/fruit/live"):
        content = path.read_bytes()
        os.truncate(path, 2**40)  # sparse: takes no disk
        assert reason_of_refusal(store) == "size"
        path.write_bytes(content)
    os.truncate(blob_path(store, published), 2**40)
    assert reason_of_refusal(store) == "size"


def test_an_unreadable_file_is_refused_and_not_called_a_link(store, published, monkeypatch):
    real = os.open

    def failing(path, *arguments, **options):
        if path == published.head.sha256:
            raise OSError(5, "Input/output error")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", failing)

    assert reason_of_refusal(store) == "unreadable"


def test_a_live_file_is_read_completely_even_if_it_is_replaced_meanwhile(store, draft, published, monkeypatch):
    """The open file loses its last link when another file is renamed over it. The file is still valid."""
    publish(store, *draft())
    fstat, live = os.fstat, store.root / "tasks/fruit/live"

    def replaced(handle: int) -> os.stat_result:
        if Path(f"/proc/self/fd/{handle}").readlink() == live:
            (store.root / "next").write_text("1\n")
            (store.root / "next").replace(live)
        return fstat(handle)

    monkeypatch.setattr(os, "fstat", replaced)

    assert store.live("fruit") == 2
    monkeypatch.undo()
    assert store.live("fruit") == 1


def test_reading_leaves_no_file_open(store, published):
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    blob_path(store, published).unlink()
    for _ in range(3):
        reason_of_refusal(store)

    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_every_cut_of_a_manifest_is_refused(store, published):
    path = store.root / "tasks/fruit/1/manifest.json"
    content = path.read_bytes()
    for length in range(0, len(content), 29):
        path.write_bytes(content[:length])
        assert reason_of_refusal(store) == "manifest"


def test_the_refusal_of_a_manifest_names_the_missing_field(store, published):
    path = store.root / "tasks/fruit/1/manifest.json"
    whole = json.loads(path.read_text())
    optional = {
        "schema_version",
        "golden_tolerance",
        "metrics",
        "intervals",
        "report",
        "test_scores",
        "label_sets",
        "embedding_size",
    }
    for field in whole.keys() - optional:
        path.write_text(json.dumps({name: value for name, value in whole.items() if name != field}))
        with pytest.raises(CorruptError, match=field):
            store.verify("fruit")


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"task": "fruit"} {}', b'{"version": 1e999}', b'"\\ud800"',
     b'{"seed": ' + b"9" * 5000 + b"}"],
    ids=lambda content: content[:12].decode("latin-1"),
)  # fmt: skip
def test_an_invalid_manifest_is_refused(store, published, content):
    (store.root / "tasks/fruit/1/manifest.json").write_bytes(content)

    assert reason_of_refusal(store) == "manifest"


@pytest.mark.parametrize(
    "change",
    [
        {"task": "vegetables"},
        {"version": 2},
        {"version": "../1"},
        {"schema_version": 3},
        {"unknown": 1},
        {"labels": ["apple", "apple"]},
        {"labels": ["apple"]},
        {"graphs": {}},
        {"calibration": {}},
        {"head": {"sha256": "../../../" + HEX[:55], "size": 1}},
        {"head": {"sha256": HEX.upper(), "size": 1}},
        {"head": {"sha256": HEX, "size": 0}},
        {"text": {"tokenizer": {"sha256": HEX, "size": 1}, "max_length": 77, "padding": {"length": 64, "token": 1}}},
        {"text": {"tokenizer": {"sha256": HEX, "size": 1}, "max_length": 64, "padding": {"length": 64, "token": -1}}},
    ],
    ids=str,
)
def test_a_manifest_that_contradicts_its_path_or_itself_is_refused(store, published, change):
    path = store.root / "tasks/fruit/1/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    assert reason_of_refusal(store) == "manifest"


def test_a_manifest_that_changed_and_still_parses_is_refused(store, published):
    path = store.root / "tasks/fruit/1/manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"apple"', b'"aqple"'))

    assert reason_of_refusal(store) == "sha256"


def test_a_manifest_from_another_program_needs_no_digest_file(store, published):
    (store.root / "tasks/fruit/1/manifest.sha256").unlink()

    assert store.verify("fruit") == published


def test_a_manifest_moved_under_another_task_is_refused(store, draft, published):
    publish(store, *draft("vegetables"))
    other = (store.root / "tasks/vegetables/1/manifest.json").read_bytes()
    (store.root / "tasks/fruit/1/manifest.json").write_bytes(other)

    with pytest.raises(CorruptError, match="describes vegetables version 1"):
        store.verify("fruit")


@pytest.mark.parametrize("text", ["", "zero", "0", "-1", "1.0", "1_0", "٣", "1 2", "1\n2", "../1", "007", "\0"])
def test_a_live_file_without_a_version_number_is_refused(store, published, text):
    (store.root / "tasks/fruit/live").write_text(text)

    assert reason_of_refusal(store) == "manifest"


def test_a_task_without_a_live_version_says_how_to_get_one(store, published):
    (store.root / "tasks/fruit/live").unlink()

    assert store.live("fruit") is None
    with pytest.raises(NotFoundError, match="mora-store activate fruit"):
        store.manifest("fruit")


TRAVERSAL = ["", ".", "..", "../fruit", "fruit/..", "/etc", "fruit/1", "a\\b", "fruit\0", "fruit\n", " fruit", "FRUIT",
             "%2e%2e", "\uff0e\uff0e", "fr\u0131t", "~root", "-rf", "a" * 64]  # fmt: skip


@given(name=st.one_of(st.sampled_from(TRAVERSAL), st.text(), st.from_regex(r"\A[a-z./\\]{1,9}\Z")))
@settings(deadline=None)
def test_a_task_name_cannot_leave_the_store(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp() / "traversal"
    (folder / "store/tasks").mkdir(parents=True, exist_ok=True)
    (folder / "1").mkdir(exist_ok=True)
    (folder / "live").write_text("1\n")
    store = Store(folder / "store")

    for read in (store.live, store.versions, store.manifest, store.verify):
        with pytest.raises(NotFoundError):
            read(name)


@given(name=st.one_of(st.sampled_from(TRAVERSAL), st.text()))
@settings(deadline=None)
def test_a_draft_with_a_path_as_task_name_is_invalid(name):

    try:
        TypeAdapter(TaskName).validate_python(name)
    except ValidationError:
        return
    assert Path(name).name == name
    assert name not in TRAVERSAL


def test_folders_that_cannot_be_tasks_are_ignored(store, published):
    for name in (".cache", "lost+found", "__pycache__", "Fruit"):
        (store.root / "tasks" / name).mkdir()

    assert store.tasks() == ["fruit"]
    assert collect_garbage(store) == {}


@pytest.mark.parametrize("name", [".staging", "blobs", "blobs/sha256", "tasks", "tasks/fruit"])
def test_writers_follow_no_symlink_out_of_the_store(store, draft, published, tmp_path, name):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "precious").write_text("precious")
    (store.root / name).rename(store.root / "moved")
    (store.root / name).symlink_to(foreign)

    for write in (lambda: publish(store, *draft(tail="second")), lambda: collect_garbage(store)):
        with pytest.raises(CorruptError) as caught:
            write()
        assert caught.value.reason == "link"

    assert [(path.name, path.read_text()) for path in foreign.iterdir()] == [("precious", "precious")]


def test_a_lock_that_is_a_link_or_a_fifo_neither_writes_elsewhere_nor_hangs(store, draft, published, tmp_path):
    lock = store.root / ".lock"
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        publish(store, *draft())
    assert not (tmp_path / "elsewhere").exists()

    lock.unlink()
    os.mkfifo(lock)
    assert publish(store, *draft()).version == 2


def test_reading_neither_writes_nor_repairs(store, published):
    def state():
        return {path: path.lstat().st_mtime_ns for path in store.root.rglob("*")}

    blob_path(store, published).write_bytes(b"damaged")
    before = state()
    assert reason_of_refusal(store) == "size"

    assert state() == before


def test_a_store_that_does_not_exist_has_no_tasks(tmp_path):
    store = Store(tmp_path / "nowhere")

    assert store.tasks() == []
    with pytest.raises(NotFoundError):
        store.verify("fruit")
    with pytest.raises(CorruptError, match="missing"):
        read_beneath(store.root, "tasks/fruit/live", 32)


def test_publishing_never_overwrites_a_version(store, draft, published, monkeypatch):
    before = (store.root / "tasks/fruit/1/manifest.json").read_bytes()
    monkeypatch.setattr(Store, "newest", lambda self, task: 0)

    with pytest.raises(OSError, match="not empty"):
        publishing.publish(store, *draft(tail="second"))

    assert (store.root / "tasks/fruit/1/manifest.json").read_bytes() == before


def test_a_file_is_read_up_to_its_limit_even_if_the_root_is_a_link(tmp_path):
    (tmp_path / "real/folder").mkdir(parents=True)
    (tmp_path / "real/folder/file").write_bytes(b"abc")
    root = tmp_path / "root"
    root.symlink_to("real")

    assert read_beneath(root, "folder/file", 3) == b"abc"
    with pytest.raises(CorruptError, match="has 3 bytes, expected at most 2") as caught:
        read_beneath(root, "folder/file", 2)
    assert caught.value.reason == "size"


@pytest.mark.parametrize(
    ("path", "reason"),
    [("link/file", "link"), ("folder/file/file", "link"), ("folder", "link"), ("folder/none", "missing")],
)
def test_a_path_without_a_regular_file_is_refused_with_its_reason(tmp_path, path, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("folder")

    with pytest.raises(CorruptError) as caught:
        read_beneath(tmp_path, path, 3)

    assert caught.value.reason == reason
