"""TensorBoard with the PyTorch profiler plugin, which needs no network here.

The plugin's page loads Google Charts, and its Trace page web components, from the network; offline
it spins for ever. This is the same plugin, from the same package, with files of ours in place of
those: ``charts.js`` and ``axes.js`` draw what the page asks Google Charts for, ``trace.html`` draws
the trace. With a network, plain ``tensorboard --logdir profiles`` shows the originals.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import werkzeug
from tensorboard import default, program
from torch_tb_profiler import plugin as original

GOOGLE_CHARTS = '<script src="https://www.gstatic.com/charts/loader.js"></script>'
OUR_CHARTS = '<script src="charts.js"></script><script src="axes.js"></script>'
_HERE = Path(__file__).parent
_FILES = {  # what the page asks for → ours, and what it is
    "charts.js": ("charts.js", "application/javascript"),
    "axes.js": ("axes.js", "application/javascript"),
    "trace_embedding.html": ("trace.html", "text/html"),
}


class Plugin(original.TorchProfilerPlugin):  # type: ignore[misc]
    """The PyTorch profiler plugin with local stand-ins."""

    def get_plugin_apps(self) -> dict[str, Any]:
        """The routes of the original, some of them ours."""
        mine = {f"/{name}": self.stand_in for name in _FILES}
        mine |= {"/index.html": self.index, "/module": self.ranges}
        served = {path: werkzeug.Request.application(answer) for path, answer in mine.items()}
        return {**super().get_plugin_apps(), **served}

    def index(self, request: werkzeug.Request) -> werkzeug.Response:
        """The original page, with our scripts instead of Google's."""
        del request
        page = Path(original.__file__).parent / "static" / "index.html"
        text = page.read_text(encoding="utf-8").replace(GOOGLE_CHARTS, OUR_CHARTS)
        return werkzeug.Response(text, content_type="text/html")

    def stand_in(self, request: werkzeug.Request) -> werkzeug.Response:
        """One of our files."""
        name, kind = _FILES[Path(request.path).name]
        return werkzeug.Response((_HERE / name).read_bytes(), content_type=kind)

    def ranges(self, request: werkzeug.Request) -> werkzeug.Response:
        """The tree of named ranges, in whole microseconds, where the original has ten decimals."""
        found = self._get_profile_for_request(request).get_module_view()
        if not found:
            raise werkzeug.exceptions.NotFound("no named range in this trace")
        for column in found["columns"]:
            if column["name"].endswith(" Time"):
                column["name"] += " (us)"
        _round(found["data"])
        return self.respond_as_json(found, True)


def _round(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        for name, value in row.items():
            if isinstance(value, float):
                row[name] = round(value)
        _round(row["children"])


def board(folder: Path, host: str, port: int) -> program.TensorBoard:
    """TensorBoard over a folder of profiles, ready to run: ``main()`` blocks, ``launch()`` not."""
    made = program.TensorBoard(plugins=[*default.get_static_plugins(), Plugin])
    made.configure(
        argv=[
            *("tensorboard", "--logdir", str(folder), "--host", host, "--port", str(port)),
            *("--load_fast", "false"),
        ]
    )
    return made
