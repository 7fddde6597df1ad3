"""A page of what can be asked, made of the OpenAPI description; it loads nothing and runs nothing."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_STYLE = "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}pre{overflow:auto}"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


@router.get("/docs")
def page(request: Request) -> Response:
    """What can be asked of the service."""
    content = request.app.openapi()
    parts = [
        _operation(method, path, operation)
        for path, methods in content["paths"].items()
        for method, operation in methods.items()
    ]
    text = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'><title>Oddsight: what can be asked</title>"
        f"<style>{_STYLE}</style><h1>What can be asked</h1>"
        "<p>The same as <a href=/openapi.json>OpenAPI</a>. Errors are JSON: <code>{&quot;error&quot;: ...}</code>.</p>"
    )
    return HTMLResponse(text + "".join(parts), headers={"Content-Security-Policy": _POLICY})


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [
        f"<li><code>{escape(one['name'])}</code> ({escape(one['in'])}) {escape(one.get('description', ''))}</li>"
        for one in operation.get("parameters", [])
    ]
    bodies = operation.get("requestBody", {}).get("content", {})
    shown = json.dumps({kind: one.get("example") for kind, one in bodies.items() if "example" in one}, indent=1)
    example = f"<pre>{escape(shown)}</pre>" if shown != "{}" else ""
    takes = f"<p>Body: {escape(', '.join(bodies))}</p>" if bodies else ""
    return (
        f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation.get('description', ''))}</p>"
        f"<ul>{''.join(rows)}</ul>{takes}{example}"
    )
