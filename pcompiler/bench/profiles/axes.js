// The charts with axes: bars, stacked or not, and lines. See charts.js, which comes first.
"use strict";
(() => {
  const { COLOURS, Chart, element, hint, legend, shown, ticks, tip, value } = window.drawing;

  class Axes extends Chart {
    frame(options, names, high, low = 0) {
      const { width, height } = this.canvas(options);
      const colours = options.colors ?? COLOURS;
      const box = { left: 100, top: options.title ? 30 : 12, right: width - 16, bottom: height - 62 };
      const y = (v) => box.bottom - ((v - low) / (high - low || 1)) * (box.bottom - box.top);
      ticks(low, high).forEach((t) => {
        element(this.svg, "line", { x1: box.left, x2: box.right, y1: y(t), y2: y(t), stroke: "#ddd" });
        element(this.svg, "text", { x: box.left - 6, y: y(t) + 4, "text-anchor": "end", fill: "#555" }, shown(t));
      });
      const middle = (box.top + box.bottom) / 2;
      element(this.svg, "text", { x: 14, y: middle, transform: `rotate(-90 14 ${middle})`,
        "text-anchor": "middle", "font-style": "italic" }, options.vAxis?.title ?? "");
      element(this.svg, "text", { x: (box.left + box.right) / 2, y: box.bottom + 34, "text-anchor": "middle",
        "font-style": "italic" }, options.hAxis?.title ?? "");
      legend(this.svg, names, names.map((_, i) => colours[i % colours.length]), box.left, height - 8, width);
      return { box, y, colours };
    }
  }

  // Bars beside each other or stacked; of a combined chart, what is to be lines goes over them.
  class Bars extends Axes {
    paint(table, options) {
      const series = table.series(), stacked = options.isStacked;
      const isLine = (s) => options.series?.[s]?.type === "line", bars = series.filter((_, s) => !isLine(s));
      const of = (row) => series.map((i) => value(row[i]) || 0), sum = (row) => of(row).reduce((a, b) => a + b, 0);
      const ends = table.rows.flatMap((row) => (stacked ? [sum(row)] : of(row)));
      const { box, y, colours } = this.frame(options, series.map((i) => table.label(i)), Math.max(0, ...ends), Math.min(0, ...ends));
      const slot = (box.right - box.left) / Math.max(1, table.rows.length), wide = Math.min(0.8 * slot, 160);
      const middle = (r) => box.left + slot * (r + 0.5), hue = (s) => colours[s % colours.length];
      const label = Math.max(2, Math.floor(slot / 6.5));
      table.rows.forEach((row, r) => {
        let base = 0;
        of(row).forEach((v, s) => {
          if (isLine(s)) return;
          const part = stacked ? wide : wide / bars.length, left = middle(r) - wide / 2 + (stacked ? 0 : part * bars.indexOf(series[s]));
          const bar = element(this.svg, "rect", { x: left, width: part, y: Math.min(y(base), y(base + v)),
            height: Math.abs(y(base) - y(base + v)), fill: hue(s) });
          hint(bar, table.tooltip(row, series[s]));
          bar.addEventListener("click", () => { this.selected = [{ row: r, column: series[s] }]; this.fire("select", {}); });
          if (stacked) base += v;
        });
        const name = shown(row[0]), text = name.length > label ? `${name.slice(0, label - 1)}…` : name;
        if (slot > 30 || r % Math.ceil(40 / slot) === 0) {
          hint(element(this.svg, "text", { x: middle(r), y: box.bottom + 16, "text-anchor": "middle" }, text), name);
        }
      });
      series.forEach((i, s) => isLine(s) && element(this.svg, "polyline", { fill: "none", stroke: hue(s), "stroke-width": 2,
        points: table.rows.map((row, r) => `${middle(r)},${y(value(row[i]) || 0)}`).join(" ") }));
    }
  }

  class LineChart extends Axes {
    paint(table, options) {
      const series = table.series(), xs = table.rows.map((row) => value(row[0]));
      const all = table.rows.flatMap((row) => series.map((i) => value(row[i]) || 0));
      const high = all.reduce((a, b) => Math.max(a, b), 0);
      const low = xs.reduce((a, b) => Math.min(a, b), xs[0] ?? 0), far = xs.reduce((a, b) => Math.max(a, b), low + 1e-9);
      const { box, y, colours } = this.frame(options, series.map((i) => table.label(i)), high);
      const x = (v) => box.left + ((v - low) / (far - low)) * (box.right - box.left);
      ticks(low, far, 8).forEach((t) => element(this.svg, "text", { x: x(t), y: box.bottom + 16,
        "text-anchor": "middle", fill: "#555" }, shown(t)));
      series.forEach((i, s) => element(this.svg, "polyline", { fill: "none", stroke: colours[s % colours.length],
        "stroke-width": 1.5, points: table.rows.map((row) => `${x(value(row[0])).toFixed(1)},${y(value(row[i]) || 0).toFixed(1)}`).join(" ") }));
      const area = element(this.svg, "rect", { x: box.left, y: box.top, width: box.right - box.left,
        height: box.bottom - box.top, fill: "transparent" });
      area.addEventListener("mousemove", (e) => {
        const at = low + ((e.offsetX - box.left) / (box.right - box.left)) * (far - low);
        const row = table.rows[Math.max(0, xs.findIndex((v) => v >= at))];
        if (row) area.hint = series.map((i) => table.tooltip(row, i)).join("<br>");
      });
      area.addEventListener("mousemove", (e) => { tip.innerHTML = area.hint ?? ""; });
      hint(area, "");
      this.mark = () => {
        this.svg.querySelectorAll("circle.mark").forEach((c) => c.remove());
        this.selected.forEach(({ row, column }) => element(this.svg, "circle", { class: "mark", r: 5,
          cx: x(xs[row]), cy: y(value(table.rows[row][column]) || 0), fill: colours[column - 1] }));
      };
      this.layout = { getChartAreaBoundingBox: () => ({ left: box.left, top: box.top, width: box.right - box.left,
        height: box.bottom - box.top }),
      getHAxisValue: (px) => low + ((px - box.left) / (box.right - box.left)) * (far - low) };
    }
    getChartLayoutInterface() { return this.layout; }
  }

  Object.assign(window.google.visualization, {
    LineChart, ColumnChart: Bars, ComboChart: Bars, SteppedAreaChart: Bars,
  });
})();
