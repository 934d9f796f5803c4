import { randomBytes } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { silentLog } from '../../../../common/log.ts';
import { type Journal, openJournal } from '../../../../orchestrator/saga/journal.ts';
import { Receiver } from '../../../../orchestrator/webhooks/receiver.ts';
import { parseSecret, verify } from '../../../../orchestrator/webhooks/signature.ts';
import { World } from '../../../unit/orchestrator/sagas/world.ts';
import { drive } from '../../../unit/orchestrator/vm/driven.ts';

const SECRET = parseSecret('test', `whsec_${randomBytes(32).toString('base64')}`);

interface Got {
  id: string;
  headers: IncomingHttpHeaders;
  body: string;
}

interface Listening {
  url: string;
  got: Got[];
  /** What it answers next; 204 when there is nothing more. Null: it does not answer. */
  answers: (number | null)[];
  server: Server;
}

async function listening(): Promise<Listening> {
  const [got, answers]: [Got[], Listening['answers']] = [[], []];
  const server = createServer(async (request, reply) => {
    const body = await text(request);
    got.push({ id: String(request.headers['webhook-id']), headers: request.headers, body });
    const status = answers.length > 0 ? answers.shift() : 204;
    if (status !== null) reply.writeHead(status ?? 204, { location: 'http://127.0.0.1:9/' }).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, got, answers, server };
}

function receive(journal: Journal, url: string, over: object = {}, timeoutMs = 2000): Receiver {
  const config = { name: 'r', url, secretFile: '-', ...over };
  const receiver = new Receiver({
    ...{ config, secret: SECRET, journal, log: silentLog, timeoutMs },
    backoffMs: { first: 5, most: 20 },
  });
  receiver.start();
  onTestFinished(() => receiver.close());
  return receiver;
}

function model() {
  const journal = openJournal(':memory:');
  const world = new World();
  const { driver } = drive(world, journal);
  driver.start();
  onTestFinished(async () => {
    driver.stop();
    await driver.idle();
    journal.close();
  });
  return { journal, world, driver };
}

const types = ({ got }: Listening) => got.map(({ body }) => JSON.parse(body).type);

test('parked, unparked, refused and stuck are told in their order, signed, each with an id of its own', async () => {
  const { journal, world, driver } = model();
  const listener = await listening();
  receive(journal, listener.url);
  driver.park();
  await driver.idle();
  await driver.unpark({ force: false });
  await driver.idle();
  world.fault = (_call, name) => {
    if (name === 'vmAgent.scan') throw new Error('no answer');
  };
  driver.park();
  await driver.idle();
  world.fault = (_call, name) => {
    if (name === 'sinkAgent.receive' || name === 'vmAgent.restore') throw new Error('no answer');
  };
  driver.park();
  await driver.idle();
  world.fault = () => {};
  await expect.poll(() => types(listener)).toEqual(['vm.parked', 'vm.unparked', 'vm.refused', 'vm.stuck']);
  expect(new Set(listener.got.map(({ id }) => id)).size).toBe(4);
  for (const { headers, body } of listener.got) {
    const [id, timestamp, signature] = ['id', 'timestamp', 'signature'].map((key) =>
      String(headers[`webhook-${key}`]),
    );
    expect(verify([SECRET], { id, timestamp, signature }, Buffer.from(body), Date.now())).toMatchObject({
      id,
    });
  }
  expect(JSON.parse(listener.got[2]?.body ?? '')).toMatchObject({
    data: { vm: 'vm1', error: { message: 'no answer' } },
  });
});

test('a receiver that fails gets the same event again with the same id, and the next one only then', async () => {
  const { journal, driver } = model();
  const listener = await listening();
  listener.answers.push(500, 302, 404);
  const receiver = receive(journal, listener.url);
  driver.park();
  await driver.idle();
  await driver.unpark({ force: false });
  await driver.idle();
  await expect.poll(() => types(listener)).toEqual([...Array(4).fill('vm.parked'), 'vm.unparked']);
  expect(new Set(listener.got.map(({ id }) => id)).size).toBe(2);
  await expect.poll(() => receiver.status).toMatchObject({ failing: null, dead: [] });
});

test('one that never answers delays no operation, and only itself', async () => {
  const { journal, driver } = model();
  const [silent, other] = [await listening(), await listening()];
  silent.answers.push(...Array(50).fill(null));
  receive(journal, silent.url, { name: 'silent' }, 60_000);
  receive(journal, other.url, { name: 'other' });
  driver.park();
  await driver.idle();
  await driver.unpark({ force: false });
  await driver.idle();
  expect(driver.state.kind).toBe('awake');
  await expect.poll(() => types(other)).toEqual(['vm.parked', 'vm.unparked']);
  expect(types(silent)).toEqual(['vm.parked']);
});

test('what it will not take is put aside with the reason, and what follows is sent; 410 at once', async () => {
  const { journal, driver } = model();
  const listener = await listening();
  listener.answers.push(500, 410);
  const receiver = receive(journal, listener.url, { giveUpAfterMs: 0 });
  driver.park();
  await driver.idle();
  await driver.unpark({ force: false });
  await driver.idle();
  driver.park();
  await driver.idle();
  await expect.poll(() => types(listener)).toEqual(['vm.parked', 'vm.unparked', 'vm.parked']);
  await expect
    .poll(() => receiver.status.dead)
    .toMatchObject([
      { event: { type: 'vm.parked' }, reason: 'it answered 500' },
      { event: { type: 'vm.unparked' }, reason: 'it answered 410' },
    ]);
});

test('a new process sends what the old one could not, and remembers what was put aside', async () => {
  const { journal, driver } = model();
  const listener = await listening();
  const away = await listening();
  away.server.close();
  const nobody = receive(journal, away.url, { giveUpAfterMs: 0 });
  driver.park();
  await driver.idle();
  await expect.poll(() => nobody.status.dead.length).toBe(1);
  await nobody.close();
  await driver.unpark({ force: false });
  await driver.idle();
  const receiver = receive(journal, listener.url);
  await expect.poll(() => types(listener)).toEqual(['vm.unparked']);
  expect(receiver.status.dead).toMatchObject([
    { event: { type: 'vm.parked' }, reason: expect.stringContaining('ECONNREFUSED') },
  ]);
});

test('it is told only of what it asked for', async () => {
  const { journal, driver } = model();
  const listener = await listening();
  receive(journal, listener.url, { events: ['unparked'] });
  driver.park();
  await driver.idle();
  await driver.unpark({ force: false });
  await driver.idle();
  await expect.poll(() => types(listener)).toEqual(['vm.unparked']);
});

test('dead letters are sent once more when that is asked for, with their ids, also after a restart', async () => {
  const { journal, driver } = model();
  const listener = await listening();
  listener.answers.push(410, 410);
  const before = receive(journal, listener.url);
  driver.park();
  await driver.idle();
  await driver.unpark({ force: false });
  await driver.idle();
  await expect.poll(() => before.status.dead).toHaveLength(2);
  const [first, second] = before.status.dead.map(({ id }) => id);
  expect(() => before.resend('evt_0')).toThrow('Expected the id of a dead letter of r, got “evt_0”');
  expect(before.resend(second)).toBe(1);
  await expect.poll(() => listener.got.map(({ id }) => id)).toEqual([first, second, second]);
  expect(before.status.dead.map(({ id }) => id)).toEqual([first]);
  await before.close();
  expect(before.resend()).toBe(1);
  const after = receive(journal, listener.url);
  await expect.poll(() => listener.got.map(({ id }) => id)).toEqual([first, second, second, first]);
  expect(after.status.dead).toEqual([]);
});
