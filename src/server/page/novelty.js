// Novelty: is a text less attributable to this corpus than human writing of the same kind?
//
// Each window length has its own reference distribution and its own place of the text in it; beside them the exact evidence, the nearest
// passages, and the recall of the search that says "nothing found".

import * as api from "./api.js";
import { distribution } from "./charts.js";
import { show } from "./documents.js";
import { bytesOf, el, exports, failure, field, nothing, number, percent, say } from "./dom.js";

export const title = "Novelty";

export function render(view, { index, info, state, go }) {
  view.append(el("h1", {}, "Is this less attributable than human writing?"));
  if (!info.neighbors) {
    view.append(nothing("This index cannot say", info.encoder ? `Its encoder, ${info.encoder.name}, was not found by this server.` : "It was built without an encoder.", " Trace shows the exact evidence."));
    return;
  }
  const text = el("textarea", { rows: state.text ? 5 : 9, required: true, placeholder: "Paste a text of 25 or more tokens" });
  text.value = state.text || "";
  const out = el("div", {});
  view.append(el("form.panel", {
    onsubmit: (e) => {
      e.preventDefault();
      go({ text: text.value });
    },
  }, field("Text", text), el("div.row", {}, el("button.main", {}, "Assess"))), out);
  if (state.text) run();

  async function run() {
    out.replaceChildren(el("p.meta", {}, "Searching and reranking…"));
    try {
      const r = await api.ask(index, "novelty", { text: state.text });
      out.replaceChildren(...result(r));
      say("Assessed");
    } catch (e) {
      out.replaceChildren(failure(e));
    }
  }

  function result(r) {
    const x = r.texts[0];
    const coverage = Object.fromEntries(x.exact.coverage);
    const facts = el("dl.facts", {}, ...[
      ["Encoder tokens", number(x.tokens)], ["Longest exact match", `${number(x.exact.longest_span)} tokens`],
      ["In matches of 8+ tokens", percent(coverage[8] ?? 0)], ["Creativity index", x.exact.creativity_index.toFixed(2)],
      ["Verbatim", x.exact.verbatim ? "yes" : "no"],
    ].map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
    const slice = bytesOf(state.text);
    const rows = () => x.lengths.flatMap((l) => l.windows.map((w) => ({ length: l.length, start_byte: w.start_byte, end_byte: w.end_byte, s: w.s, cosine: w.cosine, nearest: w.best?.id, path: w.best?.path, nearest_start: w.best?.start_byte, nearest_end: w.best?.end_byte })));
    const warnings = [...r.warnings, ...(x.warnings ?? [])];
    return [
      el("div.bar", {}, facts, exports("novelty", r, rows)),
      ...(warnings.length ? [el("div.nothing", {}, el("h2", {}, "Read this with care"), el("ul", {}, warnings.map((w) => el("li", {}, w))))] : []),
      ...x.lengths.map((l, i) => length(l, x.assessed[i], r.reference[l.length], slice)),
      recall(r),
    ];
  }

  function length(l, a, reference, slice) {
    const verdict = a.r === undefined ? "No human reference at this length."
      : `r = ${a.r.toFixed(3)}: ${a.r < 1 ? "less attributable than" : "at least as attributable as"} the median human text. Of human texts, ${percent(a.p)} are this little attributable or less (p = ${a.p.toFixed(3)}, from ${number(reference.texts)} texts).`;
    return el("section.panel", {},
      el("h2", {}, l.short ? "The text as a whole: shorter than every window" : `Windows of ${l.length} tokens`),
      el("p", {}, verdict),
      el("div.pair", {},
        reference ? distribution({ values: reference.scores, mark: a.s, median: reference.median, label: `Scores of ${reference.texts} human texts, median ${reference.median.toFixed(3)}; this text ${a.s.toFixed(3)}` }) : el("p.meta", {}, `s = ${a.s.toFixed(3)}`),
        el("div.scroll", { tabindex: "0", role: "region", "aria-label": `Windows of ${l.length} tokens and their nearest passages` }, el("table", {},
          el("thead", {}, el("tr", {}, ["Window", "s", "Nearest passage"].map((h) => el("th", { scope: "col" }, h)))),
          el("tbody", {}, l.windows.slice(0, 40).map((w) => el("tr", {}, el("td.clip", {}, slice(w.start_byte, w.end_byte)), el("td", {}, w.s.toFixed(3)),
            el("td", {}, w.best ? el("button.quiet", { type: "button", "aria-label": `Open ${w.best.id}`, onclick: () => show(index, w.best, w.best) }, w.best.id) : "none"))))))));
  }

  function recall(r) {
    if (!r.recall) return nothing("The recall of this search is being measured", "Planted passages are looked for in the background. Until that is done, \"nothing near\" may mean \"missed\": ask again in a minute.");
    if (!r.recall.length) return nothing("The recall of this search was not measured", "No document is long enough for a probe, so \"nothing near\" may mean \"missed\".");
    return el("section.panel", {}, el("h2", {}, "How often does this search find what is there?"),
      el("p.meta", {}, "Share of planted passages whose source document the whole search put first, with a 95 % interval, by how much of them was edited. Similarity is not influence."),
      el("div.scroll", { tabindex: "0", role: "region", "aria-label": "Measured recall" }, el("table", {},
        el("thead", {}, el("tr", {}, ["Window", "Words edited", "Found", "95 % interval", "Probes"].map((h) => el("th", { scope: "col" }, h)))),
        el("tbody", {}, r.recall.map((p) => el("tr", {}, el("th", { scope: "row" }, `${p.length} tokens`), el("td", {}, p.edited === null ? "paraphrased" : percent(p.edited)), el("td", {}, percent(p.first.estimate)),
          el("td", {}, `${percent(p.first.low)} to ${percent(p.first.high)}`), el("td", {}, number(p.probes))))))));
  }
}
