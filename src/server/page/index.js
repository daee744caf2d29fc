// Index: what is in it.

import * as api from "./api.js";
import { el, failure, number } from "./dom.js";

export const title = "Index";

export async function render(view, { index }) {
  const out = el("div", {}, el("p.meta", {}, "Loading…"));
  view.append(el("h1", {}, "What is in this index?"), out);
  try {
    const i = await api.index(index);
    const row = (name, value) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value));
    const recall = Object.entries(i.recall).map(([k, v]) => `${k}: ${JSON.stringify(v)}`).join("; ");
    out.replaceChildren(
      el("div.panel.scroll", { tabindex: "0", role: "region", "aria-label": "Summary" }, el("table", {}, el("tbody", {},
        row("Name", i.name), row("Generation", `${i.generation} (kept: ${i.generations.join(", ")})`), row("Documents", number(i.documents)),
        row("Removed documents", number(i.removed_documents)), row("Tokens", number(i.tokens)), row("Text", `${number(i.text_bytes)} bytes`),
        row("Tokenizer", `${i.tokenizer.kind}, sha256 ${i.tokenizer.sha256.slice(0, 12)}`),
        row("Encoder", i.encoder ? `${i.encoder.name}, ${i.encoder.dim} dimensions, ${i.encoder.pooling} pooling` : "none"),
        row("Chunks", number(i.chunks)), row("Measured recall", recall || "exact search: 1; semantic search: not measured"), row("Made by", i.created_by)))),
      el("h2", {}, `Shards (${i.shards.length})`),
      el("div.panel.scroll", { tabindex: "0", role: "region", "aria-label": "Shards" }, el("table", {}, el("thead", {}, el("tr", {}, ["Shard", "Documents", "Tokens", "Bytes on disk"].map((h) => el("th", { scope: "col" }, h)))),
        el("tbody", {}, i.shards.map((s) => el("tr", {}, el("th", { scope: "row" }, s.id), [s.documents, s.tokens, s.bytes].map((n) => el("td", {}, number(n)))))))),
      el("h2", {}, `Sources (${number(i.source_count)})`),
      el("ul.panel.sources", {}, i.sources.map((s) => el("li", {}, s))));
  } catch (e) {
    out.replaceChildren(failure(e));
  }
}
