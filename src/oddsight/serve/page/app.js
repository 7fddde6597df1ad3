/* The frame around the views: navigation, the model in use, the theme. */
import { html, Icon, render, useEffect, useState } from "./dom.js";
import { Look } from "./look.js";
import { percent } from "./numbers.js";
import { loadModels, scoreAll, useBackend } from "./scoring.js";
import { change, currentModel, say, useStore } from "./store.js";

const TITLES = {
  look: "Look",
  decide: "Decide",
  train: "Train",
  evaluate: "Evaluate",
  teach: "Teach",
  compare: "Compare",
  history: "History",
  watch: "Watch",
};
const WITHOUT_MODEL = ["train", "watch"];
const LATER = {
  decide: async () => (await import("./decide.js")).Decide,
  train: async () => (await import("./train.js")).Train,
  evaluate: async () => (await import("./evaluate.js")).Evaluate,
  teach: async () => (await import("./teach.js")).Teach,
  compare: async () => (await import("./compare.js")).Compare,
  history: async () => (await import("./past.js")).Past,
  watch: async () => (await import("./watch.js")).Watch,
};

/** Show the page; `backend` scores images and knows what else can be done. */
export function start(backend) {
  useBackend(backend);
  backend.takeToken?.();
  applyTheme(localStorage.getItem("theme"));
  render(html`<${App} backend=${backend} />`, document.getElementById("app"));
}

function applyTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

function App({ backend }) {
  const { status, model, notice } = useStore();
  const [problem, setProblem] = useState(null);
  const [view, setView] = useState(viewOf(backend));
  const load = async () => {
    setProblem(null);
    try {
      const [status] = await Promise.all([backend.status(), loadModels()]);
      change({ status, here: Boolean(status.browser && localStorage.getItem("score-here")) });
    } catch (error) {
      setProblem(error);
    }
  };
  useEffect(() => {
    load();
    const turn = () => setView(viewOf(backend));
    addEventListener("hashchange", turn);
    return () => removeEventListener("hashchange", turn);
  }, []);
  useEffect(() => {
    if (model) scoreAll(model);
  }, [model, currentModel()?.version]);
  useEffect(() => {
    document.title = `${TITLES[view]} · Oddsight`;
  }, [view]);
  if (problem) return html`<${Problem} problem=${problem} backend=${backend} again=${load} />`;
  return html`<a class="skip" href="#content" onClick=${skip}>Skip to the content</a>
    <${Bar} backend=${backend} view=${view} />
    <main id="content" tabindex="-1">
      <header class="top"><h1>${TITLES[view]}</h1>${!WITHOUT_MODEL.includes(view) && html`<${ModelChoice} />`}</header>
      ${status && html`<${View} key=${view} name=${view} backend=${backend} />`}
    </main>
    <div class="notices" role="status" aria-live="polite">${notice && html`<${Notice} ...${notice} />`}</div>`;
}

function viewOf(backend) {
  const name = location.hash.slice(1);
  return backend.views.includes(name) ? name : backend.views[0];
}

function skip(event) {
  event.preventDefault();
  document.getElementById("content").focus();
}

function View({ name, backend }) {
  const [Content, setContent] = useState(() => (name === "look" ? Look : null));
  useEffect(() => {
    if (name !== "look") LATER[name]().then((found) => setContent(() => found), (error) => say(error.message, true));
  }, []);
  return Content ? html`<${Content} backend=${backend} />` : null;
}

function Bar({ backend, view }) {
  return html`<nav class="bar" aria-label="Views">
    <div class="brand"><img src=${backend.icon ?? "page/icon.svg"} alt="" />Oddsight</div>
    <ul>
      ${backend.views.map(
        (name) => html`<li key=${name}>
          <a href=${`#${name}`} aria-current=${name === view ? "page" : undefined}><${Icon} name=${name} />${TITLES[name]}</a>
        </li>`,
      )}
    </ul>
    <${ThemeSwitch} />
  </nav>`;
}

function ThemeSwitch() {
  const prefers = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const [theme, setTheme] = useState(localStorage.getItem("theme") ?? prefers);
  const other = theme === "dark" ? "light" : "dark";
  const turn = () => {
    if (other === prefers) localStorage.removeItem("theme");
    else localStorage.setItem("theme", other);
    applyTheme(other === prefers ? null : other);
    setTheme(other);
    dispatchEvent(new Event("themechange"));
  };
  return html`<button class="quiet theme" onClick=${turn} aria-label=${`Use the ${other} theme`}>
    <${Icon} name=${theme === "dark" ? "sun" : "moon"} /><span>${other === "dark" ? "Dark" : "Light"}</span>
  </button>`;
}

function ModelChoice() {
  const { models, model, draft } = useStore();
  if (!models.length) return null;
  const used = models.find((one) => one.name === model);
  const rate = used?.false_alarm_rate;
  const says = draft !== null ? "a threshold is being tried" : rate ? `flags at most ${percent(rate)} of normal images` : "threshold set by hand";
  return html`<div class="model">
    <label><span class="hidden">Model</span>
      <select value=${model} onChange=${(event) => change({ model: event.target.value, draft: null })}>
        ${models.map((one) => html`<option key=${one.name} value=${one.name}>${one.name}</option>`)}
      </select>
    </label>
    <span class="soft">${used?.method} · ${says}</span>
  </div>`;
}

function Notice({ text, bad }) {
  useEffect(() => {
    const timer = setTimeout(() => change({ notice: null }), bad ? 12_000 : 5_000);
    return () => clearTimeout(timer);
  }, [text]);
  return html`<div class=${`notice ${bad ? "bad" : ""}`}>
    <span>${text}</span>
    <button class="quiet" aria-label="Close the message" onClick=${() => change({ notice: null })}><${Icon} name="close" /></button>
  </div>`;
}

function Problem({ problem, backend, again }) {
  const [token, setToken] = useState("");
  const enter = (event) => {
    event.preventDefault();
    backend.setToken(token);
    again();
  };
  if (problem.status !== 401) {
    return html`<main class="boot"><h1>Oddsight</h1><p>${problem.message}</p><button class="primary" onClick=${again}>Try again</button></main>`;
  }
  return html`<main class="boot"><h1>Oddsight</h1>
    <p>This service asks for a token. The person who runs it has one.</p>
    <form class="row" onSubmit=${enter}>
      <input type="password" aria-label="Token" value=${token} onInput=${(event) => setToken(event.target.value)} />
      <button class="primary">Enter</button>
    </form>
  </main>`;
}
