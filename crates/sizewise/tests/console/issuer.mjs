// What does an identity provider do to somebody who signs in, for the tests of the console?
import crypto from "node:crypto";
import http from "node:http";

const CODES = new Map();
const { publicKey, privateKey } = crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** An issuer of another site than the server's. `issuer.twist` goes over the claims of its tokens, `issuer.broken` is the status of its token endpoint. */
export async function startIssuer() {
  const issuer = { twist: {}, broken: 0, exchanged: 0, secret: "s3:cret" };
  const server = http.createServer((request, reply) => {
    const url = new URL(request.url, issuer.url);
    const json = (told, status = 200) => reply.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(told));
    if (url.pathname === "/.well-known/openid-configuration") return json({ issuer: issuer.url, authorization_endpoint: `${issuer.url}/authorize`, token_endpoint: `${issuer.url}/token`, end_session_endpoint: `${issuer.url}/end?realm=desk`, jwks_uri: `${issuer.url}/keys`, authorization_response_iss_parameter_supported: true });
    if (url.pathname === "/keys") return json({ keys: [{ ...publicKey.export({ format: "jwk" }), kid: "c", use: "sig", alg: "ES256" }] });
    if (url.pathname === "/authorize") return ask(issuer, url, reply);
    if (url.pathname === "/token") {
      let body = "";
      request.on("data", (chunk) => { body += chunk; });
      request.on("end", () => {
        issuer.exchanged += 1;
        if (issuer.broken) return json({ error: "server_error" }, issuer.broken);
        exchange(issuer, request, new URLSearchParams(body), json);
      });
      return undefined;
    }
    if (url.pathname === "/end") {
      issuer.ended = url.search;
      return reply.writeHead(200, { "content-type": "text/html" }).end("<title>Gone</title><h1>You have left Example ID</h1>");
    }
    return json({}, 404);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  issuer.url = `http://localhost:${server.address().port}`;
  issuer.stop = () => new Promise((ended) => { server.closeAllConnections(); server.close(ended); });
  return issuer;
}

/** The page on which somebody says who they are. */
function ask(issuer, url, reply) {
  const wanted = url.searchParams;
  const back = (more) => `${wanted.get("redirect_uri")}?${new URLSearchParams({ state: wanted.get("state"), iss: issuer.url, ...more })}`.replaceAll("&", "&amp;");
  const code = crypto.randomUUID();
  const proper = wanted.get("response_type") === "code" && wanted.get("code_challenge_method") === "S256" && wanted.get("client_id") === "console" && wanted.get("scope").split(" ").includes("openid");
  CODES.set(code, { nonce: wanted.get("nonce"), challenge: wanted.get("code_challenge"), back: wanted.get("redirect_uri") });
  reply.writeHead(proper ? 200 : 400, { "content-type": "text/html" });
  reply.end(`<!doctype html><html lang="en"><title>Example ID</title><main><h1>Example ID</h1><p><a id="yes" href="${back({ code })}">I am Ada</a></p><p><a id="no" href="${back({ error: "access_denied" })}">Leave it</a></p></main></html>`);
}

function exchange(issuer, request, form, json) {
  const known = CODES.get(form.get("code"));
  CODES.delete(form.get("code"));
  const who = `Basic ${Buffer.from(`console:${encodeURIComponent(issuer.secret)}`).toString("base64")}`;
  if (request.headers.authorization !== who) return json({ error: "invalid_client" }, 401);
  const challenge = crypto.createHash("sha256").update(form.get("code_verifier") ?? "").digest("base64url");
  if (!known || known.challenge !== challenge || known.back !== form.get("redirect_uri")) return json({ error: "invalid_grant" }, 400);
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: issuer.url, aud: "console", sub: "ada@desk.example", exp: now + 300, iat: now, nonce: known.nonce, groups: ["admins"], ...issuer.twist };
  const signed = `${part({ alg: "ES256", kid: "c", typ: "JWT" })}.${part(claims)}`;
  const signature = crypto.sign("sha256", Buffer.from(signed), { key: privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url");
  return json({ access_token: "opaque", token_type: "Bearer", expires_in: 300, id_token: `${signed}.${signature}` });
}
