import { Client } from "./oauth.js";

const element = (id) => document.getElementById(id);
const here = `${location.origin}/`;
const settings = await (await fetch("settings.json")).json();
const client = new Client(settings.issuer, settings.client_id, here, "openid profile items:read");

async function show() {
  element("signed-out").hidden = client.tokens !== null;
  element("signed-in").hidden = client.tokens === null;
  if (!client.tokens) return;
  const user = await client.userinfo();
  element("user").textContent = user.name ?? user.preferred_username;
  element("claims").textContent = JSON.stringify(client.idToken(), null, 2);
  const answer = await fetch("service/protected_route", { headers: client.headers() });
  element("answer").textContent = `${answer.status} ${await answer.text()}`;
}

async function attempt(action) {
  try {
    element("error").textContent = "";
    await action();
    await show();
  } catch (error) {
    element("error").textContent = error.message;
    element("signed-out").hidden = client.tokens !== null;
  }
}

element("sign-in").onclick = () => attempt(() => client.signIn());
element("renew").onclick = () => attempt(() => client.renew());
element("sign-out").onclick = () => attempt(() => client.signOut(here));
await attempt(() => client.finish());
