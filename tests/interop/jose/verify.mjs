// Verifies tokens with panva/jose: `node verify.mjs ISSUER AUDIENCE [SECONDS]` reads one token per line, and writes one
// JSON document per line. Keys are found by discovery; the settings are those of docs/verifying.md, except that SECONDS
// may replace the cache lifetime of five minutes.

import { webcrypto } from 'node:crypto'
import { createInterface } from 'node:readline'
import { createRemoteJWKSet, jwtVerify } from 'jose'

globalThis.crypto ??= webcrypto // Node 18 keeps it out of the global scope

const [issuer, audience, seconds] = process.argv.slice(2)

const answer = await fetch(`${issuer}/.well-known/openid-configuration`)
const metadata = await answer.json()
if (metadata.issuer !== issuer) {
  throw new Error(`the document of ${issuer} is that of ${metadata.issuer}`) // RFC 8414 section 3.3
}
const caching = { cacheMaxAge: 300_000, cooldownDuration: 30_000 }
const requiredClaims = ['sub', 'client_id', 'iat', 'exp', 'jti']
const expected = { algorithms: ['RS256'], issuer, audience, typ: 'at+jwt', clockTolerance: 10, requiredClaims }
const shorter = seconds ? { cacheMaxAge: Number(seconds) * 1000 } : {}
const keys = createRemoteJWKSet(new URL(metadata.jwks_uri), { ...caching, ...shorter })

async function judge(token) {
  try {
    const { protectedHeader } = await jwtVerify(token, keys, expected)
    return { accepted: true, kid: protectedHeader.kid }
  } catch (error) {
    return { accepted: false, reason: `${error.code ?? error.name}: ${error.message}` }
  }
}

for await (const token of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await judge(token)) + '\n')
}
