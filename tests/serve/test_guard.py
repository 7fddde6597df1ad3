"""What is refused before anything is done: names, origins, tokens, sizes, and paths of all kinds."""

import itertools
import socket
from contextlib import suppress

import pytest

from oddsight.errors import OddsightError
from oddsight.serve.access import Access, allowed_names, needed_scope, read_tokens
from oddsight.serve.limits import Limits
from served import png, serving

READ, SCORE, MANAGE = (letter * 24 for letter in "rsm")
PREDICT = "/api/models/parts:predict"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "10.1.2.3", "", "[::2]"])
def test_other_names_are_refused(client, host):
    answer = client.get("/api/status", headers={"Host": host})
    assert answer.status_code in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:9", "127.9.9.9", "[::1]:8000"])
def test_names_of_this_machine_are_taken(client, host):
    assert client.get("/api/status", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost.evil.example", "file://"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_of_other_origins_are_refused(client, origin, method):
    answer = client.request(method, "/api/history", headers={"Origin": origin})
    assert answer.status_code == 403


@pytest.mark.slow
def test_pages_of_this_service_are_not(client):
    place = f"{client.base_url.host}:{client.base_url.port}"
    assert client.get("/api/status", headers={"Origin": f"http://{place}"}).status_code == 200
    assert client.get("/api/status", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/docs", headers=headers).status_code == 200
    assert client.get("/api/feedback/questions?model=parts", headers=headers).status_code == 403
    assert client.get("/api/status", headers={"Sec-Fetch-Site": "same-site"}).status_code == 403


@pytest.fixture(scope="module")
def guarded(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "tokens").write_text(f"# who looks\n{READ} read\n{SCORE} score\n\n{MANAGE}\n")
    access = Access(names=allowed_names(["Parts.Example.org"]), tokens=read_tokens(folder / "tokens"))
    with serving(models, folder / "workspace", access=access) as client:
        yield client


@pytest.mark.parametrize(
    ("token", "status"),
    [(None, (401, 401, 401)), (READ, (200, 403, 403)), (SCORE, (200, 200, 403)), (MANAGE, (200, 200, 200))],
)
def test_tokens_allow_what_their_scope_says(guarded, token, status):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    asked = [
        guarded.get("/api/models", headers=headers),
        guarded.post(PREDICT, content=png(9), headers=headers),
        guarded.patch("/api/models/parts/decision", json={"threshold": 100}, headers=headers),
    ]
    assert tuple(answer.status_code for answer in asked) == status


def test_wrong_tokens_are_refused_and_not_repeated(guarded):
    for header in (f"Bearer {READ[:-1]}", f"Basic {READ}", READ, "Bearer", "Bearer \xe9"):
        answer = guarded.get("/api/status", headers={"Authorization": header.encode("latin-1")})
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert READ[:-1] not in answer.text


@pytest.mark.slow
def test_probes_and_the_page_need_no_token(guarded):
    for path in ("/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"):
        answer, head = guarded.get(path), guarded.head(path)
        assert answer.status_code == head.status_code == 200
        assert head.headers["Content-Length"] == str(len(answer.content))
        assert head.content == b""
    assert guarded.get("/metrics").status_code == 401
    assert guarded.get("/v2/health/live", headers={"Host": "parts.example.org"}).status_code == 200


def test_every_route_needs_the_scope_that_is_meant(client):
    found = {}
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            found[f"{method.upper()} {path}"] = needed_scope(method.upper(), path)
    free = {name for name, scope in found.items() if scope is None}
    score = {name for name, scope in found.items() if scope == "score"}
    assert free == {"GET /v2/health/live", "GET /v2/health/ready"}
    assert score == {
        "POST /api/models/{m}:predict",
        "POST /api/compare",
        "POST /api/feedback",
        "DELETE /api/feedback/{id}",
        "POST /v2/models/{m}/infer",
        "POST /v2/models/{m}/versions/{v}/infer",
    }
    for name, scope in found.items():
        if not name.startswith("GET") and name not in score:
            assert scope == "manage", name


@pytest.mark.parametrize("path", ["/", "/docs", "/api/status", "/nowhere", "/api/images/x"])
def test_every_answer_has_strict_headers(client, path):
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy or "default-src 'none'" in policy
    assert "script-src 'unsafe-inline'" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "server" not in headers


def traversals():
    ups = (
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "..\\",
        "..%5c",
        "....//",
        "%252e%252e%252f",
        "..%00/",
        "%c0%ae%c0%ae/",
    )
    ends = ("etc/passwd", "state.sqlite", "models/parts.onnx", "proc/self/environ")
    yield from (up * count + end for up in ups for end in ends for count in (1, 3, 7))
    yield from (
        "/etc/passwd",
        "//etc/passwd",
        "file:///etc/passwd",
        "C:\\Windows\\win.ini",
        "\\\\host\\share",
        "%00",
        ".",
    )


PLACES = (
    "/page/{}", "/api/images/{}", "/api/models/{}", "/api/models/{}/file", "/api/models/parts/normals/{}",
    "/api/jobs/{}", "/api/jobs/{}/report", "/api/watch/{}/events", "/api/watch/{}/zones", "/api/watch/gate/frames/{}",
    "/v2/models/{}", "/v2/models/parts/versions/{}",
)  # fmt: skip


def raw_get(client, path):
    """The answer to a path that is sent as it is, which httpx would tidy up."""
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


@pytest.mark.slow
def test_no_path_leads_out(client):
    """Every traversal string at some place, more than 200 in all."""
    tried = 0
    for string, place in zip(traversals(), itertools.cycle(PLACES), strict=False):
        for where in (place, PLACES[tried % 5]):
            answer = raw_get(client, where.format(string.replace(" ", "%20")))
            assert answer.split(b" ", 2)[1] in (b"400", b"403", b"404", b"405", b"422"), (where, string)
            assert b"root:" not in answer
            assert b"SQLite" not in answer
            tried += 1
    assert tried >= 200


def test_names_of_uploads_are_ours(client, tmp_path_factory):
    upload = client.post("/api/uploads").json()["upload"]
    names = ["../../escape.png", "/etc/passwd", "..\\x.png", "a\0b.png", "x" * 2000, "\u202egnp.exe"]
    files = [("images", (name, png(number))) for number, name in enumerate(names)]
    answer = client.post(f"/api/uploads/{upload}/images", files=files)
    assert answer.json().get("count") == len(names), answer.text
    assert client.post("/api/uploads/../images", files=files).status_code in (404, 405)
    assert client.post("/api/uploads/nowhere/images", files=files).status_code == 404


@pytest.mark.slow
def test_a_large_body_is_refused_before_it_is_read(client):
    for length in (2**30, 10**30):
        with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
            connection.sendall(head.encode())
            answer = b""
            while part := connection.recv(65536):  # not a byte of the body was sent
                answer += part
        assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))


def test_a_body_needs_a_length(client):
    answer = client.post(PREDICT, content=iter([png(1)]))
    assert answer.status_code == 411


@pytest.mark.slow
def test_bodies_that_come_too_slowly_are_given_up(models):
    with (
        serving(models, limits=Limits(seconds=0.2)) as client,
        socket.create_connection((client.base_url.host, client.base_url.port)) as connection,
    ):
        connection.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nabc".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")


@pytest.mark.slow
def test_heads_that_do_not_come_are_given_up(models, monkeypatch):
    monkeypatch.setattr("oddsight.serve.server._HEAD_SECONDS", 0.2)
    with serving(models) as client:
        for sent in (b"", b"GET /api/status HTTP/1.1\r\nHost: loc"):
            with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
                connection.sendall(sent)
                with suppress(ConnectionResetError):
                    assert connection.recv(100) == b""


def test_other_machines_need_tokens():
    with pytest.raises(OddsightError, match="--token-file"):
        Access("0.0.0.0")
    assert Access("0.0.0.0", tokens={b"x": frozenset()}).knows_host("192.168.0.9:8000")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no token"),
        (b"short read", "20 to 500"),
        (b"x" * 30 + b" admin", "read, score, manage"),
        (b"x" * 30 + b" read more", "read, score, manage"),
        (b"\xff\xfe", "not text"),
        (b"x" * 70_000, "not a file of tokens"),
    ],
)
def test_bad_files_of_tokens(tmp_path, content, words):
    (tmp_path / "tokens").write_bytes(content)
    with pytest.raises(OddsightError, match=words) as error:
        read_tokens(tmp_path / "tokens")
    assert "x" * 30 not in str(error.value)
    with pytest.raises(OddsightError, match="not a file"):
        read_tokens(tmp_path)
