"""Where results go: table, JSON Lines, heat maps, explanations, regions; or any :class:`oddsight.Sink` of your own.

Those of streams: events, frames, key frames, video, terminal, webhook, MQTT, metrics; or any
:class:`oddsight.StreamSink` of your own.

The names are imported when they are first used, as those of the package, so that commands which only print stay fast.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
