/* Watch: events of a running `oddsight watch`, with key frames, and the zones in which it looks. */
import { html, useEffect, useState } from "./dom.js";
import { count, score, when } from "./numbers.js";
import { Fetched } from "./images.js";
import { useStore } from "./store.js";
import { Empty, Tag, useLoad } from "./widgets.js";
import { ZoneEditor } from "./zones.js";

const KEPT = 200;

export function Watch({ backend }) {
  const { status } = useStore();
  const [found, problem, reload] = useLoad(() => backend.streams());
  const [chosen, setChosen] = useState(null);
  if (!status.workspace) {
    return html`<${Empty} title="Watching needs a workspace"><p>Start the service with --workspace DIR; a running watch writes its events there.</p><//>`;
  }
  if (problem) return html`<p class="bad">${problem}</p>`;
  const names = list(found).map((stream) => stream.name ?? stream);
  if (!names.length) {
    return html`<${Empty} title="Nothing is being watched">
      <p>Let a running watch write into the workspace, and its events appear here as they happen:</p>
      <pre><code>oddsight watch gate.onnx rtsp://camera/live --events WORKSPACE/watch/gate/events.jsonl --key-frames WORKSPACE/watch/gate/frames</code></pre>
      <button onClick=${reload}>Look again</button>
    <//>`;
  }
  const name = chosen ?? names[0];
  return html`<div class="stack">
    ${names.length > 1 && html`<label class="inline">Stream
      <select value=${name} onChange=${(event) => setChosen(event.target.value)}>${names.map((one) => html`<option key=${one}>${one}</option>`)}</select>
    </label>`}
    <${Stream} key=${name} name=${name} backend=${backend} />
  </div>`;
}

const list = (found) => (Array.isArray(found) ? found : (found?.streams ?? []));

function Stream({ name, backend }) {
  const [events, setEvents] = useState([]);
  const [state, setState] = useState("connecting");
  useEffect(() => {
    const control = new AbortController();
    listen(backend, name, control.signal, setEvents, setState);
    return () => control.abort();
  }, []);
  const framed = events.find((event) => event.kind !== "source");
  return html`<div class="watching">
    <${ZoneEditor} name=${name} backend=${backend} frame=${framed && frameOf(framed)} />
    <section class="panel"><div class="row between"><h2>Events</h2><span class="soft small">${state === "live" ? html`<span class="pulse"></span> live` : state}</span></div>
      ${events.length
        ? html`<ol class="events" aria-live="polite">${events.map((event) => html`<${EventLine} key=${event.id} ...${{ event, name, backend }} />`)}</ol>`
        : html`<p class="soft">No event yet.</p>`}
    </section>
  </div>`;
}

/** Events by id, newest first; a connection that ends is made again. */
async function listen(backend, name, signal, setEvents, setState) {
  let byId = new Map();
  const hear = (_, event) => {
    byId.set(event.id, { ...byId.get(event.id), ...event });
    if (byId.size > KEPT) byId = new Map([...byId].slice(-KEPT));
    setEvents([...byId.values()].reverse());
    setState("live");
  };
  while (!signal.aborted) {
    try {
      await backend.watchEvents(name, hear, signal);
    } catch (error) {
      if (error.name === "AbortError") return;
    }
    setState("not connected; trying again");
    await new Promise((done) => setTimeout(done, 2000));
  }
}

/** The key frame of an event, as `watch --key-frames` names it. */
const frameOf = (event) => `${event.id.replace(/[^\w.-]/g, "_")}.jpg`;

const KINDS = { anomaly: "anomaly", light: "light changed", drift: "normal has changed", source: "no frames" };

function EventLine({ event, name, backend }) {
  const going = event.end === null || event.end === undefined;
  const start = event.clock ? when(event.clock) : `${count(Math.round(event.start))} s`;
  const length = going ? "" : `, for ${count(Math.max(1, Math.round(event.end - event.start)))} s`;
  const says = event.p_value === null || event.p_value === undefined ? `score ${score(event.score)}` : `p ${event.p_value.toPrecision(2)}`;
  return html`<li>
    <${Fetched} name=${`${event.id}/${event.index}`} load=${() => backend.frame(name, frameOf(event))} alt="" missing="no key frame" />
    <div><div class="row"><${Tag} flagged=${event.kind === "anomaly"}>${KINDS[event.kind] ?? event.kind}<//>
        ${event.zone && html`<b>${event.zone}</b>`}${going && html`<span class="soft">goes on</span>`}</div>
      <div class="soft small">${start}${length} · ${says}</div>
      ${event.note && html`<div class="small">${event.note}</div>`}</div>
  </li>`;
}
