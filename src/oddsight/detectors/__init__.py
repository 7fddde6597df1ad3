"""Detectors of unusual images: one file each, registered by :func:`detector`.

Some learn from normal images, some from images of known classes and the classifier that knows them, some from either.
Where a paper defines a confidence, the graph gives its negative: a higher score is always more anomalous.
"""

from __future__ import annotations

import importlib
import pkgutil

from oddsight.detectors.detector import DETECTORS as DETECTORS
from oddsight.detectors.detector import Detector as Detector
from oddsight.detectors.detector import Kind as Kind
from oddsight.detectors.detector import Reading as Reading
from oddsight.detectors.detector import detector as detector
from oddsight.detectors.features import FeatureStream as FeatureStream
from oddsight.detectors.features import Rows as Rows
from oddsight.detectors.registry import DEFAULTS as DEFAULTS
from oddsight.detectors.registry import by_name as by_name
from oddsight.detectors.registry import create as create
from oddsight.detectors.registry import names as names
from oddsight.detectors.registry import quick as quick

METHODS = DETECTORS["normal"]
"""What learns from normal images, by name."""

# Their names while what learns from classes was a concept of its own; see also scores.py.
Method = Detector
method = detector

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
