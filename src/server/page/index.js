// Index: what is in it.

import * as api from "./api.js";
import { el, exports, failure, number, percent } from "./dom.js";

export const title = "Index";

export async function render(view, { index }) {
  const out = el("div", {}, el("p.meta", {}, "Loading…"));
  view.append(el("h1", {}, "What is in this index?"), out);
  try {
    const i = await api.index(index);
    const row = (name, value) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value));
    out.replaceChildren(
      el("div.bar", {}, el("h2", {}, "Summary"), exports("index", i, () => i.shards)),
      el("div.panel.scroll", { tabindex: "0", role: "region", "aria-label": "Summary" }, el("table", {}, el("tbody", {},
        row("Name", i.name), row("Generation", `${i.generation} (kept: ${i.generations.join(", ")})`), row("Documents", number(i.documents)),
        row("Removed documents", number(i.removed_documents)), row("Tokens", number(i.tokens)), row("Text", `${number(i.text_bytes)} bytes`),
        row("Tokenizer", `${i.tokenizer.kind}, sha256 ${i.tokenizer.sha256.slice(0, 12)}`),
        row("Encoder", i.encoder ? `${i.encoder.name}, ${i.encoder.dim} dimensions, ${i.encoder.pooling} pooling` : "none"),
        row("Chunks", number(i.chunks)), row("Made by", i.created_by)))),
      el("h2", {}, "Measured recall"), recall(i),
      el("h2", {}, `Shards (${i.shards.length})`),
      el("div.panel.scroll", { tabindex: "0", role: "region", "aria-label": "Shards" }, el("table", {}, el("thead", {}, el("tr", {}, ["Shard", "Documents", "Tokens", "Bytes on disk"].map((h) => el("th", { scope: "col" }, h)))),
        el("tbody", {}, i.shards.map((s) => el("tr", {}, el("th", { scope: "row" }, s.id), [s.documents, s.tokens, s.bytes].map((n) => el("td", {}, number(n)))))))),
      el("h2", {}, `Sources (${number(i.source_count)})`),
      el("ul.panel.sources", {}, i.sources.map((s) => el("li", {}, s))));
  } catch (e) {
    out.replaceChildren(failure(e));
  }
}

/** What is known of what the searches miss. */
function recall(i) {
  const measured = (i.recall.neighbors ?? []).map((m) => [m.vector_index.join(", "), `${m.k} nearest`, m.recall.toFixed(4), m.worst.toFixed(4), number(m.queries), m.generation]);
  return el("div.panel", {},
    el("p", {}, "Exact search: 1, always. ", i.encoder ? `Semantic search: ${i.neighbors_recall}.` : "There is no semantic search without an encoder."),
    i.novelty_recall?.length ? el("p", {}, "The whole search of the Novelty view, on passages of this index planted by this server: ", i.novelty_recall.map((p) =>
      `${p.length} tokens, ${p.edited === null ? "paraphrased" : `${percent(p.edited)} edited`}: ${percent(p.first.estimate)} of ${number(p.probes)} found first`).join("; "), ".") : null,
    measured.length ? el("div.scroll", { tabindex: "0", role: "region", "aria-label": "Recall" }, el("table", {},
      el("thead", {}, el("tr", {}, ["Vector index", "Of the", "Recall", "Worst query", "Queries", "Generation"].map((h) => el("th", { scope: "col" }, h)))),
      el("tbody", {}, measured.map((m) => el("tr", {}, m.map((v, n) => el(n ? "td" : "th", n ? {} : { scope: "row" }, v))))))) : null);
}
