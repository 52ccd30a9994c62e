// oauth4webapi: discovery, a client's own token, a user's code with PKCE, refresh, introspection, revocation.
// It prints where the person is to go, reads where that led, and prints what it saw as JSON.
import * as oauth from 'oauth4webapi'
import { createInterface } from 'node:readline/promises'

const [issuer, clientId, secret, redirectUri] = process.argv.slice(2)
const insecure = { [oauth.allowInsecureRequests]: true }
const client = { client_id: clientId }
const auth = secret === '' ? oauth.None() : oauth.ClientSecretBasic(secret)
const seen = {}

const found = await oauth.discoveryRequest(new URL(issuer), { algorithm: 'oauth2', ...insecure })
const server = await oauth.processDiscoveryResponse(new URL(issuer), found)
seen.issuer = server.issuer

const closed = (token) =>
  oauth
    .protectedResourceRequest(token, 'GET', new URL('/closed', issuer), undefined, null, insecure)
    .then((answer) => answer.status)
    .catch((error) => `${error.status} ${error.cause[0].scheme} ${error.cause[0].parameters.error}`)

if (secret !== '') {
  const answer = await oauth.clientCredentialsGrantRequest(server, client, auth, { scope: 'basic' }, insecure)
  const token = await oauth.processClientCredentialsResponse(server, client, answer)
  seen.own = [token.token_type, token.scope, await closed(token.access_token)]
}

const verifier = oauth.generateRandomCodeVerifier()
const state = oauth.generateRandomState()
const url = new URL(server.authorization_endpoint)
url.search = new URLSearchParams({
  response_type: 'code', client_id: clientId, redirect_uri: redirectUri, scope: 'basic', state,
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
})
console.log(url.href)
const lines = createInterface({ input: process.stdin })
const { value: back } = await lines[Symbol.asyncIterator]().next()
lines.close()

// This also compares `iss` with the issuer (RFC 9207).
const params = oauth.validateAuthResponse(server, client, new URL(back), state)
const exchanged = await oauth.authorizationCodeGrantRequest(server, client, auth, params, redirectUri, verifier, insecure)
const first = await oauth.processAuthorizationCodeResponse(server, client, exchanged)
seen.user = [first.token_type, first.scope, await closed(first.access_token)]

const refreshed = await oauth.refreshTokenGrantRequest(server, client, auth, first.refresh_token, insecure)
const second = await oauth.processRefreshTokenResponse(server, client, refreshed)
seen.refreshed = [second.refresh_token !== first.refresh_token, await closed(second.access_token)]

const introspect = async (token) => {
  const answer = await oauth.introspectionRequest(server, client, auth, token, insecure)
  return oauth.processIntrospectionResponse(server, client, answer)
}
const told = await introspect(second.access_token)
seen.told = [told.active, told.username, told.client_id === clientId]

const revoked = await oauth.revocationRequest(server, client, auth, second.refresh_token, insecure)
await oauth.processRevocationResponse(revoked)
seen.revoked = [await introspect(second.access_token), await closed(second.access_token)]

const again = await oauth.refreshTokenGrantRequest(server, client, auth, second.refresh_token, insecure)
seen.again = await oauth.processRefreshTokenResponse(server, client, again).catch((error) => error.error)
console.log(JSON.stringify(seen))
