// Calls to the server. Its words are shown as they are; the key stays in this module's memory.

let key = "";

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function useKey(value) {
  key = value;
}

async function call(method, path, { body, accept, signal } = {}) {
  const headers = { accept: accept ?? "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const text = body === undefined ? undefined : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, { method, headers, body: text, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, "The server does not answer; is it still running?");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  try {
    return new ServerError(response.status, (await response.json()).error.message);
  } catch {
    return new ServerError(response.status, `${response.status} ${response.statusText}`);
  }
}

export async function get(path, options) {
  return (await call("GET", path, options)).json();
}

export async function post(path, body, options) {
  return (await call("POST", path, { ...options, body })).json();
}

export async function remove(path) {
  await call("DELETE", path);
}

// The data of server-sent events, one string each. EventSource could not send the key.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n").filter((line) => line.startsWith("data: "));
      if (lines.length) yield lines.map((line) => line.slice(6)).join("\n");
    }
  }
}

const FINAL = ["done", "failed", "cancelled"];

// A job's states, the last of them final; a stream that breaks off is taken up again.
export async function* watch(id) {
  for (;;) {
    const response = await call("GET", `/v1/jobs/${id}`, { accept: "text/event-stream" });
    for await (const data of events(response)) {
      const job = JSON.parse(data);
      yield job;
      if (FINAL.includes(job.status)) return;
    }
  }
}

// The chunks of a streamed answer.
export async function* chat(body) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await call("POST", "/v1/chat/completions", {
    body: asked,
    accept: "text/event-stream",
  });
  for await (const data of events(response)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(503, chunk.error.message);
    yield chunk;
  }
  throw new ServerError(503, "The answer broke off.");
}

// All artifacts of a prompt, as far as one cares to see them.
export async function artifactsOf(promptHash) {
  const found = [];
  let cursor = null;
  do {
    const query = new URLSearchParams({ prompt_hash: promptHash, limit: "100" });
    if (cursor) query.set("cursor", cursor);
    const page = await get(`/v1/artifacts?${query}`);
    found.push(...page.data);
    cursor = page.next_cursor;
  } while (cursor && found.length < 200);
  return found;
}
