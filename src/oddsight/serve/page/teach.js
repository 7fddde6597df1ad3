/* Teach: say what was wrong, answer a few questions about images that passed, see what would change, then change it.
   Marking only flagged images would bias the calibration, so a random share of the others is asked about. */
import { loadModels } from "./app.js";
import { html, useState } from "./dom.js";
import { JobMeter, run } from "./jobs.js";
import { count, images as imagesOf, percent, score, when } from "./numbers.js";
import { Picture } from "./pictures.js";
import { allows, currentModel, say, useStore } from "./store.js";
import { Choice, Empty, Facts, Tag, useLoad } from "./widgets.js";

const QUESTIONS = 6;
const FLAGGED = 12;

export function Teach({ backend }) {
  const { status } = useStore();
  const model = currentModel();
  if (!status.workspace) {
    return html`<${Empty} title="Teaching needs a workspace"><p>Start the service with --workspace DIR. It then keeps images and what you say about them.</p><//>`;
  }
  if (!model) return html`<${Empty} title="No model yet"><p>Train a model first.</p><//>`;
  return html`<${Lessons} key=${model.name} backend=${backend} model=${model} />`;
}

function Lessons({ backend, model }) {
  const [flagged, problem, reloadFlagged] = useLoad(() => backend.pastResults({ model: model.name, flagged: true, limit: FLAGGED }), [model.name]);
  const [asked, , reloadAsked] = useLoad(() => backend.questions(model.name, QUESTIONS), [model.name]);
  const [told, , reloadTold] = useLoad(() => backend.trail());
  const tell = async (item, truth, question) => {
    try {
      await backend.mark({ result_id: item.id ?? item.result_id, truth, ...(question ? { question: true } : {}) });
      await Promise.all([reloadFlagged(), question ? reloadAsked() : null, reloadTold()]);
    } catch (error) {
      say(error.message, true);
    }
  };
  const undo = async (entry) => {
    try {
      await backend.unmark(entry.id);
      await Promise.all([reloadFlagged(), reloadTold()]);
    } catch (error) {
      say(error.message, true);
    }
  };
  const open = (flagged?.items ?? []).filter((item) => !item.feedback);
  return html`<div class="stack">
    ${problem && html`<p class="bad">${problem}</p>`}
    <section class="panel"><h2>Were these rightly flagged?</h2>
      ${open.length
        ? html`<${Asked} backend=${backend} items=${open} answers=${[["normal", "False alarm"], ["anomalous", "Rightly"]]} tell=${(item, truth) => tell(item, truth, false)} />`
        : html`<p class="soft">${flagged ? "Nothing to answer. Flagged images appear here after you have looked at some." : "Loading."}</p>`}
    </section>
    <section class="panel"><h2>Are these normal?</h2>
      <p class="soft">These passed, and were drawn at random. Your answers keep the false-alarm rate honest: flagged images alone would shift it.</p>
      ${list(asked).length
        ? html`<${Asked} backend=${backend} items=${list(asked)} answers=${[["normal", "Normal"], ["anomalous", "Missed"]]} tell=${(item, truth) => tell(item, truth, true)} />`
        : html`<p class="soft">No question is open.</p>`}
    </section>
    ${allows("manage") && html`<${Change} backend=${backend} model=${model} />`}
    <${Trail} entries=${list(told)} undo=${undo} />
  </div>`;
}

/** The items of an answer, whatever it calls them. */
const list = (answer) => (Array.isArray(answer) ? answer : (answer?.items ?? answer?.questions ?? answer?.feedback ?? []));

function Asked({ backend, items, answers, tell }) {
  return html`<ul class="asked">
    ${items.map(
      (item) => html`<li key=${item.id ?? item.result_id}>
        <${Picture} name=${item.content} load=${() => backend.thumbnail(item.content)} alt=${item.name} />
        <div class="name" title=${item.name}>${item.name.split("/").at(-1)}</div>
        <div class="soft small">p ${item.p_value.toPrecision(2)}</div>
        <div class="row">${answers.map(([truth, text]) => html`<button key=${truth} onClick=${() => tell(item, truth)} aria-label=${`${item.name}: ${text}`}>${text}</button>`)}</div>
      </li>`,
    )}
  </ul>`;
}

const WAYS = [["recalibrate", "Set the threshold anew"], ["update", "Learn from them, too"]];

function Change({ backend, model }) {
  const [kind, setKind] = useState("recalibrate");
  const [job, setJob] = useState(null);
  const [preview, setPreview] = useState(null);
  const start = async (only) => {
    setPreview(null);
    try {
      const result = await run(backend, { kind, model: model.name, from: "feedback", preview: only }, setJob);
      if (only) setPreview(result);
      else {
        await loadModels(backend, model.name);
        say("Saved as a new version. The old one stays.");
      }
    } catch (error) {
      say(error.message, true);
    }
    setJob(null);
  };
  return html`<section class="panel"><h2>Use what you said</h2>
    <div class="row">
      <${Choice} label="What to do" options=${WAYS} value=${kind} choose=${(value) => { setKind(value); setPreview(null); }} />
      <button class=${preview ? "" : "primary"} disabled=${Boolean(job)} onClick=${() => start(true)}>See what would change</button>
    </div>
    <p class="soft">${kind === "recalibrate"
      ? "Confirmed normal images join the calibration. The scores stay the same; only the threshold moves."
      : "Confirmed normal images join the training. The model is fitted again with its own settings."}</p>
    ${job && html`<${JobMeter} backend=${backend} job=${job} label=${kind} />`}
    ${preview && html`<${Preview} ...${{ backend, model, preview }} apply=${() => start(false)} />`}
  </section>`;
}

function Preview({ backend, preview, apply, model }) {
  const before = preview.old_threshold ?? preview.before?.threshold;
  const after = preview.new_threshold ?? preview.after?.threshold;
  const flips = Array.isArray(preview.flips) ? preview.flips : [];
  const total = typeof preview.flips === "number" ? preview.flips : flips.length;
  return html`<div class="preview" tabindex="-1" ref=${(element) => element?.focus()}>
    <${Facts} rows=${[
      before !== undefined && ["Threshold", `${score(before)} → ${score(after)}`],
      preview.old_count !== undefined && ["Calibration", `${count(preview.old_count)} → ${imagesOf(preview.new_count)}`],
      ["Rate", model.false_alarm_rate ? `${percent(model.false_alarm_rate)}, still promised` : "set by hand"],
      ["Kept results", `${imagesOf(total)} would change`],
    ]} />
    <ul class="asked">
      ${flips.slice(0, 8).map((item) => html`<li key=${item.id ?? item.result_id}>
        <${Picture} name=${item.content} load=${() => backend.thumbnail(item.content)} alt=${item.name ?? "image"} />
        <div class="name">${(item.name ?? "").split("/").at(-1)}</div>
      </li>`)}
    </ul>
    <button class="primary" onClick=${apply}>Save as a new version</button>
  </div>`;
}

function Trail({ entries, undo }) {
  return html`<section class="panel"><h2>What was said</h2>
    ${entries.length
      ? html`<div class="scroll"><table><thead><tr><th>When</th><th>Image</th><th>Truth</th><th></th></tr></thead><tbody>
          ${entries.slice(0, 100).map(
            (entry) => html`<tr key=${entry.id} class=${entry.undone ? "undone" : ""}>
              <td>${when(entry.time)}</td><td>${entry.name ?? entry.result_id}</td>
              <td><${Tag} flagged=${entry.truth === "anomalous"}>${entry.truth}<//>${entry.question ? html` <span class="soft">asked</span>` : ""}</td>
              <td class="number">${entry.undone ? html`<span class="soft">undone</span>` : html`<button class="quiet" onClick=${() => undo(entry)}>Undo</button>`}</td>
            </tr>`,
          )}
        </tbody></table></div>`
      : html`<p class="soft">Nothing yet. Everything you say is kept here, also what you undo.</p>`}
  </section>`;
}
