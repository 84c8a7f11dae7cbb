// Signs a user in with a browser: OpenID Connect, authorization code flow with PKCE (RFC 7636), for a public client.
// Tokens are kept in memory only: a script that is injected elsewhere in the origin finds none in the storage, and
// after a reload the issuer answers without a page while its session lasts.

const base64url = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

export class Client {
  constructor(issuer, clientId, redirectUri, scope) {
    Object.assign(this, { issuer, clientId, redirectUri, scope, tokens: null });
  }

  async metadata() {
    this.found ??= await (await fetch(`${this.issuer}/.well-known/openid-configuration`)).json();
    return this.found;
  }

  // Sends the browser to the issuer. The verifier never leaves this tab before the code is redeemed.
  async signIn() {
    const pending = { verifier: random(), state: random(), nonce: random() };
    sessionStorage.setItem("pending", JSON.stringify(pending));
    const challenge = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(pending.verifier));
    const { authorization_endpoint } = await this.metadata();
    location.assign(`${authorization_endpoint}?${new URLSearchParams({
      response_type: "code",
      client_id: this.clientId,
      redirect_uri: this.redirectUri,
      scope: this.scope,
      state: pending.state,
      nonce: pending.nonce,
      code_challenge: base64url(challenge),
      code_challenge_method: "S256",
    })}`);
  }

  // Redeems the code in the address of this page, if there is one; throws an Error for a sign-in that failed.
  async finish() {
    const answer = new URLSearchParams(location.search);
    if (!answer.has("state")) return;
    history.replaceState(null, "", location.pathname); // the code is of no use in the history
    const pending = JSON.parse(sessionStorage.getItem("pending") ?? "{}");
    sessionStorage.removeItem("pending");
    if (answer.get("state") !== pending.state) throw new Error("this sign-in was not started in this tab");
    if (answer.get("iss") !== this.issuer) throw new Error("the answer is from another issuer"); // RFC 9207
    if (answer.has("error")) throw new Error(answer.get("error_description") ?? answer.get("error"));
    await this.#request({
      grant_type: "authorization_code",
      code: answer.get("code"),
      redirect_uri: this.redirectUri,
      code_verifier: pending.verifier,
    });
    if (this.idToken().nonce !== pending.nonce) throw new Error("the ID token is of another sign-in");
  }

  // Gets another access token; a refresh token is valid once, so the new one replaces it.
  async renew() {
    await this.#request({ grant_type: "refresh_token", refresh_token: this.tokens.refresh_token });
  }

  async userinfo() {
    const { userinfo_endpoint } = await this.metadata();
    const answer = await fetch(userinfo_endpoint, { headers: this.headers() });
    return answer.json();
  }

  async signOut(returnTo) {
    const { end_session_endpoint } = await this.metadata();
    const hint = this.tokens.id_token;
    this.tokens = null;
    location.assign(`${end_session_endpoint}?${new URLSearchParams({
      id_token_hint: hint,
      client_id: this.clientId,
      post_logout_redirect_uri: returnTo,
    })}`);
  }

  headers() {
    return { Authorization: `Bearer ${this.tokens.access_token}` };
  }

  // The claims of the ID token. It came from the token endpoint itself, so its signature need not be verified here:
  // OpenID Connect Core 1.0 section 3.1.3.7, number 6.
  idToken() {
    const payload = this.tokens.id_token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (each) => each.charCodeAt(0))));
  }

  async #request(parameters) {
    const { token_endpoint } = await this.metadata();
    const body = new URLSearchParams({ ...parameters, client_id: this.clientId });
    const answer = await fetch(token_endpoint, { method: "POST", body });
    const tokens = await answer.json();
    if (!answer.ok) throw new Error(tokens.error_description ?? tokens.error);
    this.tokens = { ...this.tokens, ...tokens };
  }
}
