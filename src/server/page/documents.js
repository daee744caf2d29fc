// Documents as cards, and one document in context in a dialog.

import * as api from "./api.js";
import { bytesOf, el, failure, number } from "./dom.js";

/** A document with its occurrences. */
export function card(index, d, { redacted = false } = {}) {
  const open = (o) => () => show(index, d, o);
  return el("article.card", {},
    el("h3", {}, d.id),
    el("p.meta", {}, `${d.path}, record ${number(d.record + 1)}`, d.count > 1 ? ` · ${number(d.count)} occurrences` : ""),
    redacted ? el("p.meta", {}, "This server withholds the text.") : null,
    d.occurrences.map((o) =>
      el("p.snippet", {},
        o.before ? "…" + o.before : "", el("mark", {}, o.text), o.after ? o.after + "…" : "", " ",
        el("button.quiet", { type: "button", onclick: open(o), "aria-label": `Open ${d.id} at byte ${o.start_byte}` }, "Open"))));
}

/** Opens a document around a byte range. */
export async function show(index, d, { start_byte = 0, end_byte = start_byte } = {}) {
  const close = () => dialog.close();
  const body = el("div.document", { tabindex: "0", role: "region", "aria-label": "Document text" }, el("p.meta", {}, "Loading…"));
  const dialog = el("dialog", { "aria-labelledby": "document-title", onclose: () => dialog.remove() },
    el("div.bar", {}, el("h2", { id: "document-title" }, d.id), el("button", { type: "button", onclick: close }, "Close")),
    body);
  document.body.append(dialog);
  dialog.showModal();
  try {
    const x = await api.excerpt(index, { shard: d.shard, document: d.document, start_byte, end_byte, context: 3000 });
    const rows = Object.entries(x.metadata).map(([k, v]) => [el("dt", {}, k), el("dd", {}, typeof v === "string" ? v : JSON.stringify(v))]);
    const head = [
      el("p.meta", {}, `${x.path}, record ${number(x.record + 1)} · bytes ${number(x.excerpt_start)} to ${number(x.excerpt_end)} of ${number(x.text_bytes)}`),
      rows.length ? el("details", {}, el("summary", {}, "Metadata"), el("dl", {}, rows)) : null,
    ].filter(Boolean);
    if (x.text === null) {
      body.replaceChildren(...head, el("p", {}, "This server withholds the text."));
      return;
    }
    const slice = bytesOf(x.text);
    const [from, to] = [start_byte - x.excerpt_start, end_byte - x.excerpt_start];
    const mark = el("mark", {}, slice(from, to));
    body.replaceChildren(...head,
      el("p.text", {}, x.excerpt_start ? "…" : "", slice(0, from), mark, slice(to), x.excerpt_end < x.text_bytes ? "…" : ""));
    mark.scrollIntoView({ block: "center" });
  } catch (e) {
    body.replaceChildren(failure(e));
  }
}
