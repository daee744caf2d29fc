// The server's native API. Errors carry the server's own words and hint.

const TOKEN = "priorart-token";

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `The server answered ${status}`);
    this.status = status;
    this.hint = problem.hint;
  }
}

async function request(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new ApiError(0, { detail: "The server cannot be reached", hint: "Is it still running?" });
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, body);
  return body;
}

export const setToken = (token) => sessionStorage.setItem(TOKEN, token);

const at = (index, path) => `/v1/${encodeURIComponent(index)}${path}`;

export const indexes = () => request("/v1/indexes").then((r) => r.indexes);
export const index = (name) => request(at(name, ""));
export const ask = (name, query, body, signal) =>
  request(at(name, `/${query}`), { method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
export const excerpt = (name, parameters) => request(at(name, `/document?${new URLSearchParams(parameters)}`));
