// Charts as SVG. Colours come from the style sheet, so that they follow the scheme.

const NS = "http://www.w3.org/2000/svg";

function svg(name, attributes, ...children) {
  const node = document.createElementNS(NS, name);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  node.append(...children);
  return node;
}

/**
 * How `values` are distributed, and where `mark` lies among them.
 * @param {{values: number[], mark: number, median: number, label: string}} of
 */
export function distribution({ values, mark, median, label }) {
  const [W, H, left, right, base] = [420, 132, 12, 12, 104];
  const low = Math.min(mark, values[0]), high = Math.max(mark, values.at(-1));
  const pad = Math.max((high - low) * 0.06, 0.01);
  const [from, to] = [Math.max(0, low - pad), high + pad];
  const x = (v) => left + ((W - left - right) * (v - from)) / (to - from);
  const bins = Math.max(6, Math.min(30, Math.round(Math.sqrt(values.length) * 2)));
  const counts = new Array(bins).fill(0);
  for (const v of values) counts[Math.min(bins - 1, Math.floor(((v - from) / (to - from)) * bins))] += 1;
  const most = Math.max(...counts, 1);
  const width = (W - left - right) / bins;
  const bars = counts.map((n, i) => svg("rect", { class: "bar-ref", x: left + i * width + 0.5, width: Math.max(1, width - 1), y: base - (72 * n) / most, height: (72 * n) / most }));
  const anchor = (v) => (x(v) < 90 ? "start" : x(v) > W - 90 ? "end" : "middle");
  const word = (v, y, cls, text) => svg("text", { class: cls, x: x(v), y, "text-anchor": anchor(v) }, text);
  return svg("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label },
    ...bars, svg("line", { class: "axis", x1: left, x2: W - right, y1: base, y2: base }),
    svg("line", { class: "median", x1: x(median), x2: x(median), y1: 26, y2: base }), word(median, base + 22, "tick", `human median ${median.toFixed(3)}`),
    svg("line", { class: "mark-line", x1: x(mark), x2: x(mark), y1: 18, y2: base }), word(mark, 13, "mark-word", `this text ${mark.toFixed(3)}`));
}
