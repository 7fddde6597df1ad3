/* Evaluate: normal and anomalous images that the model has not learned from, and how well it distinguishes them. */
import { html, useEffect, useRef } from "./dom.js";
import { forget, JobMeter, run, upload } from "./jobs.js";
import { count, images as imagesOf, percent, score, when } from "./numbers.js";
import { allows, change, currentModel, say, state, useStore } from "./store.js";
import { download, DropPlace, Empty, Facts, Meter, useLoad } from "./widgets.js";

const START = { step: "normal", normal: [], anomalous: [], done: 0, job: null, result: null, refused: [], control: null };

const evaluation = () => state.evaluation ?? START;
const set = (values) => change({ evaluation: { ...evaluation(), ...values } });

export function Evaluate({ backend }) {
  useStore();
  const model = currentModel();
  if (!state.status.workspace) {
    return html`<${Empty} title="Evaluating needs a workspace"><p>Start the service with --workspace DIR. The command does the same: oddsight evaluate MODEL.onnx DIR</p><//>`;
  }
  if (!model) return html`<${Empty} title="No model yet"><p>Train a model first.</p><p><a class="button primary" href="#train">Train</a></p><//>`;
  if (!allows("manage")) return html`<div class="stack"><p>Your token has no right to start an evaluation.</p><${Earlier} backend=${backend} /></div>`;
  if (model.classes) {
    return html`<${Empty} title="A model of known classes"><p>It is evaluated on images of every class. The command does that: oddsight evaluate ${model.name}.onnx DIR</p><//>`;
  }
  const { step, normal } = evaluation();
  return html`<div class=${`stack ${step === "done" ? "" : "narrow"}`}>
    ${step === "normal" && html`<${DropPlace} key="normal" take=${take("normal", "anomalous")} title="First, drop normal images here">
      <p>Images that ${model.name} has not learned from, taken as later images will be.</p>
    <//>`}
    ${step === "anomalous" && html`<${DropPlace} key="anomalous" take=${(files) => take("anomalous", "run")(files) && begin(backend, model)}
      title="Now drop anomalous images here">
      <p>${imagesOf(normal.length)} that are normal, and now some that are not.</p>
      <p><button class="quiet" onClick=${() => set(START)}>Other normal images</button></p>
    <//>`}
    ${step === "run" && html`<${Running} backend=${backend} />`}
    ${step === "done" && html`<${Done} backend=${backend} />`}
    ${["normal", "done"].includes(step) && html`<${Earlier} backend=${backend} />`}
  </div>`;
}

/** Keep dropped files and go on; false if there are none. */
const take = (kind, next) => (files) => {
  if (files.length) set({ [kind]: files, step: next });
  else say("There is no image among these files.", true);
  return files.length > 0;
};

/** Send both sets, have them evaluated, and remove them again: the report is what stays. */
async function begin(backend, model) {
  const { normal, anomalous } = evaluation();
  const control = new AbortController();
  const sent = [];
  set({ control, done: 0 });
  try {
    for (const files of [normal, anomalous]) {
      const before = sent.length ? normal.length : 0;
      sent.push(await upload(backend, files, (done) => set({ done: before + done }), control.signal));
    }
    const [first, second] = sent.map((one) => one.upload);
    const order = { kind: "evaluate", model: model.name, normal: first, anomalous: second };
    const result = await run(backend, order, (job) => set({ job }));
    set({ step: "done", result, refused: sent.flatMap((one) => one.refused) });
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
    set(START);
  }
  for (const one of sent) forget(backend, one.upload);
}

function Running({ backend }) {
  const { normal, anomalous, done, job, control } = evaluation();
  const total = normal.length + anomalous.length;
  return html`<section class="panel"><h2>Evaluating</h2>
    ${job
      ? html`<${JobMeter} backend=${backend} job=${job} label="scoring" />`
      : html`<${Meter} label=${`Sending ${imagesOf(total)}`} done=${done} total=${total}>
          <button class="quiet" onClick=${() => control.abort()}>Cancel</button><//>`}
  </section>`;
}

function Done({ backend }) {
  const { result, refused } = evaluation();
  const { image, counts, served } = result;
  const unread = [...refused, ...result.errors.map(({ path, error }) => ({ name: path, error }))];
  const sure = percent(result.confidence);
  const between = ([low, high]) => `${percent(low)} to ${percent(high)} with ${sure} confidence`;
  const heading = useRef(null);
  useEffect(() => heading.current.focus(), []);
  return html`<section class="panel">
    <h2 tabindex="-1" ref=${heading}>${served.name} detects ${count(counts.flagged_anomalous)} of ${count(counts.anomalous)} anomalous images</h2>
    <${Facts} rows=${[
      ["Detected", html`${percent(image.recall)} <span class="soft">${between(image.recall_ci)}</span>`],
      ["False alarms", html`${count(counts.flagged_normal)} of ${imagesOf(counts.normal)}, ${percent(image.false_alarm_rate)} <span class="soft">${between(image.false_alarm_rate_ci)}</span>`],
      ["AUROC", html`${image.auroc.toFixed(3)} <span class="soft">${image.auroc_ci.map((value) => value.toFixed(3)).join(" to ")} with ${sure} confidence</span>`],
      ["Threshold", score(result.model.threshold)],
    ]} />
    ${unread.length > 0 && html`<details><summary><b>${unread.length}</b> not read, and left out</summary>
      <ul class="names">${unread.map(({ name, error }) => html`<li>${name}: ${error}</li>`)}</ul></details>`}
    ${result.warnings.map((text) => html`<p class="warn">${text}</p>`)}
    <div class="row"><${SaveReport} backend=${backend} result=${result} /><button class="quiet" onClick=${() => set(START)}>Evaluate again</button></div>
  </section>
  ${backend.mayEmbed() && html`<iframe class="report" title="Report" src=${result.report.replace(/^\//, "")}></iframe>`}`;
}

function SaveReport({ backend, result, quiet = false }) {
  const save = async () => {
    try {
      download(`${result.served.name}-report.html`, await backend.report(result.report));
    } catch (error) {
      say(error.message, true);
    }
  };
  return html`<button class=${quiet ? "quiet" : ""} onClick=${save}>Save the report</button>`;
}

function Earlier({ backend }) {
  const [found] = useLoad(() => backend.jobs(), [evaluation().step]);
  const jobs = (found?.jobs ?? []).filter((job) => job.kind === "evaluate" && job.result?.served);
  if (!jobs.length) return null;
  return html`<section><h2>Evaluations so far</h2>
    <div class="scroll"><table><thead><tr><th>When</th><th>Model</th><th class="number">Detected</th><th class="number">False alarms</th><th class="number">AUROC</th><th></th></tr></thead><tbody>
      ${jobs.map(({ id, ended, result }) => html`<tr key=${id}><td class="time">${when(ended)}</td><td>${result.served.name}</td>
        <td class="number">${count(result.counts.flagged_anomalous)} of ${count(result.counts.anomalous)}</td>
        <td class="number">${count(result.counts.flagged_normal)} of ${count(result.counts.normal)}</td>
        <td class="number">${result.image.auroc.toFixed(3)}</td><td><${SaveReport} backend=${backend} result=${result} quiet=${true} /></td></tr>`)}
    </tbody></table></div>
  </section>`;
}
