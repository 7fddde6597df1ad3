"""Names, signatures, help, columns, keys and scores that users hold on to stay as they are.

Where a change is meant, ``snapshots.py`` writes them again; the difference of its files is what changed for users.
"""

from __future__ import annotations

import difflib
import json
import pickle

import pytest

import oddsight
import snapshots

COMMAND = "python tests/snapshots.py"
CLOSE, CLOSE_IF_TRAINED = 1e-3, 0.05
"""Relative difference of scores between processors, which round differently; it grows with every step of a training."""

TRAINED = {"deep-svdd", "feature-autoencoder", "patch-autoencoder"}


def assert_unchanged(name, text):
    kept = (snapshots.SNAPSHOTS / name).read_text(encoding="utf-8")
    lines = difflib.unified_diff(kept.splitlines(), text.splitlines(), "before", "now", lineterm="", n=1)
    assert kept == text, f"if this is meant, run '{COMMAND}':\n" + "\n".join(lines)


def assert_close(name, text):
    kept, now = (json.loads(some) for some in ((snapshots.SNAPSHOTS / name).read_text(encoding="utf-8"), text))
    assert kept.keys() == now.keys()
    for model, values in kept.items():
        for kind, numbers in values.items():
            close = CLOSE_IF_TRAINED if model in TRAINED else CLOSE
            assert now[model][kind] == pytest.approx(numbers, rel=close), f"{kind} of {model}: was a change meant?"


def test_the_package_travels_with_functions_that_are_sent_to_other_processes():
    assert pickle.loads(pickle.dumps(oddsight)) is oddsight


def test_public_names_and_signatures():
    assert_unchanged("names.txt", snapshots.public_names())


def test_help_of_every_command():
    assert_unchanged("help.txt", snapshots.helps())


@pytest.mark.slow
def test_columns_and_keys_that_commands_write(tmp_path):
    assert_unchanged("output_keys.json", snapshots.output_keys(tmp_path))


@pytest.mark.slow
def test_scores_of_every_method(tmp_path):
    assert_close("method_scores.json", snapshots.method_scores(tmp_path))


@pytest.mark.slow
def test_every_score_of_models_that_know_classes(tmp_path):
    assert_close("class_scores.json", snapshots.class_scores(tmp_path))
