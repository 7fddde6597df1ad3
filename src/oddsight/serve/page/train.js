/* Train: normal images become a model. What could spoil it is said before. */
import { html, useEffect, useRef, useState } from "./dom.js";
import { follow, forget, JobMeter, run, upload } from "./jobs.js";
import { images as imagesOf, percent, score } from "./numbers.js";
import { loadModels } from "./scoring.js";
import { allows, change, say, state, useStore } from "./store.js";
import { DropPlace, Empty, Facts, Field, Meter } from "./widgets.js";

const METHODS = [
  ["auto", "auto", "Looks at whole images and at single places, and takes the strongest evidence. No tuning. The best start."],
  ["patchcore", "patchcore", "Compares every place with places of normal images. For small defects on things that vary in position."],
  ["padim", "padim", "Compares every place with the same place in normal images. For things that always lie in the same position."],
  ["mahalanobis", "mahalanobis", "Compares whole images with the average. Fast; says how unusual, not where."],
  ["knn", "knn", "Compares whole images with the most similar one. Fast; for scenes of many kinds."],
];
const SPEEDS = [["balanced", "balanced"], ["fast", "fast: fewer pixels"], ["best", "best: more pixels, slower"]];
const RATES = [0.001, 0.01, 0.02, 0.05, 0.1];

const START = { step: "choose", files: [], done: 0, upload: null, refused: [], check: null, job: null, result: null, control: null };

const training = () => state.training ?? START;
const set = (values) => change({ training: { ...training(), ...values } });

export function Train({ backend }) {
  useStore();
  useEffect(() => {
    if (training() === START && state.status.workspace && allows("manage")) resume(backend);
  }, []);
  if (!allows("manage")) {
    return html`<${Empty} title="Training is not allowed here"><p>Your token has no right to manage models. The command does the same: oddsight fit DIR -o MODEL.onnx</p><//>`;
  }
  if (!state.status.workspace) {
    return html`<${Empty} title="Training needs a workspace"><p>Start the service with --workspace DIR, so that it has a place for images and new models.</p><//>`;
  }
  const { step } = training();
  return html`<div class="stack narrow">
    ${step === "choose" && html`<${Choose} backend=${backend} />`}
    ${step === "upload" && html`<${Upload} />`}
    ${step === "settings" && html`<${Findings} /><${Settings} backend=${backend} />`}
    ${step === "run" && html`<${Running} backend=${backend} />`}
    ${step === "done" && html`<${Done} backend=${backend} />`}
  </div>`;
}

/** Follow a training that goes on, as after a reload. */
async function resume(backend) {
  const { jobs } = await backend.jobs().catch(() => ({ jobs: [] }));
  const job = jobs.find((one) => one.kind === "fit" && ["queued", "running"].includes(one.state));
  if (job && training() === START) await finish(backend, { job }, (tell) => follow(backend, job.id, tell));
}

function Choose({ backend }) {
  return html`<${DropPlace} take=${(files) => begin(backend, files)} title="Drop normal images here">
    <p>Only images of what is normal, taken as later images will be. 100 or more promise a false-alarm rate of 1%; fewer promise a higher one.</p>
  <//>`;
}

async function begin(backend, files) {
  if (!files.length) {
    say("There is no image among these files.", true);
    return;
  }
  const control = new AbortController();
  set({ ...START, step: "upload", files, control });
  try {
    const sent = await upload(backend, files, (done) => set({ done }), control.signal);
    set({ upload: sent.upload, refused: sent.refused });
    const check = await run(backend, { kind: "check", upload: sent.upload }, (job) => set({ job }), control.signal);
    set({ check, job: null, step: "settings" });
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
    await giveUp(backend);
  }
}

/** Begin anew, without the images that were sent. */
async function giveUp(backend) {
  const { upload, job } = training();
  set(START);
  if (job) await backend.cancelJob(job.id).catch(() => null);
  await forget(backend, upload);
}

function Upload() {
  const { files, done, job, control } = training();
  const label = job ? "Checking the images" : `Sending ${imagesOf(files.length)}`;
  return html`<section class="panel">
    <${Meter} label=${label} done=${job ? job.done : done} total=${job ? job.total : files.length}>
      <button class="quiet" onClick=${() => control.abort()}>Cancel</button>
    <//>
  </section>`;
}

const KINDS = [
  ["unreadable", "not read, and left out"],
  ["duplicates", "times the same image more than once; it counts once"],
  ["near_duplicates", "times nearly the same image; such images stay together"],
  ["nearly_empty", "nearly empty"],
  ["blurred", "blurred"],
];

function Findings() {
  const { check, refused, files } = training();
  const found = KINDS.map(([key, text]) => [text, key === "unreadable" ? [...refused, ...(check[key] ?? [])] : (check[key] ?? [])]).filter(([, list]) => list.length);
  const sizes = Object.entries(check.kinds?.sizes ?? {});
  return html`<section class="panel">
    <h2>${imagesOf(check.images ?? files.length)} checked</h2>
    <p class="soft">${sizes.length ? `Mostly ${sizes[0][0]} pixels.` : ""} ${found.length ? "Look at these before you train:" : "Nothing found that could spoil a training."}</p>
    ${found.map(
      ([text, list]) => html`<details key=${text}><summary><b>${list.length}</b> ${text}</summary>
        <ul class="names">${list.slice(0, 50).map((one) => html`<li>${describe(one)}</li>`)}</ul></details>`,
    )}
    ${(check.notes ?? []).map((note) => html`<p class="warn">${note}</p>`)}
  </section>`;
}

const describe = (one) => {
  if (typeof one === "string") return one;
  const names = one.paths ? one.paths.join(", ") : (one.path ?? one.name);
  const reason = one.reason ?? one.error;
  return reason ? `${names}: ${reason}` : names;
};

function Settings({ backend }) {
  const { check, files } = training();
  const usable = (check.images ?? files.length) - (check.unreadable?.length ?? 0);
  const [name, setName] = useState("");
  const [method, setMethod] = useState("auto");
  const [speed, setSpeed] = useState("balanced");
  const promised = RATES.filter((rate) => usable >= Math.ceil(1 / rate - 1 - 1e-9));
  const [rate, setRate] = useState(String(promised.includes(0.01) ? 0.01 : ""));
  const start = (event) => {
    event.preventDefault();
    fit(backend, { name, method, speed, false_alarm_rate: rate ? Number(rate) : null });
  };
  return html`<form class="panel stack" onSubmit=${start}>
    <${Field} label="Name" hint="Letters, digits, hyphens and underscores.">
      <input type="text" required pattern="[A-Za-z0-9][A-Za-z0-9_.\\-]*" maxlength="64" value=${name} onInput=${(event) => setName(event.target.value)} />
    <//>
    <fieldset><legend>Method</legend>
      ${METHODS.map(
        ([key, label, text]) => html`<label class="option" key=${key}>
          <input type="radio" name="method" value=${key} checked=${key === method} onChange=${() => setMethod(key)} />
          <span><b>${label}</b><small>${text}</small></span>
        </label>`,
      )}
    </fieldset>
    <${Field} label="False-alarm rate" hint=${`How many normal images may be flagged. ${imagesOf(usable)} can promise ${percent(1 / (usable + 1))} at best.`}>
      <select value=${rate} onChange=${(event) => setRate(event.target.value)}>
        <option value="">the smallest that can be promised</option>
        ${RATES.map((value) => html`<option key=${value} value=${value} disabled=${!promised.includes(value)}>${percent(value)}</option>`)}
      </select>
    <//>
    ${["auto", "patchcore"].includes(method) &&
    html`<${Field} label="Speed"><select value=${speed} onChange=${(event) => setSpeed(event.target.value)}>
      ${SPEEDS.map(([key, text]) => html`<option key=${key} value=${key}>${text}</option>`)}</select><//>`}
    <div class="row"><button class="primary">Train</button><button type="button" class="quiet" onClick=${() => giveUp(backend)}>Other images</button></div>
  </form>`;
}

async function fit(backend, options) {
  const request = { kind: "fit", upload: training().upload, ...options };
  if (request.false_alarm_rate === null) delete request.false_alarm_rate;
  await finish(backend, { job: null }, (tell) => run(backend, request, tell));
}

/** Show a training until it ends: with its model, or where its settings can be changed. */
async function finish(backend, values, work) {
  set({ step: "run", ...values });
  try {
    const result = await work((job) => set({ job }));
    await loadModels(result.model);
    if (!result.upload_needed) forget(backend, result.upload);
    set({ step: "done", result });
  } catch (error) {
    say(error.message, true);
    set(training().check ? { step: "settings", job: null } : START);
  }
}

function Running({ backend }) {
  const { job } = training();
  return html`<section class="panel"><h2>Training</h2>
    <p class="soft">You may go to another view, or close the page: the service goes on.</p>
    ${job && html`<${JobMeter} backend=${backend} job=${job} label="training" />`}
  </section>`;
}

function Done({ backend }) {
  const { result } = training();
  const model = state.models.find((one) => one.name === result.model);
  const range = result.summary?.true_rate_range;
  const heading = useRef(null);
  useEffect(() => heading.current.focus(), []);
  const discard = async () => {
    try {
      await backend.removeUpload(result.upload);
      set({ result: { ...result, upload_needed: false } });
      say("The images were removed.");
    } catch (error) {
      say(error.message, true);
    }
  };
  return html`<section class="panel"><h2 tabindex="-1" ref=${heading}>${result.model} is ready</h2>
    ${model &&
    html`<p>It flags at most <b>${model.false_alarm_rate ? percent(model.false_alarm_rate) : "an unknown share"}</b> of normal images, on average, as long as they resemble those you gave.</p>
      <${Facts} rows=${[
        ["Method", model.method],
        ["Learned from", imagesOf(model.training_images)],
        ["Calibrated on", imagesOf(model.calibration.count)],
        ["Threshold", score(model.threshold)],
        range && ["True rate", `${percent(range[0])} to ${percent(range[1])} in 95 of 100 draws of the calibration images`],
        ["Says where", model.localises ? "yes, with a heat map" : "no, only how unusual an image is"],
      ]} />`}
    ${result.upload_needed && html`<p class="soft small">Its images are kept, because ${model?.method ?? "this method"} learns new images only together with them.
      <button class="quiet" onClick=${discard}>Remove them</button></p>`}
    <div class="row"><a class="button primary" href="#look">Look at images with it</a><button class="quiet" onClick=${() => set(START)}>Train another</button></div>
  </section>`;
}
