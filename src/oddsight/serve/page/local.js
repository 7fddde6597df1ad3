/* The page without a service: everything it needs is in the file, put there by `oddsight report --standalone`. */
import { runModel } from "./runner.js";

export const views = ["look", "decide"];
export const parallel = 1;
export const local = true;
export const icon = element("icon");

const about = JSON.parse(element("about"));
const normals = JSON.parse(element("normals"));
const model = runModel(about, load);

function element(id) {
  return document.getElementById(id)?.textContent ?? "";
}

export const status = async () => ({ version: about.version, workspace: false, scopes: [], limits: {} });
export const models = async () => [about.model];
export const predict = (_, file, name) => model.predict(file, name);

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
async function load() {
  const [code, wasm, content] = await Promise.all(["worker", "ort-wasm", "model"].map(unpacked));
  const worker = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  return { worker, script: element("ort-script"), wasm, model: content };
}
