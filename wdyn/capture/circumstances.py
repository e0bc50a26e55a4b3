"""Where, when and with what does an attempt run?"""

from __future__ import annotations

import os
import platform
import socket
import time

import torch

from wdyn._version import __version__


def circumstances() -> dict[str, object]:
    """Give what a run keeps of an attempt: ``started``, ``host``, ``pid`` and ``versions``."""
    versions = {"wdyn": __version__, "torch": torch.__version__, "python": platform.python_version()}
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return {"started": started, "host": socket.gethostname(), "pid": os.getpid(), "versions": versions}
