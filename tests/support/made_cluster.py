"""A made Kubernetes API: it keeps what is applied, runs Jobs on this machine, and forgets finished Jobs as told."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]


class MadeCluster:
    """`kubectl apply` without a cluster.

    Args:
        run: runs the command of a Job's container, with the folders of its mounts by their path in the container.
        volumes: folder of each claim by name.
    """

    def __init__(self, run: Callable[[list[str], Mapping[str, Path]], None], volumes: Mapping[str, Path]) -> None:
        self.objects: dict[tuple[str, str], Manifest] = {}
        self._run = run
        self._volumes = volumes

    def apply(self, manifest: Manifest) -> str:
        """Whether the object was `created`, `configured` or `unchanged`. A Job runs when it is created."""
        key = manifest["kind"], manifest["metadata"]["name"]
        known = self.objects.get(key)
        if known == manifest:
            return "unchanged"
        assert known is None or manifest["kind"] != "Job", "the pod of a Job cannot be changed"
        self.objects[key] = copy.deepcopy(manifest)
        if manifest["kind"] == "Job":
            self._start(manifest)
        return "created" if known is None else "configured"

    def pass_days(self) -> None:
        """Finished Jobs are gone once their `ttlSecondsAfterFinished` are over."""
        jobs = {key: manifest for key, manifest in self.objects.items() if key[0] == "Job"}
        for key, manifest in jobs.items():
            assert manifest["spec"]["ttlSecondsAfterFinished"] <= 86400
            del self.objects[key]

    def _start(self, job: Manifest) -> None:
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        claims = {volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: claims[mount["name"]] for mount in container["volumeMounts"]}
        folders = {path: self._volumes[claim] for path, claim in mounts.items() if claim is not None}
        self._run([*container.get("command", ["mora-train"]), *container.get("args", [])], folders)
