"""What the service takes, at most: bytes, images, pixels, time and how much may wait."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from oddsight.runtime.parallel import cores

MEBIBYTE = 2**20

PLAIN_BODY = MEBIBYTE
"""Bytes of a request that brings no images."""

SLOWEST = 20_000
"""Bytes a second at which a body must come, after the first seconds."""


@dataclass(frozen=True)
class Limits:
    """The limits of a service.

    Attributes:
        image_bytes: Of one image file.
        images: In one request.
        pixels: Of one image.
        seconds: That an image may wait before its turn, and that a client may stay silent.
        queue: Images that may wait, of all requests together.
        body_bytes: Of one request with images.
        model_bytes: Of a model file.
        memory: Bytes of all requests that are being read or answered.
        streams: Clients that listen to events.
    """

    image_bytes: int = 32 * MEBIBYTE
    images: int = 32
    pixels: int = 2**26
    seconds: float = 30.0
    queue: int = field(default_factory=lambda: max(32, 16 * cores()))
    body_bytes: int = 128 * MEBIBYTE
    model_bytes: int = 512 * MEBIBYTE
    memory: int = 768 * MEBIBYTE
    streams: int = 64

    def to_json(self) -> dict[str, float]:
        """For clients."""
        return asdict(self)

    def body(self, method: str, path: str) -> int:
        """The bytes that the body of a request may have."""
        if method == "PUT" and path.startswith("/api/models/"):
            return self.model_bytes
        brings_images = path.endswith((":predict", "/infer")) or path.startswith("/api/uploads/")
        return self.body_bytes if method == "POST" and brings_images else PLAIN_BODY
