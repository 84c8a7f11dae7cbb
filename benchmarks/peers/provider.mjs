// Owns the peer of token issuance and of sign-in: oidc-provider, in memory, one client, RS256 tokens (RFC 9068).
// Its clients and port come from the environment; nothing is kept. `GET /codes?count=N&challenge=C` returns codes that
// were not asked for by a browser: only their redemption is measured.
import { exportJWK, generateKeyPair } from "jose";
import Provider from "oidc-provider";
import MemoryAdapter from "oidc-provider/lib/adapters/memory_adapter.js";

const { PORT, CLIENT_ID, CLIENT_SECRET, AUDIENCE, REDIRECT_URI } = process.env;
const scope = "items:read";
const identityScope = "openid offline_access";
const { privateKey } = await generateKeyPair("RS256", { extractable: true });
const stored = new Map(); // its own storage drops all but the newest thousand entries

const provider = new Provider(`http://127.0.0.1:${PORT}`, {
  adapter: (model) => new MemoryAdapter(model, stored),
  jwks: { keys: [{ ...(await exportJWK(privateKey)), alg: "RS256", use: "sig" }] },
  scopes: [...identityScope.split(" "), scope],
  ttl: { AuthorizationCode: 3600 },
  clients: [
    {
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
      token_endpoint_auth_method: "client_secret_basic",
      grant_types: ["client_credentials", "authorization_code", "refresh_token"],
      redirect_uris: [REDIRECT_URI],
      response_types: ["code"],
      scope: `${identityScope} ${scope}`,
    },
  ],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true }, // its own sign-in page
    resourceIndicators: {
      enabled: true,
      defaultResource: () => AUDIENCE,
      useGrantedResource: () => true, // a JWT with the scope openid, too
      getResourceServerInfo: () => ({
        scope,
        audience: AUDIENCE,
        accessTokenTTL: 600,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});

async function newCode(number, codeChallenge) {
  const accountId = `user-${number}`;
  const grant = new provider.Grant({ accountId, clientId: CLIENT_ID });
  grant.addOIDCScope(identityScope);
  grant.addResourceScope(AUDIENCE, scope);
  const code = new provider.AuthorizationCode({
    accountId,
    acr: "1",
    amr: ["pwd"],
    authTime: Math.floor(Date.now() / 1000),
    claims: {},
    client: await provider.Client.find(CLIENT_ID),
    codeChallenge,
    codeChallengeMethod: "S256",
    grantId: await grant.save(),
    nonce: `nonce-${number}`,
    redirectUri: REDIRECT_URI,
    resource: AUDIENCE,
    scope: `${identityScope} ${scope}`,
    sessionUid: `session-${number}`,
  });
  return code.save();
}

provider.use(async (ctx, next) => {
  if (ctx.path !== "/codes") return next();
  const codes = [];
  for (let number = 0; number < Number(ctx.query.count); number += 1) {
    codes.push(await newCode(number, ctx.query.challenge));
  }
  ctx.body = codes.join("\n");
});
provider.listen(Number(PORT), "127.0.0.1");
