/* Runs a model in this browser: no image leaves the computer. */
import { decodeRgb } from "./decode.js";

/** Scores images with a model. `about` says how it decides and what its outputs count, as the service tells it; `load` brings
    what the worker needs: `{worker, script, wasm, model}`, the first two as addresses. */
export function runModel(about, load) {
  let started = null;
  let last = Promise.resolve();
  const start = () => {
    started ??= load().then(startWorker);
    return started.catch((error) => {
      started = null;
      throw error;
    });
  };
  return {
    async predict(file, name) {
      const image = await decodeRgb(file);
      const outputs = last.then(start).then((worker) => ask(worker, image)); // One at a time
      last = outputs.catch(() => null);
      return itemOf(about, await outputs, image, name);
    },
    close: () => started?.then((worker) => worker.terminate()),
  };
}

/** The outputs of the graph as the service says them; docs/model-format.md explains each. */
function itemOf({ model, voices, normal_ids: ids, thresholds }, outputs, { width, height }, name) {
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

async function startWorker({ worker: address, script, wasm, model }) {
  const worker = new Worker(address);
  worker.waiting = new Map();
  await new Promise((done, fail) => {
    worker.onmessage = ({ data }) => (data.ready ? done() : fail(new Error(`The model cannot run here: ${data.error}`)));
    worker.onerror = (event) => fail(new Error(`The model cannot run here: ${event.message}`));
    worker.postMessage({ script, wasm, model }, [wasm, model]);
  });
  worker.onmessage = ({ data }) => {
    const { done, fail } = worker.waiting.get(data.id);
    worker.waiting.delete(data.id);
    if (data.error) fail(new Error(data.error));
    else done(data.outputs);
  };
  return worker;
}

let turn = 0;

function ask(worker, { width, height, pixels }) {
  const id = (turn += 1);
  return new Promise((done, fail) => {
    worker.waiting.set(id, { done, fail });
    worker.postMessage({ id, width, height, pixels }, [pixels.buffer]);
  });
}
