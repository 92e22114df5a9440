// Server-sent events (WHATWG HTML, section 9.2), over a request of our own or the browser's EventSource.
//
// EventSource sends no headers and hides those of the answer, so that a token goes in a cookie or in the query, and
// nobody sees from where the hub goes on. A request of our own has both. The two tell one listener:
//
//   state(name, detail)   "connecting", "live", "waiting" until it tries again, "refused" for good, "none"
//   opened(asked, goesOn) asked: the id it stands after; goesOn: what the hub says it continues after, where that is seen
//   event({id, type, data})

import { reasonOf } from "./hub.js";

const FIRST_RETRY = 1000; // milliseconds, until the stream says otherwise
const LARGE = 8192; // characters, after which the page has its turn: a replay would keep it from painting

/** Text in, events out; `lastEventId` and `retry` are what the stream has said so far. */
export class Parser {
  lastEventId = "";
  retry = FIRST_RETRY;
  #rest = "";
  #id = "";
  #data = [];
  #type = "";

  constructor(lastEventId = "") {
    this.lastEventId = this.#id = lastEventId;
  }

  *feed(text) {
    this.#rest += text;
    // A CR at the end may be half of a line's end.
    const whole = this.#rest.endsWith("\r") ? this.#rest.slice(0, -1) : this.#rest;
    const all = whole.split(/\r\n|\r|\n/);
    this.#rest = all.pop() + this.#rest.slice(whole.length);
    for (const line of all) {
      if (line === "") {
        // Only now: an event that was cut short must come again.
        this.lastEventId = this.#id;
        if (this.#data.length) yield { id: this.lastEventId, type: this.#type || "message", data: this.#data.join("\n") };
        this.#data = [];
        this.#type = "";
      } else if (!line.startsWith(":")) this.#field(line);
    }
  }

  #field(line) {
    const [, name, value] = /^([^:]*)(?:: ?)?(.*)$/s.exec(line);
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
  }
}

/** A stream over fetch: with headers, and it sees what the hub answers. It reconnects until it is closed or refused. */
export class FetchStream {
  #controller = new AbortController();

  constructor(url, headers, lastEventId, listener) {
    this.#run(url, headers, lastEventId, listener);
  }

  close() {
    this.#controller.abort();
  }

  async #run(url, headers, lastEventId, listener) {
    const { signal } = this.#controller;
    let retry = FIRST_RETRY;
    while (!signal.aborted) {
      listener.state("connecting");
      try {
        const cursor = lastEventId ? { "Last-Event-ID": lastEventId } : {};
        const response = await fetch(url, { headers: { ...headers, ...cursor }, signal, cache: "no-store" });
        if (response.status >= 400 && response.status < 500) {
          listener.state("refused", await reasonOf(response));
          return;
        }
        if (!response.ok) throw new Error(await reasonOf(response));
        const goesOn = response.headers.get("Mercure-Last-Event-ID") ?? response.headers.get("Last-Event-ID");
        listener.state("live");
        listener.opened(lastEventId, goesOn);
        const parser = new Parser(lastEventId);
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        try {
          for (let part = await reader.read(); !part.done; part = await reader.read()) {
            for (const event of parser.feed(part.value)) listener.event(event);
            if (part.value.length > LARGE) await new Promise((resolve) => setTimeout(resolve));
          }
        } finally {
          ({ lastEventId, retry } = parser);
        }
        listener.state("waiting", "the hub has ended the stream");
      } catch (error) {
        if (signal.aborted) break;
        listener.state("waiting", error.message);
      }
      await new Promise((resolve) => setTimeout(resolve, retry));
    }
    listener.state("none");
  }
}

/** A stream over EventSource, with cookies; `types` are the types of events that it listens for. */
export class BrowserStream {
  #source;
  #listener;

  constructor(url, types, listener) {
    this.#listener = listener;
    this.#source = new EventSource(url, { withCredentials: true });
    let lastEventId = "";
    listener.state("connecting");
    this.#source.onopen = () => {
      listener.state("live");
      listener.opened(lastEventId, null);
    };
    this.#source.onerror = () =>
      this.#source.readyState === EventSource.CLOSED
        ? listener.state("refused", "EventSource has given up: the answer was not 200; the browser does not say more")
        : listener.state("waiting", "the browser reconnects");
    for (const type of types) {
      this.#source.addEventListener(type, ({ lastEventId: id, data }) => {
        lastEventId = id;
        listener.event({ id, type, data });
      });
    }
  }

  close() {
    this.#source.close();
    this.#listener.state("none");
  }
}
