"""Requests that are not quite HTTP, or are meant to be read in two ways."""

import socket

import pytest

from served import serving

STATUS = "GET /api/status HTTP/1.1\r\n"
PREDICT = "POST /api/models/parts:predict HTTP/1.1\r\nHost: localhost\r\n"


def connect(client):
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=120)


def send(client, text):
    """The status of the answer."""
    with connect(client) as connection:
        connection.sendall(text.encode("latin-1"))
        return int(connection.recv(65536).split(b" ", 2)[1])


@pytest.mark.parametrize(
    "text",
    [
        STATUS + "\r\n",
        STATUS + "Host: localhost\r\nHost: evil.example\r\n\r\n",
        STATUS + "Host: evil.example\r\nHost: localhost\r\n\r\n",
        STATUS + "Host : localhost\r\n\r\n",
        STATUS + "Host: localhost\r\nX: a\r\n b\r\n: c\r\n\r\n",
        STATUS + "Host: localhost\r\nX: a\0b\r\n\r\n",
        STATUS.replace("1.1", "9.9") + "Host: localhost\r\n\r\n",
        "G@T /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /\xe9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        PREDICT + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        PREDICT + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        PREDICT + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        *(
            PREDICT + f"Content-Length: {length}\r\n\r\nabc"
            for length in ("x", "-1", "+3", "0x3", "3, 3", "", "9" * 30)
        ),
    ],
)
def test_bad_requests_are_refused(client, text):
    assert send(client, text) in (400, 403, 404, 411)
    assert send(client, STATUS + "Host: localhost\r\n\r\n") == 200


def test_an_upgrade_is_passed_over(client):
    upgrade = "Host: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"
    predict = PREDICT.replace("Host: localhost\r\n", upgrade) + "Content-Length: 3\r\n\r\nabc"
    assert send(client, STATUS + upgrade + "\r\n") == 200
    assert send(client, predict) == 200  # with an error for the image
    with connect(client) as connection:
        for _ in range(2):
            connection.sendall((STATUS + upgrade + "\r\n").encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
@pytest.mark.parametrize("begun", ["", STATUS + "Host: localhost\r\n\r\n", "GET /api/watch/gate/events HTTP/1.1\r\n"])
def test_a_head_without_end_is_cut(models, tmp_path, begun):
    (tmp_path / "watch" / "gate").mkdir(parents=True)
    if "watch" in begun:  # which is not answered to the end
        begun += "Host: localhost\r\n\r\n"
    with serving(models, tmp_path) as client, connect(client) as connection:
        connection.sendall((begun + STATUS + "Host: localhost\r\nX: ").encode())
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(10_000):
                connection.sendall(b"x" * 10_000)
