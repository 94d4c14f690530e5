// What happens on the page: one prompt, one artifact, one question at a time.

import * as server from "./server.js";
import { frontier } from "./frontier.js";
import { changes, count, element, figures, named, seconds, segments, table } from "./views.js";

const MOST_TOKENS = 64; // of an answer
const PAUSE_MS = 350; // after the last key, before the prompt is taken apart
const at = (id) => document.getElementById(id);
let model = "";
let prompt = null; // its segments and turns, as the server reads it
let artifact = null; // the header of the last one
let job = null; // that runs
let typing = 0;

async function begin() {
  try {
    model = (await server.get("/v1/models")).data[0].id;
    at("served").textContent = `Model: ${model}`;
    at("key-form").hidden = true;
    if (at("source").value.trim()) await takeApart();
  } catch (error) {
    const locked = error.status === 401;
    at("served").textContent = error.message;
    if (locked && at("key-form").hidden) {
      at("key-form").hidden = false;
      at("key").focus();
    }
  }
}

async function takeApart() {
  const source = at("source").value;
  at("source-error").textContent = "";
  if (!source.trim()) {
    show(null);
    return;
  }
  try {
    const found = await server.post("/v1/segments", { source });
    if (source === at("source").value) show(found);
  } catch (error) {
    if (source !== at("source").value) return;
    show(null);
    at("source-error").textContent = error.message;
  }
}

function show(found) {
  prompt = found;
  at("segments").replaceChildren(...(found ? segments(found) : []));
  const parts = found ? found.segments.length + found.left_out : 0;
  at("segments-count").textContent = found
    ? `${count(parts, "segment")}, ${count(found.tokens, "token")}`
    : "";
  const stale = artifact && artifact.prompt_hash !== found?.prompt_hash;
  if (stale) for (const id of ["result", "ask"]) at(id).hidden = true;
}

function target() {
  return at("compile-form").elements.target.value;
}

function showSettings() {
  for (const label of document.querySelectorAll("[data-for]")) {
    label.hidden = !label.dataset.for.split(" ").includes(target());
  }
  at("compile-form").elements.factor.placeholder = target() === "kv" ? "exact" : "10";
}

function number(name) {
  const field = at("compile-form").elements[name];
  return field.closest("[data-for]").hidden || field.value === "" ? undefined : Number(field.value);
}

function asked() {
  const queries = at("queries").value.split("\n").map((line) => line.trim());
  const settings = {};
  for (const name of ["factor", "rate", "rank", "bits"]) settings[name] = number(name);
  return {
    source: at("source").value,
    target: target(),
    queries: queries.filter(Boolean),
    min_agreement: number("min_agreement"),
    max_kl: number("max_kl"),
    settings,
    wait: false,
  };
}

async function compile(event) {
  event.preventDefault();
  at("compile-error").textContent = "";
  working(true);
  try {
    await takeApart();
    job = await server.post("/v1/compile", asked());
    for await (const state of server.watch(job.id)) tell((job = state));
    if (job.status === "failed") throw new Error(job.error.message);
    if (job.status === "done") await showArtifact(job);
  } catch (error) {
    at("stage").textContent = "";
    at("compile-error").textContent = error.message;
  } finally {
    job = null;
    working(false);
  }
}

function working(so) {
  at("compile").disabled = so;
  at("stop").hidden = at("bar").hidden = !so;
  if (so) tell({ status: "queued", stage: "", done: 0, total: 0, elapsed_s: 0 });
  else at("elapsed").textContent = "";
}

function tell(state) {
  const words = { queued: "waiting", running: state.stage || "reading the prompt" };
  const stage = words[state.status] ?? state.status;
  if (at("stage").textContent !== stage) at("stage").textContent = stage; // said aloud once
  if (state.total) {
    at("bar").max = state.total;
    at("bar").value = state.done;
  } else {
    at("bar").removeAttribute("value");
  }
  const share = state.total ? `${state.done} of ${state.total} · ` : "";
  at("elapsed").textContent = `${share}${seconds(state.elapsed_s)}`;
}

async function stop() {
  if (!job) return;
  try {
    await server.remove(`/v1/jobs/${job.id}`);
    at("stage").textContent = "stopping before the next stage";
  } catch (error) {
    at("compile-error").textContent = error.message;
  }
}

async function showArtifact(done) {
  // The list is read afresh; a look-up may still show the header of before its times were known.
  const all = await server.artifactsOf(prompt.prompt_hash);
  const listed = all.find((header) => header.id === done.artifact);
  artifact = listed ?? (await server.get(`/v1/artifacts/${done.artifact}`));
  all.sort((a, b) => a.size_bytes - b.size_bytes);
  const dropped = await whatWent();
  const { kept_tokens: kept, context_tokens: whole } = artifact;
  at("figures").replaceChildren(...figures(artifact, done.cached));
  at("result").hidden = at("ask").hidden = false;
  at("frontier").replaceChildren(frontier(all, artifact.id, at("frontier").clientWidth));
  at("frontier-table").replaceChildren(table(all, artifact.id));
  at("dropped").replaceChildren(...dropped);
  at("dropped-count").textContent = `${count(whole - kept, "token")} of ${whole.toLocaleString("en")}`;
  at("result-title").textContent = `Artifact ${artifact.id.slice(0, 8)}: ${named(artifact)}`;
  at("beside").replaceChildren(...all.map((one) => new Option(named(one), one.id)));
  at("beside").value = artifact.id;
  showBeside();
  at("result-title").focus();
}

const NO_WORDS = {
  kv: "A kv artifact keeps keys and values, not words: each head keeps those that count most for it.",
  weights: "A patch keeps no tokens at all: what the prompt does is in the weights.",
  hybrid: "A hybrid keeps keys and values, not words, and patches the weights for what those miss.",
};

async function whatWent() {
  const { id, target: kind, kept_tokens: kept, context_tokens: whole } = artifact;
  if (kind !== "text") {
    const exact = kind === "kv" && kept === whole;
    return [exact ? "Nothing: every key and value of the prompt is kept." : NO_WORDS[kind]];
  }
  try {
    return changes((await server.get(`/v1/artifacts/${id}/changes`)).data);
  } catch (error) {
    return [element("span", { class: "error" }, error.message)];
  }
}

function showBeside() {
  at("short-title").textContent = `Artifact: ${at("beside").selectedOptions[0].text}`;
  for (const side of ["full", "short"]) {
    at(`${side}-answer`).textContent = at(`${side}-time`).textContent = "";
  }
}

async function ask(event) {
  event.preventDefault();
  const last = { role: "user", content: at("question").value };
  at("send").disabled = at("beside").disabled = true;
  for (const side of ["full", "short"]) {
    at(`${side}-answer`).textContent = "";
    at(`${side}-time`).textContent = "waiting";
  }
  await answer("short", { model: `${model}@${at("beside").value}`, messages: [last] });
  await answer("full", { model, messages: [...prompt.messages, last] });
  at("send").disabled = at("beside").disabled = false;
}

async function answer(side, body) {
  const [text, time] = [at(`${side}-answer`), at(`${side}-time`)];
  const start = performance.now();
  const since = () => (performance.now() - start) / 1000;
  let first = 0;
  text.setAttribute("aria-busy", "true");
  time.textContent = "reading";
  try {
    for await (const chunk of server.chat({ ...body, max_tokens: MOST_TOKENS })) {
      const piece = chunk.choices[0]?.delta?.content;
      if (piece) {
        first ||= since();
        text.append(piece);
        time.textContent = `first token after ${seconds(first)}`;
      }
      if (chunk.usage) time.textContent = account(first, since(), chunk);
    }
  } catch (error) {
    time.replaceChildren(element("span", { class: "error" }, error.message));
  } finally {
    text.removeAttribute("aria-busy");
  }
}

function account(first, whole, { usage, pcompiler }) {
  const parts = [
    first ? `first token after ${seconds(first)}` : "no text",
    `${count(usage.completion_tokens, "token")} in ${seconds(whole)}`,
    `${count(usage.prompt_tokens, "token")} before them`,
  ];
  if (pcompiler.saved_tokens) parts.push(`${pcompiler.saved_tokens.toLocaleString("en")} saved`);
  return parts.join(" · ");
}

at("source").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(takeApart, PAUSE_MS);
});
at("example").addEventListener("click", () => {
  at("source").value = at("example-text").content.textContent;
  takeApart();
});
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  server.useKey(at("key").value);
  begin();
});
at("compile-form").addEventListener("change", showSettings);
at("compile-form").addEventListener("submit", compile);
at("stop").addEventListener("click", stop);
at("beside").addEventListener("change", showBeside);
at("ask-form").addEventListener("submit", ask);
showSettings();
begin();
