"""The paths that probes and scrapers ask for every few seconds: one list for access, log, rate limit and reserve."""

from __future__ import annotations

PROBES = frozenset({"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"})  # they hold no data, so need no key
METRICS = "/metrics"
MONITORING_PATHS = PROBES | {METRICS}
