// The panel "Subscribe": matchers, where to begin, how the token is sent; and the connection as it is.

import { $, copy, element } from "./dom.js";
import { log } from "./eventlog.js";
import { hub, told } from "./hub.js";
import { isAccessToken } from "./jwt.js";
import { shell } from "./snippets.js";
import { BrowserStream, FetchStream } from "./sse.js";

const REPLAYED_WITHIN = 1000; // milliseconds after a connection; what comes then is taken for what was missed
const LEGACY = "topic";
const STATES = { none: "not connected", connecting: "connecting", live: "live", waiting: "waiting to reconnect", refused: "refused" };

let matchers = [[told.protocol === "1.0" ? "match" : LEGACY, "*"]];
let stream = null;
let received = 0;
let connections = 0;
let attempt = 0; // counts what was asked for: a stream that was left has nothing more to say
let connectedTo = "";
let numbersDue = 0;

function showMatchers() {
  const chip = ([type, pattern], at) =>
    element(
      "li",
      {},
      element("span", { class: "mono" }, `${type} ${pattern}`),
      element("button", { type: "button", "aria-label": `Remove ${type} ${pattern}`, click: () => remove(at) }, "×"),
    );
  $("matchers").replaceChildren(...matchers.map(chip));
}

function remove(at) {
  matchers = matchers.filter((_, each) => each !== at);
  showMatchers();
  $("matcher").focus();
}

function add(event) {
  event.preventDefault();
  const pattern = $("matcher").value.trim();
  if (pattern) matchers.push([$("matcher-type").value, pattern]);
  $("matcher").value = "";
  showMatchers();
}

const credentials = () => new FormData($("subscribe-form")).get("credentials");
const cursorName = () => (matchers.some(([type]) => type === LEGACY) ? "lastEventID" : "last_event_id");

/** The stream's URL. EventSource sends no headers: where to begin, and maybe the token, stand in the query. */
function streamUrl() {
  const url = new URL(hub.url);
  for (const [type, pattern] of matchers) url.searchParams.append(type, pattern);
  const way = credentials();
  const begin = $("last-event-id").value.trim();
  if (begin && (way === "cookie" || way === "query")) url.searchParams.append(cursorName(), begin);
  if (way === "query" && hub.token) url.searchParams.append("authorization", hub.token);
  return url.href;
}

/** The cookie that has the token in use. */
const cookie = () => `${isAccessToken(hub.token) ? told.cookie : "mercureAuthorization"}=${hub.token}`;

/** A hub on this page's own host gets the token as its cookie; another one has to have set its own. */
function setCookie() {
  if (!hub.token || new URL(hub.url).host !== location.host) return;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${cookie()}; Path=${new URL(hub.url).pathname}; SameSite=Strict${secure}`;
}

function connect(event) {
  event.preventDefault();
  stream?.close();
  attempt += 1;
  received = connections = 0;
  if (!matchers.length) {
    show("refused", "name a topic first, such as https://example.com/books/1, or * for all");
    return;
  }
  connectedTo = hub.url;
  const way = credentials();
  const topic = matchers.map((each) => each.join(" ")).join(", ");
  const listener = listenerFor(topic);
  if (way === "header" || way === "none") {
    const headers = way === "header" ? hub.credentials : {};
    stream = new FetchStream(streamUrl(), headers, $("last-event-id").value.trim(), listener);
  } else {
    if (way === "cookie") setCookie();
    stream = new BrowserStream(streamUrl(), $("types").value.split(/[\s,]+/).filter(Boolean), listener);
  }
  $("disconnect").disabled = false;
}

function listenerFor(topic) {
  let since = 0;
  const mine = attempt;
  return {
    state: (name, detail) => mine === attempt && show(name, detail),
    opened(asked, goesOn) {
      connections += 1;
      since = 0;
      if (!asked) log.note("connected: what is new from now on");
      else {
        const lost = goesOn !== null && goesOn !== asked;
        const where = goesOn === null ? "" : lost ? `; the hub no longer has it and goes on after ${goesOn}` : "; the hub goes on after it";
        log.note(`connected after ${asked}${where}`);
        setTimeout(() => log.note(`replayed: ${since} events in the first second`), REPLAYED_WITHIN);
      }
      show("live");
    },
    event(one) {
      received += 1;
      since += 1;
      log.add({ ...one, topic });
      numbersDue ||= requestAnimationFrame(numbers);
    },
  };
}

function show(name, detail = "") {
  $("state").dataset.state = name;
  $("state").textContent = STATES[name] + (detail ? `: ${detail}` : "");
  numbers();
}

function numbers() {
  numbersDue = 0;
  $("numbers").textContent = `${received} events, ${Math.max(0, connections - 1)} reconnects`;
}

function disconnect() {
  stream?.close();
  stream = null;
  $("disconnect").disabled = true;
  show("none");
}

function asCurl() {
  const begin = $("last-event-id").value.trim();
  const way = credentials();
  const headers = [];
  if (way === "header" && hub.token) headers.push(`Authorization: Bearer ${hub.token}`);
  if (way === "cookie" && hub.token) headers.push(`Cookie: ${cookie()}`);
  if (begin && (way === "header" || way === "none")) headers.push(`Last-Event-ID: ${begin}`);
  return ["curl -N", ...headers.map((each) => `-H ${shell(each)}`), shell(streamUrl())].join(" ");
}

export function begin() {
  for (const option of [...$("matcher-type").options]) {
    const legacy = option.value === LEGACY;
    if ((told.protocol === "1.0" && legacy) || (told.protocol === "0.x" && !legacy)) option.remove();
  }
  showMatchers();
  numbers();
  $("matcher-form").addEventListener("submit", add);
  $("subscribe-form").addEventListener("submit", connect);
  $("disconnect").addEventListener("click", disconnect);
  $("earliest").addEventListener("click", () => ($("last-event-id").value = "earliest"));
  $("copy-subscription").addEventListener("click", ({ currentTarget }) => copy(asCurl(), currentTarget));
  $("subscribe-form").addEventListener("change", () => {
    $("types-row").hidden = !["cookie", "query"].includes(credentials());
  });
  hub.addEventListener("change", () => stream !== null && hub.url !== connectedTo && disconnect());
}
