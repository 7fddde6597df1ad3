/* Dropped images on their way to results. The files stay in the page, so that another model can score them, too. */
import { change, currentModel, say, state } from "./store.js";

const IMAGE = /\.(png|jpe?g|webp|avif|tiff?|bmp|gif|ppm|pgm|pbm|pnm|jp2|j2k|jxl)$/i;
const REFRESH = 120; // Milliseconds between two drawings while results come in

let backend = null;
let running = null;
let next = 0;

export function useBackend(chosen) {
  backend = chosen;
}

/** Ask for the models again; keeps the one in use if it is still there. What older versions said of images is forgotten. */
export async function loadModels(prefer) {
  const models = await backend.models();
  const versions = new Map(state.models.map((model) => [model.name, model.version]));
  for (const { name, version } of models) {
    if (versions.has(name) && versions.get(name) !== version) for (const image of state.images) delete image.results[name];
  }
  const names = models.map((model) => model.name);
  const model = [prefer, state.model, names[0]].find((name) => names.includes(name)) ?? null;
  change({ models, model, draft: null, revision: state.revision + 1 });
}

/** The files of a drop or of a file button: `{file, name}`, with the folder in the name. */
export async function filesOf(source) {
  if (source instanceof FileList) {
    return [...source].map((file) => ({ file, name: file.webkitRelativePath || file.name })).filter(mayBeImage);
  }
  const entries = [...source.items].map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  for (const entry of entries) if (entry) await collect(entry, "", found);
  return found.filter(mayBeImage);
}

const mayBeImage = ({ file, name }) => IMAGE.test(name) || file.type.startsWith("image/");

async function collect(entry, folder, found) {
  if (entry instanceof File) {
    found.push({ file: entry, name: entry.name });
  } else if (entry.isFile) {
    const file = await new Promise((done, fail) => entry.file(done, fail));
    found.push({ file, name: folder + entry.name });
  } else {
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((done, fail) => reader.readEntries(done, fail));
      if (!part.length) return;
      for (const child of part) await collect(child, `${folder}${entry.name}/`, found);
    }
  }
}

/** Add images and score them with the model in use. */
export function addImages(files) {
  if (!files.length) {
    say("There is no image among these files.", true);
    return;
  }
  const added = files.map(({ file, name }) => ({ key: (next += 1), file, name, results: {} }));
  change({ images: state.images.concat(added) });
  scoreAll();
}

/** Score images in this browser from now on, or by the service; also after a reload. */
export function scoreHere(here) {
  localStorage.setItem("score-here", here ? "yes" : "");
  change({ here });
}

export function clearImages() {
  running?.abort();
  change({ images: [], selected: null, scoring: null, revision: state.revision + 1 });
}

export function stopScoring() {
  running?.abort();
}

/** Score every image that the model has not scored yet, also where the service did not answer before. */
export async function scoreAll(model = currentModel()?.name) {
  if (!model) return;
  running?.abort();
  const control = new AbortController();
  running = control;
  const missing = state.images.filter(({ results }) => !results[model] || results[model].unanswered);
  const total = missing.length;
  if (!total) {
    change({ scoring: null });
    return;
  }
  const ticker = progressOf(total);
  const queue = missing.values();
  const work = async () => {
    for (const image of queue) {
      if (control.signal.aborted) return;
      image.results[model] = await scoreOne(model, image, control.signal);
      if (control.signal.aborted) delete image.results[model];
      ticker.step();
    }
  };
  await Promise.all(Array.from({ length: Math.min(backend.parallel, total) }, work));
  if (running !== control) return;
  running = null;
  ticker.end();
  const known = state.models.find((one) => one.name === model)?.version;
  const isNewer = ({ results }) => results[model]?.version && results[model].version !== known;
  if (missing.some(isNewer)) await loadModels(); // Somebody else changed the model
}

async function scoreOne(model, image, signal) {
  try {
    return await backend.predict(model, image.file, image.name, signal);
  } catch (error) {
    return { name: image.name, error: error.message, unanswered: error.unanswered };
  }
}

function progressOf(total) {
  let done = 0;
  let last = 0;
  const tell = (scoring) => change({ scoring, revision: state.revision + 1 });
  tell({ done, total });
  return {
    step() {
      done += 1;
      const now = performance.now();
      if (now - last < REFRESH) return;
      last = now;
      tell({ done, total });
    },
    end: () => tell(null),
  };
}

/** The threshold that holds for a result: what is tried, or what the model decides by. */
export function cutOf(result, model = currentModel()) {
  if (model?.classes) return result.threshold;
  return state.draft ?? model?.threshold ?? result.threshold;
}

/** Whether a result is flagged by the threshold that is tried or saved. */
export function isFlagged(result, model = currentModel()) {
  const cut = cutOf(result, model);
  return cut !== null && result.score > cut;
}

export function verdictOf(result, model = currentModel()) {
  if (model?.classes) return result.verdict;
  const [normal, anomalous] = model?.verdicts ?? ["normal", "anomalous"];
  return isFlagged(result, model) ? anomalous : normal;
}

/** Images that the model in use could score, and those it could not. */
export function divide(images, model) {
  const scored = [];
  const failed = [];
  let waiting = 0;
  for (const image of images) {
    const result = image.results[model];
    if (!result) waiting += 1;
    else if (result.error) failed.push(image);
    else scored.push(image);
  }
  return { scored, failed, waiting };
}
