/* Long work of the service: uploads in portions, and jobs that are followed until they end. */
import { html } from "./dom.js";
import { Meter } from "./widgets.js";

const PORTION = 16;
const PORTION_BYTES = 24e6;
const ENDED = ["done", "failed", "cancelled", "interrupted"];

/** Send files in portions; `tell(done, total)` after each. Returns the set and what was refused; if it ends early, the set is removed. */
export async function upload(backend, files, tell, signal) {
  const name = await backend.startUpload();
  const refused = [];
  let done = 0;
  try {
    for (const portion of portions(files)) {
      const form = new FormData();
      for (const { file, name: path } of portion) form.append("images", file, path);
      const answer = await backend.uploadImages(name, form, signal);
      refused.push(...(answer.refused ?? []));
      done += portion.length;
      tell(done, files.length);
    }
  } catch (error) {
    await forget(backend, name);
    throw error;
  }
  return { upload: name, refused };
}

/** Remove a set that is not needed any more. If that fails, the service removes it when it is old. */
export const forget = (backend, upload) => upload && backend.removeUpload(upload).catch(() => null);

function portions(files) {
  const all = [];
  let bytes = Infinity;
  for (const one of files) {
    if (bytes + one.file.size > PORTION_BYTES || all.at(-1).length >= PORTION) {
      all.push([]);
      bytes = 0;
    }
    all.at(-1).push(one);
    bytes += one.file.size;
  }
  return all;
}

/** Start a job and follow it: `tell(job)` on every news; returns what it results in. */
export async function run(backend, request, tell, signal) {
  const started = await backend.startJob(request);
  tell(started);
  return follow(backend, started.id, tell, signal);
}

/** Follow a job that runs. A connection that breaks is made again. */
export async function follow(backend, id, tell, signal) {
  for (;;) {
    let last = null;
    const hear = (_, job) => {
      last = job;
      tell(job);
    };
    try {
      await backend.jobEvents(id, hear, signal);
    } catch (error) {
      if (error.name === "AbortError") throw error;
    }
    const job = last && ENDED.includes(last.state) ? last : await backend.job(id);
    if (!ENDED.includes(job.state)) {
      await new Promise((done) => setTimeout(done, 1000));
      continue;
    }
    tell(job);
    if (job.state === "done") return job.result;
    throw new Error(job.error || `The job was ${job.state}.`);
  }
}

/** A job on its way, with a button to cancel it. */
export function JobMeter({ backend, job, label }) {
  const phase = job.phase || (job.state === "queued" ? "waiting for its turn" : label);
  const text = phase[0].toUpperCase() + phase.slice(1);
  return html`<${Meter} label=${text} done=${job.done} total=${job.total}>
    <div class="row between"><span class="soft small">${job.message}</span>
      <button class="quiet" onClick=${() => backend.cancelJob(job.id)}>Cancel</button></div>
  <//>`;
}
