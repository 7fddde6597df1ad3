"""The public names of the room. A new one takes one line here."""

from .explanations import Explanations as Explanations
from .heat_maps import HeatMaps as HeatMaps
from .json_lines import JsonLines as JsonLines
from .regions import Regions as Regions
from .table import Table as Table
