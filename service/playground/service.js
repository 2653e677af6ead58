// The service that sent this page. Paths are relative, so a prefix of the page also applies to them.

let key = null; // in memory only: neither stored, nor part of an address

export const useKey = (value) => { key = value || null; };
export const hasKey = () => key !== null;

export class Problem extends Error {
  constructor({ code, title, detail = "", requestId = null, retryAfterSeconds = null }) {
    super(title);
    Object.assign(this, { code, title, detail, requestId, retryAfterSeconds });
  }
}

// The answer to a request, or a Problem. An aborted request throws AbortError.
export async function ask(path, options = {}) {
  const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw await unanswered(options.body);
  }
  if (!response.ok) throw await refused(response);
  return response;
}

export async function askJson(path, options) {
  const response = await ask(path, options);
  return response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "no_answer", title: "The answer is incomplete" });
  });
}

// A service that refuses a large body may close the connection before the browser has read the reason.
async function unanswered(body) {
  const probe = () => fetch("livez", { cache: "no-store" }).then((answer) => answer.ok, () => false);
  const isThere = body !== undefined && await probe();
  if (!isThere) return new Problem({ code: "no_answer", title: "The service does not answer" });
  return new Problem({ code: "cut_off", title: "The connection was closed while the request was being sent" });
}

async function refused(response) {
  const said = await response.json().catch(() => ({}));
  const seconds = Number(response.headers.get("Retry-After"));
  return new Problem({
    code: said.code ?? "proxy",
    title: said.title ?? `A proxy before the service answered ${response.status}`,
    detail: said.detail,
    requestId: said.request_id ?? response.headers.get("X-Request-ID"),
    retryAfterSeconds: seconds > 0 ? seconds : null,
  });
}
