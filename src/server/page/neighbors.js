// Neighbours: the passages nearest in meaning, with the measured recall of that search.

import * as api from "./api.js";
import { show } from "./documents.js";
import { el, exports, failure, field, nothing, number, say } from "./dom.js";

export const title = "Neighbours";

export function render(view, { index, info, state, go }) {
  view.append(el("h1", {}, "What else means the same?"));
  if (!info.neighbors) {
    const why = info.encoder ? `Its encoder, ${info.encoder.name}, was not found by this server.` : "It was built without an encoder.";
    view.append(nothing("This index has no neighbours to offer", why, " Exact search works: see Trace and Search."));
    return;
  }
  const text = el("textarea", { rows: 4, required: true });
  text.value = state.text || "";
  const rerank = el("input", { type: "checkbox", checked: state.rerank === "1" });
  const out = el("div", {});
  view.append(el("form.panel", {
    onsubmit: (e) => {
      e.preventDefault();
      go({ text: text.value, rerank: rerank.checked ? "1" : "" });
    },
  }, field("Text", text), el("div.row", {}, el("label.check", {}, rerank, " Rerank by late interaction"), el("button.main", {}, "Find neighbours"))), out);
  if (state.text) run();

  async function run() {
    out.replaceChildren(el("p.meta", {}, "Searching…"));
    try {
      const r = await api.ask(index, "neighbors", { text: state.text, top_k: 10, rerank: rerank.checked ? 50 : 0 });
      const measured = Object.entries(r.recall).map(([k, v]) => `${k}: ${JSON.stringify(v)}`).join("; ");
      const recall = r.approximate ? (measured ? `Measured recall of this search: ${measured}.` : "This search may miss neighbours; its recall was not measured on this index.") : "Every vector was compared: stage 1 misses nothing that its encoder can tell.";
      say(`${r.neighbors.length} neighbours`);
      if (!r.neighbors.length) {
        out.replaceChildren(nothing("Nothing found", recall));
        return;
      }
      out.replaceChildren(
        el("div.bar", {}, el("h2", {}, `${r.neighbors.length} nearest passages of ${number(info.chunks)}`), exports("neighbors", r, () => r.neighbors)),
        el("p.meta", {}, recall, " Similarity is not influence."),
        el("div.cards", {}, r.neighbors.map((n) => el("article.card", {},
          el("h3", {}, n.id), el("p.meta", {}, `${n.path} · similarity ${n.score.toFixed(3)}`, n.late_interaction === undefined ? "" : ` · late interaction ${n.late_interaction.toFixed(3)}`),
          el("p.snippet", {}, info.redacted ? "This server withholds the text. " : n.text + " ",
            el("button.quiet", { type: "button", onclick: () => show(index, n, n), "aria-label": `Open ${n.id}` }, "Open"))))));
    } catch (e) {
      out.replaceChildren(failure(e));
    }
  }
}
