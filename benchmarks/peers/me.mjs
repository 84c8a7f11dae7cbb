// Owns a peer of the example service: `GET /me` on node's own http server, tokens verified by jose.
import { createServer } from "node:http";
import { createRemoteJWKSet, jwtVerify } from "jose";

const { PORT, JWKS_URL, ISSUER, AUDIENCE } = process.env;
const keys = createRemoteJWKSet(new URL(JWKS_URL));
const expected = { issuer: ISSUER, audience: AUDIENCE, typ: "at+jwt", algorithms: ["RS256"] };

createServer(async (request, response) => {
  if (request.url !== "/me") {
    response.writeHead(404).end();
    return;
  }
  const [scheme, token] = (request.headers.authorization ?? "").split(" ");
  try {
    if (scheme.toLowerCase() !== "bearer" || !token) throw new Error("a bearer token is needed");
    const { payload } = await jwtVerify(token, keys, expected);
    response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(payload));
  } catch {
    response.writeHead(401, { "WWW-Authenticate": "Bearer" }).end();
  }
}).listen(Number(PORT), "127.0.0.1");
