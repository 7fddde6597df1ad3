/* Teach: answer questions about images that were drawn by lot, say what was wrong, see what would change, then change it.
   Only the lots set a threshold: whoever marks flagged images picks by the score, and would shift the calibration. */
import { html, useState } from "./dom.js";
import { JobMeter, run } from "./jobs.js";
import { Fetched } from "./images.js";
import { count, images as imagesOf, percent, score, when } from "./numbers.js";
import { loadModels } from "./scoring.js";
import { allows, currentModel, say, useStore } from "./store.js";
import { Choice, Empty, Facts, Tag, useLoad } from "./widgets.js";

const DRAWN = 10;
const RATES = [0.001, 0.01, 0.02, 0.05, 0.1, 0.2];
const MOST_OPEN = 50;
const FLAGGED = 12;
const MOST = 12;

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
  const [asked, trouble, reloadAsked] = useLoad(() => openQuestions(backend, model.name), [model.name]);
  const [told, , reloadTold] = useLoad(() => backend.trail());
  const tell = async (item, truth, question) => {
    try {
      await backend.mark({ result_id: item.id, truth, ...(question ? { question: true } : {}) });
      await Promise.all([reloadFlagged(), reloadAsked(), reloadTold()]);
    } catch (error) {
      say(error.message, true);
    }
  };
  const undo = async (entry) => {
    try {
      await backend.unmark(entry.id);
      await Promise.all([reloadFlagged(), reloadAsked(), reloadTold()]);
    } catch (error) {
      say(error.message, true);
    }
  };
  const draw = async () => {
    const { open } = asked.answers;
    try {
      const drawn = await backend.questions(model.name, Math.min(MOST_OPEN, open + DRAWN));
      if (drawn.answers.open === open) say("No image is left to ask about. Look at more images first.");
      await reloadAsked();
    } catch (error) {
      say(error.message, true);
    }
  };
  const open = (flagged?.items ?? []).filter((item) => !item.feedback);
  return html`<div class="stack">
    ${(problem ?? trouble) && html`<p class="bad">${problem ?? trouble}</p>`}
    <${Questions} backend=${backend} asked=${asked} draw=${draw} tell=${(item, truth) => tell(item, truth, true)} />
    <section class="panel"><h2>Were these rightly flagged?</h2>
      <p class="soft">What you say here teaches an update, and stays out of the calibration.</p>
      ${open.length
        ? html`<${Asked} backend=${backend} items=${open} answers=${[["normal", "False alarm"], ["anomalous", "Rightly"]]} tell=${(item, truth) => tell(item, truth, false)} />`
        : html`<p class="soft">${flagged ? "Nothing is open." : "Loading."}</p>`}
    </section>
    ${allows("manage") && html`<${Change} backend=${backend} model=${model} normal=${asked?.answers.normal ?? 0} />`}
    <${Trail} entries=${told?.items ?? []} undo=${undo} />
  </div>`;
}

/** The questions without an answer; none is drawn for it. */
async function openQuestions(backend, model) {
  const none = await backend.questions(model, 0);
  return none.answers.open ? backend.questions(model, Math.min(MOST_OPEN, none.answers.open)) : none;
}

function Questions({ backend, asked, draw, tell }) {
  const items = asked?.items ?? [];
  const { normal = 0, anomalous = 0, open = 0 } = asked?.answers ?? {};
  return html`<section class="panel"><h2>Is this normal?</h2>
    <p class="soft">Images are drawn by lot from all that were kept, flagged or not. So your answers are a fair sample, and the
      false-alarm rate stays true. Answer all that are open before you set the threshold anew.</p>
    ${items.length
      ? html`<${Asked} backend=${backend} items=${items} answers=${[["normal", "Normal"], ["anomalous", "Anomalous"]]} tell=${tell} />`
      : null}
    <div class="row"><button class=${open || normal + anomalous ? "" : "primary"} disabled=${!asked} onClick=${draw}>Draw ${DRAWN} ${open ? "more " : ""}images</button>
      <span class="small soft">Answered so far: ${count(normal)} normal, ${count(anomalous)} anomalous. Open: ${count(open)}.</span></div>
  </section>`;
}

function Asked({ backend, items, answers, tell }) {
  return html`<ul class="asked">
    ${items.map(
      (item) => html`<li key=${item.id}>
        <${Fetched} name=${item.content} load=${() => backend.thumbnail(item.content)} alt=${item.name} />
        <div class="name" title=${item.name}>${item.name.split("/").at(-1)}</div>
        <div class="soft small">p ${item.p_value.toPrecision(2)}</div>
        <div class="row">${answers.map(([truth, text]) => html`<button key=${truth} onClick=${() => tell(item, truth)} aria-label=${`${item.name}: ${text}`}>${text}</button>`)}</div>
      </li>`,
    )}
  </ul>`;
}

const WAYS = [["recalibrate", "Set the threshold anew"], ["update", "Learn from them, too"]];

/** How many normal answers a rate takes. */
const needed = (rate) => Math.ceil(1 / rate - 1 - 1e-9);

/** Rates that so many answers promise: usual ones, the model's own, and the smallest. */
function promised(normal, own) {
  const least = 1 / (normal + 1);
  return [...new Set([...RATES, own ?? least, least])].filter((rate) => normal >= needed(rate)).sort((a, b) => a - b);
}

function Change({ backend, model, normal }) {
  const [kind, setKind] = useState("recalibrate");
  const [rate, setRate] = useState(null);
  const [job, setJob] = useState(null);
  const rates = promised(normal, model.false_alarm_rate);
  const chosen = rates.includes(rate) ? rate : (rates.find((one) => one === model.false_alarm_rate) ?? rates[0]);
  const [preview, setPreview] = useState(null);
  const start = async (only) => {
    setPreview(null);
    try {
      const result = await run(backend, { kind, model: model.name, from: "feedback", preview: only, ...(kind === "recalibrate" ? { false_alarm_rate: chosen } : {}) }, setJob);
      if (only) setPreview(result);
      else {
        await loadModels(model.name);
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
      ${kind === "recalibrate" && rates.length > 0 && html`<label class="inline">at most <select value=${chosen} onChange=${(event) => { setRate(Number(event.target.value)); setPreview(null); }}>
        ${rates.map((one) => html`<option key=${one} value=${one}>${percent(one)}</option>`)}</select> false alarms</label>`}
      <button class=${preview ? "" : "primary"} disabled=${Boolean(job) || (kind === "recalibrate" && !normal)} onClick=${() => start(true)}>See what would change</button>
    </div>
    <p class="soft">${kind === "recalibrate"
      ? "The normal images among your answers become the calibration. Scores stay the same; only the threshold moves. A rate of 5% takes 19 of them, 1% takes 99."
      : "Images that you confirmed as normal are learned, too. Scores change, and questions begin anew."}</p>
    ${job && html`<${JobMeter} backend=${backend} job=${job} label=${kind} />`}
    ${preview && html`<${Preview} ...${{ backend, preview }} apply=${() => start(false)} />`}
  </section>`;
}

function Preview({ backend, preview, apply }) {
  const { threshold, calibration, false_alarm_rate: rates, suspicious = [], flips = {} } = { ...preview, ...preview.changes };
  const [flagged, normal] = [flips.now_flagged ?? [], flips.now_normal ?? []];
  return html`<div class="preview" tabindex="-1" ref=${focusOnce}>
    <${Facts} rows=${[
      threshold && ["Threshold", `${score(threshold[0])} → ${score(threshold[1])}`],
      calibration && ["Calibration", `${count(calibration[0])} → ${imagesOf(calibration[1])}`],
      rates && ["Rate", rates.map((rate) => (rate ? percent(rate) : "by hand")).join(" → ")],
      ["Kept images", `${imagesOf(flagged.length + normal.length)} of ${count(flips.images ?? 0)} would change`],
    ]} />
    ${suspicious.length > 0 && html`<p class="warn">${imagesOf(suspicious.length)} to learn from look very unusual to the model. Make sure that they are normal.</p>`}
    <${Flipped} backend=${backend} title="Flagged from then on" contents=${flagged} />
    <${Flipped} backend=${backend} title="No longer flagged" contents=${normal} />
    <button class="primary" onClick=${apply}>Save as a new version</button>
  </div>`;
}

/** Move the focus to what has just come, for those who use keys. */
function focusOnce(element) {
  if (element && !element.dataset.seen) {
    element.dataset.seen = "yes";
    element.focus();
  }
}

function Flipped({ backend, title, contents }) {
  if (!contents.length) return null;
  return html`<h3>${title}: ${imagesOf(contents.length)}</h3>
    <ul class="asked">
      ${contents.slice(0, MOST).map((content) => html`<li key=${content}><${Fetched} name=${content} load=${() => backend.thumbnail(content)} alt=${title} /></li>`)}
    </ul>`;
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
