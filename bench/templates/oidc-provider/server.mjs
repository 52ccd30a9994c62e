// npm `oidc-provider` with opaque access tokens, client_credentials and introspection.
// Its default adapter forgets; this one is durable: SQLite in WAL mode with synchronous=FULL, the tokens of one turn of
// the event loop in one transaction, for which their answers wait.
import { DatabaseSync } from 'node:sqlite';
import Provider from 'oidc-provider';

const [port] = process.argv.slice(2);
const { PEER_FILE: file, PEER_CLIENT: clientId, PEER_SECRET: clientSecret, PEER_SCOPE: scope } = process.env;
const database = new DatabaseSync(file);
database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
database.exec('CREATE TABLE IF NOT EXISTS kept (id TEXT PRIMARY KEY, payload TEXT, expires INTEGER) WITHOUT ROWID');
const put = database.prepare('INSERT OR REPLACE INTO kept VALUES (?, ?, ?)');
const get = database.prepare('SELECT payload FROM kept WHERE id = ? AND expires > ?');
const remove = database.prepare('DELETE FROM kept WHERE id = ?');
let waiting = [];

function flush() {
  const turn = waiting;
  waiting = [];
  database.exec('BEGIN IMMEDIATE');
  for (const each of turn) put.run(...each.row);
  database.exec('COMMIT');
  for (const each of turn) each.resolve();
}

class Adapter {
  constructor(model) { this.model = model; }

  upsert(id, payload, expiresIn) {
    const row = [`${this.model}:${id}`, JSON.stringify(payload), Date.now() + expiresIn * 1000];
    return new Promise((resolve) => {
      if (waiting.push({ row, resolve }) === 1) setImmediate(flush);
    });
  }

  async find(id) {
    const row = get.get(`${this.model}:${id}`, Date.now());
    return row && JSON.parse(row.payload);
  }

  async destroy(id) { remove.run(`${this.model}:${id}`); }
}

const provider = new Provider(`http://127.0.0.1:${port}`, {
  adapter: Adapter,
  clients: [{
    client_id: clientId,
    client_secret: clientSecret,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    scope,
    token_endpoint_auth_method: 'client_secret_post',
  }],
  scopes: [scope],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
  },
  ttl: { ClientCredentials: 86400 },
});
provider.listen(Number(port), '127.0.0.1');
