// Signs in with a library of Node.js: `node sign_in.mjs LIBRARY` reads one JSON line with the client's registration,
// then calls, one a line, and writes one JSON line for each. The library discovers the endpoints, makes state, nonce
// and PKCE, and validates the responses; its only options are its switch for plain http and the check of the
// id_token's signature. The browser and the expected results are in test_sign_in.py.

import { webcrypto } from 'node:crypto'
import { createInterface } from 'node:readline'
import * as oauth4webapi from 'oauth4webapi'
import * as openidClient from 'openid-client'

globalThis.crypto ??= webcrypto // Node 18 keeps these out of the global scope
globalThis.CryptoKey ??= webcrypto.CryptoKey

async function byOpenidClient(registered) {
  const { issuer, client_id, client_secret, redirect_uri } = registered
  const execute = [openidClient.allowInsecureRequests, openidClient.enableNonRepudiationChecks]
  const config = await openidClient.discovery(new URL(issuer), client_id, client_secret, undefined, { execute })
  const checks = { idTokenExpected: true }
  let tokens
  let newest // refresh token
  return {
    begin: async ({ scope, pushed, ...more }) => {
      checks.pkceCodeVerifier = openidClient.randomPKCECodeVerifier()
      checks.expectedState = openidClient.randomState()
      checks.expectedNonce = openidClient.randomNonce()
      const parameters = {
        redirect_uri,
        scope,
        state: checks.expectedState,
        nonce: checks.expectedNonce,
        code_challenge: await openidClient.calculatePKCECodeChallenge(checks.pkceCodeVerifier),
        code_challenge_method: 'S256',
        ...more,
      }
      const build = pushed ? openidClient.buildAuthorizationUrlWithPAR : openidClient.buildAuthorizationUrl
      return { url: (await build(config, parameters)).href }
    },
    finish: async ({ url, form }) => {
      const headers = { 'content-type': 'application/x-www-form-urlencoded' }
      const callback = form ? new Request(url, { method: 'POST', body: form, headers }) : new URL(url)
      tokens = await openidClient.authorizationCodeGrant(config, callback, checks)
      newest = tokens.refresh_token
      const userinfo = await openidClient.fetchUserInfo(config, tokens.access_token, tokens.claims().sub)
      return { id_token: tokens.id_token, claims: tokens.claims(), userinfo }
    },
    refresh: async () => {
      const refreshed = await openidClient.refreshTokenGrant(config, newest)
      newest = refreshed.refresh_token
      return { id_token: refreshed.id_token, claims: refreshed.claims() }
    },
    log_out: async ({ state }) => {
      const { post_logout_redirect_uri } = registered
      const hint = { id_token_hint: tokens.id_token, post_logout_redirect_uri, state }
      return { url: openidClient.buildEndSessionUrl(config, hint).href }
    },
  }
}

const insecure = { [oauth4webapi.allowInsecureRequests]: true }

async function byOauth4webapi(registered) {
  const { client_id, client_secret, redirect_uri, post_logout_redirect_uri } = registered
  const issuer = new URL(registered.issuer)
  const discovered = await oauth4webapi.discoveryRequest(issuer, insecure)
  const server = await oauth4webapi.processDiscoveryResponse(issuer, discovered)
  const client = { client_id }
  const authentication = oauth4webapi.ClientSecretBasic(client_secret)
  const verifier = oauth4webapi.generateRandomCodeVerifier()
  const state = oauth4webapi.generateRandomState()
  const nonce = oauth4webapi.generateRandomNonce()
  let tokens
  let newest // refresh token

  async function claimsOf(answer, process) {
    const read = await process(answer)
    await oauth4webapi.validateApplicationLevelSignature(server, answer, insecure)
    return { ...read, claims: oauth4webapi.getValidatedIdTokenClaims(read) }
  }

  return {
    begin: async ({ scope }) => {
      const url = new URL(server.authorization_endpoint)
      const challenge = await oauth4webapi.calculatePKCECodeChallenge(verifier)
      const proof = { code_challenge: challenge, code_challenge_method: 'S256', state, nonce }
      const asked = { client_id, redirect_uri, response_type: 'code', scope, ...proof }
      url.search = new URLSearchParams(asked).toString()
      return { url: url.href }
    },
    finish: async ({ url }) => {
      const parameters = oauth4webapi.validateAuthResponse(server, client, new URL(url), state)
      const redemption = [authentication, parameters, redirect_uri, verifier, insecure]
      const answer = await oauth4webapi.authorizationCodeGrantRequest(server, client, ...redemption)
      const checks = { expectedNonce: nonce, requireIdToken: true }
      tokens = await claimsOf(answer, (each) =>
        oauth4webapi.processAuthorizationCodeResponse(server, client, each, checks),
      )
      const { id_token, claims, access_token } = tokens
      newest = tokens.refresh_token
      const about = await oauth4webapi.userInfoRequest(server, client, access_token, insecure)
      const userinfo = await oauth4webapi.processUserInfoResponse(server, client, claims.sub, about)
      return { id_token, claims, userinfo }
    },
    refresh: async () => {
      const old = [authentication, newest, insecure]
      const answer = await oauth4webapi.refreshTokenGrantRequest(server, client, ...old)
      const refreshed = await claimsOf(answer, (each) =>
        oauth4webapi.processRefreshTokenResponse(server, client, each),
      )
      newest = refreshed.refresh_token
      return { id_token: refreshed.id_token, claims: refreshed.claims }
    },
    log_out: async (more) => {
      const url = new URL(server.end_session_endpoint)
      const hint = { id_token_hint: tokens.id_token, post_logout_redirect_uri, ...more }
      url.search = new URLSearchParams(hint).toString()
      return { url: url.href }
    },
  }
}

const library = { 'openid-client': byOpenidClient, oauth4webapi: byOauth4webapi }[process.argv[2]]
let client
for await (const line of createInterface({ input: process.stdin })) {
  const { call, ...given } = JSON.parse(line)
  let answer
  try {
    client ??= await library(given.registered)
    answer = call ? await client[call](given) : {}
  } catch (error) {
    answer = { error: `${error.code ?? error.name}: ${error.error_description ?? error.cause?.message ?? error.message}` }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
