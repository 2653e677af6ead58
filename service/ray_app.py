"""The application on several nodes with Ray Serve: `serve run service.ray_app:app NAME=VALUE ...`."""

from __future__ import annotations

import os
from collections.abc import Mapping

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.config import AutoscalingConfig

from model_store import Store, StoreError, read_trusted_keys
from model_store.transfer import pinned
from service.inference.engine import Engine
from service.models.deployment import DeployedStore, DeployedVersion, live_versions
from service.models.golden_limits import check_live_versions
from service.models.malloc import return_large_blocks
from service.models.pulled_store import pull_store
from service.settings import PREFIX, RaySettings, Settings, check_names
from service.telemetry.logs import configure_logging
from service.telemetry.metrics_port import serve_metrics
from service.web.app import create_app


def app(arguments: Mapping[str, object]) -> serve.Application:
    """The replicas that `serve run` deploys. They serve exactly the versions that are live in the store now.

    If the store is named by targets, every node pulls it.

    Args:
        arguments: fields of RaySettings. They take precedence over the `MORA_*` variables of a replica's node, and
            those over the variables of this process.

    Raises ValueError for an invalid setting, StoreError for a store that cannot be deployed.
    """
    check_names(os.environ, RaySettings)
    settings = RaySettings.model_validate(arguments)
    if settings.targets:  # a tag may move before the last replica starts
        targets = ",".join(pinned(target, plain_http=settings.plain_http) for target in settings.targets)
        arguments = {**arguments, "store": targets}
        settings = RaySettings.model_validate(arguments)
        pull_store(settings)
    store = Store(settings.store_folder, read_trusted_keys(settings.trusted_keys))
    deployed = live_versions(store)
    check_live_versions(store, settings)
    validated = {name: getattr(settings, name) for name in arguments}
    environment = {name: value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    replica = Replica.options(  # type: ignore[attr-defined]
        autoscaling_config=AutoscalingConfig(
            min_replicas=settings.min_replicas,
            max_replicas=settings.max_replicas,
            target_ongoing_requests=settings.target_ongoing_requests,
        ),
        max_ongoing_requests=settings.max_connections,  # the replica's own queues refuse excess requests
        graceful_shutdown_timeout_s=settings.drain_seconds,
        ray_actor_options={"num_cpus": settings.num_cpus, "num_gpus": settings.num_gpus},
    )
    bound: serve.Application = replica.bind(validated, environment, deployed)
    return bound


@serve.deployment(name="mora-serve")
@serve.ingress()
class Replica:
    """One process of the service. It starts only on a node whose store holds exactly the deployed versions."""

    def __init__(
        self,
        arguments: Mapping[str, object],
        environment: Mapping[str, str],
        deployed: Mapping[str, DeployedVersion],
    ) -> None:
        for name, value in environment.items():
            os.environ.setdefault(name, value)
        check_names(os.environ, RaySettings)
        settings = RaySettings.model_validate(arguments)
        cores = max(1, int(settings.num_cpus))  # the replica shares the node's cores with others
        unset = {"intra_op_threads", "preparation_workers"} - settings.model_fields_set
        self._settings: Settings = settings.model_copy(update=dict.fromkeys(unset, cores))
        configure_logging(self._settings)
        return_large_blocks()
        pull_store(settings)
        self._store = DeployedStore(settings.store_folder, deployed, read_trusted_keys(settings.trusted_keys))
        try:
            self._store.verify_all()
        except StoreError as error:
            where = f"node {ray.util.get_node_ip_address()}: its store {settings.store_folder}"
            raise StoreError(f"{where} differs from the deployed one: {error}") from error

    def __serve_build_asgi_app__(self) -> FastAPI:
        self._service = create_app(self._settings, self._store)
        if self._settings.metrics_port is not None:
            serve_metrics(self._service.state.metrics, self._settings.host, self._settings.metrics_port)
        return self._service

    async def check_health(self) -> None:
        """Raise if a request for a deployed task would not be answered, so that Ray replaces this replica.

        Raises RuntimeError for a refused version, ServiceError if work has been waiting for seconds.
        """
        engine: Engine = self._service.state.engine
        for task in self._store.tasks():
            if task not in engine.catalog.live:
                refusal = engine.catalog.refusal(task)
                raise RuntimeError(f"{task}: its deployed version was refused: {refusal.reason if refusal else '?'}")
        engine.check_ready()
