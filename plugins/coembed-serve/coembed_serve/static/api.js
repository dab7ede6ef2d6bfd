// Requests to the server that this page came from; what goes wrong is a Trouble with the server's own words.

export class Trouble extends Error {
  constructor(problem, retry) {
    super(problem.detail || problem.title || "The server can't be reached.");
    this.status = problem.status || 0;
    this.item = problem.item;
    this.retry = retry;
  }
}

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble({ detail: "The server can't be reached. Is it still running?" });
  }
  if (answer.ok) return answer;
  let problem = { status: answer.status, title: answer.statusText };
  try {
    problem = await answer.json();
  } catch { /* an answer of a proxy, which is no problem JSON */ }
  if (answer.status === 401) window.dispatchEvent(new Event("token-needed"));
  throw new Trouble(problem, Number(answer.headers.get("Retry-After")) || undefined);
}

export const json = async (path, options) => (await ask(path, options)).json();
export const text = async (path, options) => (await ask(path, options)).text();
export const bytes = async (path, options) => (await ask(path, options)).arrayBuffer();

export const post = (path, data, options = {}) =>
  json(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(data), ...options });

export function search(asked, { to, k, where, signal }) {
  if (asked.file) {
    const form = new FormData();
    form.append("file", asked.file, asked.file.name);
    form.append("tower", asked.tower);
    form.append("k", k);
    if (where) form.append("where", where);
    for (const name of to) form.append("to", name);
    return json("api/search/file", { method: "POST", body: form, signal });
  }
  const data = asked.like ? { like: asked.like } : { tower: asked.tower, text: asked.text };
  return post("api/search", { ...data, to, k, ...(where ? { where } : {}) }, { signal });
}
