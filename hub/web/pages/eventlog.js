// What has come, the newest first: bounded, searched, and shown some at each frame.
//
// Theory of operation. Entries wait in `#waiting`; each frame makes rows of some of them and puts them at the top. Rows
// stand in blocks of `BLOCK`, and the browser neither lays out nor paints a block that is out of sight (content-visibility
// in the style sheet): a new row costs what its own block costs, however many there are. A block that is skipped has the
// height that it is told, its rows that the search leaves × `ROW`; one without any is hidden. A search looks through some
// blocks at each frame, so that typing goes on meanwhile. What is inside a row is made when it is opened.

import { $, copy, element } from "./dom.js";

const MOST = 10_000; // rows; older ones go
const BLOCK = 100; // rows of a block, and that one frame makes
const SEARCHED = 10; // blocks that one frame looks through
const ROW = 33; // pixels
const PREVIEW = 200; // characters of data in a row

class EventLog {
  #list = $("log");
  #waiting = [];
  #count = 0;
  #paused = false;
  #asked = "";
  #unsearched = []; // blocks that were not looked through since the search has changed
  #due = false;

  constructor() {
    $("search").addEventListener("input", ({ target }) => this.#search(target.value));
    $("pause").addEventListener("click", ({ currentTarget }) => this.#pause(currentTarget));
    $("clear").addEventListener("click", () => this.clear());
    // `toggle` does not bubble.
    this.#list.addEventListener("toggle", ({ target }) => target.open && this.#open(target), true);
  }

  /** An event: `id`, `type`, `data`, and `topic`, what it was subscribed with. */
  add(event) {
    this.#collect({ ...event, time: new Date() });
  }

  /** A line about the connection. */
  note(text) {
    this.#collect({ text, time: new Date() });
  }

  clear() {
    this.#waiting = [];
    this.#unsearched = [];
    this.#count = 0;
    this.#list.replaceChildren($("empty"));
    $("empty").hidden = false;
  }

  #collect(entry) {
    this.#waiting.push(entry);
    if (this.#waiting.length > MOST) this.#waiting.shift();
    if (this.#paused) $("pause").textContent = `Go on (${this.#waiting.length} wait)`;
    else this.#soon();
  }

  #soon() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => this.#frame());
  }

  #frame() {
    this.#due = false;
    for (const block of this.#unsearched.splice(0, SEARCHED)) this.#match(block);
    if (!this.#paused && this.#waiting.length) this.#show(this.#waiting.splice(0, BLOCK));
    if (this.#unsearched.length || (!this.#paused && this.#waiting.length)) this.#soon();
  }

  #show(entries) {
    $("empty").hidden = true;
    for (const entry of entries) {
      let block = this.#list.firstElementChild;
      if (block === $("empty") || block.childElementCount === BLOCK) {
        block = element("div", { class: "block" });
        this.#list.prepend(block);
      }
      block.prepend(rowOf(entry));
      this.#count += 1;
    }
    for (let block = this.#list.firstElementChild, left = entries.length; left > 0; block = block.nextElementSibling) {
      left -= block.childElementCount;
      this.#match(block);
    }
    while (this.#count > MOST) {
      const oldest = $("empty").previousElementSibling;
      this.#count -= oldest.childElementCount;
      oldest.remove();
    }
  }

  #match(block) {
    let shown = 0;
    for (const row of block.children) {
      row.hidden = !row.searched.includes(this.#asked);
      shown += !row.hidden;
    }
    block.hidden = shown === 0;
    block.style.containIntrinsicHeight = `${shown * ROW}px`;
  }

  #open(row) {
    if (row.querySelector(".more") === null) row.append(insideOf(row.entry));
  }

  #search(text) {
    this.#asked = text.toLowerCase();
    this.#unsearched = [...this.#list.querySelectorAll(".block")];
    this.#soon();
  }

  #pause(button) {
    this.#paused = !this.#paused;
    button.setAttribute("aria-pressed", this.#paused);
    button.textContent = this.#paused ? "Go on" : "Pause";
    this.#soon();
  }
}

function rowOf(entry) {
  const { time, text, id, type, topic, data } = entry;
  const clock = element("time", { datetime: time.toISOString() }, time.toTimeString().slice(0, 8) + time.toISOString().slice(19, 23));
  const row =
    text === undefined
      ? element(
          "details",
          { class: "entry" },
          element(
            "summary",
            {},
            clock,
            element("span", { class: "type" }, type),
            element("span", { class: "data" }, data.slice(0, PREVIEW).replaceAll("\n", "⏎") || "(empty)"),
            element("span", { class: "id", title: id }, id),
          ),
        )
      : element("p", { class: "entry soft" }, clock, ` ${text}`);
  row.entry = entry;
  row.searched = (text ?? [type, id, topic, data].join("\n")).toLowerCase();
  return row;
}

function insideOf({ id, topic, data, time }) {
  let shown = data;
  try {
    shown = JSON.stringify(JSON.parse(data), null, 2);
  } catch {
    // Not JSON: shown as it is.
  }
  return element(
    "div",
    { class: "more" },
    element("pre", {}, shown),
    element("p", { class: "soft" }, `id ${id || "none"} · subscribed with ${topic} · ${time.toISOString()}`),
    element(
      "p",
      { class: "row" },
      element("button", { type: "button", click: ({ target }) => copy(data, target) }, "Copy data"),
      element("button", { type: "button", click: ({ target }) => copy(id, target) }, "Copy id"),
    ),
  );
}

export const log = new EventLog();
