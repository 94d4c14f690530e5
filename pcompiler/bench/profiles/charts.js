// What TensorBoard's PyTorch profiler page asks Google Charts for, drawn as plain SVG: no network.
"use strict";
(() => {
  const COLOURS = ["#3366cc", "#dc3912", "#ff9900", "#109618", "#990099", "#0099c6", "#dd4477",
    "#66aa00", "#b82e2e", "#316395", "#994499", "#22aa99", "#aaaa11", "#6633cc", "#e67300"];
  const SVG = "http://www.w3.org/2000/svg";
  const value = (cell) => (cell !== null && typeof cell === "object" && "v" in cell ? cell.v : cell);
  const shown = (cell) => {
    if (cell !== null && typeof cell === "object" && "f" in cell) return cell.f;
    const v = value(cell);
    return typeof v === "number" ? v.toLocaleString("en-US", { maximumFractionDigits: 3 }) : String(v ?? "");
  };

  class DataTable {
    constructor() { this.columns = []; this.rows = []; this.properties = {}; }
    addColumn(column) { this.columns.push(column); }
    addRow(row) { this.rows.push(row); }
    addRows(rows) { rows.forEach((row) => this.addRow(row)); }
    setProperty(row, column, name, v) { (this.properties[`${row},${column}`] ??= {})[name] = v; }
    label(i) { const c = this.columns[i]; return c.label ?? c.id ?? ""; }
    // Numbers of the columns that hold series, the first being the domain.
    series() { return this.columns.map((_, i) => i).slice(1).filter((i) => !this.columns[i].role); }
    // The tooltip that a series' column brings along, as HTML; or else its label and value.
    tooltip(row, i) {
      const next = this.columns[i + 1];
      if (next && next.role === "tooltip" && row[i + 1]) return String(value(row[i + 1]));
      return `${shown(row[0])}<br>${this.label(i)}: <b>${shown(row[i])}</b>`;
    }
  }

  const arrayToDataTable = ([head, ...rows]) => {
    const table = new DataTable();
    head.forEach((label, i) => table.addColumn({
      type: i ? "number" : "string", ...(typeof label === "object" ? label : { label }) }));
    table.addRows(rows);
    return table;
  };

  const element = (parent, name, attributes = {}, text) => {
    const made = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(([k, v]) => made.setAttribute(k, v));
    if (text !== undefined) made.textContent = text;
    parent.appendChild(made);
    return made;
  };

  const tip = document.createElement("div");
  tip.style.cssText = "position:fixed;display:none;pointer-events:none;background:#fff;z-index:9999;" +
    "border:1px solid #bbb;padding:6px 8px;font:12px Roboto,Arial,sans-serif;max-width:420px;" +
    "box-shadow:0 1px 4px #0003";
  const hint = (node, html) => {
    node.addEventListener("mousemove", (e) => {
      if (!tip.isConnected) document.body.appendChild(tip);
      tip.innerHTML = html;
      tip.style.display = "block";
      tip.style.left = `${Math.min(e.clientX + 12, innerWidth - tip.offsetWidth - 8)}px`;
      tip.style.top = `${Math.min(e.clientY + 12, innerHeight - tip.offsetHeight - 8)}px`;
    });
    node.addEventListener("mouseleave", () => { tip.style.display = "none"; });
  };

  class Chart {
    constructor(container) { this.container = container; this.listeners = {}; this.selected = []; }
    fire(name, event) { (this.listeners[name] ?? []).forEach((f) => f(event)); }
    clearChart() { this.container?.replaceChildren(); tip.style.display = "none"; }
    getSelection() { return this.selected; }
    setSelection(selected) { this.selected = selected ?? []; this.mark?.(); }
    canvas(options) {
      this.clearChart();
      const width = Math.max(200, this.container.clientWidth || 600);
      const height = options.height ?? 300;
      this.svg = document.createElementNS(SVG, "svg");
      Object.entries({ width, height, "font-family": "Roboto, Arial, sans-serif", "font-size": 12 })
        .forEach(([k, v]) => this.svg.setAttribute(k, v));
      this.container.appendChild(this.svg);
      if (options.title) element(this.svg, "text", { x: 12, y: 18, "font-weight": "bold" }, options.title);
      return { width, height };
    }
    draw(table, options = {}) {
      if (!this.container) return;  // another page was chosen while the data came
      this.table = table;
      this.paint(table, options);
      this.fire("ready");
    }
  }

  const legend = (svg, names, colours, x, y, width) => {
    let at = x;
    names.forEach((name, i) => {
      const room = 24 + 7 * name.length;
      if (at + room > width && at > x) { at = x; y += 16; }
      element(svg, "rect", { x: at, y: y - 10, width: 12, height: 12, fill: colours[i] });
      element(svg, "text", { x: at + 16, y }, name);
      at += room;
    });
  };

  // Nice numbers from low to high for an axis.
  const ticks = (low, high, count = 5) => {
    const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let t = Math.ceil(low / step) * step; t <= high + step / 1e6; t += step) found.push(t);
    return found;
  };

  class PieChart extends Chart {
    paint(table, options) {
      const { width, height } = this.canvas(options);
      const colours = options.colors ?? COLOURS, top = options.title ? 26 : 6;
      // A row keeps its colour where others are empty, as in the page's other charts.
      const hue = (row) => colours[table.rows.indexOf(row) % colours.length];
      const rows = table.rows.filter((row) => value(row[1]) > 0);
      const total = rows.reduce((sum, row) => sum + value(row[1]), 0);
      const r = Math.max(10, Math.min((height - top - 8) / 2, width * 0.24));
      const cx = options.legend === "none" ? width / 2 : r + 12, cy = top + r;
      const hole = r * (options.pieHole ?? 0);
      let angle = -Math.PI / 2;
      rows.forEach((row) => {
        const share = value(row[1]) / total, sweep = Math.min(share * 2 * Math.PI, 2 * Math.PI - 1e-4);
        const at = (a, d) => `${cx + d * Math.cos(a)},${cy + d * Math.sin(a)}`;
        const large = sweep > Math.PI ? 1 : 0, end = angle + sweep;
        const d = `M${at(angle, r)}A${r},${r} 0 ${large} 1 ${at(end, r)}L${at(end, hole)}` +
          `A${hole},${hole} 0 ${large} 0 ${at(angle, hole)}Z`;
        const slice = element(this.svg, "path", { d, fill: hue(row), stroke: "#fff" });
        hint(slice, table.columns[2]?.role === "tooltip" ? table.tooltip(row, 1) :
          `${shown(row[0])}<br><b>${shown(row[1])}</b> (${(100 * share).toFixed(1)} %)`);
        slice.addEventListener("mouseenter", () => this.fire("onmouseover", { row: table.rows.indexOf(row) }));
        slice.addEventListener("mouseleave", () => this.fire("onmouseout", {}));
        if (share > 0.05) {
          const a = angle + sweep / 2, d2 = (r + hole) / 2;
          element(this.svg, "text", { x: cx + d2 * Math.cos(a), y: cy + d2 * Math.sin(a) + 4, fill: "#fff",
            "text-anchor": "middle", "pointer-events": "none" }, `${(100 * share).toFixed(1)}%`);
        }
        angle = end;
      });
      if (options.legend === "none") return;
      const x = 2 * r + 32, lines = Math.floor((height - top) / 17);
      rows.slice(0, lines).forEach((row, i) => {
        const last = i === lines - 1 && rows.length > lines;
        const room = Math.max(8, Math.floor((width - x - 20) / 6.6)), name = shown(row[0]);
        const text = last ? `… ${rows.length - i} more` : name.length > room ? `${name.slice(0, room - 1)}…` : name;
        if (!last) element(this.svg, "circle", { cx: x + 5, cy: top + 10 + 17 * i, r: 5, fill: hue(row) });
        hint(element(this.svg, "text", { x: x + 16, y: top + 14 + 17 * i }, text), name);
      });
    }
  }

  class Table extends Chart {
    paint(table, options) {
      this.options = options;
      this.order = table.rows.map((_, i) => i);
      this.page = 0;
      if (options.sortColumn !== undefined) this.sort(options.sortColumn, options.sortAscending !== false);
      this.render();
    }
    sort(column, ascending) {
      this.by = { column, ascending };
      const of = (i) => value(this.table.rows[i][column]) ?? "";
      this.order.sort((a, b) => (of(a) < of(b) ? -1 : of(a) > of(b) ? 1 : a - b) * (ascending ? 1 : -1));
    }
    render() {
      const { table, options } = this, size = options.page === "enable" ? options.pageSize ?? 10 : table.rows.length;
      const made = document.createElement("table");
      made.style.cssText = "width:100%;border-collapse:collapse;font:13px Roboto,Arial,sans-serif";
      const cell = (row, name, css) => {
        const c = document.createElement(name);
        c.style.cssText = `border:1px solid #e0e0e0;padding:4px 8px;${css}`;
        row.appendChild(c);
        return c;
      };
      const head = made.insertRow();
      table.columns.forEach((column, i) => {
        if (column.role) return;
        const mark = this.by?.column === i ? (this.by.ascending ? " ▲" : " ▼") : "";
        const c = cell(head, "th", "cursor:pointer;background:#f5f5f5;text-align:left");
        c.textContent = table.label(i) + mark;
        c.addEventListener("click", () => { this.sort(i, this.by?.column === i && !this.by.ascending); this.render(); });
      });
      this.order.slice(this.page * size, (this.page + 1) * size).forEach((r) => {
        const line = made.insertRow();
        table.columns.forEach((column, i) => {
          if (column.role) return;
          const given = table.properties[`${r},${i}`] ?? {}, number = column.type === "number";
          const c = cell(line, "td", `${number ? "text-align:right;" : "overflow-wrap:anywhere;"}${given.style ?? ""}`);
          if (given.className) c.className = given.className;
          options.allowHtml ? (c.innerHTML = shown(table.rows[r][i])) : (c.textContent = shown(table.rows[r][i]));
        });
      });
      this.clearChart();
      this.container.appendChild(made);
      const pages = Math.ceil(table.rows.length / size);
      if (pages < 2) return;
      const foot = document.createElement("div");
      foot.style.cssText = "padding:6px;font:13px Roboto,Arial,sans-serif";
      const turn = (text, page) => {
        const b = document.createElement("button");
        b.textContent = text;
        b.disabled = page < 0 || page >= pages;
        b.addEventListener("click", () => { this.page = page; this.render(); });
        foot.appendChild(b);
      };
      turn("◀", this.page - 1);
      foot.append(` ${this.page + 1} of ${pages} `);
      turn("▶", this.page + 1);
      this.container.appendChild(foot);
    }
  }

  class Timeline extends Chart {
    paint(table, options) {
      const high = 18, rows = table.rows, names = [...new Set(rows.map((row) => row[1]))];
      const { width } = this.canvas({ height: high * (1 + Math.max(0, ...rows.map((row) => Number(row[0])))) + 30 });
      const low = rows.reduce((a, row) => Math.min(a, row[3]), Infinity), far = rows.reduce((a, row) => Math.max(a, row[4]), -Infinity);
      const x = (v) => 8 + ((v - low) / (far - low || 1)) * (width - 16);
      ticks(0, far - low, 8).forEach((t) => element(this.svg, "text", { x: x(low + t), y: 12, fill: "#555" }, `${shown(t)} ms`));
      rows.forEach((row) => {
        const wide = Math.max(0.5, x(row[4]) - x(row[3])), y = 20 + high * Number(row[0]);
        const bar = element(this.svg, "rect", { x: x(row[3]), y, width: wide, height: high - 2,
          fill: COLOURS[names.indexOf(row[1]) % COLOURS.length] });
        hint(bar, row[2]);
        const room = Math.floor((wide - 8) / 6.5);
        if (room > 3) element(this.svg, "text", { x: x(row[3]) + 4, y: y + 12, fill: "#fff", "pointer-events": "none",
          "font-size": 11 }, row[1].length > room ? `${row[1].slice(0, room - 1)}…` : row[1]);
      });
    }
  }

  window.drawing = { COLOURS, Chart, element, hint, legend, shown, ticks, tip, value };
  window.google = {
    charts: { load: () => Promise.resolve(), setOnLoadCallback: (f) => setTimeout(f) },
    visualization: {
      DataTable, arrayToDataTable, PieChart, Table, Timeline,  // and those of axes.js
      events: { addListener: (chart, name, f) => (chart.listeners[name] ??= []).push(f) },
    },
  };
})();
