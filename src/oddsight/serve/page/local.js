/* The page without a service: the model runs here, and no image leaves the computer. `about` is what the command wrote
   into the file: the model as the service would describe it, and what its outputs mean. */
import { decodeRgb } from "./decode.js";

export const views = ["look", "decide"];
export const parallel = 1;
export const local = true;
export const icon = element("icon");

const about = JSON.parse(element("about"));
const normals = JSON.parse(element("normals"));
let worker = null;
let turn = 0;

function element(id) {
  return document.getElementById(id)?.textContent ?? "";
}

export const status = async () => ({ version: about.version, workspace: false, scopes: [], limits: {} });
export const models = async () => [about.model];

export async function predict(_, file, name) {
  const image = await decodeRgb(file);
  worker ??= await startWorker();
  const outputs = await ask(worker, image);
  return itemOf(outputs, image, name);
}

/** The outputs of the graph as the service says them; docs/model-format.md explains each. */
function itemOf(outputs, { width, height }, name) {
  const { model, voices, normal_ids: ids, thresholds } = about;
  const score = outputs.score.data[0];
  const known = model.classes ? outputs.class_index.data[0] : null;
  const threshold = known !== null && thresholds ? thresholds[known] : model.threshold;
  const anomalous = score > threshold;
  const map = outputs.anomaly_map;
  const said = voices.map((voice, index) => ({ name: voice, evidence: outputs.evidence.data[index], p_value: Math.min(1, outputs.voice_p_values.data[index]) }));
  return {
    verdict: verdictOf(model, anomalous, known),
    ...(known === null ? {} : { class: model.classes[known], class_probability: outputs.class_probability.data[0] }),
    score,
    p_value: exact(outputs.p_value.data[0], model),
    anomalous,
    threshold,
    false_alarm_rate: model.false_alarm_rate,
    regions: [],
    voices: said.sort((a, b) => b.evidence - a.evidence),
    nearest: ids.length ? ids[outputs.nearest.data[0]] : null,
    name,
    width,
    height,
    kept: false,
    ...(map ? { map: { height: map.dims[1], width: map.dims[2], values: Float32Array.from(map.data) } } : {}),
  };
}

/** A p-value as a fraction of the calibration images, of which the graph's is a rounding. */
function exact(p, model) {
  const parts = model.calibration.count + 1;
  return model.classes ? Math.min(1, p) : Math.round(p * parts) / parts;
}

function verdictOf(model, anomalous, known) {
  if (known !== null) return anomalous ? "none of these" : model.classes[known];
  return model.verdicts[anomalous ? 1 : 0];
}

export async function normal(_, id) {
  if (!normals[id]) return null;
  return URL.createObjectURL(new Blob([bytesOf(normals[id])], { type: "image/jpeg" }));
}

function bytesOf(base64) {
  return Uint8Array.fromBase64?.(base64) ?? Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** What the command packed into the page under a name. */
async function unpacked(id) {
  const holder = document.getElementById(id);
  const packed = new Blob([bytesOf(holder.textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
  holder.remove();
  return new Response(packed).arrayBuffer();
}

/** A worker from a blob that imports a data address: a page that is opened as a file may load nothing else. */
async function startWorker() {
  const [code, wasm, model] = await Promise.all(["worker", "ort-wasm", "model"].map(unpacked));
  const started = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  started.waiting = new Map();
  await new Promise((done, fail) => {
    started.onmessage = ({ data }) => (data.ready ? done() : fail(new Error(`The model cannot run here: ${data.error}`)));
    started.onerror = (event) => fail(new Error(`The model cannot run here: ${event.message}`));
    started.postMessage({ script: element("ort-script"), wasm, model }, [wasm, model]);
  });
  started.onmessage = ({ data }) => {
    const { done, fail } = started.waiting.get(data.id);
    started.waiting.delete(data.id);
    if (data.error) fail(new Error(data.error));
    else done(data.outputs);
  };
  return started;
}

function ask(to, { width, height, pixels }) {
  const id = (turn += 1);
  return new Promise((done, fail) => {
    to.waiting.set(id, { done, fail });
    to.postMessage({ id, width, height, pixels }, [pixels.buffer]);
  });
}
