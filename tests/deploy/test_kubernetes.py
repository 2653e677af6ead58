"""The manifests of docker/kubernetes: valid for the API, at one with each other and with the service."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from model_store import Store, activate, withdraw
from model_store.cli import app as mora_store
from model_store.transfer import Follower
from service.settings import Settings, check_names
from service.telemetry.metrics import Metrics
from service.web.app import create_app
from tests.support.made_cluster import MadeCluster
from tests.support.snapshot import contents
from tests.support.tiny import Shelf

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "kubernetes"
OLDEST, NEWEST = "1.29", "1.37"  # the field unhealthyPodEvictionPolicy and named ports of policies are older than this
ELSEWHERE = {"Kustomization", "ServiceMonitor", "PrometheusRule"}  # kinds that Kubernetes itself does not define
Manifest = dict[str, Any]


def validate(manifest: Manifest, version: str) -> None:
    """Raises ValueError. Its import takes seconds, which each process would spend that collects tests."""
    import kubernetes_validate

    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise ValueError(manifest) from error


def manifests() -> list[Manifest]:
    return copy.deepcopy(all_manifests())


@cache
def all_manifests() -> list[Manifest]:
    return [document for path in sorted(FOLDER.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str, name: str | None = None) -> list[Manifest]:
    return [it for it in manifests() if it["kind"] == kind and name in (None, named(it).removeprefix(f"{kind}-"))]


def pods() -> list[Manifest]:
    """What makes pods: the Deployment and the Jobs."""
    return [*of_kind("Deployment"), *of_kind("Job")]


def deployed() -> Manifest:
    (deployment,) = of_kind("Deployment")
    return deployment


def container(owner: Manifest) -> Manifest:
    (only,) = owner["spec"]["template"]["spec"]["containers"]
    return only


def environment() -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(deployed())["env"]}


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def pod_labels() -> dict[str, str]:
    return deployed()["spec"]["template"]["metadata"]["labels"]


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']}-{manifest.get('metadata', {}).get('name', '')}"


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("manifest", [it for it in manifests() if it["kind"] not in ELSEWHERE], ids=named)
def test_every_manifest_is_valid_for_the_api(manifest, version):
    validate(manifest, version)


@pytest.mark.parametrize(
    ("place", "value"),
    [(("replica",), 2), (("template", "spec", "terminationGracePeriodSeconds"), "35s"), (("selector",), None)],
    ids=["a misspelt field", "a wrong type", "a field left out"],
)
def test_a_value_that_kubernetes_would_refuse_is_found(place, value):
    manifest = copy.deepcopy(deployed())
    *way, last = place
    parent = manifest["spec"]
    for name in way:
        parent = parent[name]
    parent[last] = value
    if value is None:
        del parent[last]

    with pytest.raises(ValueError, match="Deployment"):
        validate(manifest, NEWEST)


def test_kustomize_lists_every_file_except_the_optional_ones():
    (kustomization,) = of_kind("Kustomization")
    files = {path.name for path in FOLDER.glob("*.yaml")}

    assert (
        set(kustomization["resources"])
        | {"kustomization.yaml", "monitoring.yaml", "rules.yaml", "seed.yaml", "train.yaml"}
        == files
    )
    assert kustomization["namespace"] == of_kind("Namespace")[0]["metadata"]["name"]


def test_selectors_find_the_pods():
    found = [deployed()["spec"]["selector"]["matchLabels"]]
    found += [service["spec"]["selector"] for service in of_kind("Service")]
    found += [budget["spec"]["selector"]["matchLabels"] for budget in of_kind("PodDisruptionBudget")]
    found += [policy["spec"]["podSelector"]["matchLabels"] for policy in of_kind("NetworkPolicy")]
    spread = deployed()["spec"]["template"]["spec"]["topologySpreadConstraints"]
    found += [constraint["labelSelector"]["matchLabels"] for constraint in spread]

    assert len(found) == 6
    assert [selector for selector in found if not selects(selector, pod_labels())] == []
    others = [job["spec"]["template"]["metadata"]["labels"] for job in of_kind("Job")]
    assert [labels for labels in others for selector in found if selects(selector, labels)] == []


def test_the_autoscaler_scales_the_deployment_by_what_it_requests():
    (autoscaler,) = of_kind("HorizontalPodAutoscaler")
    target = autoscaler["spec"]["scaleTargetRef"]

    assert (target["kind"], target["name"], target["apiVersion"]) == (
        "Deployment",
        deployed()["metadata"]["name"],
        deployed()["apiVersion"],
    )
    assert "replicas" not in deployed()["spec"]
    used = {metric["resource"]["name"] for metric in autoscaler["spec"]["metrics"] if metric["type"] == "Resource"}
    assert used
    assert used <= container(deployed())["resources"]["requests"].keys()
    (budget,) = of_kind("PodDisruptionBudget")
    assert autoscaler["spec"]["minReplicas"] > budget["spec"]["maxUnavailable"]  # one is always left
    assert "mora_queue_depth" in (FOLDER / "autoscaler.yaml").read_text()
    assert Metrics().queue_depth._name == "mora_queue_depth"


def test_the_monitor_finds_the_service_for_metrics():
    (monitor,) = of_kind("ServiceMonitor")
    matching = [
        it for it in of_kind("Service") if selects(monitor["spec"]["selector"]["matchLabels"], it["metadata"]["labels"])
    ]

    assert [it["metadata"]["name"] for it in matching] == ["mora-serve-metrics"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in [port["name"] for port in matching[0]["spec"]["ports"]]


def test_ports_are_those_that_the_service_listens_on():
    ports = {port["name"]: port["containerPort"] for port in container(deployed())["ports"]}

    assert ports == {"http": Settings().port, "metrics": int(environment()["MORA_METRICS_PORT"])}
    targets = [port["targetPort"] for service in of_kind("Service") for port in service["spec"]["ports"]]
    (policy,) = of_kind("NetworkPolicy")
    targets += [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
    targets += [it["httpGet"]["port"] for name, it in container(deployed()).items() if name.endswith("Probe")]
    assert len(targets) == 7
    assert set(targets) == ports.keys()
    annotations = deployed()["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["metrics"])


def test_probes_ask_existing_paths():
    paths = create_app(Settings()).openapi()["paths"].keys()
    probes = {name: it["httpGet"]["path"] for name, it in container(deployed()).items() if name.endswith("Probe")}

    assert probes == {"startupProbe": "/livez", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    assert set(probes.values()) <= paths
    assert "/healthz" not in paths  # what is often probed, and would be noticed here


def test_the_environment_is_settings_and_nothing_else(monkeypatch):
    check_names(environment())
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings()

    assert settings.intra_op_threads == int(container(deployed())["resources"]["requests"]["cpu"])
    links = [f"{it['metadata']['name']}_service_host".replace("-", "_").upper() for it in of_kind("Service")]
    with pytest.raises(ValueError, match="is not a setting"):  # what Kubernetes would add, so it must not
        check_names(links)
    assert [named(it) for it in pods() if it["spec"]["template"]["spec"]["enableServiceLinks"] is not False] == []


def test_there_is_time_to_drain(monkeypatch):
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings()

    grace = deployed()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert settings.drain_delay_seconds < settings.drain_seconds < grace


@pytest.mark.parametrize("owner", pods(), ids=named)
def test_pods_have_only_the_privileges_they_need(owner):
    pod, own = owner["spec"]["template"]["spec"], container(owner)

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["runAsGroup"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= own["resources"]["requests"].keys()
    assert "memory" in own["resources"]["limits"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert not any("hostPath" in volume for volume in pod["volumes"])


@pytest.mark.parametrize("owner", pods(), ids=named)
def test_volumes_exist_and_only_jobs_write_to_the_store(owner):
    volumes = {volume["name"]: volume for volume in owner["spec"]["template"]["spec"]["volumes"]}
    mounts = {mount["name"]: mount for mount in container(owner)["volumeMounts"]}
    claims = {it["metadata"]["name"] for it in of_kind("PersistentVolumeClaim")}

    assert mounts.keys() == volumes.keys()
    used = {
        volume["persistentVolumeClaim"]["claimName"] for volume in volumes.values() if "persistentVolumeClaim" in volume
    }
    assert used <= claims
    assert volumes["store"]["persistentVolumeClaim"]["claimName"] == "mora-store"
    read_only = mounts["store"].get("readOnly", False), volumes["store"]["persistentVolumeClaim"].get("readOnly", False)
    assert read_only == ((True, True) if owner is deployed() or owner["kind"] == "Deployment" else (False, False))


def test_the_training_job_publishes_to_the_store_that_is_served():
    (job,) = of_kind("Job", "mora-train")
    arguments = container(job)["args"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container(job)["volumeMounts"]}

    assert arguments[0] == "fit"
    assert arguments[1].startswith(mounts["data"] + "/")
    assert arguments[arguments.index("--output") + 1].startswith(mounts["runs"] + "/")
    assert arguments[arguments.index("--publish") + 1] == mounts["store"] == "/store"


@pytest.fixture
def cluster(tmp_path: Path) -> MadeCluster:
    """A cluster in which an image has the store of `image`, and `mora-store` is the only command of Jobs."""
    for name in ("image", "mora-store"):
        (tmp_path / name).mkdir()
    shelf = Shelf(Store(tmp_path / "image"))
    for seed in (1, 2, 3):
        shelf.publish("fruit", seed=seed)
    shelf.publish("tags")

    def run(command: list[str], folders: Mapping[str, Path]) -> None:
        folders = {"/store": tmp_path / "image", **folders}
        program, *arguments = [str(folders.get(word, word)) for word in command]
        assert program == "mora-store"
        result = CliRunner().invoke(mora_store, arguments)
        assert result.exit_code == 0, result.output

    return MadeCluster(run, {"mora-store": tmp_path / "mora-store"})


def publish_a_fourth(store: Store) -> None:
    Shelf(store).publish("fruit", seed=4)


@pytest.mark.parametrize(
    ("meanwhile", "live"),
    [
        (lambda store: None, 3),
        (publish_a_fourth, 4),
        (lambda store: activate(store, "fruit", 3), 3),
        (lambda store: withdraw(store, "fruit"), None),
    ],
    ids=["nothing", "a fourth version", "an activation", "a withdrawal"],
)
def test_the_seed_job_applied_again_changes_nothing(cluster, tmp_path, meanwhile, live):
    (job,) = of_kind("Job", "mora-seed")
    store = Store(tmp_path / "mora-store")
    cluster.apply(job)
    assert (store.live("fruit"), store.live("tags")) == (3, 1)
    meanwhile(store)
    before = contents(store.root)

    for _ in range(3):
        assert cluster.apply(job) == "unchanged"
        cluster.pass_days()
        assert cluster.apply(job) == "created"

    assert contents(store.root) == before
    assert store.live("fruit") == live


@pytest.mark.parametrize(
    "manifest", [it for it in manifests() if it["kind"] not in ("Job", "Kustomization")], ids=named
)
def test_a_manifest_applied_again_is_unchanged(cluster, manifest):
    """None has a name that the server would make anew, and none sets what another part of the cluster sets."""
    cluster.apply(manifest)
    assert cluster.apply(manifest) == "unchanged"
    assert "generateName" not in manifest["metadata"]
    assert "status" not in manifest
    assert manifest["kind"] != "Deployment" or "replicas" not in manifest["spec"]


def test_the_training_job_is_one_command_that_publishes_a_run_once():
    (job,) = of_kind("Job", "mora-train")
    arguments = container(job)["args"]

    assert arguments[0] == "fit"  # tests/training/test_cli.py: not twice; `publish` would make a version each time
    assert "--overwrite" not in arguments


def test_the_page_names_every_manifest():
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")

    assert [path.name for path in FOLDER.glob("*.yaml") if path.name not in page] == []
    assert [name for name in OVERLAYS if f"docker/{name}" not in page] == []


def overlaid(name: str) -> dict[str, Manifest]:
    """The manifests that `kubectl apply -k docker/NAME` applies, by kind and name: those of the base, patched."""
    kustomization = yaml.safe_load((ROOT / "docker" / name / "kustomization.yaml").read_text())
    assert kustomization["resources"] == ["../kubernetes"]
    (base,) = of_kind("Kustomization")
    files = [FOLDER / file for file in base["resources"]]
    found = {named(it): it for path in files for it in yaml.safe_load_all(path.read_text())}
    for patch in kustomization["patches"]:
        key = f"{patch['target']['kind']}-{patch['target']['name']}"
        change = yaml.safe_load(patch["patch"])
        if isinstance(change, dict):
            assert change.pop("$patch") == "delete"
            assert named(change) == key
            del found[key]
        else:
            found[key] = patched(found[key], change)
    return found


def patched(manifest: Manifest, changes: list[dict[str, Any]]) -> Manifest:
    """A manifest after the operations `add` and `replace` of a JSON patch (RFC 6902)."""
    manifest = copy.deepcopy(manifest)
    for change in changes:
        *way, last = change["path"].removeprefix("/").split("/")
        parent: Any = manifest
        for name in way:
            parent = parent[int(name)] if isinstance(parent, list) else parent[name]
        if isinstance(parent, list) and last == "-":
            parent.append(change["value"])
        elif isinstance(parent, list):
            parent[int(last)] = change["value"]
        else:
            assert (last in parent) == (change["op"] == "replace")
            parent[last] = change["value"]
    return manifest


OVERLAYS = {"kubernetes-registry": OLDEST, "kubernetes-image": "1.33"}  # and the oldest version that has what they use


@pytest.mark.parametrize(("overlay", "oldest"), OVERLAYS.items())
def test_every_patched_manifest_is_valid_for_the_api(overlay, oldest):
    for manifest in overlaid(overlay).values():
        for version in (oldest, NEWEST):
            validate(manifest, version)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_patched_pod_has_a_store_and_no_shared_volume(overlay):
    manifests = overlaid(overlay)
    pod = manifests["Deployment-mora-serve"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}

    assert not any(key.startswith("PersistentVolumeClaim") for key in manifests)
    assert not any("persistentVolumeClaim" in volume for volume in volumes.values())
    assert "store" in volumes
    (service,) = pod["containers"]
    for each in [service, *pod.get("initContainers", [])]:
        assert {mount["name"] for mount in each["volumeMounts"]} <= volumes.keys()
        assert each["securityContext"] == service["securityContext"]
        assert {"cpu", "memory"} <= each["resources"]["requests"].keys()
    assert next(mount for mount in service["volumeMounts"] if mount["name"] == "store")["readOnly"] is True


def test_the_init_container_and_the_sidecar_bring_versions_to_the_service(tmp_path, monkeypatch):
    pod = overlaid("kubernetes-registry")["Deployment-mora-serve"]["spec"]["template"]["spec"]
    pulling, following = pod["initContainers"]
    target = pulling["command"][2]
    assert target == following["command"][2]
    assert "restartPolicy" not in pulling
    assert following["restartPolicy"] == "Always"
    shelf, served = Shelf(Store(tmp_path / "remote")), Store(tmp_path / "served")
    shelf.publish("fruit")
    places = {target: str(shelf.store.root), "/store": str(served.root)}

    def run(container: dict[str, Any]) -> None:
        program, *arguments = [places.get(word, word) for word in container["command"]]
        assert program == "mora-store"
        result = CliRunner().invoke(mora_store, arguments)
        assert result.exit_code == 0, result.output

    run(pulling)
    assert served.live("fruit") == 1

    monkeypatch.setattr(Follower, "run", lambda follower, seconds, stop: follower.step())
    for version in (2, 3, 4):
        shelf.publish("fruit", seed=version)
        run(following)
        assert served.live("fruit") == version
    assert served.versions("fruit") == [2, 3, 4], "old versions would fill the volume"
