"""Events as messages to an MQTT broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from oddsight.errors import OddsightError
from oddsight.model.events import WatchedFrame
from oddsight.sinks.streams.sink import StreamRun, WriteFrame
from oddsight.sinks.streams.webhook import split_address

if TYPE_CHECKING:
    from paho.mqtt.client import Client

_ADDRESS = "mqtt://[USER@]HOST[:PORT][/TOPIC]"
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_KEEP_ALIVE = 30
"""Seconds after which the broker knows that a connection is dead, and says so in the topic of availability."""
_WAITING = 1000
_PATIENCE = 5.0


class Mqtt:
    """A message to ``TOPIC/events`` for each state of an event, at least once, and ``TOPIC/availability``.

    Availability is a retained ``online`` or ``offline``; the broker itself says ``offline`` when the connection breaks
    (the last will). Messages are JSON: the event with ``source``. They are sent by a thread of their own, which
    connects again by itself; up to 1,000 wait for that. It needs the ``mqtt`` extra.

    Args:
        address: ``mqtt://[USER@]HOST[:PORT][/TOPIC]``, or ``mqtts`` for TLS; the topic is ``oddsight`` by default.
        password: Of the user.

    Raises:
        OddsightError: If the address will not do.
    """

    def __init__(self, address: str, *, password: str | None = None) -> None:
        parts = split_address(address)
        if parts is None:
            raise OddsightError(f"the address of the MQTT broker cannot be read: give it as {_ADDRESS}")
        if parts.scheme not in _PORTS or not parts.hostname:
            raise OddsightError(f"the address of an MQTT broker is {_ADDRESS}, or mqtts:// for TLS")
        if parts.password is not None:
            raise OddsightError(
                "the address of an MQTT broker has no password: put it into the environment variable "
                "ODDSIGHT_MQTT_PASSWORD"
            )
        self._host, self._port = parts.hostname, parts.port if parts.port is not None else _PORTS[parts.scheme]
        self._secure = parts.scheme == "mqtts"
        self._user = None if parts.username is None else unquote(parts.username)
        self._password = password
        self._topic = unquote(parts.path).strip("/") or "oddsight"
        if any(character in "+#\0" for character in self._topic):
            raise OddsightError(f"the topic {self._topic!r} cannot be written to: leave out + and #")

    def __repr__(self) -> str:
        return f"Mqtt({self._host}:{self._port}/{self._topic})"

    @contextmanager
    def open(self, run: StreamRun) -> Iterator[WriteFrame]:
        """Connect, and at the end wait up to 5 seconds for what is not sent yet."""
        client = self._client(run)
        try:
            client.connect_async(self._host, self._port, keepalive=_KEEP_ALIVE)
            client.loop_start()
        except (OSError, ValueError) as error:
            raise OddsightError(f"cannot connect to the MQTT broker at {self._host}:{self._port}: {error}") from None

        def write(watched: WatchedFrame) -> None:
            for event in watched.events:
                content = event.to_json() | {"source": run.source}
                client.publish(f"{self._topic}/events", json.dumps(content, allow_nan=False), qos=1)

        try:
            yield write
        finally:
            last = client.publish(f"{self._topic}/availability", "offline", qos=1, retain=True)
            if client.is_connected():
                last.wait_for_publish(_PATIENCE)
            if not last.is_published():
                run.note(f"not all messages reached the MQTT broker at {self._host}:{self._port}")
            client.disconnect()
            client.loop_stop()

    def _client(self, run: StreamRun) -> Client:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise OddsightError(
                "sending to an MQTT broker needs the mqtt extra: pip install 'oddsight[mqtt]'"
            ) from None
        client = Client(CallbackAPIVersion.VERSION2)
        if self._user is not None:
            client.username_pw_set(self._user, self._password)
        if self._secure:
            client.tls_set()
        client.max_queued_messages_set(_WAITING)
        client.reconnect_delay_set(1, 60)
        client.will_set(f"{self._topic}/availability", "offline", qos=1, retain=True)
        troubled = False

        def complain(reason: object) -> None:
            nonlocal troubled
            if not troubled:
                troubled = True
                run.note(f"the MQTT broker at {self._host}:{self._port}: {reason}; trying again")

        def connected(client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:  # noqa: ANN401
            nonlocal troubled
            if reason.is_failure:
                complain(reason)
                return
            troubled = False
            client.publish(f"{self._topic}/availability", "online", qos=1, retain=True)

        client.on_connect = connected
        client.on_connect_fail = lambda *_: complain("it cannot be reached")
        return client
