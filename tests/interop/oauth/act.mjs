// Calls OAuth libraries of Node.js as clients and resource servers: `node act.mjs` reads the issuer's URL and
// credentials as JSON from stdin, and prints one JSON record. Each library discovers the endpoints and keeps its
// defaults, except for its switch for plain http; one reads OpenID Connect's metadata, the other that of RFC 8414.
// Expected results are in test_clients.py.

import { once } from 'node:events'
import { webcrypto } from 'node:crypto'
import { text } from 'node:stream/consumers'
import express from 'express'
import { auth } from 'express-oauth2-jwt-bearer'
import * as oauth4webapi from 'oauth4webapi'
import * as openidClient from 'openid-client'

globalThis.crypto ??= webcrypto // Node 18 keeps these out of the global scope
globalThis.CryptoKey ??= webcrypto.CryptoKey

const given = JSON.parse(await text(process.stdin))
const algorithm = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
const privateKey = await crypto.subtle.importKey('jwk', given.private_jwk, algorithm, false, ['sign'])

// Each of these makes, for one client, the calls that its library has.

async function byOpenidClient({ client_id, client_secret }, method) {
  const authentication = {
    client_secret_basic: () => openidClient.ClientSecretBasic(client_secret),
    client_secret_post: () => openidClient.ClientSecretPost(client_secret),
    private_key_jwt: () => openidClient.PrivateKeyJwt(privateKey),
    none: () => openidClient.None(),
  }[method]()
  const config = await openidClient.discovery(new URL(given.issuer), client_id, undefined, authentication, {
    execute: [openidClient.allowInsecureRequests],
  })
  return {
    metadata: () => config.serverMetadata(),
    token: () => openidClient.clientCredentialsGrant(config),
    refresh: (token) => openidClient.refreshTokenGrant(config, token),
    revoke: (token) => openidClient.tokenRevocation(config, token),
    introspect: (token) => openidClient.tokenIntrospection(config, token),
  }
}

const insecure = { [oauth4webapi.allowInsecureRequests]: true }

async function discoverByOauth4webapi() {
  const issuer = new URL(given.issuer)
  const answer = await oauth4webapi.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure })
  return oauth4webapi.processDiscoveryResponse(issuer, answer)
}

async function byOauth4webapi({ client_id, client_secret }, method) {
  const authentication = {
    client_secret_basic: () => oauth4webapi.ClientSecretBasic(client_secret),
    client_secret_post: () => oauth4webapi.ClientSecretPost(client_secret),
    private_key_jwt: () => oauth4webapi.PrivateKeyJwt(privateKey),
    none: () => oauth4webapi.None(),
  }[method]()
  const server = await discoverByOauth4webapi()
  const client = { client_id }
  return {
    metadata: () => server,
    token: async () => {
      const answer = await oauth4webapi.clientCredentialsGrantRequest(server, client, authentication, {}, insecure)
      return oauth4webapi.processClientCredentialsResponse(server, client, answer)
    },
    refresh: async (token) => {
      const answer = await oauth4webapi.refreshTokenGrantRequest(server, client, authentication, token, insecure)
      return oauth4webapi.processRefreshTokenResponse(server, client, answer)
    },
    revoke: async (token) => {
      const answer = await oauth4webapi.revocationRequest(server, client, authentication, token, insecure)
      return oauth4webapi.processRevocationResponse(answer)
    },
    introspect: async (token) => {
      const answer = await oauth4webapi.introspectionRequest(server, client, authentication, token, insecure)
      return oauth4webapi.processIntrospectionResponse(server, client, answer)
    },
  }
}

async function outcome(act) {
  try {
    return { result: (await act()) ?? {} }
  } catch (error) {
    return { error: error.error ?? error.code ?? error.name, reason: String(error.cause?.message ?? error.message) }
  }
}

async function actsOf(makeClient, refreshToken) {
  const acts = {}
  for (const method of ['client_secret_basic', 'client_secret_post']) {
    acts[method] = await outcome(async () => (await makeClient(given.machine, method)).token())
  }
  acts.private_key_jwt = await outcome(async () => (await makeClient(given.signer, 'private_key_jwt')).token())

  const person = await makeClient({ client_id: given.public_client_id }, 'none')
  const service = await makeClient(given.machine, 'client_secret_basic')
  acts.discovery = await outcome(() => person.metadata())
  acts.refresh = await outcome(() => person.refresh(refreshToken))
  const { access_token, refresh_token } = acts.refresh.result ?? {}
  acts.introspection = await outcome(() => service.introspect(access_token))
  acts.revocation = await outcome(() => person.revoke(refresh_token))
  acts.refresh_afterwards = await outcome(() => person.refresh(refresh_token))
  acts.introspection_afterwards = await outcome(() => service.introspect(access_token))
  return acts
}

async function judgedByOauth4webapi(token) {
  const request = new Request(given.audience, { headers: { authorization: `Bearer ${token}` } })
  const server = await discoverByOauth4webapi()
  return outcome(() => oauth4webapi.validateJwtAccessToken(server, request, given.audience, insecure))
}

async function judgedByExpress(token) {
  const app = express()
  app.use(auth({ issuerBaseURL: given.issuer, audience: given.audience, strict: true }))
  app.get('/', (request, response) => response.json(request.auth.payload))
  app.use((error, _request, response, _next) => {
    response.status(error.status ?? 500).json({ error: error.code, reason: error.message })
  })
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${server.address().port}/`
  const answer = await fetch(url, { headers: { authorization: `Bearer ${token}`, connection: 'close' } })
  server.close()
  const body = await answer.json()
  return answer.ok ? { result: body } : body
}

async function judgementsBy(judge) {
  const judged = Object.entries(given.tokens).map(async ([name, token]) => [name, await judge(token)])
  return Object.fromEntries(await Promise.all(judged))
}

const record = {
  clients: {
    'openid-client': await actsOf(byOpenidClient, given.refresh_tokens['openid-client']),
    oauth4webapi: await actsOf(byOauth4webapi, given.refresh_tokens.oauth4webapi),
  },
  resource_servers: {
    oauth4webapi: await judgementsBy(judgedByOauth4webapi),
    'express-oauth2-jwt-bearer': await judgementsBy(judgedByExpress),
  },
}
process.stdout.write(JSON.stringify(record) + '\n')
