// The panel "Token": what the one in use says and grants, the hub's own verdict, and a new one.

import { $, lines, say } from "./dom.js";
import { hub, reasonOf, told } from "./hub.js";
import { decode, grants, mint } from "./jwt.js";

const DEV_LIFETIME = 3600; // seconds

function describe() {
  const token = hub.token;
  $("verdict").hidden = true;
  const parts = token ? decode(token) : null;
  $("claims").hidden = parts === null;
  for (const role of ["publisher", "subscriber"]) $(`ask-${role}`).hidden = !(token && told.explains && hub.isOwn);
  if (!token) return say("grants", "There is none: what is asked of the hub is asked anonymously.", "soft");
  if (parts === null) return say("grants", "It is no token: three parts between dots, the first two JSON in base64url.", "bad");
  $("claims").textContent = JSON.stringify(parts, null, 2);
  const { generation, publish, subscribe, expires } = grants(token);
  const over = expires !== null && expires <= new Date();
  const ends = expires === null ? "it never ends" : `${over ? "it ended" : "it ends"} ${expires.toLocaleString()}`;
  const listed = (topics) => topics.join(", ") || "nothing";
  say("grants", `A token of ${generation}: it may publish to ${listed(publish)}, may receive ${listed(subscribe)}; ${ends}.`, over ? "bad" : "");
}

async function ask(role) {
  const response = await fetch("explain", { method: "POST", body: new URLSearchParams({ token: hub.token, role }) });
  $("verdict").hidden = false;
  $("verdict").textContent = response.ok ? (await response.json()).lines.join("\n") : await reasonOf(response);
}

function grantInForm() {
  const payload = $("payload").value.trim();
  return {
    generation: $("generation").value,
    publish: lines("may-publish"),
    subscribe: lines("may-subscribe"),
    payload: payload ? JSON.parse(payload) : undefined,
    lifetime: Number($("lifetime").value) || DEV_LIFETIME,
    issuer: $("issuer").value.trim(),
    audience: $("audience").value.trim(),
  };
}

function use(token) {
  $("jwt").value = token;
  hub.token = token;
}

async function mintOne(event) {
  event?.preventDefault();
  try {
    use(await mint(grantInForm(), $("signing-key").value.trim(), $("algorithm").value));
    say("minted", "It is in use now.", "good");
  } catch (error) {
    say("minted", `It can't be minted: ${error.message}`, "bad");
  }
}

const showNames = () => ($("names").hidden = $("generation").value !== "1.0");

export async function begin() {
  $("issuer").value = told.issuer;
  $("audience").value = told.audience;
  $("signing-key").value = told.key;
  if (told.protocol !== "both") {
    $("generation").value = told.protocol;
    $("generation").disabled = true;
  }
  showNames();
  $("generation").addEventListener("change", showNames);
  $("mint-form").addEventListener("submit", mintOne);
  $("jwt").addEventListener("input", ({ target }) => (hub.token = target.value));
  for (const role of ["publisher", "subscriber"]) $(`ask-${role}`).addEventListener("click", () => ask(role));
  hub.addEventListener("change", describe);
  describe();
  // With --dev everybody knows the key: a token for everything is there from the start.
  if (told.key && hub.isOwn && globalThis.crypto?.subtle) await mintOne();
}
