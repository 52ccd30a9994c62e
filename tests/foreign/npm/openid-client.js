// openid-client: the same as oauth4webapi.js, in its words.
import * as client from 'openid-client'
import { createInterface } from 'node:readline/promises'

const [issuer, clientId, secret, redirectUri] = process.argv.slice(2)
const auth = secret === '' ? client.None() : client.ClientSecretPost(secret)
const options = { algorithm: 'oauth2', execute: [client.allowInsecureRequests] }
const config = await client.discovery(new URL(issuer), clientId, undefined, auth, options)
const seen = { issuer: config.serverMetadata().issuer }

const closed = (token) =>
  client
    .fetchProtectedResource(config, token, new URL('/closed', issuer), 'GET')
    .then((answer) => answer.status)
    .catch((error) => `${error.status} ${error.cause[0].scheme} ${error.cause[0].parameters.error}`)

if (secret !== '') {
  const token = await client.clientCredentialsGrant(config, { scope: 'basic' })
  seen.own = [token.token_type, token.scope, await closed(token.access_token)]
}

const verifier = client.randomPKCECodeVerifier()
const state = client.randomState()
const url = client.buildAuthorizationUrl(config, {
  redirect_uri: redirectUri, scope: 'basic', state,
  code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
})
console.log(url.href)
const lines = createInterface({ input: process.stdin })
const { value: back } = await lines[Symbol.asyncIterator]().next()
lines.close()

const checks = { pkceCodeVerifier: verifier, expectedState: state }
const first = await client.authorizationCodeGrant(config, new URL(back), checks)
seen.user = [first.token_type, first.scope, await closed(first.access_token)]

const second = await client.refreshTokenGrant(config, first.refresh_token)
seen.refreshed = [second.refresh_token !== first.refresh_token, await closed(second.access_token)]

const told = await client.tokenIntrospection(config, second.access_token)
seen.told = [told.active, told.username, told.client_id === clientId]

await client.tokenRevocation(config, second.refresh_token)
seen.revoked = [await client.tokenIntrospection(config, second.access_token), await closed(second.access_token)]
seen.again = await client.refreshTokenGrant(config, second.refresh_token).catch((error) => error.error)
console.log(JSON.stringify(seen))
