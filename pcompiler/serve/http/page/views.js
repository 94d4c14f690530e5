// What is shown, made of elements and text nodes only: no text of a prompt or a model is markup.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function count(number, unit) {
  return `${number.toLocaleString("en")} ${unit}${number === 1 ? "" : "s"}`;
}

export function bytes(size) {
  if (size < 1e3) return `${size} B`;
  return size < 1e6 ? `${(size / 1e3).toFixed(1)} KB` : `${(size / 1e6).toFixed(2)} MB`;
}

export function seconds(time) {
  if (time < 0.0995) return `${Math.round(time * 1000)} ms`;
  return time < 9.95 ? `${time.toFixed(2)} s` : `${Math.round(time)} s`;
}

export function percent(share) {
  return `${(100 * share).toFixed(1).replace(/\.0$/, "")} %`;
}

export function nats(kl) {
  return kl !== 0 && Math.abs(kl) < 0.001 ? kl.toExponential(1) : kl.toFixed(3);
}

// How an artifact was made, in a word or two: "hybrid 10×, rank 16".
export function named(header) {
  const { factor, rank } = header.fit;
  const parts = [];
  if (header.target === "text") {
    parts.push(`${Math.round((100 * header.kept_tokens) / header.context_tokens)} %`);
  }
  if (factor) parts.push(`${Number(factor.toFixed(1))}×`);
  else if (header.target === "kv") parts.push("exact");
  if (rank) parts.push(`rank ${rank}`);
  return `${header.target} ${parts.join(", ")}`.trim();
}

export function segments(found) {
  const shown = found.segments.map((part) => {
    const policy = part.policy === "compress" ? "" : ` · ${part.policy}`;
    const seen = part.kind === "markup" ? "unseen by the model" : count(part.tokens, "token");
    const label = element("span", { class: "label" }, part.kind);
    const head = element("p", {}, label, ` ${seen}${policy}`);
    const text = part.source.trimEnd();
    const blank = element("span", { hidden: "" }, part.source.slice(text.length));
    const source = element("pre", {}, text, blank);
    return element("li", { class: `segment ${part.kind}` }, head, source);
  });
  if (found.left_out) {
    shown.push(element("li", {}, `and ${count(found.left_out, "segment")} more`));
  }
  return shown;
}

export function changes(parts) {
  const tags = { "-": "del", "+": "ins", " ": "span" };
  return parts.map((part) => element(tags[part.sign], {}, part.text));
}

export function figures(header, cached) {
  const { fidelity: f, timing } = header;
  const speed = timing.ttft_s
    ? [seconds(timing.ttft_s), `full prompt ${seconds(timing.full_ttft_s)}`]
    : ["–", ""];
  const rows = [
    ["Size", bytes(header.size_bytes), ""],
    ["Tokens", header.kept_tokens.toLocaleString("en"), `of ${header.context_tokens.toLocaleString("en")}`],
    ["KL, nats a token", nats(f.kl), `no prompt ${nats(f.kl_no_prompt)}`],
    ["Agreement", percent(f.agreement), `no prompt ${percent(f.agreement_no_prompt)}`],
    ["First token", ...speed],
    ["Compiled in", timing.compile_s ? seconds(timing.compile_s) : "–", cached ? "earlier; found in the store" : ""],
  ];
  return rows.map(([name, value, beside]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value, element("small", {}, beside))),
  );
}

export function table(headers, current) {
  const head = element("tr", {});
  for (const name of ["artifact", "size", "KL", "agreement"]) {
    head.append(element("th", { scope: "col" }, name));
  }
  const rows = headers.map((header) => {
    const { kl, agreement } = header.fidelity;
    const mark = header.id === current ? " (this one)" : "";
    const row = element("tr", {}, element("th", { scope: "row" }, named(header) + mark));
    for (const cell of [bytes(header.size_bytes), nats(kl), percent(agreement)]) {
      row.append(element("td", {}, cell));
    }
    return row;
  });
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
}
