"""Where images come from: files, arrays, encoded bytes, video, streams; or any :class:`Source` of your own."""

from oddsight.sources.addresses import Address as Address
from oddsight.sources.arrays import Arrays as Arrays
from oddsight.sources.blocks import Blocks as Blocks
from oddsight.sources.encoded import Encoded as Encoded
from oddsight.sources.files import Files as Files
from oddsight.sources.frame import Frame as Frame
from oddsight.sources.live import LiveStream as LiveStream
from oddsight.sources.objects import Objects as Objects
from oddsight.sources.opening import open_frames as open_frames
from oddsight.sources.source import Source as Source
from oddsight.sources.video import FrameFolder as FrameFolder
from oddsight.sources.video import VideoFile as VideoFile
