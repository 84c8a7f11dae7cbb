// Owns the peer of token issuance: oidc-provider, in memory, one client, RS256 access tokens (RFC 9068).
// Its clients and port come from the environment; nothing is kept.
import { exportJWK, generateKeyPair } from "jose";
import Provider from "oidc-provider";

const { PORT, CLIENT_ID, CLIENT_SECRET, AUDIENCE } = process.env;
const scope = "items:read";
const { privateKey } = await generateKeyPair("RS256", { extractable: true });

const provider = new Provider(`http://127.0.0.1:${PORT}`, {
  jwks: { keys: [{ ...(await exportJWK(privateKey)), alg: "RS256", use: "sig" }] },
  scopes: [scope],
  clients: [
    {
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
      token_endpoint_auth_method: "client_secret_basic",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
      scope,
    },
  ],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => AUDIENCE,
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
provider.listen(Number(PORT), "127.0.0.1");
