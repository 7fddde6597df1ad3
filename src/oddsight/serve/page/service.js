/* The service behind the page: every request that the page makes is here. Addresses are relative, as behind a proxy. */
import { state } from "./store.js";

export const views = ["look", "decide", "train", "evaluate", "teach", "compare", "history", "watch"];
export const parallel = 3;

const KEY = "oddsight-token";
const TRIES = 40;

/** Take the token out of the address, once, so that it is neither shown nor kept in the history of the browser. */
export function takeToken() {
  const values = new URLSearchParams(location.hash.slice(1));
  if (!values.has("token")) return;
  sessionStorage.setItem(KEY, values.get("token"));
  history.replaceState(null, "", location.pathname + location.search);
}

export function setToken(token) {
  sessionStorage.setItem(KEY, token);
}

/** Whether an address of the service can be shown in a frame, which sends no token. */
export const mayEmbed = () => !sessionStorage.getItem(KEY);

function headers(more) {
  const token = sessionStorage.getItem(KEY);
  return token ? { ...more, Authorization: `Bearer ${token}` } : { ...more };
}

export class ServiceError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
    this.unanswered = [0, 401, 429].includes(status) || status >= 500; // The same request may succeed later
  }
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

async function send(path, { method = "GET", body, type, signal } = {}) {
  const json = body !== undefined && type === undefined && !(body instanceof FormData);
  const kind = json ? { "Content-Type": "application/json" } : type ? { "Content-Type": type } : {};
  for (let attempt = 1; ; attempt += 1) {
    let response;
    try {
      response = await fetch(path, { method, headers: headers(kind), body: json ? JSON.stringify(body) : body, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServiceError(0, "The service does not answer. Is it still running?");
    }
    if (response.status === 429 && attempt < TRIES) {
      await pause(Number(response.headers.get("Retry-After")) || 1);
      continue;
    }
    if (!response.ok) throw new ServiceError(response.status, await reason(response));
    return response;
  }
}

async function reason(response) {
  const content = await response.json().catch(() => ({}));
  return content.error || `The service answered ${response.status} ${response.statusText}`;
}

const json = async (path, options) => (await send(path, options)).json();
const named = (name) => encodeURIComponent(name);

export const status = () => json("api/status");
export const models = async () => (await json("api/models")).models;

/** Score one image: its result, or `{name, error}`. */
export async function predict(model, file, name, signal) {
  if (state.here) return (await runnerOf(model)).predict(file, name);
  const query = new URLSearchParams({ map: "png", nearest: "true", name });
  const path = `api/models/${named(model)}:predict?${query}`;
  const answer = await json(path, { method: "POST", body: file, type: file.type || "application/octet-stream", signal });
  return { ...answer.results[0], version: answer.version };
}

const RUNTIME = ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"].map((file) => new URL(`page/runtime/${file}`, document.baseURI).href);
const runners = new Map(); // Of models in their newest version, by name

/** What scores in this browser: the model comes here, and images go nowhere. */
function runnerOf(name) {
  const { version } = state.models.find((model) => model.name === name);
  const known = runners.get(name);
  if (known?.version !== version) {
    known?.runner.then((runner) => runner.close());
    const runner = makeRunner(`api/models/${named(name)}`, `version=${version}`);
    runner.catch(() => runners.delete(name));
    runners.set(name, { version, runner });
  }
  return runners.get(name).runner;
}

async function makeRunner(path, version) {
  const [{ runModel }, about] = await Promise.all([import("./runner.js"), json(`${path}/outputs?${version}`)]);
  const bytes = async (address) => (await send(address)).arrayBuffer();
  return runModel(about, async () => {
    const [model, wasm] = await Promise.all([bytes(`${path}/file?${version}`), bytes(RUNTIME[1])]);
    return { worker: "page/worker.js", script: RUNTIME[0], wasm, model };
  });
}

/** An image of the service as an address that an `img` can show; null if there is none. */
export async function fetchImage(path) {
  const response = await send(path).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
  return response && URL.createObjectURL(await response.blob());
}

export const normal = (model, id) => fetchImage(`api/models/${named(model)}/normals/${named(id)}`);
export const thumbnail = (content, size = 256) => fetchImage(`api/images/${named(content)}?size=${size}`);

export const decide = (model, decision) => json(`api/models/${named(model)}/decision`, { method: "PATCH", body: decision });
export const modelFile = async (model) => (await send(`api/models/${named(model)}/file`)).blob();

const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined && value !== null));
export const pastResults = (values) => json(`api/history?${query(values)}`);
export const series = (values) => json(`api/history/series?${query(values)}`);

export const mark = (values) => json("api/feedback", { method: "POST", body: values });
export const unmark = (id) => json(`api/feedback/${named(id)}`, { method: "DELETE" });
export const trail = () => json("api/feedback");
export const questions = (model, n = 5) => json(`api/feedback/questions?${query({ model, n })}`);

export const startUpload = async () => (await json("api/uploads", { method: "POST" })).upload;
export const uploadImages = (upload, form, signal) =>
  json(`api/uploads/${named(upload)}/images`, { method: "POST", body: form, signal });

export const removeUpload = (upload) => json(`api/uploads/${named(upload)}`, { method: "DELETE" });

export const startJob = (job) => json("api/jobs", { method: "POST", body: job });
export const jobs = () => json("api/jobs");
export const job = (id) => json(`api/jobs/${named(id)}`);
export const cancelJob = (id) => json(`api/jobs/${named(id)}`, { method: "DELETE" });
export const report = async (path) => (await send(path.replace(/^\//, ""))).blob();
export const jobEvents = (id, tell, signal) => events(`api/jobs/${named(id)}/events`, tell, signal);

export const streams = () => json("api/watch");
export const watchEvents = (name, tell, signal) => events(`api/watch/${named(name)}/events`, tell, signal);
export const frame = (name, file) => fetchImage(`api/watch/${named(name)}/frames/${named(file)}`);
export const zones = (name) => json(`api/watch/${named(name)}/zones`);
export const saveZones = (name, content) => json(`api/watch/${named(name)}/zones`, { method: "PUT", body: content });

/** Server-sent events by `fetch`, because an EventSource sends no token: `tell(event, data)` for each, until the end. */
async function events(path, tell, signal) {
  const response = await send(path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value.replaceAll("\r\n", "\n");
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) tellBlock(block, tell);
  }
}

function tellBlock(block, tell) {
  const fields = block.split("\n").map((line) => /^(\w+): ?(.*)$/.exec(line)).filter(Boolean);
  const data = fields.filter((field) => field[1] === "data").map((field) => field[2]).join("\n");
  if (data) tell(fields.find((field) => field[1] === "event")?.[2] ?? "message", JSON.parse(data));
}
