// Contamination: a report of `priorart decontaminate`, reviewed case by case.
//
// The report is read by the browser and sent nowhere. Labels stay in this browser, keyed by document hash and eval item, until they are
// exported; the export is the report's lines with a `label` added, which `priorart decontaminate --labels` reads. One item can be checked against the index without a report, too: the
// server reads every document past it.

import * as api from "./api.js";
import { show } from "./documents.js";
import { bytesOf, count, el, exports, failure, field, nothing, number, percent, say } from "./dom.js";

export const title = "Contamination";

const LABELS = "priorart-labels";
const PAGE = 25;

// The loaded report outlives a change of tab, and nothing else.
let report = null;

const caseKey = (r) => `${r.document_hash}/${r.eval_key}/${r.eval_instance_index}`;

function labels() {
  try {
    return JSON.parse(localStorage.getItem(LABELS) || "{}");
  } catch {
    return {};
  }
}

function label(r, value) {
  const all = labels();
  if (all[caseKey(r)] === value) delete all[caseKey(r)];
  else all[caseKey(r)] = value;
  try {
    localStorage.setItem(LABELS, JSON.stringify(all));
  } catch {
    say("This browser keeps no labels: export them before you leave");
  }
  return all[caseKey(r)];
}

/** Lines of a report; a line that is none is named with its number. */
export function parse(text) {
  const rows = [];
  text.split("\n").forEach((line, i) => {
    if (!line.trim()) return;
    let row;
    try {
      row = JSON.parse(line);
    } catch {
      throw Object.assign(new Error(`Line ${i + 1} is not JSON`), { hint: "A report has one JSON object a line: priorart decontaminate … --format jsonl" });
    }
    if (row && typeof row === "object" && typeof row.document_id === "string" && typeof row.eval_key === "string") rows.push(row);
  });
  if (!rows.length) throw Object.assign(new Error("This file has no findings of a decontamination report"), { hint: "Its lines carry document_id, eval_key and verdicts" });
  return rows;
}

// Reports of earlier versions named the texts otherwise.
const documentText = (r) => r.training_overlap_text ?? r.training_text ?? "";
const itemText = (r) => r.eval_overlap_text ?? r.eval_text ?? "";

/** This browser's label of a finding, else the one it came with. */
const labelOf = (kept, r) => kept[caseKey(r)] ?? r.label ?? null;

const words = (r) => Math.max(0, ...(r.components ?? []).map((c) => c.matched_words));
const SORTS = {
  score: ["score", (a, b) => b.contamination_score - a.contamination_score],
  words: ["matched words", (a, b) => words(b) - words(a)],
  benchmark: ["benchmark", (a, b) => a.eval_key.localeCompare(b.eval_key) || String(a.eval_instance_index).localeCompare(String(b.eval_instance_index))],
  file: ["file and record", (a, b) => a.training_file.localeCompare(b.training_file) || a.training_line - b.training_line],
};

export function render(view, { index, info, state, go }) {
  const tab = state.check === undefined ? "report" : "check";
  const pick = (name, key, next) => el("button", { type: "button", "aria-pressed": String(tab === key), onclick: () => go(next) }, name);
  view.append(el("h1", {}, "Which benchmark items are in the data?"),
    el("div.choice", { role: "group", "aria-label": "What to look at" }, pick("A report", "report", {}), pick("One item, now", "check", { check: " " })));
  if (tab === "check") check(view, { index, info, state, go });
  else review(view, { index, state, go });
}

/** Checks one item against the served index. */
function check(view, { index, info, state, go }) {
  const item = el("textarea", { rows: 6, required: true, placeholder: 'A question, or an item as JSON: {"question": …, "answer": …, "choices": […]}' });
  item.value = (state.check || "").trim();
  const protocol = el("select", {}, el("option", { value: "priorart" }, "priorart"), el("option", { value: "all" }, "all twelve"));
  protocol.value = state.protocol === "all" ? "all" : "priorart";
  const out = el("div", {});
  view.append(el("form.panel", {
    onsubmit: (e) => {
      e.preventDefault();
      go({ check: item.value, protocol: protocol.value === "all" ? "all" : "" });
    },
  }, field("Eval item", item), el("div.row", {}, field("Protocols", protocol), el("button.main", {}, "Check"))), out);
  if (item.value) run();

  async function run() {
    out.replaceChildren(el("p.meta", {}, `Reading all ${number(info.documents)} documents…`));
    try {
      const r = await api.ask(index, "decontaminate", { item: parsed(item.value), protocol: protocol.value, limit: 50 });
      const read = `${number(r.documents)} documents of ${index}, generation ${r.generation}, were read in full. What is only paraphrased or translated is not seen by these protocols.`;
      say(count(r.found, "finding"));
      if (!r.found) {
        out.replaceChildren(nothing("Nothing found", read));
        return;
      }
      const kept = labels();
      out.replaceChildren(
        el("div.bar", {}, el("h2", {}, `${count(r.found, "document")} with this item`), exports("check", r, () => r.findings.map((f) => flat(f, null)))),
        el("p.meta", {}, read),
        el("div.panel.scroll", { tabindex: "0", role: "region", "aria-label": "Verdicts" }, el("table", {},
          el("thead", {}, el("tr", {}, ["Protocol", "Gravest verdict", "Score", "Documents"].map((h) => el("th", { scope: "col" }, h)))),
          el("tbody", {}, Object.entries(r.verdicts).map(([name, v]) => el("tr", {}, el("th", { scope: "row" }, name),
            el("td", {}, el("span", { class: `level ${v.level}` }, v.level)), el("td", {}, v.score.toFixed(2)), el("td", {}, number(v.documents))))))),
        ...r.findings.map((f) => one(f, labelOf(kept, f), index)));
    } catch (e) {
      out.replaceChildren(failure(e));
    }
  }
}

/** An item as JSON, or a bare question. */
function parsed(text) {
  if (!text.trim().startsWith("{")) return { question: text };
  try {
    return JSON.parse(text);
  } catch (e) {
    throw Object.assign(new Error(`The item is not JSON: ${e.message}`), { hint: "Without the braces it is taken as a question" });
  }
}

/** Reviews a report. */
function review(view, { index, state, go }) {
  const file = el("input", { type: "file", accept: ".jsonl,.ndjson,.json" });
  const out = el("div", {});
  file.addEventListener("change", async () => {
    try {
      report = { name: file.files[0].name, rows: parse(await file.files[0].text()) };
      go({});
    } catch (e) {
      out.replaceChildren(failure(e));
    }
  });
  view.append(el("div.panel", {}, field("Report (.jsonl)", file), el("p.meta", {}, report ? `${report.name}: ${count(report.rows.length, "finding")}. ` : "", "The file stays in this browser.")), out);
  if (!report) {
    out.append(nothing("No report is loaded", "Make one with ", el("code", {}, "priorart decontaminate … --format jsonl > report.jsonl"), ", then choose it above."));
    return;
  }
  const options = (name, all, values) => {
    const select = el("select", {}, el("option", { value: "" }, all), values.map((v) => el("option", { value: v }, v)));
    select.value = values.includes(state[name]) ? state[name] : "";
    return select;
  };
  const distinct = (of) => [...new Set(report.rows.map(of))].sort();
  const protocols = [...new Set(report.rows.flatMap((r) => Object.keys(r.verdicts ?? {})))].sort();
  const inputs = {
    benchmark: options("benchmark", "all", distinct((r) => r.eval_key)),
    level: options("level", "all", distinct((r) => r.level)),
    protocol: options("protocol", "any", protocols),
    label: options("label", "all", ["accept", "reject", "open"]),
    sort: el("select", {}, Object.entries(SORTS).map(([k, [name]]) => el("option", { value: k }, name))),
    contains: el("input", { type: "search", value: state.contains || "" }),
  };
  inputs.sort.value = SORTS[state.sort] ? state.sort : "score";
  const apply = () => go(Object.fromEntries(Object.entries(inputs).map(([k, i]) => [k, i.value])));
  for (const i of Object.values(inputs)) i.addEventListener("change", apply);
  const kept = labels();
  const needle = (state.contains || "").toLowerCase();
  const rows = report.rows.filter((r) =>
    (!inputs.benchmark.value || r.eval_key === inputs.benchmark.value)
    && (!inputs.level.value || r.level === inputs.level.value)
    && (!inputs.protocol.value || (r.verdicts?.[inputs.protocol.value]?.level ?? "clean") !== "clean")
    && (!inputs.label.value || (labelOf(kept, r) ?? "open") === inputs.label.value)
    && (!needle || `${r.document_id} ${r.training_file} ${r.eval_instance_index} ${documentText(r)} ${itemText(r)}`.toLowerCase().includes(needle)))
    .sort(SORTS[inputs.sort.value][1]);
  // As they are labelled when they are saved, not when they were drawn.
  const labelled = () => {
    const now = labels();
    return rows.map((r) => ({ ...r, label: labelOf(now, r) }));
  };
  const offset = Math.min(Number(state.offset || 0), Math.max(0, rows.length - 1));
  const page = (to, name) => el("button", { type: "button", onclick: () => go({ ...state, offset: to || "" }) }, name);
  out.append(
    el("form.panel", { onsubmit: (e) => { e.preventDefault(); apply(); } }, el("div.row.filters", {},
      field("Benchmark", inputs.benchmark), field("Level", inputs.level), field("Found by", inputs.protocol), field("Label", inputs.label), field("Sort by", inputs.sort), field("Contains", inputs.contains))),
    el("div.bar", {}, el("h2", {}, `${number(rows.length)} of ${number(report.rows.length)} findings`), exports("contamination", labelled, () => labelled().map((r) => flat(r, r.label)), true)),
    ...(rows.length ? rows.slice(offset, offset + PAGE).map((r) => one(r, labelOf(kept, r), index)) : [nothing("No finding passes these filters", "Set one of them back to all.")]),
    el("nav.pages", { "aria-label": "Pages" }, offset > 0 ? page(Math.max(0, offset - PAGE), "Previous") : null,
      rows.length > PAGE ? el("span.meta", {}, `${number(offset + 1)} to ${number(Math.min(rows.length, offset + PAGE))}`) : null,
      offset + PAGE < rows.length ? page(offset + PAGE, "Next") : null));
  say(count(rows.length, "finding"));
}

/** A finding as a row of a table. */
const flat = (r, label) => ({
  label, level: r.level, score: r.contamination_score, benchmark: r.eval_key, item: r.eval_instance_index, document: r.document_id,
  file: r.training_file, record: r.training_line, document_hash: r.document_hash, protocols: judged(r).join(" "), document_text: documentText(r), item_text: itemText(r),
});

const judged = (r) => Object.entries(r.verdicts ?? {}).filter(([, v]) => v.level !== "clean").map(([name, v]) => `${name}:${v.level}`);

/** One finding: the item on the left, the document on the right, what matched marked in both. */
function one(r, labelled, index) {
  const about = `${r.eval_key} ${r.eval_instance_index} in ${r.document_id}`;
  const button = (value, name) => el("button.label", {
    type: "button", "aria-pressed": String(labelled === value), "aria-label": `${name}: ${about}`,
    onclick: (e) => {
      const now = label(r, value);
      e.currentTarget.parentElement.querySelectorAll("button").forEach((b) => b.setAttribute("aria-pressed", String(b === e.currentTarget && now === value)));
      say(now ? `${about}: ${now}` : `${about}: label removed`);
    },
  }, name);
  const parts = (r.components ?? []).map((c) => `${c.component}: ${percent(c.coverage)} (${number(c.matched_words)} of ${number(c.words)} words, longest ${number(c.longest_match_words)})`);
  const opened = el("span", { role: "status" });
  const open = async () => {
    opened.textContent = "";
    try {
      const [start_byte, end_byte] = r.training_bytes ?? [0, 0];
      const found = await api.excerpt(index, { id: r.document_id, start_byte, end_byte, context: 0 });
      if (found.text !== null && documentText(r) && found.text !== documentText(r)) {
        opened.textContent = ` The document of this name in ${index} has another text there.`;
        return;
      }
      show(index, found, { start_byte, end_byte });
    } catch (e) {
      opened.textContent = e.status === 404 ? ` ${index} has no document of this name: choose the index the report was made from, if it is served.` : ` ${e.message}`;
    }
  };
  // The text shown is the best covered component's.
  const best = [...(r.components ?? [])].sort((a, b) => b.coverage - a.coverage || b.matched_words - a.matched_words)[0];
  const spans = best?.spans ?? [];
  const start = r.training_bytes?.[0] ?? 0;
  return el("article.card.case", {},
    el("div.bar", {}, el("h3", {}, `${r.eval_key} · ${r.eval_instance_index}`), el("div.labels", {}, button("accept", "Accept"), button("reject", "Reject"))),
    el("p.meta", {}, el("span", { class: `level ${r.level}` }, r.level), ` score ${Number(r.contamination_score).toFixed(2)} · ${parts.join(" · ")}`, r.choices ? ` · choices ${r.choices[0]} of ${r.choices[1]}` : ""),
    el("div.pair", {},
      el("section", { "aria-label": "Eval item" }, el("h4", {}, "Eval item"), el("p.text", {}, marked(itemText(r), spans.map(([, , a, b]) => [a, b])))),
      el("section", { "aria-label": "Document" }, el("h4", {}, "Document"), el("p.text", {}, marked(documentText(r), spans.map(([a, b]) => [a - start, b - start]))),
        el("p.meta", {}, `${r.document_id} · ${r.training_file}, record ${number(r.training_line + 1)}, bytes ${number(start)} to ${number(r.training_bytes?.[1] ?? 0)} `,
          el("button.quiet", { type: "button", "aria-label": `Open ${r.document_id} in context`, onclick: open }, "Open"), opened))),
    el("p.meta", {}, judged(r).length ? `Found by ${judged(r).join(", ")}` : "No protocol finds it"));
}

/** Text with byte ranges marked. */
function marked(text, ranges) {
  const bytes = new TextEncoder().encode(text).length;
  const slice = bytesOf(text);
  const inside = ranges.filter(([a, b]) => a >= 0 && b <= bytes && a < b).sort((x, y) => x[0] - y[0]);
  const out = [];
  let at = 0;
  for (const [a, b] of inside) {
    if (b <= at) continue;
    out.push(slice(at, Math.max(a, at)), el("mark", {}, slice(Math.max(a, at), b)));
    at = b;
  }
  return [...out, slice(at, bytes)];
}
