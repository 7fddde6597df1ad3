"""What the numbers of a study were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from oddsight.fitting.assembly import versions
from oddsight.runtime.parallel import cores


def machine() -> dict[str, str]:
    """Processor, cores, memory, operating system and versions of libraries, by name."""
    recorded = versions()
    libraries = {**recorded["versions"], "oddsight": recorded["oddsight"]}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "processor": next(models, platform.machine() if lines else platform.processor()),
        "cores": str(cores()),
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "versions": ", ".join(f"{name} {version}" for name, version in libraries.items()),
    }
