"""Bodies that nobody reads: the client gets its answer all the same, and cannot go on sending for ever."""

import http.client
import socket
import time

import httpx
import pytest

from oddsight.serve.access import Access, read_tokens
from oddsight.serve.limits import MEBIBYTE, Limits
from served import png, serving

PREDICT = "/api/models/parts:predict"
BODY = bytes(6 * MEBIBYTE)
TIMES = 20


@pytest.fixture(scope="module")
def small(models):
    """A client of a service that takes little."""
    with serving(models, limits=Limits(body_bytes=MEBIBYTE)) as client:
        yield client


@pytest.fixture(scope="module")
def closed(models, tmp_path_factory):
    """A client without a token."""
    path = tmp_path_factory.mktemp("closed") / "tokens"
    path.write_text("t" * 24)
    with serving(models, access=Access(tokens=read_tokens(path))) as client:
        yield client


def place(client):
    return client.base_url.host, client.base_url.port


def connect(client):
    host, port = place(client)
    return http.client.HTTPConnection(host, port, timeout=120)


def ask_with_http_client(client, body, headers):
    connection = connect(client)
    try:
        connection.request("POST", PREDICT, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def ask_with_httpx(client, body, headers):
    answer = httpx.post(client.base_url.join(PREDICT), content=body, headers=headers, timeout=120)
    return answer.status_code, answer.content


@pytest.mark.slow
@pytest.mark.parametrize("headers", [{}, {"Connection": "close"}])
@pytest.mark.parametrize("ask", [ask_with_http_client, ask_with_httpx])
@pytest.mark.parametrize(("name", "status"), [("small", 413), ("closed", 401)])
def test_refusals_are_read_by_clients_that_send_all_first(request, name, status, ask, headers):
    client = request.getfixturevalue(name)
    for _ in range(TIMES):
        answer = ask(client, BODY, headers)
        assert answer[0] == status
        assert b'"error"' in answer[1]


@pytest.mark.slow
@pytest.mark.parametrize("ask", [ask_with_http_client, ask_with_httpx])
def test_a_refusal_of_a_body_without_a_length_is_read(small, ask):
    for _ in range(TIMES):
        assert ask(small, iter([BODY[:MEBIBYTE]] * 3), {})[0] == 411


def test_a_connection_stays_open_behind_a_body_that_is_thrown_away(small):
    connection = connect(small)
    statuses = []
    for body in (BODY, png(9), BODY, png(9)):
        connection.request("POST", PREDICT, body)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
        assert connection.sock is not None, "closed by the service"
    connection.close()
    assert statuses == [413, 200, 413, 200]


@pytest.mark.parametrize(("host", "status"), [("localhost", b"100 Continue"), ("evil.example", b"403 Forbidden")])
def test_clients_that_ask_first_send_no_body_behind_a_refusal(small, host, status):
    body = png(9)
    with socket.create_connection(place(small), timeout=120) as connection:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode())
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert (b"connection: close" in answer) == (host != "localhost")
        if host == "localhost":
            connection.sendall(body)
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" not in answer


HEADS = [f"Content-Length: {2**30}", f"Content-Length: {8 * MEBIBYTE}", "Transfer-Encoding: chunked"]


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_clients_that_send_little_for_ever_are_cut(small, monkeypatch, head):
    monkeypatch.setattr("oddsight.serve.bodies._LONGEST", 0.3)
    monkeypatch.setattr("oddsight.serve.server._HEAD_SECONDS", 0.3)
    with socket.create_connection(place(small), timeout=120) as connection:
        connection.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                connection.sendall(b"1\r\nx\r\n")
                time.sleep(0.02)


def test_clients_that_send_much_are_cut(small):
    with socket.create_connection(place(small), timeout=120) as connection:
        connection.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2**30}\r\n\r\n".encode())
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(2**30 // len(BODY)):
                connection.sendall(BODY)
