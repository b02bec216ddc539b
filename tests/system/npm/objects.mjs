// Object stores, by @nats-io/obj.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { Objm } from "@nats-io/obj";
import { headers } from "@nats-io/transport-node";
import { all, take } from "./reading.mjs";

const CHUNK_BYTES = 128 * 1024;

/** Make a store and return it as both connections see it. */
async function store({ js, other, name }, options = {}) {
  const ours = await new Objm(js).create(name, options);
  return [ours, await new Objm(other.js).open(name)];
}

const text = async (objects, name) => Buffer.from(await objects.getBlob(name)).toString();
const bytes = (string) => new TextEncoder().encode(string);

export async function blob_put_is_got({ js, other, name }) {
  const [ours, theirs] = await store({ js, other, name });
  const put = await ours.putBlob({ name: "note", description: "short" }, bytes("hello"));
  assert.deepEqual([put.size, put.chunks, put.bucket], [5, 1, name]);
  assert.equal(await text(theirs, "note"), "hello");
  const info = await theirs.info("note");
  assert.deepEqual([info.description, info.digest, info.nuid], ["short", put.digest, put.nuid]);
  assert.equal(await theirs.get("nothing"), null);
}

export async function empty_object_is_got({ js, other, name }) {
  const [ours, theirs] = await store({ js, other, name });
  assert.equal((await ours.putBlob({ name: "empty" }, null)).chunks, 0);
  assert.equal(await text(theirs, "empty"), "");
}

export async function stream_of_many_chunks_comes_back_whole({ js, other, name }) {
  const [ours, theirs] = await store({ js, other, name });
  const blocks = Array.from({ length: 50 }, () => randomBytes(100_003));
  const put = await ours.put({ name: "big" }, Readable.toWeb(Readable.from(blocks)));
  assert.deepEqual([put.size, put.chunks], [5_000_150, Math.ceil(5_000_150 / CHUNK_BYTES)]);
  const got = await theirs.get("big");
  const hash = createHash("sha256");
  for await (const block of got.data) hash.update(block);
  assert.equal(await got.error, undefined);
  assert.equal(hash.digest("hex"), createHash("sha256").update(Buffer.concat(blocks)).digest("hex"));
}

export async function chunks_are_as_large_as_asked_for({ js, other, name }) {
  const [ours, theirs] = await store({ js, other, name });
  const put = await ours.putBlob({ name: "small", options: { max_chunk_size: 10 } }, bytes("x".repeat(95)));
  assert.equal(put.chunks, 10);
  assert.equal((await text(theirs, "small")).length, 95);
}

export async function object_put_again_replaces_the_old_one({ js, other, name }) {
  const [ours, theirs] = await store({ js, other, name });
  const first = await ours.putBlob({ name: "note" }, bytes("one"));
  await theirs.putBlob({ name: "note" }, bytes("two"));
  assert.equal(await text(ours, "note"), "two");
  const status = await ours.status({ subjects_filter: `$O.${name}.C.>` });
  const chunks = Object.keys(status.streamInfo.state.subjects);
  assert.equal(chunks.length, 1);
  assert.ok(!chunks[0].endsWith(first.nuid));
  const refused = ours.putBlob({ name: "note" }, bytes("three"), { previousRevision: first.revision });
  await assert.rejects(refused, /wrong last sequence/);
}

export async function objects_are_listed({ js, other, name }) {
  const [ours, theirs] = await store({ js, other, name });
  assert.deepEqual(await theirs.list(), []);
  for (const object of ["a", "b", "c"]) await ours.putBlob({ name: object }, bytes(object));
  await ours.delete("b");
  assert.deepEqual((await theirs.list()).map((info) => info.name).sort(), ["a", "c"]);
}

export async function deleted_object_frees_its_chunks({ js, other, name }) {
  const [ours, theirs] = await store({ js, other, name });
  await ours.putBlob({ name: "note" }, randomBytes(3 * CHUNK_BYTES));
  assert.deepEqual((await theirs.delete("note")).purged, 3);
  assert.equal((await ours.info("note")).deleted, true);
  assert.equal(await ours.getBlob("note"), null);
}

export async function metadata_and_name_are_changed_without_the_data({ js, other, name }) {
  const [ours, theirs] = await store({ js, other, name });
  await ours.putBlob({ name: "note" }, bytes("hello"));
  const hdrs = headers();
  hdrs.set("Kind", "letter");
  await theirs.update("note", { name: "letter", description: "mine", metadata: { from: "me" }, headers: hdrs });
  const info = await ours.info("letter");
  assert.deepEqual([info.description, info.metadata, info.headers.get("Kind")], ["mine", { from: "me" }, "letter"]);
  assert.equal(await text(ours, "letter"), "hello");
  assert.equal(await ours.info("note"), null);
}

export async function link_leads_to_the_object({ js, other, name }) {
  const [ours, theirs] = await store({ js, other, name });
  const elsewhere = await new Objm(js).create(`${name}_links`);
  const info = await ours.putBlob({ name: "note" }, bytes("hello"));
  await ours.link("near", info);
  await elsewhere.link("far", info);
  assert.equal((await theirs.info("near")).isLink(), true);
  assert.equal(await text(theirs, "near"), "hello");
  assert.equal(await text(await new Objm(other.js).open(`${name}_links`), "far"), "hello");
  await assert.rejects(ours.link("near", info), /already exists/);
}

export async function link_leads_to_a_store({ js, other, name }) {
  const [ours, theirs] = await store({ js, other, name });
  const linked = await new Objm(js).create(`${name}_linked`);
  await ours.linkStore("there", linked);
  const info = await theirs.info("there");
  assert.deepEqual([info.isLink(), info.options.link.bucket], [true, `${name}_linked`]);
  await assert.rejects(theirs.get("there"), /link is a bucket/);
}

export async function watcher_sees_what_is_there_and_what_changes({ js, other, name }) {
  const [ours, theirs] = await store({ js, other, name });
  await ours.putBlob({ name: "a" }, bytes("1"));
  const seen = [];
  for await (const info of await theirs.watch({ includeHistory: true })) {
    seen.push([info.name, info.deleted ?? false]);
    if (seen.length === 3) break;
    if (seen.length > 1) continue;
    await ours.putBlob({ name: "b" }, bytes("2"));
    await ours.delete("a");
  }
  assert.deepEqual(seen, [["a", false], ["b", false], ["a", true]]);
}

export async function watcher_sees_changes_only({ js, other, name }) {
  const [ours, theirs] = await store({ js, other, name });
  await ours.putBlob({ name: "a" }, bytes("1"));
  const watcher = await theirs.watch({ ignoreDeletes: true });
  await ours.delete("a");
  await ours.putBlob({ name: "b" }, bytes("2"));
  assert.deepEqual((await take(watcher, 1)).map((info) => info.name), ["b"]);
}

export async function sealed_store_is_read_but_not_changed({ js, other, name }) {
  const [ours, theirs] = await store({ js, other, name });
  await ours.putBlob({ name: "note" }, bytes("hello"));
  assert.equal((await theirs.seal()).sealed, true);
  await assert.rejects(ours.putBlob({ name: "more" }, bytes("x")), /sealed stream/);
  await assert.rejects(ours.delete("note"), /sealed stream/);
  assert.equal(await text(ours, "note"), "hello");
}

export async function store_tells_its_state_and_is_destroyed({ js, other, name }) {
  const [ours, theirs] = await store({ js, other, name }, { description: "files", max_bytes: 10_000_000 });
  await ours.putBlob({ name: "note" }, randomBytes(100_000));
  const status = await theirs.status();
  assert.deepEqual([status.bucket, status.description, status.sealed], [name, "files", false]);
  assert.ok(status.size > 100_000);
  const listed = await all(new Objm(other.js).list());
  assert.ok(listed.map((storeStatus) => storeStatus.bucket).includes(name));
  assert.equal(await theirs.destroy(), true);
  await assert.rejects(new Objm(js).open(name), /object store not found/);
}
