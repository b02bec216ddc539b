// Try one promise on a running server: node run.mjs URL FILE PROMISE. The exit status is 0 when it holds.
//
// A promise is a function that FILE exports. It gets
//   name    for its streams and buckets; no other promise has it
//   nc, js  a connection and its JetStream client
//   other   the same on a second connection, which midge gives to another worker if there is one
// and throws when the promise does not hold. The process ends by itself when all connections are closed, so
// whatever a promise leaves running is a failure too.
import { jetstream } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const TIMEOUT_MS = 20_000;
const [url, file, promise] = process.argv.slice(2);

async function dial() {
  const nc = await connect({ servers: url, reconnect: false, timeout: TIMEOUT_MS });
  return { nc, js: jetstream(nc, { timeout: TIMEOUT_MS }) };
}

const promises = await import(`./${file}.mjs`);
const here = await dial();
const other = await dial();
try {
  await promises[promise]({ ...here, other, name: `${file}_${promise}` });
} finally {
  await here.nc.close();
  await other.nc.close();
}
