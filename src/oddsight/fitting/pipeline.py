"""The one way from images to a model: read, split, features, learn, verify, calibrate, assemble."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from oddsight.data.decoding import memory_for_images
from oddsight.fitting.assembly import Components, assemble
from oddsight.fitting.plan import FitPlan
from oddsight.model.model import Model

Planned = TypeVar("Planned", bound=FitPlan)


class Learner(Protocol[Planned]):
    """What a model learns: what is normal, or classes."""

    def plan(self) -> Planned:
        """Read the images and divide them."""

    def learn(self, plan: Planned) -> Components:
        """Learn from the features of some, and score others."""


def run(learner: Learner[Planned], on_plan: Callable[[Planned], None]) -> Model:
    """Make a model; ``on_plan`` is called once, before the work starts."""
    plan = learner.plan()
    on_plan(plan)
    with memory_for_images(plan.memory.images, final=True):
        return assemble(learner.learn(plan), plan)
