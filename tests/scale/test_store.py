"""Images and results in a store that speaks S3's protocol on this machine, and that fails."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import oddsight
from cli_files import run
from oddsight.errors import OddsightError
from oddsight.runtime.stores import open_store, read_object
from oddsight.scale import predict_batch, summarize
from oddsight.sources import Objects
from tiny_model import tiny_model

pytest.importorskip("obstore", reason="obstore is not installed (the scale extra)")
pytest.importorskip("moto.server", reason="moto is not installed, which is the store on this machine")

from failing_store import FailingStore

pytestmark = [pytest.mark.scale, pytest.mark.slow]

COUNT = 60


def encoded(number):
    draw = np.random.default_rng(number)
    file = io.BytesIO()
    Image.fromarray(draw.integers(0, 4 * number + 10, (48, 48, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def store():
    with FailingStore(rate=0.2, seed=3) as server:
        for number in range(COUNT):
            server.put(f"images/{number % 3}/{number:03}.png", encoded(number))
        yield server


def test_nothing_is_lost_when_the_store_fails(store):
    store.fail()
    summary = predict_batch(tiny_model(), ["s3://bucket/images"], "s3://bucket/out", shard_images=10).summary
    store.mend()
    assert store.injected >= 5, "it is to fail"
    assert (summary.scored, summary.failed, summary.shards) == (COUNT, 0, 6)
    best = summarize("s3://bucket/out", most=COUNT).most_anomalous
    model = tiny_model()
    alone = {f"s3://bucket/images/{n % 3}/{n:03}.png": model.predict(decoded(n)).score for n in range(COUNT)}
    assert {row.path: row.score for row in best} == alone
    again = predict_batch(tiny_model(), ["s3://bucket/images"], "s3://bucket/out", shard_images=10, resume=True)
    assert again.new == 0 and again.summary.scored == COUNT


def decoded(number):
    return np.asarray(Image.open(io.BytesIO(encoded(number))))


def test_an_object_that_is_gone_is_a_row_and_a_bucket_that_is_gone_is_the_end(store, tmp_path):
    (tmp_path / "list.txt").write_text("s3://bucket/images/0/000.png\ns3://bucket/images/none.png\n")
    summary = predict_batch(tiny_model(), [str(tmp_path / "list.txt")], tmp_path / "out").summary
    assert (summary.scored, summary.failed) == (1, 1)
    store.drop_bucket()
    with pytest.raises(OddsightError, match=r"^s3://bucket: the bucket does not exist, or exists no longer"):
        predict_batch(tiny_model(), [str(tmp_path / "list.txt")], tmp_path / "other")
    with pytest.raises(OddsightError, match="the bucket does not exist"):
        predict_batch(tiny_model(), ["s3://bucket/images"], "s3://bucket/out")


def test_a_pattern_and_a_single_object(store):
    assert [frame.name for frame in Objects("s3://bucket/images/*/01?.png")] == sorted(
        f"s3://bucket/images/{n % 3}/{n:03}.png" for n in range(10, 20)
    )
    assert len(list(Objects("s3://bucket/images/1"))) == COUNT // 3
    assert [frame.name for frame in Objects("s3://bucket/images/0/000.png")] == ["s3://bucket/images/0/000.png"]
    with pytest.raises(OddsightError, match="nothing is stored"):
        list(Objects("s3://bucket/nowhere"))


def test_fit_reads_a_store_and_gives_the_bytes_of_files(store, tmp_path):
    for number in range(COUNT):
        (tmp_path / f"{number}.png").write_bytes(encoded(number))
    options = {"method": "knn", "size": 32}
    assert oddsight.fit(Objects("s3://bucket/images"), **options).to_bytes() == (
        oddsight.fit(tmp_path, **options).to_bytes()
    )


def test_a_write_of_something_new_never_replaces(store):
    place = open_store("s3://bucket/some")
    assert place.write("name", b"first", new=True) and not place.write("name", b"second", new=True)
    assert place.read("name") == b"first" and place.size("name") == 5 and place.size("other") is None


def test_the_page_reads_its_images_from_the_store(store, tmp_path):
    predict_batch(tiny_model(), ["s3://bucket/images"], "s3://bucket/out", shard_images=20)
    assert run("summarize", "s3://bucket/out", "--report", tmp_path / "page.html", "--most", 4).code == 0
    assert (tmp_path / "page.html").read_text().count("data:image/") == 4


def test_wrong_credentials_are_said_and_not_shown(store, monkeypatch):
    store.refuse()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "VERY-SECRET")
    for ask in (lambda: read_object("s3://bucket/images/0/000.png"), lambda: list(Objects("s3://bucket/images"))):
        with pytest.raises(OddsightError, match="refuses access; check the credentials") as caught:
            ask()
        assert "VERY-SECRET" not in str(caught.value) and caught.value.__cause__ is None
        assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("endpoint", "said"), [("", "no address"), ("host:9000", "no address"), ("http://h", "HTTP=true")]
)
def test_an_endpoint_that_cannot_be_used_is_said(monkeypatch, endpoint, said):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.delenv("AWS_ALLOW_HTTP", raising=False)
    with pytest.raises(OddsightError, match=f"^AWS_ENDPOINT_URL in the environment .*{said}"):
        open_store(f"s3://a-bucket-of-this-test/{endpoint}")


@pytest.mark.parametrize("uri", ["s3://KEY:PASSWORD@bucket/images", "s3://KEY:PASS/WORD@bucket/images"])
def test_credentials_in_an_address_are_refused_and_not_shown(uri, tmp_path):
    tiny_model().save(tmp_path / "model.onnx")
    for arguments in (["predict", tmp_path / "model.onnx", uri, "--out", tmp_path / "out"], ["summarize", uri]):
        failed = run(*arguments)
        assert failed.code == 1 and "holds credentials" in failed.err and "PASS" not in failed.err + failed.out
