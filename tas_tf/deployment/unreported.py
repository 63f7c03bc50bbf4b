"""OpenVINO without its reports, which go over the network to its makers when it is imported.

`openvino` is imported from here and from nowhere else: we use no network that nobody asked for.
"""

from __future__ import annotations

from typing import Any

import openvino_telemetry


class _Silent:
    """What OpenVINO reports to."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def _nothing(self, *_: Any, **__: Any) -> None:
        pass

    start_session = end_session = force_shutdown = _nothing
    send_event = send_error = send_stack_trace = _nothing


openvino_telemetry.Telemetry = _Silent

import openvino  # noqa: E402

__all__ = ["openvino"]
