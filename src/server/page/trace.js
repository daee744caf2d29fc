// Trace: a text with its maximal spans shaded on the left, the documents they come from on the right.

import * as api from "./api.js";
import { card } from "./documents.js";
import { bytesOf, el, exports, failure, field, nothing, number, percent, say } from "./dom.js";

export const title = "Trace";

export function render(view, { index, info, state, go }) {
  const text = el("textarea", { rows: 9, required: true, placeholder: "Paste a model's output or a benchmark item" });
  text.value = state.text || "";
  const min = el("input", { type: "number", min: 1, max: 1000, value: state.min || "6" });
  const shade = el("select", {}, el("option", { value: "length" }, "length"), el("option", { value: "rarity" }, "rarity"));
  shade.value = state.shade || "length";
  const out = el("div", {});
  const form = el("form.panel", {
    onsubmit: (e) => {
      e.preventDefault();
      go({ text: text.value, min: min.value, shade: shade.value });
    },
  }, field("Text", text), el("div.row", {}, field("Shortest span, tokens", min), field("Shade by", shade), el("button.main", {}, "Trace")));
  view.append(el("h1", {}, "Where did this text come from?"), form, out);
  if (state.text) run();

  async function run() {
    out.replaceChildren(el("p.meta", {}, "Tracing…"));
    try {
      const t = await api.ask(index, "trace", { text: state.text, min_tokens: Number(min.value), documents_per_span: 5, context: 120 });
      out.replaceChildren(...result(t));
      say(`${t.spans.length} spans found`);
    } catch (e) {
      out.replaceChildren(failure(e));
    }
  }

  function result(t) {
    const coverage = Object.fromEntries(t.coverage);
    const facts = el("dl.facts", {},
      fact("Tokens", number(t.tokens)),
      fact("Spans", number(t.spans.length)),
      fact("Longest match", `${number(Math.max(0, ...t.longest))} tokens`),
      fact("Covered by 5+ tokens", percent(coverage[5] ?? 0)),
      fact("Creativity index", t.creativity_index.toFixed(2)));
    if (!t.spans.length) {
      return [facts, nothing("Nothing found", `No span of ${min.value} or more tokens of this text occurs in ${index}, generation ${t.generation} (${number(info.documents)} documents). This search is exact: its recall is 1. Shorter spans may occur, and the same meaning in other words is not looked for here.`)];
    }
    const strength = scale(t.spans, shade.value);
    const documents = el("div.cards", {});
    let chosen = null;
    const marks = t.spans.map(() => []);
    const select = (i) => {
      chosen = chosen === i ? null : i;
      marks.forEach((list, k) => list.forEach((m) => m.setAttribute("aria-pressed", String(k === chosen))));
      listed();
    };
    const listed = () => {
      const shown = chosen === null ? t.spans.map((s, i) => [s, i]) : [[t.spans[chosen], chosen]];
      documents.replaceChildren(
        el("div.bar", {}, el("h2", {}, chosen === null ? "All documents" : "Documents of the span"),
          chosen === null ? null : el("button.quiet", { type: "button", onclick: () => select(chosen) }, "Show all")),
        ...shown.map(([s, i]) => el("section", {},
          el("button.span", { type: "button", onclick: () => select(i) },
            el("q", {}, s.text.length > 160 ? s.text.slice(0, 160) + "…" : s.text),
            el("span.meta", {}, ` ${s.right - s.left} tokens · ${number(s.count)} in the corpus`)),
          s.documents.map((d) => card(index, d, { redacted: info.redacted })))));
      if (chosen !== null) say(`Documents of span ${chosen + 1}`);
    };
    listed();
    const rows = () => t.spans.map((s) => ({ left: s.left, right: s.right, tokens: s.right - s.left, count: s.count, text: s.text, documents: s.documents.map((d) => d.id).join(" ") }));
    return [facts, el("div.split", {},
      el("section.panel", {}, el("div.bar", {}, el("h2", {}, "Text"), exports("trace", t, rows)),
        el("p.text", {}, shaded(t, strength, marks, select)),
        el("p.meta", {}, "Shaded: occurs word for word; darker is ", shade.value === "length" ? "longer" : "rarer", ". Plain: no such span found.")),
      documents)];
  }

  // Spans overlap: every stretch between two borders belongs to the strongest span that covers it.
  function shaded(t, strength, marks, select) {
    const slice = bytesOf(state.text);
    const end = new TextEncoder().encode(state.text).length;
    const borders = [...new Set([0, end, ...t.spans.flatMap((s) => [s.start_byte, s.end_byte])])].sort((a, b) => a - b);
    return borders.slice(0, -1).map((from, k) => {
      const to = borders[k + 1];
      let best = -1;
      t.spans.forEach((s, i) => {
        if (s.start_byte <= from && s.end_byte >= to && (best < 0 || strength[i] > strength[best])) best = i;
      });
      if (best < 0) return slice(from, to);
      const s = t.spans[best];
      const mark = el("button.hit", {
        type: "button", "aria-pressed": "false", "data-level": strength[best],
        title: `${s.right - s.left} tokens, ${number(s.count)} occurrences`, onclick: () => select(best),
      }, slice(from, to));
      marks[best].push(mark);
      return mark;
    });
  }
}

const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));

/** A level 1 to 4 for each span. */
function scale(spans, by) {
  if (by === "length") return spans.map((s) => [8, 16, 32].filter((n) => s.right - s.left >= n).length + 1);
  return spans.map((s) => [1000, 100, 10].filter((n) => s.count < n).length + 1);
}
