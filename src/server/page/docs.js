// The API's description for people, from /openapi.json.

import { el, failure } from "./dom.js";

const view = document.getElementById("view");

/** What a reference stands for. */
const resolve = (api, node) => (node?.$ref ? node.$ref.slice(2).split("/").reduce((at, key) => at?.[key], api) : node);

function fields(api, schema) {
  const of = resolve(api, schema);
  const rows = Object.entries(of?.properties ?? {});
  if (!rows.length) return null;
  const kind = (s) => s.$ref?.split("/").at(-1) ?? (s.enum ? s.enum.join(", ") : s.type === "array" && s.items ? `list of ${kind(s.items) || "values"}` : [s.type].flat().filter(Boolean).join(" or "));
  return el("div.scroll", { tabindex: "0", role: "region", "aria-label": "Fields" }, el("table", {}, el("tbody", {}, rows.map(([name, s]) => el("tr", {},
    el("th", { scope: "row" }, el("code", {}, name), of.required?.includes(name) ? " *" : ""), el("td", {}, kind(s)), el("td", {}, s.description ?? "", s.default === undefined ? "" : ` default ${s.default}`))))));
}

try {
  const api = await (await fetch("/openapi.json")).json();
  view.append(el("h1", {}, "API"), el("p", {}, api.info.description), el("p.meta", {}, "The same for programs: ", el("a", { href: "/openapi.json" }, "/openapi.json"), ". A star marks what must be given."));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, m] of Object.entries(methods)) {
      const body = m.requestBody?.content["application/json"].schema;
      const answer = m.responses["200"]?.content?.["application/json"]?.schema;
      const query = (m.parameters ?? []).map((p) => resolve(api, p)).filter((p) => p.in === "query");
      view.append(el("section.panel", {}, el("h2", {}, el("code", {}, `${method.toUpperCase()} ${path}`)), el("p", {}, m.summary),
        query.length ? [el("h3", {}, "Query"), fields(api, { properties: Object.fromEntries(query.map((p) => [p.name, { ...p.schema, description: p.description }])) })] : null,
        body ? [el("h3", {}, "Body"), fields(api, body)] : null,
        m.responses["200"]?.content?.["application/x-ndjson"] ? el("p.meta", {}, "Line by line with Accept: application/x-ndjson.") : null,
        answer && fields(api, answer) ? el("details", {}, el("summary", {}, "Answer"), fields(api, answer)) : null,
        el("p.meta", {}, Object.entries(m.responses).map(([status, r]) => `${status}: ${resolve(api, r).description}`).join(" · "))));
    }
  }
} catch (e) {
  view.append(failure(e));
}
