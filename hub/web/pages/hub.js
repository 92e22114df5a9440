// The hub that is asked, and the token it is asked with. The URL is remembered in the browser; a token never is.

const REMEMBERED = "mercure-debugger-hub";
const told = document.documentElement.dataset;
const own = new URL(told.hub, location).href;

/** What the server says of itself: `protocol`, `cookie`, `audience`, `issuer`, `key` (of --dev), `explains`. */
export { told };

class Hub extends EventTarget {
  #url = localStorage.getItem(REMEMBERED) ?? own;
  #token = "";

  get url() {
    return this.#url;
  }

  /** Another hub from now on; null is the one that serves this page. */
  set url(url) {
    this.#url = url ?? own;
    if (url === null) localStorage.removeItem(REMEMBERED);
    else localStorage.setItem(REMEMBERED, url);
    this.dispatchEvent(new Event("change"));
  }

  get isOwn() {
    return this.#url === own;
  }

  get token() {
    return this.#token;
  }

  set token(token) {
    this.#token = token.trim();
    this.dispatchEvent(new Event("change"));
  }

  /** The header that carries the token, if there is one. */
  get credentials() {
    return this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
  }
}

export const hub = new Hub();

/** What an answer that is none says: the problem's sentence (RFC 9457), or the text. */
export async function reasonOf(response) {
  const text = await response.text();
  let detail = text;
  try {
    detail = JSON.parse(text).detail ?? text;
  } catch {
    // Not problem+json: a proxy's page, or another hub's text.
  }
  return `${response.status} ${response.statusText}: ${detail.trim().slice(0, 300)}`;
}
