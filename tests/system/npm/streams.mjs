// Streams and publishing, by @nats-io/jetstream.
import assert from "node:assert/strict";
import { jetstreamManager } from "@nats-io/jetstream";
import { headers } from "@nats-io/transport-node";
import { all } from "./reading.mjs";

export async function published_messages_are_numbered_and_read_back({ nc, js, other, name }) {
  const jsm = await jetstreamManager(nc);
  await jsm.streams.add({ name, subjects: [`${name}.*`] });
  const hdrs = headers();
  hdrs.set("Shop", "Bonn");
  assert.equal((await js.publish(`${name}.a`, "one", { headers: hdrs })).seq, 1);
  assert.deepEqual({ ...(await other.js.publish(`${name}.b`, "two")) }, { stream: name, seq: 2, duplicate: false });
  const message = await jsm.streams.getMessage(name, { last_by_subj: `${name}.a` });
  assert.deepEqual([message.seq, message.string(), message.header.get("Shop")], [1, "one", "Bonn"]);
  assert.equal(await jsm.streams.find(`${name}.a`), name);
}

export async function message_with_a_known_id_is_stored_once({ nc, js, other, name }) {
  const jsm = await jetstreamManager(nc);
  await jsm.streams.add({ name, subjects: [name] });
  const first = await js.publish(name, "one", { msgID: "1" });
  const again = await other.js.publish(name, "one", { msgID: "1" });
  const next = await other.js.publish(name, "two", { msgID: "2" });
  assert.deepEqual([first, again, next].map((ack) => [ack.seq, ack.duplicate]), [[1, false], [1, true], [2, false]]);
  assert.equal((await jsm.streams.info(name)).state.messages, 2);
}

export async function publisher_who_expects_something_else_is_refused({ nc, js, name }) {
  const jsm = await jetstreamManager(nc);
  await jsm.streams.add({ name, subjects: [name] });
  await js.publish(name, "", { msgID: "a", expect: { streamName: name, lastSequence: 0 } });
  await js.publish(name, "", { expect: { lastMsgID: "a", lastSubjectSequence: 1 } });
  await assert.rejects(js.publish(name, "", { expect: { lastSequence: 1 } }), /wrong last sequence: 2/);
  await assert.rejects(js.publish(name, "", { expect: { streamName: "ANOTHER" } }), /expected stream does not match/);
  await assert.rejects(js.publish(name, "", { expect: { lastMsgID: "b" } }), /wrong last msg ID/);
}

export async function stream_is_changed_purged_listed_and_deleted({ nc, js, other, name }) {
  const jsm = await jetstreamManager(nc);
  const theirs = await jetstreamManager(other.nc);
  await jsm.streams.add({ name, subjects: [`${name}.>`], max_msgs: 100 });
  for (let number = 0; number < 10; number++) await js.publish(`${name}.${number % 2}`);
  assert.equal((await jsm.streams.update(name, { max_msgs: 8 })).config.max_msgs, 8);
  assert.equal(await theirs.streams.deleteMessage(name, 3), true);
  assert.equal((await theirs.streams.purge(name, { filter: `${name}.1`, keep: 1 })).purged, 3);
  const state = (await jsm.streams.info(name, { subjects_filter: ">" })).state;
  assert.deepEqual(state.subjects, { [`${name}.0`]: 3, [`${name}.1`]: 1 });
  assert.ok((await all(jsm.streams.names())).includes(name));
  assert.ok((await all(jsm.streams.list(`${name}.0`))).map((info) => info.config.name).includes(name));
  assert.equal(await theirs.streams.delete(name), true);
  await assert.rejects(jsm.streams.info(name), /stream not found/);
}

export async function direct_gets_return_batches_and_the_last_of_each_subject({ nc, js, name }) {
  const jsm = await jetstreamManager(nc);
  await jsm.streams.add({ name, subjects: [`${name}.*`], allow_direct: true });
  for (const letter of ["a", "b", "a", "c"]) await js.publish(`${name}.${letter}`, letter);
  assert.equal((await jsm.direct.getMessage(name, { next_by_subj: `${name}.a`, seq: 2 })).seq, 3);
  const batch = await all(await jsm.direct.getBatch(name, { seq: 2, batch: 2 }));
  assert.deepEqual(batch.map((message) => message.seq), [2, 3]);
  const last = await all(await jsm.direct.getLastMessagesFor(name, { multi_last: [`${name}.>`] }));
  assert.deepEqual(last.map((message) => [message.seq, message.string()]), [[2, "b"], [3, "a"], [4, "c"]]);
}

export async function atomic_batch_is_stored_as_a_whole({ nc, js, name }) {
  const jsm = await jetstreamManager(nc);
  await jsm.streams.add({ name, subjects: [`${name}.*`], allow_atomic: true });
  const batch = await js.startBatch(`${name}.a`, "1");
  batch.add(`${name}.b`, "2");
  assert.equal((await jsm.streams.info(name)).state.messages, 0);
  const ack = await batch.commit(`${name}.c`, "3");
  assert.deepEqual([ack.count, ack.seq, ack.batch], [3, 3, batch.id]);
  assert.equal((await jsm.streams.info(name)).state.messages, 3);
}
