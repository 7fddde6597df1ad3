"""The public names of the room. A new one takes one line here."""

from .explanations import Explanations as Explanations
from .heat_maps import HeatMaps as HeatMaps
from .json_lines import JsonLines as JsonLines
from .regions import Regions as Regions
from .streams.annotated_video import AnnotatedVideo as AnnotatedVideo
from .streams.key_frames import KeyFrames as KeyFrames
from .streams.lines import EventLines as EventLines
from .streams.lines import FrameLines as FrameLines
from .streams.live_view import EventTable as EventTable
from .streams.live_view import LiveView as LiveView
from .streams.metrics import Metrics as Metrics
from .streams.mqtt import Mqtt as Mqtt
from .streams.webhook import Webhook as Webhook
from .table import Table as Table
