// The debugger: a page that asks a hub, any hub, and shows what comes. Start reading here; each panel is a module.
//
//   hub.js       which hub, with which token        dom.js       elements, tabs, copying
//   subscribe.js what is asked for                  sse.js       streams of events
//   publish.js   a publication                      snippets.js  the same as a program
//   token.js     the token in use                   jwt.js       what tokens say, and how they are signed
//   presence.js  who is there                       eventlog.js  what has come

import { $, say, tabs } from "./dom.js";
import { hub } from "./hub.js";
import * as presence from "./presence.js";
import * as publish from "./publish.js";
import * as subscribe from "./subscribe.js";
import * as token from "./token.js";

function showHub() {
  $("hub-shown").textContent = hub.url;
  $("hub-url").value = hub.url;
}

function useHub(event) {
  event.preventDefault();
  hub.url = $("hub-url").value.trim();
  say("settings-said", "This hub is asked from now on.", "good");
}

tabs(document.querySelector('[role="tablist"]'));
for (const panel of [subscribe, publish, token, presence]) panel.begin();
$("settings-form").addEventListener("submit", useHub);
$("own-hub").addEventListener("click", () => {
  hub.url = null;
  say("settings-said", "The hub of this page is asked again.", "good");
});
hub.addEventListener("change", showHub);
showHub();
document.documentElement.dataset.ready = "yes";
