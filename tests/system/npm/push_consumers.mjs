// Push consumers, by @nats-io/jetstream.
import assert from "node:assert/strict";
import { AckPolicy, jetstreamManager } from "@nats-io/jetstream";
import { nanos } from "@nats-io/transport-node";
import { take, until } from "./reading.mjs";

async function filled({ nc, js, name }, count, options = {}) {
  const jsm = await jetstreamManager(nc);
  await jsm.streams.add({ name, subjects: [name] });
  for (let number = 1; number <= count; number++) await js.publish(name, `${number}`);
  await jsm.consumers.add(name, {
    durable_name: "p",
    deliver_subject: `deliver.${name}`,
    ack_policy: AckPolicy.Explicit,
    ...options,
  });
  return jsm;
}

export async function messages_come_by_themselves_and_are_acknowledged({ nc, js, other, name }) {
  const jsm = await filled({ nc, js, name }, 20, { idle_heartbeat: nanos(1_000), flow_control: true });
  const messages = await (await other.js.consumers.getPushConsumer(name, "p")).consume();
  const got = [];
  for await (const message of messages) {
    got.push(message.seq);
    await message.ackAck();
    if (got.length === 20) break;
  }
  assert.deepEqual(got, Array.from({ length: 20 }, (_, number) => number + 1));
  assert.equal((await jsm.consumers.info(name, "p")).ack_floor.stream_seq, 20);
}

export async function nothing_is_sent_before_somebody_listens({ nc, js, other, name }) {
  const jsm = await filled({ nc, js, name }, 3);
  const before = await jsm.consumers.info(name, "p");
  assert.deepEqual([before.push_bound ?? false, before.delivered.stream_seq], [false, 0]);
  const messages = await (await other.js.consumers.getPushConsumer(name, "p")).consume();
  await until(async () => (await jsm.consumers.info(name, "p")).push_bound, "the consumer to be bound");
  assert.equal((await take(messages, 3)).length, 3);
}

export async function group_shares_the_messages({ nc, js, other, name }) {
  await filled({ nc, js, name }, 0, { deliver_group: "g" });
  const got = [];
  const read = async (client) => {
    const consumer = await client.js.consumers.getBoundPushConsumer({
      deliver_subject: `deliver.${name}`,
      deliver_group: "g",
    });
    const messages = await consumer.consume({
      callback: (message) => {
        got.push(message.seq);
        message.ack();
      },
    });
    await client.nc.flush();
    return messages;
  };
  const readers = [await read({ nc, js }), await read(other)];
  for (let number = 0; number < 60; number++) await js.publish(name, "");
  await until(() => got.length === 60, "all messages");
  assert.deepEqual(got.sort((a, b) => a - b), Array.from({ length: 60 }, (_, number) => number + 1));
  for (const messages of readers) await messages.close();
}

export async function unacknowledged_message_comes_again({ nc, js, name }) {
  await filled({ nc, js, name }, 1, { ack_wait: nanos(200) });
  const messages = await (await js.consumers.getPushConsumer(name, "p")).consume();
  const [first, second] = await take(messages, 2);
  assert.deepEqual([first.redelivered, second.redelivered, second.seq], [false, true, 1]);
}

export async function idle_consumer_sends_heartbeats({ nc, js, name }) {
  await filled({ nc, js, name }, 0, { idle_heartbeat: nanos(100) });
  const messages = await (await js.consumers.getPushConsumer(name, "p")).consume({ callback: () => {} });
  for await (const status of messages.status()) {
    assert.notEqual(status.type, "heartbeats_missed");
    if (status.type === "heartbeat") break;
  }
  await messages.close();
}
