"""The service on a real Ray cluster of two nodes: one dies, versions change, a store differs. `make ray-test`.

Covers service.ray_app.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from model_store import Store
from model_store.transfer import TransferCount, open_remote, push
from tests.deploy.ray.cluster import HEAD, WORKER, Cluster, Watch, now
from tests.deploy.ray.traffic import Traffic
from tests.support.tiny import Shelf
from tests.support.transfer.places import running_registry

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="NOT TESTED: Ray is not installed (make ray-test)")
PER_SECOND = 20.0
SCALE = {"min_replicas": 2, "max_replicas": 2}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # pytest's own is too long for Ray's sockets
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Cluster]:
    """Two nodes with a replica each, of a store with `fruit` version 1."""
    cluster = Cluster(folder)
    try:
        cluster.start_head()
        cluster.start_worker()
        Shelf(Store(folder / "store")).publish("fruit", seed=1)
        done = cluster.deploy(folder / "store", **SCALE)
        assert done.returncode == 0, done.stdout
        yield cluster
    finally:
        left = cluster.processes()
        cluster.stop()
    assert [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.fixture(scope="module")
def watch(cluster: Cluster) -> Watch:
    watch = cluster.watch()
    watch.wait(both_run, since=0)
    return watch


def both_run(state: dict) -> bool:
    return state["status"] == "RUNNING" and state["replicas"] == {"RUNNING": 2}


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def listening(cluster: Cluster, name: str) -> list[tuple[str, int]]:
    """Where the processes listen whose command line has that name."""
    return [
        (connection.laddr.ip, connection.laddr.port)
        for process in cluster.processes()
        if name in " ".join(process.cmdline())
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]


def test_each_node_has_a_replica_and_a_proxy(cluster: Cluster, watch: Watch) -> None:
    names = [" ".join(process.cmdline()) for process in cluster.processes()]

    assert sum("ServeReplica" in name for name in names) == 2
    assert sum("ProxyActor" in name for name in names) == 2
    assert [status_of(f"{proxy}/readyz") for proxy in cluster.proxies] == [200, 200]


def test_there_is_no_dashboard_and_jobs_need_the_token(cluster: Cluster, watch: Watch) -> None:
    """Row A6: a job is anybody's code."""
    agents = listening(cluster, "DashboardAgent")  # what takes jobs over HTTP where there is no dashboard
    jobs = [f"http://{ip}:{port}/api/job_agent/jobs/" for ip, port in agents if ip in (HEAD, WORKER)]

    assert len(jobs) == 2
    assert [status_of(url) for url in jobs] == [401, 401]
    for _, port in listening(cluster, "dashboard/dashboard.py"):  # figures for Prometheus, whatever the path
        with urllib.request.urlopen(f"http://{HEAD}:{port}/api/version", timeout=10) as response:
            assert response.headers["Content-Type"].startswith("text/plain")


def test_no_request_is_lost_when_a_node_dies(cluster: Cluster, watch: Watch) -> None:
    with Traffic(cluster.proxies, PER_SECOND) as traffic:
        time.sleep(5)
        killed = now()
        processes = cluster.kill_worker()
        watch.wait(lambda state: state["replicas"].get("RUNNING") == 1, since=killed)
        noticed = now() - killed
        cluster.start_worker()
        joined = now() - killed
        both = watch.wait(both_run, since=killed + noticed)["time"] - killed
        time.sleep(5)

    print(f"node killed ({processes} processes): {traffic.figures}; Serve knew after {noticed:.1f} s, another node had")
    print(f"joined after {joined:.1f} s, both replicas ran again after {both:.1f} s")
    assert traffic.retried.total() > 0  # the proxy that died was asked
    assert traffic.lost == []


def test_no_request_is_lost_when_versions_change(cluster: Cluster, watch: Watch, folder: Path) -> None:
    Shelf(Store(folder / "store")).publish("fruit", seed=2)
    with Traffic(cluster.proxies, PER_SECOND) as traffic:
        time.sleep(5)  # what is published changes nothing before it is deployed
        begun = now()
        done = cluster.deploy(folder / "store", **SCALE)
        finished = now()
        time.sleep(5)

    print(f"rolling upgrade: {traffic.figures}; took {finished - begun:.1f} s")
    assert done.returncode == 0, done.stdout
    assert {version for sent, version in traffic.answers if sent < begun} == {1}
    assert {version for sent, version in traffic.answers if sent > finished} == {2}
    assert traffic.lost == []


def test_a_node_with_another_store_gets_no_replica(cluster: Cluster, watch: Watch, folder: Path) -> None:
    other = Shelf(Store(folder / "other"))
    other.publish("fruit", seed=1)
    other.publish("fruit", seed=3)  # version 2 there, and not the one that was deployed
    killed = now()
    cluster.kill_worker()
    watch.wait(lambda state: state["replicas"].get("RUNNING") == 1, since=killed)
    with Traffic(cluster.proxies[:1], PER_SECOND) as traffic:
        cluster.start_worker(MORA_STORE=str(folder / "other"))
        refused = watch.wait(lambda state: "fruit version 2 has manifest" in state["message"], since=killed)

    said = [line for line in refused["message"].splitlines() if f"node {WORKER}: its store" in line]
    print(f"refused: {said[-1]}")
    assert "differs from the deployed one: fruit version 2 has manifest" in said[-1]
    assert refused["replicas"]["RUNNING"] == 1
    assert traffic.lost == []
    assert {version for _, version in traffic.answers} == {2}

    cluster.kill_worker()
    repaired = now()
    cluster.start_worker()
    watch.wait(both_run, since=repaired)


def test_every_node_pulls_the_version_that_the_tag_pointed_to(cluster: Cluster, watch: Watch, folder: Path) -> None:
    """Also a node that joins after the tag has moved."""
    published = Shelf(Store(folder / "published"))
    with running_registry(folder / "registry") as host:
        target = f"oci://{host}/models:fruit"
        for seed in (1, 2, 3):
            published.publish("fruit", seed=seed)
        pushed(published.store, target)
        cluster.kill_worker()
        cluster.start_worker(XDG_CACHE_HOME=str(folder / "first-cache"))
        begun = now()
        done = cluster.deploy(folder / "none", store=target, plain_http=True, **SCALE)
        assert done.returncode == 0, done.stdout
        watch.wait(both_run, since=begun)
        published.publish("fruit", seed=4)
        pushed(published.store, target)

        killed = now()
        cluster.kill_worker()
        watch.wait(lambda state: state["replicas"].get("RUNNING") == 1, since=killed)
        joined = now()
        cluster.start_worker(XDG_CACHE_HOME=str(folder / "second-cache"))
        watch.wait(both_run, since=joined)
        with Traffic(cluster.proxies, PER_SECOND) as traffic:
            time.sleep(5)

    print(f"pulled from a registry: {traffic.figures}")
    assert {version for _, version in traffic.answers} == {3}
    assert traffic.lost == []
    for cache in ("first-cache", "second-cache"):
        assert [path.parent.name for path in (folder / cache).rglob("manifest.json")] == ["3"]


def pushed(store: Store, target: str) -> None:
    with closing(open_remote(target, plain_http=True)) as remote:
        push(store, "fruit", None, remote, TransferCount())
