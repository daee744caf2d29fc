// Trace: a text with its spans shaded on the left, the documents they come from on the right. Choosing either filters the other.
//
// Exact spans are shaded by length or rarity. On request the sentences without one are looked up by meaning, and those with a passage
// near enough are underlined instead: similarity, not evidence of copying.

import * as api from "./api.js";
import { CONTEXT, card } from "./documents.js";
import { bytesOf, count, el, exports, failure, field, nothing, number, percent, say } from "./dom.js";

export const title = "Trace";

/** Cosine from which a passage counts as meaning the same. */
const NEAR = 0.45;
/** Sentences looked up by meaning, at most. */
const SENTENCES = 24;
/** Spans whose documents come with the trace, the longest first; those of the others are fetched when they are chosen. */
const WITH_DOCUMENTS = 25;
/** Documents shown for a span. */
const PER_SPAN = 5;

const key = (d) => `${d.shard}/${d.document}`;

export function render(view, { index, info, state, go }) {
  const text = el("textarea", { rows: state.text ? 5 : 9, required: true, placeholder: "Paste a model’s output or a benchmark item" });
  text.value = state.text || "";
  const min = el("input", { type: "number", min: 1, max: 1000, value: state.min || "6" });
  const shade = el("select", {}, el("option", { value: "length" }, "length"), el("option", { value: "rarity" }, "rarity"));
  shade.value = state.shade || "length";
  const meaning = el("input", { type: "checkbox", checked: state.meaning === "1" });
  const out = el("div", {});
  const form = el("form.panel", {
    onsubmit: (e) => {
      e.preventDefault();
      go({ text: text.value, min: min.value, shade: shade.value, meaning: meaning.checked ? "1" : "" });
    },
  }, field("Text", text), el("div.row", {}, field("Shortest span, tokens", min), field("Shade by", shade),
    info.neighbors ? el("label.check", {}, meaning, " Also by meaning") : null, el("button.main", {}, "Trace")));
  view.append(el("h1", {}, "Where did this text come from?"), form, out);
  if (state.text) run();

  async function run() {
    out.replaceChildren(el("p.meta", {}, "Tracing…"));
    try {
      const t = await api.ask(index, "trace", { text: state.text, min_tokens: Number(min.value), documents_per_span: PER_SPAN, document_spans: WITH_DOCUMENTS, context: CONTEXT });
      const near = info.neighbors && meaning.checked ? await similar(t) : null;
      out.replaceChildren(...result(t, near));
      say(`${count(t.spans.length, "span")} found`);
    } catch (e) {
      out.replaceChildren(failure(e));
    }
  }

  /** Sentences that no span covers half of, with the passages nearest to them. */
  async function similar(t) {
    const encoder = new TextEncoder();
    let at = 0;
    const sentences = (state.text.match(/[^.!?\n]+[.!?]*["”’)]*\s*/g) || []).map((s) => {
      const start_byte = encoder.encode(state.text.slice(0, state.text.indexOf(s, at))).length;
      at = state.text.indexOf(s, at) + s.length;
      return { text: s.trim(), start_byte, end_byte: start_byte + encoder.encode(s.trimEnd()).length };
    });
    const covered = (s) => t.merged.reduce((n, [a, b]) => n + Math.max(0, Math.min(b, s.end_byte) - Math.max(a, s.start_byte)), 0);
    const open = sentences.filter((s) => s.text.split(/\s+/).length > 3 && covered(s) < (s.end_byte - s.start_byte) / 2).slice(0, SENTENCES);
    const { answers } = await api.ask(index, "batch", { requests: open.map((s) => ({ neighbors: { text: s.text, top_k: 3, at_least: NEAR } })) });
    const failed = answers.find((a) => a.problem);
    if (failed) throw new api.ApiError(failed.problem.status, failed.problem);
    const found = answers.map((a) => ({ ...open[a.request], neighbors: a.answer.neighbors })).filter((s) => s.neighbors.length);
    return { found, looked: open.length, recall: recallOf(answers) };
  }

  /** Documents of a span that came without them: its own tokens where the vocabulary is closed, else its text. */
  async function fetched(t, of) {
    const s = t.spans[of];
    const what = t.token_ids ? { ids: t.token_ids.slice(s.left, s.right) } : { query: s.text };
    const r = await api.ask(index, "find", { ...what, limit: PER_SPAN, per_document: 1, context: CONTEXT });
    s.documents = r.found;
  }

  function result(t, near) {
    const coverage = Object.fromEntries(t.coverage);
    const facts = el("dl.facts", {},
      fact("Tokens", number(t.tokens)),
      fact("Spans", number(t.spans.length)),
      fact("Longest match", count(Math.max(0, ...t.longest), "token")),
      fact("Covered by 5+ tokens", percent(coverage[5] ?? 0)),
      fact("Creativity index", t.creativity_index.toFixed(2)));
    const meant = near?.found ?? [];
    const none = nothing("Nothing found word for word", `No span of ${min.value} or more tokens of this text occurs in ${index}, generation ${t.generation} (${number(info.documents)} documents). This search is exact: its recall is 1. Shorter spans may occur`, near ? `. Looked up by meaning: ${count(near.looked, "sentence")}, none with a passage of cosine ${NEAR} or more. ${near.recall}` : ", and the same meaning in other words is not looked for here.");
    if (!t.spans.length && !meant.length) return [facts, none];

    const strength = scale(t.spans, shade.value);
    let documents = gather(t);
    const list = el("div.cards", {});
    // What is chosen: a span, a sentence, a document, or nothing.
    let chosen = null;
    const marks = [];
    const select = async (what) => {
      chosen = chosen && chosen.kind === what.kind && chosen.of === what.of ? null : what;
      listed();
      if (chosen?.kind !== "span" || t.spans[chosen.of].documents.length) return;
      try {
        await fetched(t, chosen.of);
        documents = gather(t);
        if (chosen === what) listed();
      } catch (e) {
        list.replaceChildren(failure(e));
      }
    };
    const lit = (m) => !chosen || (chosen.kind === "document" ? m.kind === "span" && documents.get(chosen.of).spans.includes(m.of) : m.kind === chosen.kind && m.of === chosen.of);
    const listed = () => {
      marks.forEach((m) => {
        m.node.setAttribute("aria-pressed", String(Boolean(chosen) && lit(m)));
        m.node.classList.toggle("dim", !lit(m));
      });
      const heads = { span: "Documents with this span", near: "Passages that mean nearly the same", document: "This document" };
      const shown = [...documents.values()].filter((d) => !chosen || (chosen.kind === "span" && d.spans.includes(chosen.of)) || (chosen.kind === "document" && chosen.of === key(d)));
      const about = chosen?.kind === "span" ? t.spans[chosen.of] : null;
      list.replaceChildren(
        el("div.bar", {}, el("h2", {}, chosen ? heads[chosen.kind] : `Documents (${number(documents.size)})`),
          chosen ? el("button.quiet", { type: "button", onclick: () => select(chosen) }, "Show all") : null),
        about ? el("p.meta", {}, `${about.right - about.left} tokens · ${count(about.count, "occurrence")} in the corpus`, about.count > about.documents.length ? ` · ${about.documents.length} documents shown` : "") : "",
        about && !about.documents.length ? el("p.meta", {}, "Fetching its documents…") : "",
        ...shown.map((d) => card(index, { ...d, occurrences: chosen?.kind === "span" ? d.occurrences.filter((o) => o.span === chosen.of) : d.occurrences.slice(0, chosen ? 50 : 3) }, {
          redacted: info.redacted,
          more: !chosen && d.occurrences.length > 3 ? d.occurrences.length - 3 : 0,
          action: el("button.quiet", { type: "button", "aria-pressed": String(chosen?.kind === "document"), "aria-label": `Spans from ${d.id}`, onclick: () => select({ kind: "document", of: key(d) }) }, count(d.spans.length, "span")),
        })),
        ...(!chosen || chosen.kind === "near" ? meant.filter((_, i) => !chosen || chosen.of === i).flatMap((s) => s.neighbors.map((n) =>
          card(index, { ...n, occurrences: [{ ...n, before: "", after: "" }] }, { redacted: info.redacted, near: n.score }))) : []));
      if (chosen) say(heads[chosen.kind]);
    };
    const left = shaded(t, meant, strength, marks, select);
    listed();
    const rows = () => t.spans.map((s) => ({ left: s.left, right: s.right, tokens: s.right - s.left, count: s.count, text: s.text, documents: s.documents.map((d) => d.id).join(" ") }));
    const legend = el("p.legend", {}, el("span.hit.key", { "data-level": 1 }, shade.value === "length" ? "up to 7 tokens" : "1000 times or more"), " ",
      el("span.hit.key", { "data-level": 4 }, shade.value === "length" ? "32 and more" : "rarer than 10 times"), near ? [" ", el("span.hit.near.key", {}, "by meaning")] : null, " plain: nothing found");
    const recall = near ? el("p.meta", {}, `Looked up by meaning, cosine of at least ${NEAR}: ${count(near.looked, "sentence")} that no long span covers, ${meant.length} with a passage near. ${near.recall} Similarity is not influence.`) : null;
    return [facts, t.spans.length ? null : none, el("div.split", {},
      el("section.panel", { "aria-label": "The text" }, el("div.bar", {}, el("h2", {}, "Text"), exports("trace", near ? { ...t, near: near.found } : t, rows)),
        el("p.text", {}, left), legend, recall),
      el("section", { "aria-label": "Documents" }, list))].filter(Boolean);
  }

  // Spans overlap: every stretch between two borders belongs to the strongest span that covers it.
  function shaded(t, meant, strength, marks, select) {
    const slice = bytesOf(state.text);
    const end = new TextEncoder().encode(state.text).length;
    const borders = [...new Set([0, end, ...[...t.spans, ...meant].flatMap((s) => [s.start_byte, s.end_byte])])].sort((a, b) => a - b);
    const over = (s, from, to) => s.start_byte <= from && s.end_byte >= to;
    const stretches = [];
    borders.slice(0, -1).forEach((from, k) => {
      const to = borders[k + 1];
      let of = -1;
      t.spans.forEach((s, i) => {
        if (over(s, from, to) && (of < 0 || strength[i] > strength[of])) of = i;
      });
      const kind = of >= 0 ? "span" : "near";
      if (of < 0) of = meant.findIndex((s) => over(s, from, to));
      const last = stretches.at(-1);
      if (last && last.of === of && last.kind === kind) last.to = to;
      else stretches.push({ from, to, of, kind });
    });
    return stretches.map(({ from, to, of, kind }) => {
      if (of < 0) return slice(from, to);
      const s = kind === "span" ? t.spans[of] : meant[of];
      const choose = () => select({ kind, of });
      // Not a button element: its text could not wrap with the lines around it.
      const node = el(kind === "span" ? "span.hit" : "span.hit.near", {
        role: "button", tabindex: "0", "aria-pressed": "false", "data-level": kind === "span" ? strength[of] : null,
        title: kind === "span" ? `${s.right - s.left} tokens, ${count(s.count, "occurrence")}` : `nearest passage: cosine ${s.neighbors[0].score.toFixed(2)}`,
        onclick: choose,
        onkeydown: (e) => {
          if (e.key !== "Enter" && e.key !== " ") return;
          e.preventDefault();
          choose();
        },
      }, slice(from, to));
      marks.push({ node, kind, of });
      return node;
    });
  }
}

/** What the search by meaning can have missed, in the server's words. */
function recallOf(answers) {
  const first = answers[0]?.answer;
  if (!first) return "";
  return first.approximate ? `How this was searched: ${first.recall_words}.` : "Every vector was compared (recall 1).";
}

/** Documents of all spans, best first, each with its spans and an occurrence of each. */
function gather(t) {
  // In the order of the ranking; documents fetched later come after it.
  const all = new Map(t.documents.map((d) => [key(d), null]));
  t.spans.forEach((s, i) => s.documents.forEach((d) => {
    const known = all.get(key(d)) ?? { ...d, count: 0, occurrences: [], spans: [] };
    known.spans.push(i);
    known.occurrences.push(...d.occurrences.map((o) => ({ ...o, span: i })));
    all.set(key(d), known);
  }));
  all.forEach((d) => d.occurrences.sort((a, b) => b.text.length - a.text.length));
  return all;
}

const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));

/** A level 1 to 4 for each span. */
function scale(spans, by) {
  if (by === "length") return spans.map((s) => [8, 16, 32].filter((n) => s.right - s.left >= n).length + 1);
  return spans.map((s) => [1000, 100, 10].filter((n) => s.count < n).length + 1);
}
