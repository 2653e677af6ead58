"""Metrics and settings that a document names are those of the code."""

from __future__ import annotations

import re

from service.settings import RaySettings
from service.telemetry.metrics import Metrics
from tests.docs.documents import DOCUMENTS, ROOT

# A client's, one that is misspelt to show what is said then, one that Kubernetes would set; and the compose file's.
OTHERS = {"MORA_API_KEY", "MORA_PROT", "MORA_SERVE_SERVICE_HOST"}
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def texts() -> dict[str, str]:
    return {str(document.relative_to(ROOT)): document.read_text(encoding="utf-8") for document in DOCUMENTS}


def test_every_named_variable_is_a_setting():
    known = (
        {f"MORA_{name.upper()}" for name in RaySettings.model_fields}
        | OTHERS
        | set(re.findall(r"\$\{(MORA_[A-Z]+)", COMPOSE))
    )
    named = {
        (place, name) for place, text in texts().items() for name in re.findall(r"\bMORA_[A-Z][A-Z_]*[A-Z]\b", text)
    }

    assert len(named) > 60
    assert sorted((place, name) for place, name in named if name not in known) == []


def test_every_named_metric_exists():
    families = Metrics().registry.collect()
    known = {family.name + end for family in families for end in ("", "_total", "_bucket", "_sum", "_count")}
    named = {
        (place, name)
        for place, text in texts().items()
        for name in re.findall(r"(?<![\w:])mora_[a-z_]+\b(?!:|-\d)", re.sub(r"\]\([^)]*\)", "", text))
    }

    assert len(named) > 60
    assert sorted((place, name) for place, name in named if name not in known) == []
