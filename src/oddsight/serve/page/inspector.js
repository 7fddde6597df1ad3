/* One image in large: where it is unusual, which voice said so, and the normal image that it resembles most. */
import { html, Icon, useEffect, useRef, useState } from "./dom.js";
import { decodeMap, paintHeat, paintRegions } from "./heat.js";
import { chance, count, percent, score } from "./numbers.js";
import { fit, largeCopy, Fetched, prepare } from "./images.js";
import { cutOf, isFlagged, verdictOf } from "./scoring.js";
import { allows, change, say, state } from "./store.js";
import { Facts, Tag } from "./widgets.js";

const NARROW = 720;

export function Inspector({ backend, image, model, heat, setHeat, close }) {
  const panel = useRef(null);
  useEffect(() => {
    if (image && innerWidth <= NARROW) panel.current?.focus();
  }, [image?.key]);
  if (!image) {
    return html`<aside class="inspector idle" aria-label="Image"><p class="soft">Choose an image to see why. Arrow keys move from one to the next.</p></aside>`;
  }
  const result = image.results[model.name];
  const keys = (event) => {
    if (event.key === "Escape") close();
  };
  return html`<aside class="inspector" aria-label="Image" ref=${panel} tabindex="-1" onKeyDown=${keys}>
    <header class="row between">
      <h2 title=${image.name}>${image.name.split("/").at(-1)}</h2>
      <button class="quiet" aria-label="Close the image" onClick=${close}><${Icon} name="close" /></button>
    </header>
    ${result.error ? html`<p class="bad">${result.error}</p>` : html`<${Explained} ...${{ backend, image, model, result, heat, setHeat }} />`}
  </aside>`;
}

function Explained({ backend, image, model, result, heat, setHeat }) {
  const flagged = isFlagged(result, model);
  const cut = cutOf(result, model);
  const nearest = model.has_normals ? result.nearest : null;
  return html`
    <div class=${`pair ${nearest ? "two" : ""}`}>
      <${LargeView} image=${image} result=${result} cut=${cut} heat=${heat} />
      ${nearest && html`<${Nearest} backend=${backend} model=${model} id=${nearest} />`}
    </div>
    ${model.localises && html`<div class="row">
      <label class="inline"><input type="checkbox" checked=${heat.opacity > 0}
        onChange=${(event) => setHeat({ ...heat, opacity: event.target.checked ? 1 : 0 })} />Heat map</label>
      ${result.content && html`<label class="inline"><input type="checkbox" checked=${heat.regions}
        onChange=${(event) => setHeat({ ...heat, regions: event.target.checked })} />Regions</label>`}
    </div>`}
    <p class="verdict"><${Tag} flagged=${flagged}>${verdictOf(result, model)}<//> ${chance(result.p_value)}</p>
    <${Facts} rows=${[
      ["Score", html`${score(result.score)} <span class="soft">threshold ${score(cut)}</span>`],
      ["p-value", result.p_value.toPrecision(3)],
      result.class && ["Class", `${result.class} (${percent(result.class_probability)})`],
      result.regions?.length > 0 && ["Regions", `${count(result.regions.length)}, the strongest at ${place(result)}`],
      ["Size", `${count(result.width)} × ${count(result.height)} pixels`],
    ]} />
    ${result.voices?.length > 0 && html`<${Voices} voices=${result.voices} />`}
    ${result.kept && backend.mark && allows("score") && html`<${Truth} backend=${backend} image=${image} result=${result} flagged=${flagged} />`}`;
}

function Nearest({ backend, model, id }) {
  return html`<figure>
    <${Fetched} name=${`${model.name}/${id}`} load=${() => backend.normal(model.name, id)} alt="Most similar normal image"
      missing="no small copy" />
    <figcaption>most similar normal image</figcaption>
  </figure>`;
}

function place({ regions, width, height }) {
  const [left, top, right, bottom] = regions[0].bbox;
  const [x, y] = [(left + right) / 2 / width, (top + bottom) / 2 / height];
  const down = y < 1 / 3 ? "top" : y > 2 / 3 ? "bottom" : "";
  const across = x < 1 / 3 ? "left" : x > 2 / 3 ? "right" : "";
  return down || across ? `the ${[down, across].filter(Boolean).join(" ")}` : "the centre";
}

function LargeView({ image, result, cut, heat }) {
  const canvas = useRef(null);
  const [copy, setCopy] = useState(null);
  useEffect(() => {
    let gone = false;
    setCopy(null);
    largeCopy(image.file).then((made) => !gone && setCopy(made));
    return () => {
      gone = true;
    };
  }, [image.key]);
  useEffect(() => {
    let gone = false;
    const width = canvas.current.parentElement.clientWidth;
    const height = Math.min(width, Math.max(180, (width * result.height) / result.width));
    paint(canvas.current, copy, result, cut, heat, width, height, () => gone);
    return () => {
      gone = true;
    };
  }, [copy, result, cut, heat.opacity, heat.regions]);
  const where = result.regions?.length ? `${result.regions.length} unusual regions` : "no unusual region";
  return html`<div class="large"><canvas ref=${canvas} role="img" aria-label=${`${image.name}, ${where}`}></canvas></div>`;
}

async function paint(canvas, copy, result, cut, heat, width, height, gone) {
  const map = result.map && cut !== null ? await decodeMap(result.map) : null;
  if (gone()) return;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = prepare(canvas, width, height);
  const box = fit(result.width, result.height, width, height);
  if (copy) context.drawImage(copy, box.x, box.y, box.width, box.height);
  if (map && heat.opacity > 0) paintHeat(context, map, cut, heat.opacity, box);
  if (heat.regions && result.regions) paintRegions(context, result.regions, box, result);
}

function Voices({ voices }) {
  const most = Math.max(...voices.map((voice) => voice.evidence), 1e-9);
  return html`<section><h3>Which part spoke</h3>
    <ul class="voices">
      ${voices.map(
        (voice, index) => html`<li key=${voice.name} class=${index ? "" : "first"}>
          <span>${spoken(voice.name)}</span>
          <span class="level" aria-hidden="true"><span style=${{ width: `${(100 * Math.max(0, voice.evidence)) / most}%` }}></span></span>
          <span class="soft">p ${voice.p_value.toPrecision(2)}</span>
        </li>`,
      )}
    </ul>
  </section>`;
}

/** What a voice looks at; docs/explaining.md has more. */
function spoken(name) {
  if (name === "places") return "places in the image";
  // Models of earlier versions have a voice for each detector of places.
  if (name === "patches") return "patches";
  if (name === "details") return "fine details";
  if (name === "positions") return "same place in normal images";
  return name.replace(/^stage(\d+)$/, "image, stage $1");
}

function Truth({ backend, image, result, flagged }) {
  const tell = async (truth) => {
    try {
      image.feedback = await backend.mark({ result_id: result.id, truth });
      change({ revision: state.revision + 1 });
      say(truth === "normal" ? "Marked as normal." : "Marked as anomalous.");
    } catch (error) {
      say(error.message, true);
    }
  };
  const undo = async () => {
    try {
      await backend.unmark(image.feedback.id);
      image.feedback = null;
      change({ revision: state.revision + 1 });
    } catch (error) {
      say(error.message, true);
    }
  };
  return html`<section><h3>Is this right?</h3>
    ${image.feedback
      ? html`<div class="row"><span>You said: ${image.feedback.truth}.</span><button onClick=${undo}>Undo</button></div>`
      : html`<div class="row">
          <button onClick=${() => tell(flagged ? "normal" : "anomalous")}>${flagged ? "False alarm: it is normal" : "Missed: it is anomalous"}</button>
          <button class="quiet" onClick=${() => tell(flagged ? "anomalous" : "normal")}>Yes</button>
        </div>`}
  </section>`;
}
