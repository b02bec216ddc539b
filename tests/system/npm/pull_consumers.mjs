// Pull consumers and what is said about them, by @nats-io/jetstream.
import assert from "node:assert/strict";
import { AckPolicy, jetstreamManager } from "@nats-io/jetstream";
import { nanos } from "@nats-io/transport-node";
import { all, take, until } from "./reading.mjs";

/** Make a stream with so many messages, whose texts are their sequences, and a durable consumer "d" on it. */
async function filled({ nc, js, name }, count, options = {}) {
  const jsm = await jetstreamManager(nc);
  await jsm.streams.add({ name, subjects: [`${name}.*`] });
  for (let number = 1; number <= count; number++) await js.publish(`${name}.${number % 2}`, `${number}`);
  await jsm.consumers.add(name, { durable_name: "d", ack_policy: AckPolicy.Explicit, ...options });
  return jsm;
}

const texts = (messages) => messages.map((message) => message.string());

export async function fetch_returns_what_is_there_and_ends({ nc, js, other, name }) {
  await filled({ nc, js, name }, 5);
  const consumer = await other.js.consumers.get(name, "d");
  const first = await all(await consumer.fetch({ max_messages: 3, expires: 20_000 }));
  assert.deepEqual(texts(first), ["1", "2", "3"]);
  assert.deepEqual(first.map((message) => message.info.pending), [4, 3, 2]);
  const rest = await all(await consumer.fetch({ max_messages: 10, expires: 1_000 }));
  assert.deepEqual(texts(rest), ["4", "5"]);
}

export async function fetch_by_bytes_stops_below_them({ nc, js, name }) {
  const jsm = await jetstreamManager(nc);
  await jsm.streams.add({ name, subjects: [name] });
  for (let number = 0; number < 5; number++) await js.publish(name, "x".repeat(1000));
  await jsm.consumers.add(name, { durable_name: "d", ack_policy: AckPolicy.None });
  const consumer = await js.consumers.get(name, "d");
  const messages = await consumer.fetch({ max_bytes: 2500, expires: 20_000 });
  const got = [];
  await assert.rejects(async () => {
    for await (const message of messages) got.push(message.seq);
  }, /message size exceeds maxbytes/);
  assert.deepEqual(got, [1, 2]);
}

export async function next_waits_for_a_message_and_gives_up_in_time({ nc, js, other, name }) {
  await filled({ nc, js, name }, 0);
  const consumer = await js.consumers.get(name, "d");
  assert.equal(await consumer.next({ expires: 1_000 }), null);
  const waiting = consumer.next({ expires: 20_000 });
  await until(async () => (await consumer.info()).num_waiting === 1, "the request to wait");
  await other.js.publish(`${name}.1`, "late");
  assert.equal((await waiting).string(), "late");
}

export async function consume_gets_everything_once_while_it_is_published({ nc, js, other, name }) {
  await filled({ nc, js, name }, 0);
  const count = 500;
  const messages = await (await js.consumers.get(name, "d")).consume({ max_messages: 50 });
  const publishing = Promise.all(
    Array.from({ length: count }, (_, number) => other.js.publish(`${name}.a`, `${number}`)),
  );
  const got = [];
  for await (const message of messages) {
    got.push(message.seq);
    message.ack();
    if (got.length === count) break;
  }
  await publishing;
  assert.deepEqual(got, Array.from({ length: count }, (_, number) => number + 1));
}

export async function two_readers_share_one_consumer({ nc, js, other, name }) {
  const jsm = await filled({ nc, js, name }, 100);
  const got = [];
  const read = async (client) => {
    const messages = await (await client.consumers.get(name, "d")).fetch({ max_messages: 50, expires: 20_000 });
    for await (const message of messages) {
      got.push(message.seq);
      await message.ackAck();
    }
  };
  await Promise.all([read(js), read(other.js)]);
  assert.deepEqual(got.sort((a, b) => a - b), Array.from({ length: 100 }, (_, number) => number + 1));
  const info = await jsm.consumers.info(name, "d");
  assert.deepEqual([info.num_pending, info.num_ack_pending, info.ack_floor.stream_seq], [0, 0, 100]);
}

export async function ack_ack_returns_when_the_acknowledgement_counts({ nc, js, other, name }) {
  const jsm = await filled({ nc, js, name }, 1);
  const message = await (await other.js.consumers.get(name, "d")).next();
  assert.equal((await jsm.consumers.info(name, "d")).num_ack_pending, 1);
  assert.equal(await message.ackAck({ timeout: 20_000 }), true);
  assert.equal((await jsm.consumers.info(name, "d")).num_ack_pending, 0);
}

export async function nak_brings_a_message_back_at_once({ nc, js, name }) {
  await filled({ nc, js, name }, 2);
  const consumer = await js.consumers.get(name, "d");
  const message = await consumer.next();
  message.nak();
  const again = await until(async () => {
    const next = await consumer.next();
    return next.seq === 1 && next;
  }, "the message to come back");
  assert.deepEqual([again.redelivered, again.info.deliveryCount], [true, 2]);
}

export async function nak_with_delay_brings_it_back_no_sooner({ nc, js, name }) {
  await filled({ nc, js, name }, 1);
  const consumer = await js.consumers.get(name, "d");
  const message = await consumer.next();
  const before = Date.now();
  message.nak(500);
  const again = await consumer.next({ expires: 20_000 });
  assert.deepEqual([again.seq, again.info.deliveryCount], [1, 2]);
  assert.ok(Date.now() - before >= 500);
}

export async function term_gives_a_message_up({ nc, js, name }) {
  const jsm = await filled({ nc, js, name }, 1);
  const told = nc.subscribe(`$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.${name}.d`, { max: 1 });
  const message = await (await js.consumers.get(name, "d")).next();
  message.term("broken");
  const [advisory] = await take(told, 1);
  assert.deepEqual([advisory.json().stream_seq, advisory.json().reason], [1, "broken"]);
  assert.equal((await jsm.consumers.info(name, "d")).num_ack_pending, 0);
}

export async function working_puts_off_the_redelivery({ nc, js, name }) {
  await filled({ nc, js, name }, 1, { ack_wait: nanos(2_000) });
  const consumer = await js.consumers.get(name, "d");
  const message = await consumer.next();
  const delivered = Date.now();
  await until(() => Date.now() - delivered > 500, "some of the time to pass");
  const working = Date.now();
  message.working();
  const again = await consumer.next({ expires: 20_000 });
  assert.deepEqual([again.seq, again.info.deliveryCount], [1, 2]);
  assert.ok(Date.now() - working > 1_900);
}

export async function message_comes_no_more_often_than_max_deliver({ nc, js, name }) {
  await filled({ nc, js, name }, 1, { max_deliver: 2 });
  const told = nc.subscribe(`$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.${name}.d`, { max: 1 });
  const consumer = await js.consumers.get(name, "d");
  for (let round = 0; round < 2; round++) (await consumer.next()).nak();
  assert.equal(await consumer.next({ expires: 1_000 }), null);
  const [advisory] = await take(told, 1);
  assert.deepEqual([advisory.json().stream_seq, advisory.json().deliveries], [1, 2]);
}

export async function filters_choose_subjects({ nc, js, name }) {
  const jsm = await filled({ nc, js, name }, 6, { filter_subjects: [`${name}.1`, `${name}.9`] });
  assert.equal((await jsm.consumers.info(name, "d")).num_pending, 3);
  const messages = await (await js.consumers.get(name, "d")).fetch({ max_messages: 3, expires: 20_000 });
  assert.deepEqual(texts(await all(messages)), ["1", "3", "5"]);
}

export async function consumers_are_listed_changed_and_deleted({ nc, js, other, name }) {
  const jsm = await filled({ nc, js, name }, 1);
  const theirs = await jetstreamManager(other.nc);
  await theirs.consumers.add(name, { durable_name: "e", ack_policy: AckPolicy.Explicit });
  const listed = await all(jsm.consumers.list(name));
  assert.deepEqual(listed.map((info) => info.name).sort(), ["d", "e"]);
  const changed = await theirs.consumers.update(name, "d", { description: "mine", max_ack_pending: 7 });
  assert.deepEqual([changed.config.description, changed.config.max_ack_pending], ["mine", 7]);
  assert.equal(await theirs.consumers.delete(name, "d"), true);
  await assert.rejects(jsm.consumers.info(name, "d"), /consumer not found/);
}

export async function paused_consumer_delivers_when_it_is_resumed({ nc, js, other, name }) {
  const jsm = await filled({ nc, js, name }, 1);
  const { paused } = await jsm.consumers.pause(name, "d", new Date(Date.now() + 3_600_000));
  assert.equal(paused, true);
  const consumer = await other.js.consumers.get(name, "d");
  const waiting = consumer.next({ expires: 20_000 });
  const info = await until(async () => {
    const seen = await consumer.info();
    return seen.num_waiting === 1 && seen;
  }, "the request to wait");
  assert.deepEqual([info.paused, info.delivered.stream_seq], [true, 0]);
  assert.equal((await jsm.consumers.resume(name, "d")).paused, false);
  assert.equal((await waiting).seq, 1);
}

export async function reader_is_told_that_its_consumer_was_deleted({ nc, js, other, name }) {
  const jsm = await filled({ nc, js, name }, 0);
  const messages = await (await other.js.consumers.get(name, "d")).consume({ callback: () => {} });
  const told = (async () => {
    for await (const status of messages.status()) if (status.type === "consumer_deleted") return status.code;
  })();
  await until(async () => (await jsm.consumers.info(name, "d")).num_waiting === 1, "the request to wait");
  await jsm.consumers.delete(name, "d");
  assert.equal(await told, 409);
  await messages.close();
}

export async function consumer_begins_anew_where_it_is_reset_to({ nc, js, name }) {
  const jsm = await filled({ nc, js, name }, 4);
  const consumer = await js.consumers.get(name, "d");
  for await (const message of await consumer.fetch({ max_messages: 4, expires: 20_000 })) await message.ackAck();
  assert.equal((await jsm.consumers.reset(name, "d", 3)).reset_seq, 3);
  const { delivered, ack_floor } = await jsm.consumers.info(name, "d");
  assert.deepEqual([delivered, ack_floor], Array(2).fill({ consumer_seq: 0, stream_seq: 2 }));
  const messages = await consumer.fetch({ max_messages: 2, expires: 20_000 });
  assert.deepEqual(texts(await all(messages)), ["3", "4"]);
}
