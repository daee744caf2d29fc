// The page's frame: tabs, the chosen index, and the view's state, all kept in the URL's fragment.
//
// #trace?index=NAME&text=… : a link reproduces what is on the screen, and never leaves the browser in a request line.

import * as api from "./api.js";
import * as contamination from "./contamination.js";
import { reopen } from "./documents.js";
import { el, failure, field } from "./dom.js";
import * as indexView from "./index.js";
import * as neighbors from "./neighbors.js";
import * as novelty from "./novelty.js";
import * as search from "./search.js";
import * as trace from "./trace.js";

const VIEWS = { trace, search, neighbors, novelty, contamination, index: indexView };
const view = document.getElementById("view");
const tabs = document.getElementById("tabs");
const pick = document.getElementById("index");
let served = [];

function read() {
  const [name, query] = location.hash.slice(1).split("?");
  const state = Object.fromEntries(new URLSearchParams(query || ""));
  return { name: VIEWS[name] ? name : "trace", state };
}

function link(name, state) {
  const kept = Object.entries(state).filter(([, v]) => v !== "" && v !== undefined && v !== null);
  return `#${name}?${new URLSearchParams(kept)}`;
}

function draw() {
  const { name, state } = read();
  const info = served.find((i) => i.name === state.index) || served[0];
  pick.value = info.name;
  tabs.replaceChildren(...Object.entries(VIEWS).map(([key, v]) =>
    el("a", { href: link(key, { index: info.name }), "aria-current": key === name ? "page" : null }, v.title)));
  document.title = `${VIEWS[name].title} · ${info.name} · priorart`;
  const page = el("div", {});
  view.replaceChildren(page);
  for (const dialog of document.querySelectorAll("dialog")) dialog.remove();
  VIEWS[name].render(page, {
    index: info.name, info, state,
    go: (next) => {
      const to = link(name, { index: info.name, ...next });
      if (to === location.hash) draw();
      else location.hash = to;
    },
  });
  if (state.open) reopen(info.name, state.open);
}

pick.addEventListener("change", () => {
  const { name, state } = read();
  location.hash = link(name, { ...state, offset: "", index: pick.value });
});

function login(e) {
  const token = el("input", { type: "password", required: true, autocomplete: "current-password" });
  view.replaceChildren(el("form.panel", { onsubmit: (event) => {
    event.preventDefault();
    api.setToken(token.value.trim());
    start();
  } }, el("h1", {}, "This server wants a token"), el("p.meta", {}, e.message), field("Bearer token", token), el("button.main", {}, "Continue")));
  token.focus();
}

async function start() {
  try {
    served = await api.indexes();
  } catch (e) {
    if (e.status === 401) login(e);
    else view.replaceChildren(failure(e));
    return;
  }
  pick.replaceChildren(...served.map((i) => el("option", { value: i.name }, i.name)));
  draw();
}

window.addEventListener("hashchange", () => served.length && draw());
start();
