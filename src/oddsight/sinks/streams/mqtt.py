"""Events as messages to an MQTT broker."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ssl import SSLContext, SSLError, create_default_context
from threading import Condition
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
        ca: A file of certificates (PEM) that the broker's is checked by, for ``mqtts``; by default those that the
            system trusts.

    Raises:
        OddsightError: If the address or the certificates will not do.
    """

    def __init__(self, address: str, *, password: str | None = None, ca: str | os.PathLike[str] | None = None) -> None:
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
        if ca is not None and parts.scheme != "mqtts":
            raise OddsightError("certificates are for a broker with TLS: give its address as mqtts://HOST")
        self._tls = _trusting(ca) if parts.scheme == "mqtts" else None
        self._user = None if parts.username is None else unquote(parts.username)
        self._password = password
        self._topic = unquote(parts.path).strip("/") or "oddsight"
        if any(character in "+#\0" for character in self._topic):
            raise OddsightError(f"the topic {self._topic!r} cannot be written to: leave out + and #")

    def __repr__(self) -> str:
        return f"Mqtt({self._host}:{self._port}/{self._topic})"

    @contextmanager
    def open(self, run: StreamRun) -> Iterator[WriteFrame]:
        """Connect, and at the end wait up to 5 seconds for what is not sent yet, unless no broker was ever there."""
        where = f"the MQTT broker at {self._host}:{self._port}"
        connection = _Connection(self._client(), f"{self._topic}/availability", where, run.complain)
        try:
            connection.client.connect_async(self._host, self._port, keepalive=_KEEP_ALIVE)
            connection.client.loop_start()
        except (OSError, ValueError) as error:
            raise OddsightError(f"cannot connect to {where}: {error}") from None

        def write(watched: WatchedFrame) -> None:
            for event in watched.events:
                connection.publish(f"{self._topic}/events", json.dumps(event.to_json() | {"source": run.source}))

        try:
            yield write
        finally:
            connection.close()

    def _client(self) -> Client:
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
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.max_queued_messages_set(_WAITING)
        client.reconnect_delay_set(1, 60)
        return client


def _trusting(ca: str | os.PathLike[str] | None) -> SSLContext:
    """TLS that trusts the certificates of a file, or those of the system."""
    try:
        return create_default_context(cafile=ca)
    except (OSError, ValueError) as error:  # of ssl, too
        reason = "no certificates in PEM format" if isinstance(error, SSLError) else getattr(error, "strerror", error)
        raise OddsightError(f"{os.fspath(ca or 'the certificates of the system')}: cannot be read: {reason}") from None


class _Connection:
    """A client with what it has sent, what has arrived, and what was said of it."""

    def __init__(self, client: Client, availability: str, where: str, complain: Callable[[str], None]) -> None:
        self.client, self._availability, self._where, self._say = client, availability, where, complain
        self._changed = Condition()
        self._sent = self._arrived = 0
        self._troubled = self._known = False
        client.will_set(availability, "offline", qos=1, retain=True)
        client.on_connect = self._connected
        client.on_connect_fail = lambda *_: self._complain("it cannot be reached")
        client.on_publish = self._acknowledged

    def publish(self, topic: str, content: str, *, retain: bool = False) -> None:
        with self._changed:
            self._sent += 1
        self.client.publish(topic, content, qos=1, retain=retain)

    def close(self) -> None:
        """Say that nothing more comes, and what did not arrive."""
        with self._changed:
            self._changed.wait_for(lambda: self._known or self._troubled, _PATIENCE)
            known = self._known
        if known:
            self.publish(self._availability, "offline", retain=True)
        with self._changed:
            self._changed.wait_for(lambda: self._arrived >= self._sent or not known, _PATIENCE)
            missing = self._sent - self._arrived
        if missing > 0:
            self._say(f"{missing:,} messages did not reach {self._where}")
        self.client.disconnect()
        self.client.loop_stop()

    def _connected(self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:  # noqa: ANN401
        if reason.is_failure:
            self._complain(reason)
            return
        self.publish(self._availability, "online", retain=True)
        with self._changed:
            self._known, self._troubled = True, False
            self._changed.notify_all()

    def _acknowledged(self, *_: object) -> None:
        with self._changed:
            self._arrived += 1
            self._changed.notify_all()

    def _complain(self, reason: object) -> None:
        """Say what is wrong once, until there is a connection again."""
        with self._changed:
            new, self._troubled = not self._troubled, True
            self._changed.notify_all()
        if new:
            self._say(f"{self._where}: {reason}; trying again")
