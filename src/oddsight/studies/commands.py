"""The commands of the studies, which register themselves: each study has one."""

from oddsight.studies.cifar10 import command as cifar10
from oddsight.studies.clouds import command as clouds

__all__ = ["cifar10", "clouds"]
