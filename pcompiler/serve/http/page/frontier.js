// KL against size for all artifacts of a prompt, both on logarithmic scales, between two bounds:
// the model without the prompt, and the full prompt, whose KL is 0 and is drawn as the floor.

import { bytes, named, nats } from "./views.js";

const HEIGHT = 300;
const LEFT = 52;
const TOP = 24;
const FLOOR = HEIGHT - 40;
const LEAST = 1e-4; // nats; what is less cannot be told from the full prompt
const LABEL = 15; // between two labels

function svg(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function logarithmic(low, high, from, to) {
  const span = Math.log(high / low) || 1;
  return (value) => from + ((to - from) * Math.log(value / low)) / span;
}

function powers(low, high) {
  const found = [];
  for (let p = Math.ceil(Math.log10(low)); 10 ** p <= high; p++) found.push(10 ** p);
  return found;
}

// The drawing, `width` pixels wide.
export function frontier(headers, current, width) {
  const right = width - 16;
  const sizes = headers.map((header) => header.size_bytes);
  const worst = Math.max(...headers.map((h) => Math.max(h.fidelity.kl, h.fidelity.kl_no_prompt)));
  const low = 10 ** Math.floor(Math.log10(Math.min(...sizes)));
  const high = 10 ** Math.ceil(Math.log10(Math.max(...sizes) + 1));
  const x = logarithmic(low, high, LEFT, right);
  const up = logarithmic(LEAST, Math.max(2 * worst, 0.1), FLOOR, TOP);
  const y = (kl) => up(Math.max(kl, LEAST));
  const says = headers.map((h) => `${named(h)}: ${bytes(h.size_bytes)}, KL ${nats(h.fidelity.kl)}`);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img" });
  drawing.append(svg("title", {}, `KL against size. ${says.join("; ")}.`));
  axes(drawing, right, x, y, powers(low, high), powers(LEAST * 10, 2 * worst));
  bounds(drawing, right, y, headers.find((header) => header.id === current) ?? headers[0]);
  points(drawing, right, x, y, headers, current);
  return drawing;
}

function axes(drawing, right, x, y, sizes, kls) {
  for (const size of sizes) {
    drawing.append(svg("line", { class: "grid", x1: x(size), x2: x(size), y1: TOP, y2: FLOOR }));
    const end = size === sizes.at(-1) ? "end" : "middle";
    const at = { x: x(size), y: FLOOR + 16, "text-anchor": end };
    drawing.append(svg("text", at, bytes(size).replace(/\.0+ /, " ")));
  }
  for (const kl of kls) {
    drawing.append(svg("line", { class: "grid", x1: LEFT, x2: right, y1: y(kl), y2: y(kl) }));
    drawing.append(svg("text", { x: LEFT - 6, y: y(kl) + 4, "text-anchor": "end" }, String(kl)));
  }
  const middle = { x: (LEFT + right) / 2, y: HEIGHT - 6, "text-anchor": "middle" };
  drawing.append(svg("text", middle, "size"));
  drawing.append(svg("text", { x: 4, y: 12 }, "KL, nats a token"));
}

function bounds(drawing, right, y, header) {
  const nothing = header.fidelity.kl_no_prompt;
  for (const [at, words] of [
    [y(nothing), `no prompt: ${nats(nothing)}`],
    [FLOOR, "full prompt: 0"],
  ]) {
    drawing.append(svg("line", { class: "bound", x1: LEFT, x2: right, y1: at, y2: at }));
    drawing.append(svg("text", { class: "bound", x: LEFT + 4, y: at - 5 }, words));
  }
}

function points(drawing, right, x, y, headers, current) {
  const taken = [];
  const order = [...headers].sort((a, b) => (b.id === current) - (a.id === current));
  for (const header of order) {
    const { kl } = header.fidelity;
    const [at, height] = [x(header.size_bytes), y(kl)];
    const chosen = header.id === current ? " chosen" : "";
    const mark = { class: `${header.target}${chosen}`, cx: at, cy: height, r: chosen ? 7 : 5 };
    const dot = svg("circle", mark);
    dot.append(svg("title", {}, `${named(header)}: ${bytes(header.size_bytes)}, KL ${nats(kl)}`));
    drawing.append(dot);
    label(drawing, taken, [at, height], at > (LEFT + right) / 2, named(header), chosen);
  }
}

function label(drawing, taken, [at, height], left, words, chosen) {
  let line = height - 8;
  const near = (other) => Math.abs(other.at - at) < 150 && Math.abs(other.line - line) < LABEL;
  for (let tries = 0; tries < 8 && taken.some(near); tries++) line -= LABEL;
  if (line < TOP || taken.some(near)) return; // its title and the table still say it
  taken.push({ at, line });
  const place = { x: at + (left ? -9 : 9), y: line, "text-anchor": left ? "end" : "start" };
  drawing.append(svg("text", { ...place, class: `name${chosen}` }, words));
}
