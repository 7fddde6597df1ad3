"""What a study of known classes trains, as ``recipes.toml`` lists it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

PROBE = "probe"
ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Recipe:
    """One way to a classifier."""

    name: str  # What users call it
    title: str  # For people
    description: str  # What it is, in a sentence or two
    network: str  # `probe`, `ensemble`, or as in oddsight.training.classifier_settings.ClassifierSettings
    changes: Mapping[str, Any] = field(default_factory=dict)  # To the network's settings
    start: str | None = None  # The recipe whose trained network this one starts from
    members: tuple[str, ...] = ()  # Recipes whose networks it averages or joins; it trains nothing
    sizes: tuple[tuple[int, ...], ...] = ()  # In pixels, at which each member of an ensemble sees an image

    @property
    def needs(self) -> tuple[str, ...]:
        """The recipes that have to be trained before."""
        return (*((self.start,) if self.start is not None else ()), *self.members)

    @property
    def trains(self) -> bool:
        """Whether a network is trained."""
        return self.network not in {PROBE, ENSEMBLE} and not self.members


def _read() -> dict[str, Recipe]:
    text = (files("oddsight.studies.cifar10") / "recipes.toml").read_text("utf-8")
    recipes = tomllib.loads(text)
    for content in recipes.values():
        changes = content.get("changes", {})
        content["changes"] = {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
        content["members"] = tuple(content.get("members", ()))
        content["sizes"] = tuple(tuple(own) for own in content.get("sizes", ()))
    return {name: Recipe(name, **content) for name, content in recipes.items()}


RECIPES = _read()
