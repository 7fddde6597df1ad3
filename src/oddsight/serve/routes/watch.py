"""What a running ``watch`` leaves in the workspace: events, key frames, and zones for the next one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse

from oddsight.serve.documentation import BINARY
from oddsight.serve.errors import RequestError, not_found
from oddsight.serve.events import ALIVE, ANSWER, COMMENT, PAUSE, event
from oddsight.serve.service import Kept, Parts
from oddsight.serve.workspace import Workspace
from oddsight.watch.zone_files import parse_zones, read_zones, write_zones, zones_json

router = APIRouter(prefix="/api/watch", tags=["watch"])

_EVENTS, _FRAMES, _ZONES = "events.jsonl", "frames", "zones.json"
_PAST_BYTES = 2**18
"""Of the events before a client began to listen."""

_NAME = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$"
Stream = Annotated[str, Path(pattern=_NAME, description="What the stream is called.", examples=["gate"])]


def _place(workspace: Workspace, name: str) -> FilePath:
    folder = workspace.folder / "watch" / name
    if not folder.is_dir() or folder.is_symlink():
        raise not_found("such stream")
    return folder


@router.get("")
def streams(workspace: Kept) -> dict[str, Any]:
    """The streams that are there, and when each last told of something."""
    folder = workspace.place("watch")
    places = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return {"streams": [_described(path) for path in places]}


def _described(folder: FilePath) -> dict[str, Any]:
    path, frames = folder / _EVENTS, folder / _FRAMES
    return {
        "name": folder.name,
        "last": path.stat().st_mtime if path.is_file() else None,
        "frames": len(list(frames.glob("*.jpg"))) if frames.is_dir() else 0,
        "zones": (folder / _ZONES).is_file(),
    }


@router.get("/{name}/events", response_class=StreamingResponse, responses=ANSWER)
async def events(name: Stream, service: Parts, workspace: Kept) -> StreamingResponse:
    """The latest events of a stream, and each that comes (`event`)."""
    return service.listeners.stream(_follow(_place(workspace, name) / _EVENTS))


async def _follow(path: FilePath) -> AsyncIterator[str]:
    """Lines of a file, also those that are added; from its start again where it was begun anew."""
    place, rest, said = None, b"", time.monotonic()
    while True:
        size = path.stat().st_size if path.is_file() else 0
        if place is None or size < place:
            place, rest = max(0, size - _PAST_BYTES), b""
            skip = place > 0
        if size > place:
            with path.open("rb") as file:
                file.seek(place)
                content = file.read(_PAST_BYTES)
            place += len(content)
            *lines, rest = (rest + content).split(b"\n")
            for line in lines[skip:]:
                said = time.monotonic()
                yield _event(line)
            skip = skip and not lines
        if time.monotonic() - said > ALIVE:
            said = time.monotonic()
            yield COMMENT
        await asyncio.sleep(PAUSE)


def _event(line: bytes) -> str:
    try:
        return event("event", json.loads(line))
    except ValueError:  # of a file that somebody else writes
        return COMMENT


@router.get("/{name}/frames/{file}", response_class=Response, responses={200: {"content": {"image/jpeg": BINARY}}})
def frame(name: Stream, file: Annotated[str, Path(pattern=_NAME)], workspace: Kept) -> Response:
    """A key frame, also without what ``watch`` puts before the names of a live source's: then the newest."""
    folder = _place(workspace, name) / _FRAMES
    path = folder / file
    if not path.is_file():
        path = max(folder.glob(f"*-{file}"), default=path)
    if path.suffix != ".jpg" or path.is_symlink() or not path.is_file():
        raise not_found("such key frame")
    return Response(path.read_bytes(), media_type="image/jpeg")


@router.get("/{name}/zones")
def zones(name: Stream, workspace: Kept) -> dict[str, Any]:
    """The zones of a stream, as GeoJSON."""
    path = _place(workspace, name) / _ZONES
    if not path.is_file():
        raise not_found("file of zones yet")
    return zones_json(read_zones(path), path.parent)


@router.put(
    "/{name}/zones",
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def draw(name: Stream, request: Request, workspace: Kept) -> dict[str, Any]:
    """Write the zones of a stream, which ``watch --zones`` reads when it starts."""
    path = _place(workspace, name) / _ZONES
    given = parse_zones(await request.body())
    if any(zone.model is not None for zone in given):
        raise RequestError(
            422, "zones that are drawn here name no model: the name of a file is not for a client to say"
        )
    write_zones(path, given)
    return zones_json(given, path.parent)
