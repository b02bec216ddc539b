// Put an object of so many bytes, or get it: node large_object.mjs URL put|get BYTES. Prints size and digest.
//
// Its bytes are a block of random ones, repeated with the block's number in front, so that neither client nor
// test needs a file or the memory for it.
import { createHash, randomBytes } from "node:crypto";
import { Objm } from "@nats-io/obj";
import { connect } from "@nats-io/transport-node";

const BLOCK_BYTES = 1024 * 1024;
const TIMEOUT_MS = 60_000;
const [url, action, bytes] = process.argv.slice(2);

function blocks(count) {
  const block = randomBytes(BLOCK_BYTES);
  let number = 0;
  return new ReadableStream({
    pull(controller) {
      if (number === count) return controller.close();
      block.writeUInt32LE(number++);
      controller.enqueue(new Uint8Array(block));
    },
  });
}

const connection = await connect({ servers: url, reconnect: false });
const store = await new Objm(connection).create("large");
if (action === "put") {
  const info = await store.put({ name: "large" }, blocks(bytes / BLOCK_BYTES), { timeout: TIMEOUT_MS });
  console.log(info.size, info.digest);
} else {
  const { info, data } = await store.get("large");
  const hash = createHash("sha256");
  let size = 0;
  for await (const block of data) {
    hash.update(block);
    size += block.length;
  }
  console.log(size, `SHA-256=${hash.digest("base64url").padEnd(44, "=")}`);
}
await connection.close();
