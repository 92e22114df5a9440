// The panel "Who is there": the list of active subscriptions, and then what changes in it.

import { $, element, say } from "./dom.js";
import { hub, reasonOf } from "./hub.js";
import { isAccessToken } from "./jwt.js";
import { FetchStream } from "./sse.js";

const present = new Map();
let stream = null;

function show() {
  const row = ({ topic, match, match_type: type, subscriber, payload }) =>
    element(
      "tr",
      {},
      element("td", { class: "mono" }, topic ?? `${type} ${match}`),
      element("td", { class: "mono" }, subscriber),
      element("td", { class: "mono" }, payload === undefined ? "" : JSON.stringify(payload)),
    );
  $("present").replaceChildren(...[...present.values()].map(row));
  say("presence-state", `${present.size} subscriptions, kept up to date.`, "soft");
}

function take(document) {
  if (document.active) present.set(document.id, document);
  else present.delete(document.id);
}

async function follow() {
  stop();
  const response = await fetch(`${hub.url}/subscriptions`, { headers: hub.credentials, cache: "no-store" }).catch((error) => error);
  if (!response.ok) {
    const said = response.status === 404 ? "404: this hub keeps no list; start it with --subscriptions" : response.status ? await reasonOf(response) : response.message;
    return say("presence-state", said, "bad");
  }
  const list = await response.json();
  // What happens after the list was made is told by the events after this id.
  const quoted = /last-event-id="((?:[^"\\]|\\.)*)"/.exec(response.headers.get("Link") ?? "");
  const lastEventId = list.lastEventID ?? quoted?.[1].replaceAll(/\\(.)/g, "$1") ?? "";
  present.clear();
  list.subscriptions.forEach(take);
  show();
  const url = new URL(hub.url);
  const root = `${url.pathname}/subscriptions`;
  if (isAccessToken(hub.token)) url.searchParams.append("match_urlpattern", `${root}/*`);
  else {
    url.searchParams.append("topic", `${root}/{topic}/{subscriber}`);
    url.searchParams.append("topic", `${root}/{match_type}/{match}/{subscriber}`);
  }
  const listener = {
    state: (name, detail) => name === "refused" && say("presence-state", detail, "bad"),
    opened() {},
    event({ data }) {
      take(JSON.parse(data));
      show();
    },
  };
  stream = new FetchStream(url.href, hub.credentials, lastEventId, listener);
  $("unfollow").disabled = false;
}

function stop() {
  stream?.close();
  stream = null;
  $("unfollow").disabled = true;
}

export function begin() {
  $("follow").addEventListener("click", follow);
  $("unfollow").addEventListener("click", () => {
    stop();
    say("presence-state", "Not followed any more.", "soft");
  });
}
