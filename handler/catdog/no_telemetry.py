"""ONNX Runtime and OpenVINO, imported so that they send nothing to their makers."""

import importlib
import os
import sys
import threading
from types import ModuleType

# Seen with onnxruntime 1.32 on Linux: importing it writes a device id and a database of events
# below ~/.cache (or XDG_CACHE_HOME) and `.ses` into TMPDIR, and seconds later it looks for its
# maker's host. With this in the environment before the import it does none of that. Set after
# the import, or as "0", it changes nothing, and `disable_telemetry_events()` comes too late.
ONNXRUNTIME_ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1"}

# Seen with openvino 2026.4: importing it imports its converter of models, and that writes an id
# into ~/intel and sends an event. OpenVINO itself does without the converter, and so do we.
_OPENVINO = "openvino"
_OPENVINO_CONVERTER = "openvino.tools.ovc"
_importing = threading.Lock()


def import_onnxruntime(name: str = "onnxruntime") -> ModuleType:
    """Import ONNX Runtime, or a module of it by its full name, with its telemetry off.

    The only way in which catdog imports it; the processes started from here inherit the setting.

    Raises:
        ImportError: If it is not installed.
    """
    os.environ.update(ONNXRUNTIME_ENVIRONMENT)
    return importlib.import_module(name)


def import_openvino() -> ModuleType:
    """Import OpenVINO without its converter, and so without its telemetry.

    The only way in which catdog imports it. Whoever imports the converter later gets it.

    Raises:
        ImportError: If it is not installed.
    """
    with _importing:
        if not {_OPENVINO, _OPENVINO_CONVERTER}.isdisjoint(sys.modules):
            return importlib.import_module(_OPENVINO)
        # So an import of it fails.
        sys.modules[_OPENVINO_CONVERTER] = None  # type: ignore[assignment]
        try:
            return importlib.import_module(_OPENVINO)
        finally:
            del sys.modules[_OPENVINO_CONVERTER]
