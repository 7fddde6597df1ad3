/* Look: drop images, see them from the most unusual to the most normal, and why. */
import { html, useMemo, useState } from "./dom.js";
import { Gallery } from "./gallery.js";
import { Inspector } from "./inspector.js";
import { count, images as imagesOf, percent } from "./numbers.js";
import { addImages, clearImages, divide, isFlagged, scoreAll, scoreHere, stopScoring, verdictOf } from "./scoring.js";
import { change, currentModel, useStore } from "./store.js";
import { Choice, download, DropPlace, Empty, FileButtons, Meter, useDrops } from "./widgets.js";

export function Look({ backend }) {
  const { images } = useStore();
  const model = currentModel();
  if (!model) return html`<${NoModel} views=${backend.views} />`;
  if (!images.length) return html`<${First} model=${model} local=${backend.local} />`;
  return html`<${Workbench} backend=${backend} model=${model} />`;
}

function NoModel({ views }) {
  return html`<${Empty} title="No model yet">
    <p>A model knows what normal images look like. Give it some, and it finds the images that do not belong.</p>
    ${views.includes("train") && html`<p><a class="button primary" href="#train">Train a model</a></p>`}
  <//>`;
}

function First({ model, local }) {
  const rate = model.false_alarm_rate;
  return html`<${DropPlace} take=${addImages} title="Drop images or a folder here">
    <p>
      ${rate
        ? `Each image is compared with what ${model.name} knows as normal. It flags at most ${percent(rate)} of normal images.`
        : `Each image is compared with what ${model.name} knows as normal. Its threshold was set by hand.`}
    </p>
    ${local && html`<p class="soft">The model runs in this page. Your images do not leave this computer.</p>`}
    <${Here} label="Score in this browser: images do not leave this computer" />
  <//>`;
}

/** Whether images are scored in this browser, where the service brought what that needs. */
function Here({ label }) {
  const { status, here } = useStore();
  if (!status.browser) return null;
  return html`<label class="inline"><input type="checkbox" checked=${here} onChange=${(event) => scoreHere(event.target.checked)} />${label}</label>`;
}

function Workbench({ backend, model }) {
  const { images, scoring, revision, draft, selected } = useStore();
  const [show, setShow] = useState("all");
  const [order, setOrder] = useState("unusual");
  const [heat, setHeat] = useState({ opacity: 1, regions: true });
  const over = useDrops(addImages);
  const parts = useMemo(() => divide(images, model.name), [images, revision, model.name]);
  const flagged = useMemo(() => parts.scored.filter((image) => isFlagged(image.results[model.name], model)), [parts, draft, model]);
  const listed = useMemo(() => arrange(parts, flagged, show, order, model), [parts, flagged, show, order]);
  const chosen = listed.find((image) => image.key === selected) ?? null;
  const choose = (image) => change({ selected: image?.key ?? null });
  return html`<div class=${`workbench ${over ? "over" : ""}`}>
    <${Toolbar} ...${{ parts, flagged, show, setShow, order, setOrder, heat, setHeat, model }} />
    ${scoring &&
    html`<${Meter} label=${`Scoring ${count(scoring.done)} of ${imagesOf(scoring.total)}`} ...${scoring}>
      <button class="quiet" onClick=${stopScoring}>Stop</button>
    <//>`}
    <div class="split">
      ${listed.length
        ? html`<${Gallery} images=${listed} model=${model} chosen=${chosen} choose=${choose} heat=${heat} />`
        : html`<p class="empty soft">${parts.waiting ? "The first results come in a moment." : "No image of this kind."}</p>`}
      <${Inspector} backend=${backend} image=${chosen} model=${model} heat=${heat} setHeat=${setHeat} close=${() => choose(null)} />
    </div>
  </div>`;
}

function arrange({ scored, failed }, flagged, show, order, model) {
  if (show === "failed") return failed;
  const isOne = new Set(flagged);
  const chosen = show === "flagged" ? flagged : show === "normal" ? scored.filter((image) => !isOne.has(image)) : scored;
  const of = (image) => image.results[model.name];
  const unusual = (a, b) => of(a).p_value - of(b).p_value || of(b).score - of(a).score;
  const byName = (a, b) => a.name.localeCompare(b.name, "en", { numeric: true });
  const sorted = [...chosen].sort(order === "name" ? byName : unusual);
  return show === "all" ? sorted.concat(failed) : sorted;
}

function Toolbar({ parts, flagged, show, setShow, order, setOrder, heat, setHeat, model }) {
  const [normal, anomalous] = model.classes ? ["known", "none of these"] : (model.verdicts ?? ["normal", "anomalous"]);
  const options = [
    ["all", `All ${count(parts.scored.length + parts.failed.length)}`],
    ["flagged", `${capital(anomalous)} ${count(flagged.length)}`],
    ["normal", `${capital(normal)} ${count(parts.scored.length - flagged.length)}`],
  ];
  if (parts.failed.length) options.push(["failed", `Not scored ${count(parts.failed.length)}`]);
  const unanswered = parts.failed.some((image) => image.results[model.name].unanswered);
  return html`<div class="toolbar">
    <${Choice} label="Which images" options=${options} value=${show} choose=${setShow} />
    <label class="inline"><span class="hidden">Order</span>
      <select value=${order} onChange=${(event) => setOrder(event.target.value)}>
        <option value="unusual">most unusual first</option>
        <option value="name">by name</option>
      </select>
    </label>
    <label class="inline"><span class="wide">Heat map</span>
      <input type="range" aria-label="Heat map" min="0" max="1" step="0.05" value=${heat.opacity}
        onInput=${(event) => setHeat({ ...heat, opacity: Number(event.target.value) })} />
    </label>
    <${Here} label="In this browser" />
    <div class="row actions">
      ${unanswered && html`<button onClick=${() => scoreAll()}>Try again</button>`}
      <${FileButtons} take=${addImages} primary=${false} />
      <button onClick=${() => exportResults(parts, model)} disabled=${!parts.scored.length}>Export</button>
      <button class="quiet" onClick=${clearImages}>Clear</button>
    </div>
  </div>`;
}

const capital = (word) => word[0].toUpperCase() + word.slice(1);

/** JSON Lines as `oddsight predict --json` writes them, decided by the threshold that is in use. */
function exportResults({ scored, failed }, model) {
  const lines = scored.map(({ name, results }) => {
    const { map, id, content, kept, version, name: _, ...result } = results[model.name];
    return { ...result, path: name, verdict: verdictOf(result, model), anomalous: isFlagged(result, model) };
  });
  const errors = failed.map(({ name, results }) => ({ path: name, error: results[model.name].error }));
  const text = [...lines, ...errors].map((line) => `${JSON.stringify(line)}\n`).join("");
  download(`${model.name}-results.jsonl`, new Blob([text], { type: "application/jsonl" }));
}
