// Elements from plain values. Text from the corpus only ever becomes text nodes, never markup.

/** el("a.link", {href: "#x", onclick: f}, "text", child, [more]) */
export function el(spec, attributes = {}, ...children) {
  const [tag, ...classes] = spec.split(".");
  const node = document.createElement(tag || "div");
  if (classes.length) node.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export const number = (n) => Number(n).toLocaleString("en-US");

/** count(2, "span") is "2 spans". */
export const count = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;

export const percent = (x) => (100 * x).toFixed(x > 0 && x < 0.1 ? 1 : 0) + " %";

/** Tells screen readers what happened. */
export function say(text) {
  document.getElementById("status").textContent = text;
}

export function field(label, input) {
  return el("label.field", {}, el("span", {}, label), input);
}

/** An answer in place of a result: what was looked for, and at which settings nothing was found. */
export function nothing(title, ...detail) {
  return el("div.nothing", {}, el("h3", {}, title), el("p", {}, ...detail));
}

export function failure(e) {
  return el("div.failure", { role: "alert" }, el("h3", {}, e.message), e.hint ? el("p", {}, e.hint) : null);
}

/** Buttons that save what is shown. `rows` gives an array of flat objects for CSV; with `lines`, `value` gives a list that is saved as JSON lines. */
export function exports(name, value, rows, lines = false) {
  const save = (kind, text, type) => {
    const url = URL.createObjectURL(new Blob([text], { type }));
    const a = el("a", { href: url, download: `${name}.${kind}` });
    a.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
  return el("div.exports", {},
    lines
      ? el("button.quiet", { type: "button", onclick: () => save("jsonl", value().map((v) => JSON.stringify(v) + "\n").join(""), "application/x-ndjson") }, "JSON lines")
      : el("button.quiet", { type: "button", onclick: () => save("json", JSON.stringify(value, null, 1), "application/json") }, "JSON"),
    el("button.quiet", { type: "button", onclick: () => save("csv", csv(rows()), "text/csv") }, "CSV"));
}

function csv(rows) {
  if (!rows.length) return "";
  const names = Object.keys(rows[0]);
  // A spreadsheet would run a cell that begins like a formula.
  const cell = (v) => {
    const text = String(v ?? "");
    const safe = typeof v !== "number" && /^[=+\-@\t\r]/.test(text) ? "'" + text : text;
    return `"${safe.replaceAll('"', '""')}"`;
  };
  return [names, ...rows.map((r) => names.map((n) => r[n]))].map((r) => r.map(cell).join(",")).join("\r\n") + "\r\n";
}

/** Slices text by UTF-8 byte offsets, as the server counts them. */
export function bytesOf(text) {
  const bytes = new TextEncoder().encode(text);
  const decoder = new TextDecoder();
  return (start, end) => decoder.decode(bytes.subarray(start, end));
}
