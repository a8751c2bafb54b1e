// The REST API of the page's own server. Every failure is an ApiError whose message is a sentence for people.

import { decodeView } from "../core/codec.js";

export class ApiError extends Error {
  /**
   * @param {number} status HTTP status, 0 when the server didn't answer
   * @param {Record<string, string>} [fields] what is wrong with which field of a form
   */
  constructor(status, code, message, fields = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.fields = fields;
  }
}

/** The boot data that the template put into the page. */
export function readBoot(root = document) {
  return JSON.parse(root.getElementById("boot").textContent);
}

function queryOf(params) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params ?? {})) {
    if (value === null || value === undefined || value === "") continue;
    query.set(key, Array.isArray(value) ? value.join(",") : String(value));
  }
  const text = query.toString();
  return text ? `?${text}` : "";
}

async function errorOf(response) {
  let body = {};
  try {
    body = (await response.json()).error ?? {};
  } catch {
    // A proxy's error page isn't JSON: the status says what there is to say.
  }
  const fallback =
    response.status === 401
      ? "Your session has ended. Open the dashboard again with: gradwatch open"
      : `The server refused this (status ${response.status}). Try again, or reload the page.`;
  return new ApiError(response.status, body.code ?? "unknown", body.message ?? fallback, body.fields);
}

/**
 * @param {{base: string, page?: string, share?: string}} boot
 * @param {typeof fetch} [fetcher]
 */
export function createApi(boot, fetcher = (...args) => fetch(...args)) {
  const identity = {};
  if (boot.share) identity["X-Gradwatch-Share"] = boot.share;
  else if (boot.page) identity["X-Gradwatch-Page"] = boot.page;

  async function request(method, path, { params, body, signal } = {}) {
    const headers = { Accept: "application/json", ...identity };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetcher(`${boot.base}/api/v1${path}${queryOf(params)}`, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
        credentials: "same-origin",
        // A deletion may be sent by a page that is being left.
        keepalive: method === "DELETE",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "unreachable", "The server doesn't answer. Is it running, and is the tunnel to it open?");
    }
    if (!response.ok) throw await errorOf(response);
    return response;
  }

  async function json(method, path, options) {
    const response = await request(method, path, options);
    return response.status === 204 ? null : response.json();
  }

  return {
    /** `params` becomes the query string: empty values are left out, lists joined by commas. */
    get: (path, params, { signal } = {}) => json("GET", path, { params, signal }),
    post: (path, body, { signal } = {}) => json("POST", path, { body, signal }),
    put: (path, body) => json("PUT", path, { body }),
    patch: (path, body) => json("PATCH", path, { body }),
    delete: (path) => json("DELETE", path),
    /** Numbers of one statistic, decoded as in core/codec.js. `query`: statistic, scope, rows, from, to, points, segment. */
    async series(run, query, { signal } = {}) {
      const path = `/runs/${encodeURIComponent(run)}/series`;
      const response = await request("GET", path, { params: query, signal });
      return decodeView(await response.arrayBuffer());
    },
  };
}
