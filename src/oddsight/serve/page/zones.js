/* Zones drawn on a frame: corners are dragged with the mouse or moved by keys, and saved as the zones file. */
import { html, useEffect, useRef, useState } from "./dom.js";
import { allows, say } from "./store.js";
import { Choice, Field, useLoad } from "./widgets.js";

const STEP = 0.01;
const BIG = 0.05;
const KINDS = [["include", "look"], ["exclude", "do not look"]];

export function ZoneEditor({ name, backend, frame }) {
  const [saved, problem, reload] = useLoad(() => backend.zones(name).catch((error) => (error.status === 404 ? null : Promise.reject(error))), [name]);
  const [zones, setZones] = useState([]);
  const [chosen, setChosen] = useState(0);
  const [changed, setChanged] = useState(false);
  const [url, setUrl] = useState(null);
  useEffect(() => {
    setZones(readZones(saved));
    setChanged(false);
  }, [saved]);
  useEffect(() => {
    if (!frame) return undefined;
    let [gone, made] = [false, null];
    backend.frame(name, frame).then((address) => {
      made = address;
      if (!gone) setUrl(address);
    }, () => null);
    return () => {
      gone = true;
      if (made) setTimeout(() => URL.revokeObjectURL(made), 2000);
    };
  }, [frame]);
  const edit = (index, values) => {
    setZones(zones.map((zone, at) => (at === index ? { ...zone, ...values } : zone)));
    setChanged(true);
  };
  const add = () => {
    setZones([...zones, { name: freeName(zones), kind: "include", dwell: 0, polygon: [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]], rest: {} }]);
    setChosen(zones.length);
    setChanged(true);
  };
  const remove = () => {
    setZones(zones.filter((_, at) => at !== chosen));
    setChosen(Math.max(0, chosen - 1));
    setChanged(true);
  };
  const save = async () => {
    try {
      await backend.saveZones(name, writeZones(zones));
      say("Zones saved. A running watch reads them when it starts again.");
      await reload();
    } catch (error) {
      say(error.message, true);
    }
  };
  const zone = zones[chosen];
  const may = allows("manage");
  return html`<section class="panel"><div class="row between"><h2>Zones</h2>
      <div class="row">${may && html`<button onClick=${add}>Add a zone</button><button class="primary" disabled=${!changed} onClick=${save}>Save</button>`}</div></div>
    ${problem && html`<p class="bad">${problem}</p>`}
    <${Frame} ...${{ url, zones, chosen, setChosen, edit, may }} />
    ${zone
      ? html`<div class="zone-fields">
          <${Field} label="Name">
            <input type="text" value=${zone.name} disabled=${!may}
              onInput=${(event) => edit(chosen, { name: event.target.value })} />
          <//>
          <${Field} label="Must last (seconds)">
            <input type="number" min="0" step="0.5" value=${zone.dwell} disabled=${!may}
              onInput=${(event) => edit(chosen, { dwell: Number(event.target.value) })} />
          <//>
          <div class="field"><span>In this zone</span>
            <${Choice} label="Kind of zone" options=${KINDS} value=${zone.kind} choose=${(kind) => edit(chosen, { kind })} />
          </div>
          ${may && html`<button class="quiet" onClick=${remove}>Remove this zone</button>`}
        </div>
        <p class="soft small">Drag the corners, or focus one and use the arrow keys (with Shift for larger steps). Insert
          adds a corner, Delete removes one. A click on the frame adds a corner to the nearest side.</p>`
      : html`<p class="soft">No zones: the whole frame is looked at.</p>`}
  </section>`;
}

function Frame({ url, zones, chosen, setChosen, edit, may }) {
  const box = useRef(null);
  const held = useRef(null);
  const at = (event) => {
    const place = box.current.getBoundingClientRect();
    return [clip((event.clientX - place.left) / place.width), clip((event.clientY - place.top) / place.height)];
  };
  const put = (corner, point) => edit(chosen, { polygon: zones[chosen].polygon.map((old, index) => (index === corner ? point : old)) });
  const take = (event, corner) => {
    if (!may) return;
    held.current = corner;
    box.current.setPointerCapture(event.pointerId);
    event.currentTarget.focus();
    event.preventDefault();
    event.stopPropagation();
  };
  const insert = (event) => {
    if (!may || !zones[chosen] || held.current !== null) return;
    edit(chosen, { polygon: withCorner(zones[chosen].polygon, at(event)) });
  };
  const choose = (event, index) => {
    event.stopPropagation();
    setChosen(index);
  };
  const look = (zone, index) => [zone.kind, index === chosen && "chosen", zone.polygon[0][1] < 0.1 && "below"].filter(Boolean).join(" ");
  return html`<div class="frame" ref=${box} onPointerMove=${(event) => held.current !== null && put(held.current, at(event))}
    onPointerUp=${() => setTimeout(() => { held.current = null; })} onClick=${insert}>
    ${url ? html`<img src=${url} alt="Latest key frame" draggable=${false} />` : html`<div class="blank soft">No key frame yet</div>`}
    <svg viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true">
      ${zones.map((zone, index) => html`<polygon key=${index} class=${look(zone, index)}
        points=${zone.polygon.map((point) => point.join(",")).join(" ")}
        onClick=${(event) => index !== chosen && choose(event, index)} />`)}
    </svg>
    ${zones.map((zone, index) => html`<button key=${`name-${index}`} class=${`zone-name ${look(zone, index)}`}
      style=${place(zone.polygon[0])} onClick=${(event) => choose(event, index)}>${zone.name || "–"}</button>`)}
    ${may && zones[chosen]?.polygon.map((point, corner) => html`<button key=${corner} class="corner" style=${place(point)}
      aria-label=${`Corner ${corner + 1} of ${zones[chosen].name}: ${Math.round(100 * point[0])}% across, ${Math.round(100 * point[1])}% down`}
      onPointerDown=${(event) => take(event, corner)} onClick=${(event) => event.stopPropagation()}
      onKeyDown=${(event) => byKey(event, zones[chosen].polygon, corner, (polygon) => edit(chosen, { polygon }))}></button>`)}
  </div>`;
}

const clip = (value) => Math.round(1000 * Math.min(1, Math.max(0, value))) / 1000;
const place = ([x, y]) => ({ left: `${100 * x}%`, top: `${100 * y}%` });

function byKey(event, polygon, corner, put) {
  const step = event.shiftKey ? BIG : STEP;
  const [dx, dy] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key] ?? [0, 0];
  const [x, y] = polygon[corner];
  let changed = null;
  if (dx || dy) changed = polygon.with(corner, [clip(x + dx), clip(y + dy)]);
  else if (event.key === "Insert" || event.key === "+") {
    const [u, v] = polygon[(corner + 1) % polygon.length];
    changed = polygon.toSpliced(corner + 1, 0, [clip((x + u) / 2), clip((y + v) / 2)]);
  } else if (["Delete", "Backspace"].includes(event.key) && polygon.length > 3) changed = polygon.toSpliced(corner, 1);
  if (!changed) return;
  event.preventDefault();
  put(changed);
}

/** A polygon with one more corner, in its nearest side. */
function withCorner(polygon, point) {
  const distances = polygon.map((start, index) => toSide(point, start, polygon[(index + 1) % polygon.length]));
  return polygon.toSpliced(distances.indexOf(Math.min(...distances)) + 1, 0, point);
}

function toSide([x, y], [a, b], [c, d]) {
  const length = (c - a) ** 2 + (d - b) ** 2 || 1e-12;
  const part = Math.min(1, Math.max(0, ((x - a) * (c - a) + (y - b) * (d - b)) / length));
  return Math.hypot(x - a - part * (c - a), y - b - part * (d - b));
}

function freeName(zones) {
  const taken = new Set(zones.map((zone) => zone.name));
  let number = zones.length + 1;
  while (taken.has(`zone ${number}`)) number += 1;
  return `zone ${number}`;
}

/** The zones of a GeoJSON FeatureCollection; properties that are not edited here are kept. */
function readZones(content) {
  return (content?.features ?? []).map(({ properties, geometry }) => {
    const { name, kind = "include", dwell = 0, ...rest } = properties;
    return { name, kind, dwell, rest, polygon: geometry.coordinates[0].slice(0, -1) };
  });
}

function writeZones(zones) {
  const features = zones.map(({ name, kind, dwell, polygon, rest }) => ({
    type: "Feature",
    properties: { name, kind, ...(dwell ? { dwell } : {}), ...rest },
    geometry: { type: "Polygon", coordinates: [[...polygon, polygon[0]]] },
  }));
  return { type: "FeatureCollection", features };
}
