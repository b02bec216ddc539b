// Key-value buckets, by @nats-io/kv.
import assert from "node:assert/strict";
import { jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { all, take, until } from "./reading.mjs";

/** Make a bucket and return it as both connections see it. */
async function bucket({ js, other, name }, options = {}) {
  const ours = await new Kvm(js).create(name, options);
  return [ours, await new Kvm(other.js).open(name)];
}

/** Return what a watcher says of its entries: key, operation, value. */
const told = (entries) => entries.map((entry) => [entry.key, entry.operation, entry.string()]);

export async function value_put_is_got({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name });
  assert.equal(await ours.put("sky", "blue"), 1);
  const entry = await theirs.get("sky");
  assert.deepEqual([entry.string(), entry.revision, entry.operation, entry.bucket], ["blue", 1, "PUT", name]);
  assert.equal(await theirs.get("sea"), null);
}

export async function old_revision_is_got({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name }, { history: 5 });
  await ours.put("sky", "blue");
  await ours.put("sky", "red");
  assert.equal((await theirs.get("sky", { revision: 1 })).string(), "blue");
  assert.equal((await theirs.get("sky")).string(), "red");
  await ours.put("sea", "green");
  assert.equal(await theirs.get("sky", { revision: 3 }), null);
}

export async function create_takes_a_free_key_only({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name });
  assert.equal(await ours.create("sky", "blue"), 1);
  await assert.rejects(theirs.create("sky", "red"), /wrong last sequence: 1/);
  await ours.delete("sky");
  assert.equal(await theirs.create("sky", "red"), 3);
}

export async function update_needs_the_last_revision({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name });
  const revision = await ours.put("sky", "blue");
  assert.equal(await theirs.update("sky", "red", revision), 2);
  await assert.rejects(ours.update("sky", "grey", revision), /wrong last sequence: 2/);
  assert.equal((await ours.get("sky")).string(), "red");
}

export async function deleted_key_keeps_its_history({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name }, { history: 5 });
  await ours.put("sky", "blue");
  await assert.rejects(theirs.delete("sky", { previousSeq: 9 }), /wrong last sequence: 1/);
  await theirs.delete("sky", { previousSeq: 1 });
  assert.equal((await ours.get("sky")).operation, "DEL");
  assert.deepEqual(told(await all(await ours.history({ key: "sky" }))), [["sky", "PUT", "blue"], ["sky", "DEL", ""]]);
}

export async function purged_key_loses_its_history({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name }, { history: 5 });
  await ours.put("sky", "blue");
  await ours.put("sky", "red");
  await ours.put("sea", "green");
  await theirs.purge("sky");
  assert.deepEqual(told(await all(await ours.history({ key: "sky" }))), [["sky", "PURGE", ""]]);
  assert.equal((await theirs.get("sea")).string(), "green");
}

export async function history_keeps_so_many_values({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name }, { history: 3 });
  for (let number = 1; number <= 5; number++) await ours.put("n", `${number}`);
  const entries = await all(await theirs.history({ key: ["n", "m.>"] }));
  assert.deepEqual(entries.map((entry) => [entry.string(), entry.revision]), [["3", 3], ["4", 4], ["5", 5]]);
}

export async function keys_are_listed_by_filter({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name });
  assert.deepEqual(await all(await theirs.keys()), []);
  for (const key of ["a.x", "a.y", "b.x", "c"]) await ours.put(key, "");
  await ours.delete("a.y");
  assert.deepEqual((await all(await theirs.keys())).sort(), ["a.x", "b.x", "c"]);
  assert.deepEqual((await all(await theirs.keys("*.x"))).sort(), ["a.x", "b.x"]);
  assert.deepEqual((await all(await theirs.keys(["a.>", "c"]))).sort(), ["a.x", "c"]);
}

export async function watcher_gets_the_last_values_and_then_changes({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name }, { history: 5 });
  for (const value of ["1", "2"]) await ours.put("a", value);
  await ours.put("b", "3");
  const watcher = await theirs.watch();
  await ours.put("a", "4");
  await ours.delete("b");
  const entries = await take(watcher, 4);
  assert.deepEqual(told(entries), [["a", "PUT", "2"], ["b", "PUT", "3"], ["a", "PUT", "4"], ["b", "DEL", ""]]);
  // The library counts what was there, and calls the last of that an update already.
  assert.deepEqual(entries.map((entry) => entry.isUpdate), [false, true, true, true]);
}

export async function watcher_gets_all_history({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name }, { history: 5 });
  for (const value of ["1", "2", "3"]) await ours.put("a", value);
  const entries = await take(await theirs.watch({ include: "history" }), 3);
  assert.deepEqual(entries.map((entry) => entry.string()), ["1", "2", "3"]);
}

export async function watcher_gets_updates_only({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name });
  await ours.put("a", "old");
  const watcher = await theirs.watch({ include: "updates" });
  await ours.put("a", "new");
  assert.deepEqual(told(await take(watcher, 1)), [["a", "PUT", "new"]]);
}

export async function watcher_resumes_from_a_revision({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name }, { history: 5 });
  for (const value of ["1", "2", "3", "4"]) await ours.put("a", value);
  const entries = await take(await theirs.watch({ resumeFromRevision: 3 }), 2);
  assert.deepEqual(entries.map((entry) => entry.revision), [3, 4]);
}

export async function watcher_ignores_deletes({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name });
  await ours.put("a", "1");
  await ours.delete("a");
  const watcher = await theirs.watch({ ignoreDeletes: true });
  await ours.put("b", "2");
  assert.deepEqual(told(await take(watcher, 1)), [["b", "PUT", "2"]]);
}

export async function watcher_of_headers_gets_sizes_without_values({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name });
  await ours.put("a", "12345");
  const [entry] = await take(await theirs.watch({ headers_only: true }), 1);
  assert.deepEqual([entry.string(), entry.length], ["", 5]);
}

export async function watcher_gets_the_keys_it_names({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name });
  const watcher = await theirs.watch({ key: ["a.*", "c"] });
  for (const key of ["a.x", "b.x", "c", "a.y"]) await ours.put(key, key);
  assert.deepEqual((await take(watcher, 3)).map((entry) => entry.key), ["a.x", "c", "a.y"]);
}

export async function values_of_a_bucket_live_as_long_as_its_ttl({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name }, { ttl: 500 });
  await ours.put("a", "1");
  await until(async () => (await theirs.get("a")) === null, "the value to go");
}

export async function key_with_a_ttl_leaves_a_marker({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name }, { markerTTL: 60_000 });
  assert.equal((await theirs.status()).markerTTL, 60_000);
  const watcher = await theirs.watch();
  await ours.create("lock", "mine", "1s");
  await ours.put("other", "stays");
  const entries = await take(watcher, 3);
  assert.deepEqual(told(entries), [["lock", "PUT", "mine"], ["other", "PUT", "stays"], ["lock", "PURGE", ""]]);
  assert.equal(await theirs.create("lock", "yours"), 4);
}

export async function purge_marker_goes_after_its_ttl({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name }, { markerTTL: 60_000 });
  await ours.put("a", "1");
  await theirs.purge("a", { ttl: "1s" });
  assert.equal((await ours.get("a")).operation, "PURGE");
  await until(async () => (await ours.get("a")) === null, "the marker to go");
}

export async function mirror_of_a_bucket_gets_its_values({ nc, js, other, name }) {
  const [ours] = await bucket({ js, other, name });
  await ours.put("a", "1");
  const mirror = await new Kvm(other.js).create(`${name}_mirror`, { mirror: { name } });
  await ours.put("b", "2");
  await until(async () => (await mirror.status()).values === 2, "the values to reach the mirror");
  // The library looks for a mirror's keys under the mirror's own name, so they are read from its stream.
  const { direct } = await jetstreamManager(nc);
  const copy = await direct.getMessage(`KV_${name}_mirror`, { last_by_subj: `$KV.${name}.b` });
  assert.deepEqual([copy.seq, copy.string()], [2, "2"]);
}

export async function bucket_gathers_values_of_others({ js, other, name }) {
  const [ours] = await bucket({ js, other, name });
  await ours.put("a", "1");
  const gathered = await new Kvm(other.js).create(`${name}_all`, { sources: [{ name }] });
  await until(async () => (await gathered.get("a"))?.string() === "1", "the value to be taken over");
  await gathered.put("b", "2");
  assert.deepEqual((await all(await gathered.keys())).sort(), ["a", "b"]);
}

export async function bucket_tells_its_state_and_is_destroyed({ js, other, name }) {
  const [ours, theirs] = await bucket({ js, other, name }, { history: 4, description: "colours", compression: true });
  await ours.put("a", "1");
  const status = await theirs.status();
  assert.deepEqual(
    [status.bucket, status.values, status.history, status.description, status.compression],
    [name, 1, 4, "colours", true],
  );
  const listed = await all(new Kvm(other.js).list());
  assert.ok(listed.map((bucketStatus) => bucketStatus.bucket).includes(name));
  assert.equal(await theirs.destroy(), true);
  await assert.rejects(ours.put("a", "2"), { name: "JetStreamNotEnabled" });
}
