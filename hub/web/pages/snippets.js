// One publication as a program in four languages. Each runs as it is.

/** A text as one word of a POSIX shell. */
export const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

// JSON's strings are JavaScript's, and Python's too.
const quoted = (text) => JSON.stringify(text);
const php = (text) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;

function curl({ url, headers, fields }) {
  const options = Object.entries(headers).map(([name, value]) => `-H ${shell(`${name}: ${value}`)}`);
  const data = fields.map(([name, value]) => `--data-urlencode ${shell(`${name}=${value}`)}`);
  return ["curl", ...options, ...data, shell(url)].join(" \\\n  ");
}

function javascript({ url, headers, fields }) {
  const pairs = fields.map((pair) => `    [${pair.map(quoted).join(", ")}],`).join("\n");
  const head = Object.entries(headers).map(([name, value]) => `    ${quoted(name)}: ${quoted(value)},`).join("\n");
  return `const response = await fetch(${quoted(url)}, {
  method: "POST",
  headers: {
${head}
  },
  body: new URLSearchParams([
${pairs}
  ]),
});
console.log(response.status, await response.text());`;
}

function python({ url, headers, fields }) {
  const pairs = fields.map((pair) => `    (${pair.map(quoted).join(", ")}),`).join("\n");
  const head = Object.entries(headers).map(([name, value]) => `    ${quoted(name)}: ${quoted(value)},`).join("\n");
  return `from urllib.parse import urlencode
from urllib.request import Request, urlopen

form = [
${pairs}
]
headers = {
${head}
}
with urlopen(Request(${quoted(url)}, urlencode(form).encode(), headers)) as response:
    print(response.status, response.read().decode())`;
}

function ofPhp({ url, headers, fields }) {
  const pairs = fields.map((pair) => `    [${pair.map(php).join(", ")}],`).join("\n");
  const head = Object.entries(headers).map(([name, value]) => `        ${php(`${name}: ${value}`)},`).join("\n");
  return `<?php
$form = [
${pairs}
];
$body = implode('&', array_map(fn ($pair) => $pair[0].'='.urlencode($pair[1]), $form));
echo file_get_contents(${php(url)}, false, stream_context_create(['http' => [
    'method' => 'POST',
    'header' => [
        'Content-Type: application/x-www-form-urlencoded',
${head}
    ],
    'content' => $body,
]]));`;
}

const LANGUAGES = { curl, javascript, python, php: ofPhp };

/** `request`: its `url`, `headers` by name, and `fields`, pairs of name and value. */
export const snippet = (language, request) => LANGUAGES[language](request);
