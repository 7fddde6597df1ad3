"""What the OpenAPI description says besides the routes, and a page of it that loads nothing from elsewhere."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

ERROR: dict[str, Any] = {
    "description": "What is wrong, in one sentence.",
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
            "example": {"error": "there is no model 'parts'"},
        }
    },
}

BINARY = {"schema": {"type": "string", "format": "binary"}}
"""A body that is the content of a file."""

ERRORS: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 401, 403, 404, 405, 408, 409, 411, 413, 422, 429), ERROR)
"""Answers that any route may give."""


def describe(app: FastAPI) -> None:
    """Add to the description what is the same for all routes."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            content = plain()
            content["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            content["security"] = [{}, {"token": []}]
            for methods in content["paths"].values():
                for operation in methods.values():
                    for status, answer in ERRORS.items():
                        operation["responses"][str(status)] = answer
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
