"""Where images come from: files, arrays, encoded bytes; or any :class:`Source` of your own."""

from oddsight.sources.arrays import Arrays as Arrays
from oddsight.sources.encoded import Encoded as Encoded
from oddsight.sources.files import Files as Files
from oddsight.sources.frame import Frame as Frame
from oddsight.sources.source import Source as Source
