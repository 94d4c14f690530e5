"""What the server is measured against: a Granian RSGI handler that sends fixed bytes.

python benches/bare_handler.py RESPONSE.json WORKERS    # prints the port it listens at
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

sys.path.insert(0, str(Path(__file__).parent.parent))

from pcompiler.serve.http.server import free_port

GIVEN = "PCOMPILER_BARE_RESPONSE"


class Bare:
    """Sends one response, whatever it is asked."""

    def __init__(self) -> None:
        given = json.loads(Path(os.environ[GIVEN]).read_text())
        self._headers = [(name, value) for name, value in given["headers"]]
        self._body = given["body"].encode()

    async def __rsgi__(self, scope: Any, proto: Any) -> None:  # noqa: ANN401
        """Answer."""
        proto.response_bytes(200, self._headers, self._body)


def main() -> None:
    """Serve until SIGTERM."""
    os.environ[GIVEN], workers = sys.argv[1], int(sys.argv[2])
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    port = free_port("127.0.0.1", 0)
    multiprocessing.set_start_method("spawn")  # as the server's workers are
    server = Granian(
        "bare_handler:Bare",
        port=port,
        interface=Interfaces.RSGI,
        workers=workers,
        factory=True,
        http=HTTPModes.http1,
        websockets=False,
        backlog=4096,
        backpressure=4096,
        http1_settings=HTTP1Settings(header_read_timeout=10_000, max_buffer_size=2**16),
        log_level=LogLevels.warning,
        workers_kill_timeout=2,
    )
    server.on_startup(lambda: print(port, flush=True))
    server.serve()


if __name__ == "__main__":
    main()
