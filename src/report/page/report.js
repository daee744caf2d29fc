"use strict";
// Filters and orders the report and moves the threshold. Text is never made into markup here.
const get = (id) => document.getElementById(id);
const scores = JSON.parse(get("data").textContent);
const inputs = ["benchmark", "protocol", "threshold"].map(get);
const bins = [...document.querySelectorAll(".histogram .bin")];
const line = document.querySelector(".histogram .mark-line");
const GRAVITY = { suspect: 1, dirty: 2 };
const cases = [...document.querySelectorAll("article")].map((node) => ({ node, verdicts: JSON.parse(node.dataset.verdicts) }));

function update() {
  const [benchmark, protocol, threshold] = inputs.map((i) => i.value);
  const counts = new Array(bins.length).fill(0);
  for (const [name, of] of Object.entries(scores)) {
    if (!benchmark || name === benchmark) (of[protocol] ?? []).forEach((n, i) => (counts[i] += n));
  }
  const most = Math.sqrt(Math.max(1, ...counts));
  const from = Math.round(threshold * bins.length);
  bins.forEach((bin, i) => {
    const height = (104 * Math.sqrt(counts[i])) / most;
    bin.setAttribute("height", height);
    bin.setAttribute("y", 116 - height);
    bin.classList.toggle("over", i >= from);
  });
  const x = 14 + 492 * threshold;
  line.setAttribute("x1", x);
  line.setAttribute("x2", x);
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  get("above").textContent = `${sum(counts.slice(from))} of ${sum(counts)} findings score ${Number(threshold).toFixed(2)} or more under ${protocol}`;
  for (const node of document.querySelectorAll("tr[data-benchmark], figure[data-benchmark]")) node.hidden = Boolean(benchmark) && node.dataset.benchmark !== benchmark;
  for (const g of document.querySelectorAll("g[data-name]")) g.classList.toggle("dim", g.dataset.name !== protocol);

  const shown = [];
  for (const { node, verdicts } of cases) {
    const verdict = verdicts[protocol];
    node.hidden = !verdict || (Boolean(benchmark) && node.dataset.benchmark !== benchmark) || verdict[1] < threshold;
    if (!verdict) continue;
    const level = node.querySelector(".level");
    level.textContent = verdict[0];
    level.className = `level ${verdict[0]}`;
    node.querySelector(".score").textContent = verdict[1].toFixed(2);
    if (!node.hidden) shown.push({ node, gravity: GRAVITY[verdict[0]], score: verdict[1] });
  }
  shown.sort((a, b) => b.gravity - a.gravity || b.score - a.score);
  get("cases").append(...shown.map((s) => s.node));
  get("shown").textContent = `${shown.length} findings of ${protocol}, the gravest first; at most ${get("cases").dataset.most} of each benchmark are kept.`;
}

for (const i of inputs) i.addEventListener("input", update);
document.querySelector("form").addEventListener("submit", (e) => e.preventDefault());
update();
