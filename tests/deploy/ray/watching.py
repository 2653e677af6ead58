"""Prints a line of JSON for each change in what Serve's controller says of the application: `watching.py ADDRESS`."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter

import ray
from ray import serve

ray.init(
    address=sys.argv[1], _node_ip_address="127.0.0.2", namespace="serve", log_to_driver=False, logging_level="error"
)
last: dict[str, object] = {}
while True:
    application = serve.status().applications.get("default")
    if application is not None:
        replicas: Counter[str] = Counter()
        for deployment in application.deployments.values():
            replicas.update({str(getattr(name, "value", name)): n for name, n in deployment.replica_states.items()})
        messages = [application.message, *(d.message for d in application.deployments.values())]
        state = {"status": application.status.value, "replicas": replicas, "message": "\n".join(messages)}
        if state != last:
            last = state
            print(json.dumps({"time": time.monotonic(), **state}), flush=True)
    time.sleep(0.1)
