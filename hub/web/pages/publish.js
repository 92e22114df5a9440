// The panel "Publish": a form, the hub's answer with its time, and the same as a program.

import { $, copy, lines, say } from "./dom.js";
import { hub, reasonOf } from "./hub.js";
import { snippet } from "./snippets.js";

function request() {
  const fields = lines("topics").map((topic) => ["topic", topic]);
  fields.push(["data", $("data").value]);
  if ($("private").checked) fields.push(["private", "on"]);
  for (const name of ["id", "type", "retry"]) if ($(name).value.trim()) fields.push([name, $(name).value.trim()]);
  const key = $("key").value.trim();
  // A string of RFC 9651, as draft-ietf-httpapi-idempotency-key-header has it.
  const idempotent = key ? { "Idempotency-Key": `"${key.replaceAll(/["\\]/g, "\\$&")}"` } : {};
  return { url: hub.url, headers: { ...hub.credentials, ...idempotent }, fields };
}

async function publish(event) {
  event.preventDefault();
  const { url, headers, fields } = request();
  say("answer", "…");
  const began = performance.now();
  try {
    const response = await fetch(url, { method: "POST", headers, body: new URLSearchParams(fields) });
    const took = `${(performance.now() - began).toFixed(1)} ms`;
    if (response.ok) say("answer", `${response.status} in ${took}: ${await response.text()}`, "good");
    else say("answer", `${await reasonOf(response)} (${took})`, "bad");
  } catch (error) {
    say("answer", `No answer: ${error.message}. Is the hub there, and does it let this page read its answers?`, "bad");
  }
}

function checkJson() {
  const text = $("data").value.trim();
  if (!/^[[{"]/.test(text)) return say("json-check", "");
  try {
    JSON.parse(text);
    say("json-check", "valid JSON", "good");
  } catch (error) {
    say("json-check", `not JSON: ${error.message}`, "bad");
  }
}

const showSnippet = () => ($("snippet").textContent = snippet($("language").value, request()));

export function begin() {
  checkJson();
  showSnippet();
  $("publish-form").addEventListener("submit", publish);
  $("publish-form").addEventListener("input", showSnippet);
  $("data").addEventListener("input", checkJson);
  $("data").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("publish-form").requestSubmit();
  });
  $("new-key").addEventListener("click", () => {
    $("key").value = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
    showSnippet();
  });
  $("language").addEventListener("change", showSnippet);
  $("copy-snippet").addEventListener("click", ({ currentTarget }) => copy($("snippet").textContent, currentTarget));
  hub.addEventListener("change", showSnippet);
}
