// Tokens of both generations: what one says, and how one is signed (RFC 7515, 7519, 9068, 9396). All of it in the page.

const DETAIL = "https://mercure.rocks/authorization-detail";
const PATTERN = "urlpattern:"; // before a selector of 1.0 that is a URL Pattern
const ALGORITHMS = {
  HS256: { name: "HMAC", hash: "SHA-256" },
  HS384: { name: "HMAC", hash: "SHA-384" },
  HS512: { name: "HMAC", hash: "SHA-512" },
  RS256: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
  ES256: { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" },
};

const bytesOf = (text) => new TextEncoder().encode(text);
const base64url = (bytes) =>
  btoa(Array.from(new Uint8Array(bytes), (byte) => String.fromCharCode(byte)).join(""))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
const decoded = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));

/** Header and claims, unverified; null: it is no token. */
export function decode(token) {
  const parts = token.split(".");
  if (parts.length !== 3) return null;
  try {
    const [header, claims] = parts.slice(0, 2).map((part) => JSON.parse(new TextDecoder().decode(decoded(part))));
    return { header, claims };
  } catch {
    return null;
  }
}

/** Whether it is one of 1.0: RFC 9068, section 4. */
export const isAccessToken = (token) => /^(application\/)?at\+jwt$/i.test(decode(token)?.header.typ ?? "");

const shown = ({ match, match_type: type }) => (type === "urlpattern" ? PATTERN + match : match);

/** What it grants: `generation`, topics to `publish` to and to `subscribe` to, and when it `expires` (a Date, or null). */
export function grants(token) {
  const { claims } = decode(token);
  const expires = typeof claims.exp === "number" ? new Date(claims.exp * 1000) : null;
  if (!isAccessToken(token)) {
    const { publish = [], subscribe = [] } = claims.mercure ?? {};
    return { generation: "0.x", publish, subscribe, expires };
  }
  const details = [claims.authorization_details ?? []].flat().filter((detail) => detail?.type === DETAIL);
  const topics = (action) => details.filter((detail) => detail.actions?.includes(action)).flatMap((detail) => (detail.topics ?? []).map(shown));
  return { generation: "1.0", publish: topics("publish"), subscribe: topics("subscribe"), expires };
}

const matcher = (selector) =>
  selector.startsWith(PATTERN) ? { match: selector.slice(PATTERN.length), match_type: "urlpattern" } : { match: selector };

function claimsOf({ generation, publish, subscribe, payload, lifetime, issuer, audience }) {
  const now = Math.floor(Date.now() / 1000);
  if (generation === "0.x") {
    const mercure = { ...(publish.length && { publish }), ...(subscribe.length && { subscribe }), ...(payload !== undefined && { payload }) };
    return { mercure, exp: now + lifetime };
  }
  const detail = (action, selectors) => ({
    type: DETAIL,
    actions: [action],
    topics: selectors.map(matcher),
    ...(action === "subscribe" && payload !== undefined && { payload }),
  });
  return {
    iss: issuer,
    aud: audience,
    sub: issuer,
    client_id: issuer,
    iat: now,
    exp: now + lifetime,
    jti: `urn:uuid:${crypto.randomUUID()}`,
    authorization_details: [
      ...(publish.length ? [detail("publish", publish)] : []),
      ...(subscribe.length ? [detail("subscribe", subscribe)] : []),
    ],
  };
}

function importKey(key, algorithm) {
  const parameters = ALGORITHMS[algorithm];
  if (parameters.name === "HMAC") return crypto.subtle.importKey("raw", bytesOf(key), parameters, false, ["sign"]);
  const pem = /-----BEGIN PRIVATE KEY-----([\s\S]+?)-----END PRIVATE KEY-----/.exec(key);
  if (!pem) throw new Error("the key is no PEM text with BEGIN PRIVATE KEY (PKCS #8)");
  return crypto.subtle.importKey("pkcs8", decoded(pem[1].replaceAll(/\s/g, "")), parameters, false, ["sign"]);
}

/** A signed token. `grant`: see `claimsOf`. Throws an Error whose message says what is missing. */
export async function mint(grant, key, algorithm) {
  // Browsers have WebCrypto on https and on this machine alone.
  if (!crypto.subtle) throw new Error("the browser signs only on https:// and on localhost; use mercure-hub token");
  if (!key) throw new Error("a key is missing");
  const header = { alg: algorithm, typ: grant.generation === "1.0" ? "at+jwt" : "JWT" };
  const signed = [header, claimsOf(grant)].map((part) => base64url(bytesOf(JSON.stringify(part)))).join(".");
  const signature = await crypto.subtle.sign(ALGORITHMS[algorithm], await importKey(key, algorithm), bytesOf(signed));
  return `${signed}.${base64url(signature)}`;
}
