// Neighbours: the passages nearest in meaning, which of their words matched which, and the measured recall of that search.

import * as api from "./api.js";
import { show } from "./documents.js";
import { bytesOf, el, exports, failure, field, nothing, number, say } from "./dom.js";

export const title = "Neighbours";

export function render(view, { index, info, state, go }) {
  view.append(el("h1", {}, "What else means the same?"));
  if (!info.neighbors) {
    const why = info.encoder ? `Its encoder, ${info.encoder.name}, was not found by this server.` : "It was built without an encoder.";
    view.append(nothing("This index has no neighbours to offer", why, " Exact search works: see Trace and Search."));
    return;
  }
  const text = el("textarea", { rows: 4, required: true, placeholder: "A sentence or a paragraph" });
  text.value = state.text || "";
  const rerank = el("input", { type: "checkbox", checked: state.rerank === "1" });
  const group = el("input", { type: "checkbox", checked: state.group === "1" });
  const most = el("input", { type: "number", min: 1, max: 100, value: state.k || "10" });
  const path = el("input", { type: "text", value: state.path || "", placeholder: "any" });
  const out = el("div", {});
  view.append(el("form.panel", {
    onsubmit: (e) => {
      e.preventDefault();
      go({ text: text.value, rerank: rerank.checked ? "1" : "", group: group.checked ? "1" : "", k: most.value === "10" ? "" : most.value, path: path.value });
    },
  }, field("Text", text), el("div.row", {}, field("Passages", most), field("Source contains", path), el("label.check", {}, rerank, " Rerank by late interaction"),
    el("label.check", {}, group, " One a document"), el("button.main", {}, "Find neighbours"))), out);
  if (state.text) run();

  async function run() {
    out.replaceChildren(el("p.meta", {}, "Searching…"));
    try {
      const r = await api.ask(index, "neighbors", {
        text: state.text, top_k: Number(most.value), rerank: rerank.checked ? 50 : 0, group_by_document: group.checked, align: true,
        ...(state.path ? { path_contains: state.path } : {}),
      });
      const recall = r.approximate ? `How this was searched: ${r.recall_words}.` : "Every vector was compared (recall 1): this search misses nothing that its encoder can tell.";
      say(`${r.neighbors.length} neighbours`);
      if (!r.neighbors.length) {
        out.replaceChildren(nothing("Nothing found", recall));
        return;
      }
      const rows = () => r.neighbors.map(({ alignment, ...n }) => n);
      out.replaceChildren(
        el("div.bar", {}, el("h2", {}, `${r.neighbors.length} nearest passages of ${number(info.chunks)}`), exports("neighbors", r, rows)),
        el("p.meta", {}, recall, " Similarity is not influence."),
        info.redacted ? null : el("p.legend", {}, "Words of a passage that matched a word of yours: ", [1, 2, 3, 4].map((l) => el("span.hit.key", { "data-level": l }, ["weakly", "", "", "strongly"][l - 1] || "·"))),
        el("div.cards", {}, r.neighbors.map((n) => one(n))));
    } catch (e) {
      out.replaceChildren(failure(e));
    }
  }

  function one(n) {
    const pairs = aligned(state.text, n);
    return el("article.card", {},
      el("h3", {}, n.id), el("p.meta", {}, `${n.path} · cosine ${n.score.toFixed(3)}`, n.late_interaction === undefined ? "" : ` · late interaction ${n.late_interaction.toFixed(3)}`),
      el("p.snippet.passage", {}, info.redacted ? "This server withholds the text." : shaded(n.text, pairs), " ",
        el("button.quiet", { type: "button", onclick: () => show(index, n, n), "aria-label": `Open ${n.id}` }, "Open")),
      pairs.length ? el("details", {}, el("summary", {}, "Which word matched which"), table(pairs)) : null);
  }
}

/** Level 1 to 4 of a strength; 0: too weak to show. */
const level = (s) => [0.35, 0.5, 0.65, 0.8].filter((least) => s >= least).length;

/** Byte ranges of words: tokens that touch belong together. */
function words(tokens) {
  const out = [];
  for (const [start, end] of tokens) {
    const last = out.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else out.push([start, end]);
  }
  return out;
}

/**
 * Words of the query with their partners in the passage. An encoder's tokens can be parts of words: a word is as strong as its tokens
 * are on average, and its partner is the word that its strongest token met.
 */
function aligned(query, n) {
  if (!n.alignment?.length) return [];
  const [of, within] = [bytesOf(query), bytesOf(n.text)];
  const pairs = n.alignment.filter((a) => a.bytes && a.matched);
  const whole = spelled(n.text);
  const met = words(pairs.map((a) => whole.find(([a0, b0]) => a0 <= a.matched[0] && b0 >= a.matched[1]) ?? a.matched).sort((a, b) => a[0] - b[0] || a[1] - b[1]));
  return words(pairs.map((a) => a.bytes)).map(([start, end]) => {
    const tokens = pairs.filter(({ bytes }) => bytes[0] >= start && bytes[1] <= end);
    const best = tokens.reduce((x, y) => (y.strength > x.strength ? y : x));
    const bytes = met.find(([a, b]) => a <= best.matched[0] && b >= best.matched[1]);
    return { word: of(start, end), partner: within(...bytes), bytes, score: tokens.reduce((s, a) => s + a.strength, 0) / tokens.length };
  });
}

/** Byte ranges of the words of a text. */
function spelled(text) {
  const encoder = new TextEncoder();
  let [at, bytes] = [0, 0];
  return [...text.matchAll(/[\p{L}\p{M}\p{N}]+/gu)].map((m) => {
    const start = bytes + encoder.encode(text.slice(at, m.index)).length;
    at = m.index + m[0].length;
    bytes = start + encoder.encode(m[0]).length;
    return [start, bytes];
  });
}

/** The passage with its partners shaded by strength. */
function shaded(text, pairs) {
  const slice = bytesOf(text);
  const strongest = new Map();
  for (const p of pairs) {
    const known = strongest.get(p.bytes[0]);
    if (!known || known.score < p.score) strongest.set(p.bytes[0], p);
  }
  const out = [];
  let at = 0;
  for (const p of [...strongest.values()].sort((a, b) => a.bytes[0] - b.bytes[0])) {
    const l = level(p.score);
    if (!l || p.bytes[0] < at) continue;
    out.push(slice(at, p.bytes[0]), el("span.met", { "data-level": l, title: `${p.word}: ${p.score.toFixed(2)}` }, slice(...p.bytes)));
    at = p.bytes[1];
  }
  return [...out, slice(at)];
}

function table(pairs) {
  return el("div.scroll", { tabindex: "0", role: "region", "aria-label": "Words of the text and of the passage" }, el("table.bars", {},
    el("thead", {}, el("tr", {}, ["Your word", "Its partner", "Strength", ""].map((h) => el("th", { scope: "col" }, h)))),
    el("tbody", {}, pairs.map((p) => el("tr", {}, el("th", { scope: "row" }, p.word), el("td", {}, p.partner), el("td", {}, p.score.toFixed(2)),
      el("td", {}, el("progress", { max: 1, value: Math.max(0, p.score), "aria-label": `${p.word}, ${p.partner}: ${p.score.toFixed(2)}` })))))));
}
