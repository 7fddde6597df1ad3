"""Credentials of an address are shown nowhere, however carelessly it is written."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddsight.errors import OddsightError
from oddsight.sources import Address, open_frames

SECRET = "s3cret"
SECRETS = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), max_size=8).map(
    lambda text: f"{text}{SECRET}{text}"
)
KINDS = [
    "rtsp://{0}:{0}@camera.local:554/stream1",
    "rtsp://{0}@camera.local/stream1?channel=2",
    "http://camera.local/live?token={0}&channel=2",
    "https://a:{0}@camera.local/live;jsessionid={0}?x={0}#{0}",
    "rtsp://camera.local/user={0}_password={0}_channel=1",
]


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(KINDS), SECRETS)
def test_no_secret_is_shown(kind, secret):
    address = Address(kind.format(secret))
    assert SECRET not in f"{address} {address!r} {address.safe}"
    assert "camera.local" in address.safe or "@" in secret
    assert address.reveal() == kind.format(secret)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(["", "ftp://", "file://", "rtsp:/", "://", "http://", "concat:"]), SECRETS)
def test_no_error_shows_what_is_no_address(scheme, secret):
    with pytest.raises(OddsightError) as error:
        Address(f"{scheme}u:{secret}@ host")
    assert SECRET not in str(error.value)


def test_what_a_place_is_stays_readable():
    assert str(Address("RTSP://bob:pw@10.0.0.7:554/axis-media/media.amp")) == "rtsp://10.0.0.7:554/axis-media/media.amp"
    assert str(Address("http://cam/live?channel=2&token=abc")) == "http://cam/live?..."


def test_an_address_is_not_pickled():
    with pytest.raises(OddsightError, match="rtsp://cam/x is not pickled"):
        pickle.dumps(Address("rtsp://bob:pw@cam/x"))


@pytest.mark.parametrize("text", ["ftp://bob:s3cret@host/clip.mp4", "file:///etc/passwd", "concat://a|b"])
def test_other_schemes_are_refused(text):
    with pytest.raises(OddsightError, match="is no address of a stream: give one of rtsp") as error:
        open_frames(text)
    assert SECRET not in str(error.value)
