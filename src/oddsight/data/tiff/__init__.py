"""TIFF files: what their tags declare, and how their samples become RGB, a few rows at a time.

Every path of Oddsight reads TIFF files here, so that a file is the same image, or the same error, everywhere.
"""

from oddsight.data.tiff.raster import Raster
from oddsight.data.tiff.tags import is_tiff

__all__ = ["Raster", "is_tiff"]
