"""The webhook, against a server on this machine: signatures, retries, redirects, secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddsight.errors import OddsightError
from oddsight.model.events import WatchedFrame
from oddsight.sinks.streams.outbox import Outbox, Refusal, TryAgain
from oddsight.sinks.streams.webhook import Webhook
from stream_frames import event, stream, write

KEY = "a key of more than sixteen bytes"
EVENTS = [one for watched in stream() for one in watched.events]


class Receiver:
    """What a server got, and what it answers: a status or a status with headers, for each request; then 204."""

    def __init__(self, answers):
        self.answers, self.got = list(answers), []

    def __enter__(self):
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, dict(self.headers), body))
                answer = receiver.answers.pop(0) if receiver.answers else 204
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in ({"Content-Length": "0"} | headers).items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def address(self, path="/hooks/secret-path?token=secret-token"):
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    @property
    def bodies(self):
        return [json.loads(body) for _, _, body in self.got]


@contextmanager
def sent(answers=(), *, path="/hook", frames=None, **options):
    """A receiver after a run, and the notes of that."""
    with Receiver(answers) as receiver:
        notes = write(Webhook(receiver.address(path), pause=0.01, **options), frames)
        yield receiver, notes


@pytest.mark.slow
def test_every_state_of_an_event_is_a_typed_signed_message():
    with sent(path="/hook?a=b", key=KEY) as (receiver, notes):
        assert notes == []
    assert [path for path, _, _ in receiver.got] == ["/hook?a=b"] * 4
    assert [body["type"] for body in receiver.bodies] == ["anomaly.new", "anomaly.update", "anomaly.end", "source.new"]
    for body, expected in zip(receiver.bodies, EVENTS, strict=True):
        assert set(body) == {"type", "timestamp", "data"}
        run = body["data"].pop("run")
        assert body["data"] == expected.to_json() | {"source": "clip.mp4"} and len(run) == 32
    for _, headers, body in receiver.got:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        digest = hmac.new(KEY.encode(), signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
        assert headers["Content-Type"] == "application/json"
    assert len({headers["webhook-id"] for _, headers, _ in receiver.got}) == 4


@pytest.mark.slow
def test_a_key_may_be_written_as_standard_webhooks_do():
    raw = bytes(range(32))
    with sent(key=f"whsec_{base64.b64encode(raw).decode()}") as (receiver, _):
        _, headers, body = receiver.got[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert headers["webhook-signature"][3:] == base64.b64encode(hmac.new(raw, signed, hashlib.sha256).digest()).decode()


@pytest.mark.slow
def test_without_a_key_nothing_is_signed():
    with sent() as (receiver, _):
        assert not any("webhook-signature" in headers for _, headers, _ in receiver.got)


@pytest.mark.slow
def test_failures_are_sent_again_with_the_same_id_in_order():
    with sent([500, 503, (429, {"Retry-After": "0"})]) as (receiver, notes):
        assert [headers["webhook-id"] for _, headers, _ in receiver.got[:4]] == [receiver.got[0][1]["webhook-id"]] * 4
        assert [body["data"]["state"] for body in receiver.bodies] == ["new"] * 4 + ["update", "end", "new"]
    assert notes == [f"the webhook at {receiver.address('')}: it answers 500: trying again"]


@pytest.mark.slow
def test_a_refusal_is_final_and_the_next_message_is_sent():
    with sent([400]) as (receiver, notes):
        assert [body["type"] for body in receiver.bodies] == [
            "anomaly.new", "anomaly.update", "anomaly.end", "source.new",
        ]  # fmt: skip
    where = f"the webhook at {receiver.address('')}"
    assert notes == [f"{where}: it answers 400", f"1 messages to {where} were not delivered"]


@pytest.mark.slow
def test_a_redirect_on_the_server_is_followed_and_one_to_another_is_not():
    one = [WatchedFrame(None, events=(event(),))]
    with sent([(307, {"Location": "/there?x=1"})], frames=one) as (receiver, notes):
        assert [path for path, _, _ in receiver.got] == ["/hook", "/there?x=1"]
        assert receiver.got[0][2] == receiver.got[1][2] and notes == []
    with Receiver([]) as other:
        for place in (other.address("/there"), "https://127.0.0.1/x", "//[", "ftp://127.0.0.1/", ""):
            with sent([(308, {"Location": place})], frames=one) as (receiver, notes):
                assert len(receiver.got) == 1
            assert "redirects to another server" in notes[0]
        assert other.got == []
    with sent([(307, {"Location": "/hook"})] * 9, frames=one) as (receiver, notes):
        assert len(receiver.got) == 4 and "redirects more than 3 times" in notes[0]


def test_secrets_are_in_no_text():
    address = "http://127.0.0.1:9/hooks/secret-path?token=secret-token"
    webhook = Webhook(address, key=KEY, pause=0.0)
    notes = write(webhook, [WatchedFrame(None, events=(event(),))])
    assert notes[0].startswith("the webhook at http://127.0.0.1:9: it cannot be reached (")
    assert notes[1].startswith("1 messages to the webhook at")
    texts = [*notes, repr(webhook)]
    for wrong in (
        "ftp://user:secret@host/secret",
        "http://user:secret@host/",
        "http://host:secret/",
        "http://host/secret x",
    ):
        with pytest.raises(OddsightError) as caught:
            Webhook(wrong)
        assert caught.value.__context__ is None
        texts.append(str(caught.value))
    with pytest.raises(OddsightError, match="Base64 does not follow") as caught:
        Webhook(address, key="whsec_secret!")
    texts.append(str(caught.value))
    with pytest.raises(OddsightError, match="has 6 bytes") as caught:
        Webhook(address, key="secret")
    texts.append(str(caught.value))
    assert not [text for text in texts if "secret" in text or KEY in text]


@given(st.text())
def test_any_address_is_taken_or_refused_in_a_sentence(address):
    try:
        Webhook(address)
    except OddsightError as error:
        assert address not in str(error) or len(address) < 12
    else:
        assert address.lower().startswith(("http://", "https://"))


def outbox(send, notes, **options):
    return Outbox(send, complain=notes.append, where="the test", pause=0.0, **({"per_minute": 1e9} | options))


def test_what_cannot_be_sent_is_bounded_and_counted():
    release, started, notes, got = threading.Event(), threading.Event(), [], []

    def send(number):
        started.set()
        release.wait(120)
        got.append(number)

    box = outbox(send, notes)
    box.put(0)
    assert started.wait(120)
    for number in range(1, 300):
        box.put(number)
    release.set()
    box.close(patience=60)
    assert got == list(range(256))
    assert notes == ["44 messages to the test were not delivered"]


def test_attempts_are_bounded():
    tried, notes = [], []

    def send(number):
        tried.append(number)
        raise TryAgain("it is away") if number == 0 else Refusal("it will not")

    box = outbox(send, notes)
    box.put(0)
    box.put(1)
    box.close(patience=60)
    assert tried == [0] * 8 + [1]
    assert notes == ["the test: it is away: trying again", "2 messages to the test were not delivered"]


@pytest.mark.slow
def test_closing_does_not_wait_for_a_server_that_never_answers():
    release, notes = threading.Event(), []
    box = outbox(lambda _: release.wait(120), notes)
    box.put(0)
    box.close(patience=0.0)
    release.set()
    assert notes == ["1 messages to the test were not delivered"]


@pytest.mark.slow
def test_no_more_messages_than_the_rate_allows():
    got, notes = [], []
    box = outbox(got.append, notes, per_minute=2)
    for number in range(5):
        box.put(number)
    box.close(patience=0.2)
    assert got == [0, 1][: len(got)]  # the third is due after half a minute
    assert notes == [f"{5 - len(got)} messages to the test were not delivered"]
