"""ONNX Runtime, imported so that it sends nothing to its maker."""

import importlib
import os
from types import ModuleType

# Seen with onnxruntime 1.32 on Linux: importing it writes a device id and a database of events
# below ~/.cache (or XDG_CACHE_HOME) and `.ses` into TMPDIR, and seconds later it looks for its
# maker's host. With this in the environment before the import it does none of that. Set after
# the import, or as "0", it changes nothing, and `disable_telemetry_events()` comes too late.
ONNXRUNTIME_ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1"}


def import_onnxruntime(name: str = "onnxruntime") -> ModuleType:
    """Import ONNX Runtime, or a module of it by its full name, with its telemetry off.

    The only way in which catdog imports it; the processes started from here inherit the setting.

    Raises:
        ImportError: If it is not installed.
    """
    os.environ.update(ONNXRUNTIME_ENVIRONMENT)
    return importlib.import_module(name)
