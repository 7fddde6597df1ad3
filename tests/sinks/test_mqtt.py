"""MQTT, against a broker of a few lines on this machine."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from contextlib import suppress

import pytest

from oddsight.errors import OddsightError
from oddsight.model.events import WatchedFrame
from oddsight.sinks.streams.mqtt import Mqtt
from stream_frames import event, stream, write

pytest.importorskip("paho.mqtt.client")

CONNECT, PUBLISH, PINGREQ, DISCONNECT = 1, 3, 12, 14


class Broker:
    """Speaks as much MQTT 3.1.1 as one client that publishes needs; notes what it is told.

    Args:
        code: What it answers to a connection: 0 if it is accepted.
        breaks: After how many messages it breaks the first connection, without a word.
        tls: Its certificate and key, for TLS.
    """

    def __init__(self, code=0, breaks=None, tls=None):
        self.code, self.breaks, self.tls = code, breaks, tls
        self.connects, self.published, self.wills = [], [], []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            if self.tls is not None:
                try:
                    connection = self.tls.wrap_socket(connection, server_side=True)
                except OSError:  # the client does not trust it
                    continue
            with connection, connection.makefile("rb") as stream:
                self._talk(connection, stream)

    def _talk(self, connection, stream):
        will = None
        count = 0
        while head := stream.read(1):
            kind, flags = head[0] >> 4, head[0] & 15
            length = shift = 0
            while True:
                byte = stream.read(1)[0]
                length, shift = length | (byte & 127) << shift, shift + 7
                if byte < 128:
                    break
            body = stream.read(length)
            if kind == CONNECT:
                will = self._connect(body)
                connection.sendall(bytes([0x20, 2, 0, self.code]))
                if self.code:
                    # What it refuses it does not listen to, although a client may go on before it knows.
                    connection.shutdown(socket.SHUT_WR)
                    with suppress(OSError):
                        stream.read()
                    return
            elif kind == PUBLISH:
                size = struct.unpack(">H", body[:2])[0]
                topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
                if count == self.breaks:
                    self.breaks = None
                    break
                count += 1
                assert flags >> 1 & 3 == 1  # at least once
                self.published.append((topic, rest[2:].decode(), bool(flags & 1)))
                connection.sendall(bytes([0x40, 2]) + rest[:2])
            elif kind == PINGREQ:
                connection.sendall(bytes([0xD0, 0]))
            elif kind == DISCONNECT:
                return
        self.wills.append(will)

    def _connect(self, body):
        """Will topic and message, user and password of the connection."""
        flags, place, fields = body[7], 10, []
        while place < len(body):
            size = struct.unpack(">H", body[place : place + 2])[0]
            fields.append(body[place + 2 : place + 2 + size].decode())
            place += 2 + size
        assert flags & 0b100 and flags & 0b100000  # a will that is retained
        self.connects.append(fields[3:])
        return (fields[1], fields[2])


def messages(broker, topic):
    return [json.loads(text) for place, text, _ in broker.published if place == topic]


def test_events_and_availability_reach_the_broker():
    with Broker() as broker:
        notes = write(Mqtt(f"mqtt://watcher@127.0.0.1:{broker.port}/factory/line%201", password="hidden"))
    assert notes == []
    assert broker.connects == [["watcher", "hidden"]]
    expected = [one.to_json() | {"source": "clip.mp4"} for watched in stream() for one in watched.events]
    assert messages(broker, "factory/line 1/events") == expected
    told = [(text, retained) for place, text, retained in broker.published if place == "factory/line 1/availability"]
    assert told == [("online", True), ("offline", True)]
    assert broker.wills == []


@pytest.mark.slow
def test_a_broken_connection_leaves_the_will_and_nothing_is_lost():
    with Broker(breaks=2) as broker:
        assert write(Mqtt(f"mqtt://127.0.0.1:{broker.port}")) == []
    assert broker.wills == [("oddsight/availability", "offline")]
    told = messages(broker, "oddsight/events")
    assert {(one["id"], one["state"]) for one in told} == {("1", "new"), ("1", "update"), ("1", "end"), ("2", "new")}
    assert [text for place, text, _ in broker.published if place == "oddsight/availability"][-1] == "offline"


@pytest.mark.slow
def test_what_cannot_be_reached_or_refuses_is_noted_without_the_password():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        port = taken.getsockname()[1]
        notes = write(Mqtt(f"mqtt://127.0.0.1:{port}", password="hidden"), [WatchedFrame(None, events=(event(),))])
    assert notes[-1] == f"1 messages did not reach the MQTT broker at 127.0.0.1:{port}"
    with Broker(code=5) as broker:
        sink = Mqtt(f"mqtt://me@127.0.0.1:{broker.port}", password="hidden")
        refusal, lost = write(sink, [WatchedFrame(None, events=(event(),))])
    assert refusal.startswith(f"the MQTT broker at 127.0.0.1:{broker.port}: ") and lost.startswith("1 messages did not")
    assert broker.published == []
    notes += [refusal, lost]
    assert "hidden" not in " ".join([*notes, repr(sink)])


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://host", "the address of an MQTT broker is mqtt://"),
        ("mqtt:///topic", "the address of an MQTT broker is mqtt://"),
        ("mqtt://user:hidden@host", "put it into the environment variable ODDSIGHT_MQTT_PASSWORD"),
        ("mqtt://host:hidden", "cannot be read"),
        ("mqtt://host/a/+", "leave out"),
    ],
)
def test_addresses_that_will_not_do(address, words):
    with pytest.raises(OddsightError, match=words) as caught:
        Mqtt(address)
    assert "hidden" not in str(caught.value) and caught.value.__context__ is None


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of 127.0.0.1 that is signed by itself, and the TLS of a broker that has it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, which makes a certificate")
    folder = tmp_path_factory.mktemp("tls")
    file, key = folder / "broker.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=broker"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file, key)
    return file, tls


def test_tls_reaches_a_broker_whose_certificate_is_known(certificate):
    file, tls = certificate
    with Broker(tls=tls) as broker:
        assert write(Mqtt(f"mqtts://127.0.0.1:{broker.port}", ca=file)) == []
    assert len(messages(broker, "oddsight/events")) == 4


@pytest.mark.slow
def test_tls_refuses_a_broker_whose_certificate_is_unknown(certificate):
    with Broker(tls=certificate[1]) as broker:
        notes = write(Mqtt(f"mqtts://127.0.0.1:{broker.port}"), [WatchedFrame(None, events=(event(),))])
    assert notes[-1].startswith("1 messages did not reach the MQTT broker")
    assert broker.published == []


def test_certificates_that_will_not_do_are_one_sentence(tmp_path):
    with pytest.raises(OddsightError, match="give its address as mqtts://HOST"):
        Mqtt("mqtt://host", ca=tmp_path / "ca.pem")
    with pytest.raises(OddsightError, match=r"ca\.pem: cannot be read: No such file or directory"):
        Mqtt("mqtts://host", ca=tmp_path / "ca.pem")
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(OddsightError, match=r"ca\.pem: cannot be read: no certificates in PEM format"):
        Mqtt("mqtts://host", ca=tmp_path / "ca.pem")
