"""FastAPI's application with the components of the OpenAPI document that FastAPI does not make."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from service.api.openapi import REQUEST_ID, components


class DescribedApp(FastAPI):
    """FastAPI, whose OpenAPI document also has the components of `service.api.openapi`."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document. FastAPI keeps the one that was made first."""
        if self.openapi_schema is not None:
            return self.openapi_schema
        document = super().openapi()
        for kind, named in components().items():
            made = document["components"].get(kind, {})
            document["components"][kind] = dict(sorted((named | made).items()))
        for operations in document["paths"].values():
            for operation in operations.values():
                _refer(operation)
        return document


def _refer(operation: dict[str, Any]) -> None:
    operation.setdefault("parameters", []).append(REQUEST_ID)
    for response in operation["responses"].values():
        if "$ref" in response:
            response.pop("description", None)  # FastAPI's own, which would replace the component's
