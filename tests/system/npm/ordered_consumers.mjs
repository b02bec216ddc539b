// Ordered consumers, by @nats-io/jetstream.
import assert from "node:assert/strict";
import { DeliverPolicy, jetstreamManager } from "@nats-io/jetstream";
import { take, until } from "./reading.mjs";

async function filled({ nc, js, name }, count) {
  const jsm = await jetstreamManager(nc);
  await jsm.streams.add({ name, subjects: [`${name}.*`] });
  for (let number = 1; number <= count; number++) await js.publish(`${name}.${number % 3}`, `${number}`);
  return jsm;
}

const sequences = (messages) => messages.map((message) => message.seq);

export async function everything_comes_in_order({ nc, js, other, name }) {
  await filled({ nc, js, name }, 300);
  const messages = await (await other.js.consumers.get(name)).consume({ max_messages: 40 });
  assert.deepEqual(sequences(await take(messages, 300)), Array.from({ length: 300 }, (_, number) => number + 1));
}

export async function deleted_messages_are_passed_over({ nc, js, name }) {
  const jsm = await filled({ nc, js, name }, 10);
  for (const sequence of [1, 4, 5, 9]) await jsm.streams.deleteMessage(name, sequence);
  const messages = await (await js.consumers.get(name)).consume();
  assert.deepEqual(sequences(await take(messages, 6)), [2, 3, 6, 7, 8, 10]);
}

export async function reader_begins_where_and_with_what_it_asks_for({ nc, js, name }) {
  await filled({ nc, js, name }, 9);
  const consumer = await js.consumers.get(name, {
    filter_subjects: [`${name}.0`, `${name}.2`],
    deliver_policy: DeliverPolicy.StartSequence,
    opt_start_seq: 4,
  });
  const messages = await consumer.fetch({ max_messages: 4, expires: 20_000 });
  assert.deepEqual(sequences(await take(messages, 4)), [5, 6, 8, 9]);
}

export async function reader_goes_on_when_its_consumer_is_gone({ nc, js, other, name }) {
  const jsm = await filled({ nc, js, name }, 5);
  const consumer = await other.js.consumers.get(name);
  const messages = await consumer.consume({ idle_heartbeat: 1_000 });
  const got = [];
  for await (const message of messages) {
    got.push(message.seq);
    if (got.length === 5) {
      await jsm.consumers.delete(name, (await consumer.info(true)).name);
      for (let number = 6; number <= 8; number++) await js.publish(`${name}.0`, `${number}`);
    }
    if (got.length === 8) break;
  }
  assert.deepEqual(got, [1, 2, 3, 4, 5, 6, 7, 8]);
}

export async function push_reader_gets_everything_in_order({ nc, js, other, name }) {
  await filled({ nc, js, name }, 50);
  const consumer = await other.js.consumers.getPushConsumer(name, { filter_subjects: `${name}.1` });
  const messages = await consumer.consume();
  assert.deepEqual(sequences(await take(messages, 17)), Array.from({ length: 17 }, (_, number) => 3 * number + 1));
}

export async function consumer_is_forgotten_when_its_reader_ends({ nc, js, name }) {
  const jsm = await filled({ nc, js, name }, 1);
  const consumer = await js.consumers.get(name);
  await take(await consumer.consume(), 1);
  await consumer.delete();
  await until(async () => (await jsm.streams.info(name)).state.consumer_count === 0, "the consumer to go");
}
