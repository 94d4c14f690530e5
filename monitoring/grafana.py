"""The dashboards as Grafana's JSON, by its foundation SDK."""

from __future__ import annotations

from itertools import count

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)

from monitoring.panels import Board, Panel

SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")  # which is chosen on top
HEIGHT, COLUMNS = 8, 24


def as_json(board: Board) -> str:
    """One dashboard, ready to be imported or provisioned."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.name.replace("_", "-"))
        .tags(["pcompiler"])
        .refresh("30s")
        .time("now-1h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus")
        )
    )
    numbers = count(1)
    for title, panels in board.rows.items():
        made = made.with_row(dashboard.Row(title).id(next(numbers)))
        across = 4 if len(panels) % 4 == 0 else 3
        for panel in panels:
            drawn = _panel(panel).span(COLUMNS // across).height(HEIGHT)
            made = made.with_panel(drawn.id(next(numbers)))
    text: str = JSONEncoder(sort_keys=True, indent=2).encode(made.build())
    return text + "\n"


def _panel(panel: Panel) -> timeseries.Panel:
    made = timeseries.Panel().title(panel.title).description(panel.text).unit(panel.unit)
    made = (
        made.datasource(SOURCE).min(0).tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    legend = VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM)
    made = made.legend(legend.display_mode(LegendDisplayMode.LIST))
    for number, query in enumerate(panel.queries):
        made = made.with_target(
            prometheus.Dataquery()
            .expr(query.expression)
            .legend_format(query.legend)
            .ref_id(chr(ord("A") + number))
        )
    return made if panel.limit is None else _limited(made, panel.limit)


def _limited(made: timeseries.Panel, limit: float) -> timeseries.Panel:
    steps = [Threshold(color="transparent"), Threshold(value=limit, color="red")]
    # Spelt as the SDK does.
    lines = GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED)
    thresholds = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
    return made.thresholds(thresholds).thresholds_style(lines)
