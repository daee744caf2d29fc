// Search: counts, boolean search with paging, and the distribution of the next token.

import * as api from "./api.js";
import { card } from "./documents.js";
import { el, exports, failure, field, nothing, number, percent, say } from "./dom.js";

export const title = "Search";

const PAGE = 10;

export function render(view, { index, info, state, go }) {
  const query = el("input", { type: "search", required: true, value: state.q || "", placeholder: "a phrase" });
  const kind = el("select", {}, el("option", { value: "phrase" }, "exact phrase"), el("option", { value: "boolean" }, "boolean (AND, OR)"), el("option", { value: "next" }, "what comes next"));
  kind.value = state.kind || "phrase";
  const window = el("input", { type: "number", min: 1, value: state.window || "", placeholder: "document" });
  const inWindow = field("Within tokens", window);
  const hint = el("p.meta", {});
  const follow = () => {
    inWindow.hidden = kind.value !== "boolean";
    hint.textContent = { phrase: "Tokens must match exactly; with a byte-pair vocabulary, case and leading space count.", boolean: 'For example: "a phrase" AND ("another" OR "a third")', next: "The tokens that follow this prompt, with exact counts." }[kind.value];
  };
  kind.addEventListener("change", follow);
  follow();
  const out = el("div", {});
  view.append(el("h1", {}, "How often, and where?"),
    el("form.panel", {
      onsubmit: (e) => {
        e.preventDefault();
        go({ q: query.value, kind: kind.value, window: kind.value === "boolean" ? window.value : "" });
      },
    }, field("Query", query), el("div.row", {}, field("Kind", kind), inWindow, el("button.main", {}, "Search")), hint), out);
  if (state.q) run();

  async function run() {
    out.replaceChildren(el("p.meta", {}, "Searching…"));
    try {
      out.replaceChildren(...(kind.value === "next" ? await next() : await find()));
    } catch (e) {
      out.replaceChildren(failure(e));
    }
  }

  async function find() {
    const offset = Number(state.offset || 0);
    const what = kind.value === "boolean" ? { expression: state.q, ...(state.window ? { window: Number(state.window) } : {}) } : { query: state.q };
    const r = await api.ask(index, "find", { ...what, offset, limit: PAGE, context: 120 });
    say(`${r.count} occurrences in ${r.documents} documents`);
    if (!r.count) return [nothing("Nothing found", `${state.q} does not occur in ${index}, generation ${r.generation} (${number(info.documents)} documents). This search is exact: its recall is 1.`)];
    const page = (to, label) => el("button", { type: "button", onclick: () => go({ ...state, offset: to }) }, label);
    const rows = () => r.found.flatMap((d) => d.occurrences.map((o) => ({ id: d.id, path: d.path, record: d.record, start_byte: o.start_byte, end_byte: o.end_byte, before: o.before, text: o.text, after: o.after })));
    return [
      el("div.bar", {}, el("h2", {}, `${number(r.count)} occurrences in ${number(r.documents)} documents`), exports("search", r, rows)),
      el("div.cards", {}, r.found.map((d) => card(index, d, { redacted: info.redacted }))),
      el("nav.pages", { "aria-label": "Pages" }, offset > 0 ? page(Math.max(0, offset - PAGE), "Previous") : null,
        el("span.meta", {}, `Documents ${number(offset + 1)} to ${number(offset + r.found.length)}`),
        r.next_offset !== undefined ? page(r.next_offset, "Next") : null),
    ];
  }

  async function next() {
    const r = await api.ask(index, "next", { prompt: state.q, top_k: 20, infgram: true });
    say(`${r.tokens.length} tokens`);
    if (!r.tokens.length) return [nothing("Nothing follows", `No suffix of this prompt is followed by a token in ${index}, generation ${r.generation}.`)];
    const most = r.tokens[0].probability || 1;
    const rows = () => r.tokens.map((t) => ({ id: t.id, token: t.token, count: t.count, probability: t.probability }));
    return [
      el("div.bar", {}, el("h2", {}, `After the last ${r.effective_n} tokens, which occur ${number(r.prompt_count)} times`), exports("next", r, rows)),
      el("table.bars", {}, el("thead", {}, el("tr", {}, ["Token", "Count", "Share", ""].map((h) => el("th", { scope: "col" }, h)))),
        el("tbody", {}, r.tokens.map((t) => el("tr", {}, el("th", { scope: "row" }, el("code", {}, JSON.stringify(t.token).slice(1, -1))), el("td", {}, number(t.count)), el("td", {}, percent(t.probability)),
          el("td", {}, el("progress", { max: most, value: t.probability, "aria-label": `${t.token}: ${percent(t.probability)}` })))))),
      el("p.meta", {}, `${number(r.distinct)} different tokens; ${number(r.end_of_document)} times the document ends.`),
    ];
  }
}
