"""Parts labelled by Ray Data, replaced by a stand-in that runs the worker in this process; `faults` use Ray itself."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections import Counter
from types import ModuleType, SimpleNamespace

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from service.cli import app
from service.labelling.bulk import PartLabeller
from service.labelling.job import resume
from service.labelling.rows import DataSetError
from tests.support.made_data_set import label_data, label_here, planned, write_data_set
from tests.support.tiny import PIXELS


class RayError(Exception):
    """The error of a worker."""


class Dataset:
    """Names of parts, and the worker that maps them."""

    def __init__(self, names):
        self.names = names

    def map_batches(self, worker, fn_constructor_args, batch_size, compute, **share):
        arguments = pickle.loads(pickle.dumps(fn_constructor_args))  # noqa: S301 - as they reach a worker
        self.worker, self.workers, self.share = worker(*arguments), compute, share
        assert batch_size == 1
        return self

    def iter_rows(self):
        for name in self.names:
            columns = self.worker({"item": [name]})
            yield {name: value for name, (value,) in columns.items()}


@pytest.fixture
def ray(monkeypatch):
    """A stand-in for the module `ray` with two nodes of 4 cores and a GPU; records its calls."""
    ray = ModuleType("ray")
    ray.started, ray.stopped, ray.datasets = [], [], []

    def from_items(names, override_num_blocks):
        assert override_num_blocks == len(names)
        ray.datasets.append(Dataset(names))
        return ray.datasets[-1]

    context = SimpleNamespace(enable_progress_bars=True)
    ray.data = SimpleNamespace(
        DataContext=SimpleNamespace(get_current=lambda: context),
        ActorPoolStrategy=lambda size: size,
        from_items=from_items,
    )
    ray.exceptions = SimpleNamespace(RayError=RayError)
    ray.init = lambda address, **options: ray.started.append((address, options))
    ray.shutdown = lambda: ray.stopped.append(True)
    node = {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}}
    ray.nodes = lambda: [node, node, {"Alive": False, "Resources": {"CPU": 64.0}}]
    monkeypatch.setitem(sys.modules, "ray", ray)
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_BACKEND_LOG_LEVEL", "RAY_DATA_LOG_LEVEL"):
        monkeypatch.setenv(name, "as it was")
    yield ray
    sys.modules.pop("service.labelling.ray_executor", None)


@pytest.fixture
def executor(ray):
    """The module under test, imported with the stand-in."""
    sys.modules.pop("service.labelling.ray_executor", None)
    return importlib.import_module("service.labelling.ray_executor")


@pytest.fixture
def plan(tmp_path, shelf, pixels):
    shelf.publish("fruit")
    write_data_set(tmp_path / "in", pixels, rows=12)
    return planned(tmp_path / "in", tmp_path / "out", shelf.store.root, part_rows=5)


def test_ray_writes_the_same_files_as_this_process(executor, ray, plan, tmp_path, shelf):
    parts = resume(plan.job, plan.output)

    done = list(executor.label_on_ray(plan, parts, workers=2, address="local"))

    assert done == label_data(tmp_path / "in", tmp_path / "here", shelf.store.root, part_rows=5)
    assert resume(plan.job, plan.output) == []
    for path in (tmp_path / "here").glob("part-*"):
        assert pq.read_table(plan.output / path.name).equals(pq.read_table(path))
    assert [address for address, _ in ray.started] == ["local"]
    assert ray.stopped == [True]


@pytest.mark.parametrize(("workers", "cores", "gpus"), [(1, 4, 1), (2, 4, 1), (3, 2, 2 / 3), (8, 1, 0.25)])
def test_workers_share_the_cluster_and_the_threads_are_as_many_as_their_cores(
    executor, ray, plan, monkeypatch, workers, cores, gpus
):
    settings = []

    def labeller(plan):
        settings.append(plan.settings)
        return PartLabeller(plan)

    monkeypatch.setattr(executor, "PartLabeller", labeller)

    list(executor.label_on_ray(plan, plan.job.parts()[:1], workers, "ray://elsewhere:10001"))

    (dataset,) = ray.datasets
    assert dataset.workers == workers
    assert dataset.share == {"num_cpus": cores, "num_gpus": gpus}
    assert [(own.intra_op_threads, own.preparation_workers) for own in settings] == [(cores, cores)]
    assert ray.started == [("ray://elsewhere:10001", {"log_to_driver": False, "logging_level": "ERROR"})]


def test_more_workers_than_cores_are_refused(executor, ray, plan):
    with pytest.raises(DataSetError, match="--workers 9 exceeds the 8 cores"):
        list(executor.label_on_ray(plan, plan.job.parts(), 9, "local"))

    assert ray.stopped == [True]


@pytest.mark.parametrize("damage", ["input", "store"])
def test_the_error_of_a_worker_is_one_line(executor, damage, plan, tmp_path, shelf):
    if damage == "input":
        (tmp_path / "in" / "a.parquet").write_bytes(b"PAR1")
    else:
        (shelf.store.root / "blobs" / "sha256" / shelf.store.manifest("fruit").head.sha256).unlink()
    complaint = "has changed while" if damage == "input" else "is missing; publish"

    with pytest.raises(DataSetError, match=f"{complaint}.*; parts that are done are kept") as raised:
        list(executor.label_on_ray(plan, plan.job.parts(), 1, "local"))

    assert "\n" not in str(raised.value)


def test_a_dead_worker_and_a_failed_start_of_ray_are_errors_of_one_line(executor, ray, plan, monkeypatch):
    def dies(dataset):
        raise RayError("Traceback\n\nThe worker died.\n")

    with monkeypatch.context() as plant:
        plant.setattr(Dataset, "iter_rows", dies)
        with pytest.raises(DataSetError, match=r"^a worker failed: The worker died\.; run the same command to resume$"):
            list(executor.label_on_ray(plan, plan.job.parts(), 1, "local"))

    def starts_too_slowly(**_):
        raise Exception("timed out")

    ray.init = starts_too_slowly
    with pytest.raises(DataSetError, match=r"^Ray did not start: timed out"):
        list(executor.label_on_ray(plan, plan.job.parts(), 1, "local"))


def test_the_command_counts_the_rows_of_the_whole_output(executor, plan, tmp_path, shelf):
    arguments = ["bulk", tmp_path / "in", tmp_path / "out", "--store", shelf.store.root, "--part-rows", 5]
    label_here(plan, resume(plan.job, plan.output)[:2])

    done = CliRunner().invoke(app, [*map(str, arguments)])

    errors = Counter(row for row in pq.read_table(plan.output)["error"].to_pylist() if row)
    assert len(errors) > 1
    lines = [f"14 rows in {plan.output}, {errors.total()} of them without an answer"]
    lines += [f"  {code}: {rows}" for code, rows in errors.most_common()]
    assert (done.exit_code, sorted(done.stdout.splitlines())) == (0, sorted(lines))
    assert "2 of 4 parts are done already; labelling the others" in done.stderr

    same = CliRunner().invoke(app, [*map(str, arguments)])

    assert (same.exit_code, sorted(same.stdout.splitlines())) == (0, sorted(lines))
    assert same.stderr == "the job is finished: all 4 parts are done already\n"

    again = CliRunner().invoke(app, [*map(str, arguments), "--top-k", "1"])

    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.splitlines()[-1].endswith("top_k was 5, now 1; repeat its command, or choose another OUTPUT")


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.95])
def test_the_command_asks_for_label_sets_and_resumes_only_with_their_coverage(executor, tmp_path, shelf, coverage):
    shelf.publish_with_label_sets("fruit")
    write_data_set(tmp_path / "in", PIXELS, rows=12)
    arguments = ["bulk", *map(str, (tmp_path / "in", tmp_path / "out", "--store", shelf.store.root))]

    done = CliRunner().invoke(app, [*arguments, "--coverage", str(coverage)])
    again = CliRunner().invoke(app, arguments)
    other = CliRunner().invoke(app, [*arguments, "--coverage", "0.8"])

    assert (done.exit_code, again.exit_code, other.exit_code) == (0, 0, 1), done.stderr + again.stderr
    assert again.stdout == done.stdout
    assert f"coverage was {coverage}, now 0.8; repeat its command" in other.stderr
    rows = pq.read_table(tmp_path / "out", columns=["error", "label_set", "review"]).to_pylist()
    assert {row["review"] for row in rows if row["error"] is not None} == {None}
    assert all(row["review"] is (len(row["label_set"]) != 1) for row in rows if row["error"] is None)
