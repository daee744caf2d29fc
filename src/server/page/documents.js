// Documents as cards, and one document in context in a dialog.

import * as api from "./api.js";
import { bytesOf, el, failure, number } from "./dom.js";

/** Characters of context that cards ask for. */
export const CONTEXT = 120;

// Whether text was left out before and after an occurrence.
const cutBefore = (o) => o.before && o.start_byte > new TextEncoder().encode(o.before).length;
const cutAfter = (o) => [...(o.after ?? "")].length >= CONTEXT;

/** A document with its occurrences. */
export function card(index, d, { redacted = false, more = 0, near, action } = {}) {
  const open = (o) => () => show(index, d, o);
  return el("article.card", {},
    el("div.bar", {}, el("h3", {}, d.id), action),
    el("p.meta", {}, d.path, d.record === undefined ? "" : `, record ${number(d.record + 1)}`, d.count > 1 ? ` · ${number(d.count)} occurrences` : "",
      near === undefined ? "" : ` · cosine ${near.toFixed(2)}`),
    redacted ? el("p.meta", {}, "This server withholds the text.") : null,
    d.occurrences.map((o) =>
      el("p.snippet", {},
        cutBefore(o) ? "…" : "", o.before ?? "", el("mark", {}, o.text), o.after ?? "", cutAfter(o) ? "…" : "", " ",
        el("button.quiet", { type: "button", onclick: open(o), "aria-label": `Open ${d.id} at byte ${o.start_byte}` }, "Open"))),
    more ? el("p.meta", {}, `and ${number(more)} more`) : null);
}

/** The URL's fragment with or without an open document; the view itself stays. */
function remember(open) {
  const [name, query] = location.hash.slice(1).split("?");
  const state = new URLSearchParams(query || "");
  if (open) state.set("open", open);
  else state.delete("open");
  history.replaceState(null, "", `#${name || "trace"}?${state}`);
}

/** Opens the document that a link names: shard, number, and the bytes to show. */
export function reopen(index, open) {
  const [shard, document, start_byte, end_byte] = open.split(".").map(Number);
  if ([shard, document, start_byte, end_byte].every(Number.isSafeInteger)) show(index, { shard, document }, { start_byte, end_byte });
}

/** Opens a document around a byte range. */
export async function show(index, d, { start_byte = 0, end_byte = start_byte } = {}) {
  const close = () => dialog.close();
  const title = el("h2", { id: "document-title" }, d.id ?? "Document");
  const body = el("div.document", { tabindex: "0", role: "region", "aria-label": "Document text" }, el("p.meta", {}, "Loading…"));
  const dialog = el("dialog", { "aria-labelledby": "document-title", onclose: () => { dialog.remove(); remember(null); } },
    el("div.bar", {}, title, el("button", { type: "button", onclick: close }, "Close")),
    body);
  document.body.append(dialog);
  dialog.showModal();
  remember(`${d.shard}.${d.document}.${start_byte}.${end_byte}`);
  try {
    const x = await api.excerpt(index, { shard: d.shard, document: d.document, start_byte, end_byte, context: 3000 });
    title.textContent = x.id;
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
