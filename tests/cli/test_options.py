"""Options: every argument of Python's functions has one, and those of one way of a command are refused in another."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
import typer

import oddsight
from cli_files import run
from oddsight.__main__ import app
from oddsight.cli import adapting, class_fitting, comparing, exporting, fitting, updating

_WATCHING = "--zones --roi --alarms-per-hour --window --every --rate"
_IMAGES = "--masks --group-by --bands --scale --aupro-limit"

REFUSED = {
    "predict MODEL IMAGES": "--engine --address --workers --resume --dry-run --price --shard-images",
    "predict MODEL IMAGES --out RESULTS": "--json --maps --explain --regions --tile --overlap --per-tile --memory",
    "evaluate MODEL --normal A --anomalous B": f"--unknown {_WATCHING}",
    "evaluate MODEL --labelled A": f"--normal --anomalous {_IMAGES} {_WATCHING}",
    "evaluate MODEL --video A --labels B": f"--normal --anomalous --labelled --unknown {_IMAGES}",
    "fit IMAGES -o NEW": "--every --rate --block --zones --roi --work --accelerator --curves",
    "fit --from-video VIDEO -o NEW": "--group-by",
}
"""What each way refuses."""

TAKEN = {
    "predict": "--out --bands --scale --false-alarm-rate --threshold --fdr --fail-on-anomaly",
    "evaluate": "--video --labels --json --report",
}
"""What every way of these commands takes, or what chooses the way; a new option stands here or above."""

COMMON = {"--image-timeout", "--device", "--quiet", "--help"}


def options(command: str) -> dict[str, bool]:
    """The options of a command, and whether each takes a value."""
    group = typer.main.get_command(app)
    parameters = getattr(group, "commands")[command].params  # noqa: B009 - of Typer's own copy of Click
    named = {one.opts[0]: not one.is_flag for one in parameters if one.opts[0].startswith("--")}
    return {name: value for name, value in named.items() if name not in COMMON}


def refusals() -> Iterator[tuple[str, str]]:
    for way, refused in REFUSED.items():
        yield from ((way, option) for option in refused.split())


@pytest.mark.parametrize("command", TAKEN)
def test_every_option_is_refused_in_some_way_or_taken_in_all(command):
    refused = {option for way, option in refusals() if way.startswith(f"{command} ")}
    assert refused | {*TAKEN[command].split()} == options(command).keys()
    assert not refused & {*TAKEN[command].split()}


@pytest.mark.parametrize(("way", "option"), [*refusals()])
def test_an_option_of_another_way_is_refused(way, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = ["1"] if options(way.split()[0])[option] else []
    outcome = run(*way.split(), option, *value)
    assert outcome.code == 2, outcome.err
    assert option in outcome.err.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


IN_ANOTHER_FORM = {"images", "data", "paths", "groups", "reading", "sizes"}
"""Arguments whose options are called otherwise, or are several."""

WITHOUT = {"cache", "progress", "on_plan", "on_epoch", "confidence of compare"}
"""Arguments that no option sets."""


@pytest.mark.parametrize(
    ("command", "function"),
    [
        (fitting.fit, oddsight.fit),
        (class_fitting.fit_classes, oddsight.fit_classes),
        (updating.update_model, oddsight.update),
        (exporting.export_model, oddsight.export),
        (comparing.compare, oddsight.compare),
        (adapting.adapt, oddsight.adapt),
    ],
)
def test_every_argument_of_a_function_is_an_option_of_its_command(command, function):
    arguments = inspect.signature(function).parameters.keys() - inspect.signature(command).parameters.keys()
    missing = arguments - IN_ANOTHER_FORM - WITHOUT
    assert {name for name in missing if f"{name} of {function.__name__}" not in WITHOUT} == set()
