"""Oddsight finds the images that do not belong.

>>> import oddsight
>>> model = oddsight.fit("parts/good", false_alarm_rate=0.05)
>>> model.save("parts.onnx")
>>> oddsight.load("parts.onnx").predict("new/0001.png").anomalous
True

The public names are listed in ``__init__.pyi``, the one table of them, and imported when they are first used, so that
``import oddsight`` stays fast.
"""

import copyreg
import importlib
import sys

import lazy_loader

from oddsight.runtime.moved import keep_old_names

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
keep_old_names()

# What sends functions to other processes (Spark, Ray, Dask) knows modules by their type, which lazy_loader replaces.
copyreg.pickle(type(sys.modules[__name__]), lambda module: (importlib.import_module, (module.__name__,)))
