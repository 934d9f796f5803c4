/**
 * Idle detection against an agent over real TLS that says what no agent should, with a real driver, sagas and journal. Whatever it says, the
 * VM stays awake, what is not known is said to be unknown, and the service goes on.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { silentLog } from '../../../common/log.ts';
import { credentialPaths, issueCertificate, makeAuthority } from '../../../lab/pki.ts';
import { Attention } from '../../../orchestrator/idle/attention.ts';
import { parsePolicy } from '../../../orchestrator/idle/policy/document.ts';
import { openJournal } from '../../../orchestrator/saga/journal.ts';
import type { GuestSample, VmAgentApi } from '../../../vm-agent/api.ts';
import { createRpcClient } from '../../../wire/rpc-client.ts';
import { loadTls } from '../../../wire/tls.ts';
import { World } from '../../unit/orchestrator/sagas/world.ts';
import { drive } from '../../unit/orchestrator/vm/driven.ts';

/** Shorter than a file may say. */
const WINDOW_MS = 300;
const EVERY_MS = 30;
const ROUNDS = 12;
let folder: string;
let server: Server;
let answer: (response: ServerResponse) => void;
let asked: number;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'seamless-idle-'));
  await makeAuthority(folder);
  await issueCertificate(folder, 'vm1', 'vm-agent:vm1', ['127.0.0.1']);
  await issueCertificate(folder, 'orchestrator', 'orchestrator', ['127.0.0.1']);
  server = createServer({ ...tlsOf('vm1'), requestCert: true }, (request, response) => {
    asked++;
    request.resume();
    answer(response);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
});

afterAll(async () => {
  server?.closeAllConnections();
  server?.close();
  await rm(folder, { recursive: true });
});

beforeEach(() => {
  asked = 0;
});

test('an agent that tells of a VM at rest has it parked', async () => {
  const { driver } = attend();
  answer = (response) => response.end(JSON.stringify(atRest()));
  await until(() => expect(driver.state.kind).toBe('parked'));
});

const json = (change: Record<string, unknown>) => (response: ServerResponse) =>
  response.end(JSON.stringify({ ...atRest(), ...change }));
test.each<[string, (response: ServerResponse) => void, rounds?: number]>([
  ['nothing at all', (response) => response.end()],
  ['bytes', (response) => response.end(Buffer.from([0xff, 0xfe, 0, 1, 2, 3]))],
  ['half an answer', (response) => response.end(JSON.stringify(atRest()).slice(0, 80))],
  ['half an answer, and hangs up', (response) => response.write('{"cpus":', () => response.destroy())],
  ['an answer without end', (response) => flood(response), 2],
  ['a list', (response) => response.end('[1,2,3]')],
  ['null', (response) => response.end('null')],
  ['an error that is none', (response) => response.writeHead(500).end('{"error":7}')],
  ['a redirection', (response) => response.writeHead(302, { location: 'https://127.0.0.1/' }).end()],
  ['negative values', json({ cpuBusyMs: -1, loadMs: -1, diskBytes: -1 })],
  ['huge values', json({ diskBytes: 1e300, cpus: 1e9 })],
  ['numbers as text', json({ cpuBusyMs: '0', loadMs: '0' })],
  ['a boot that changes', (response) => json({ bootId: crypto.randomUUID() })(response)],
  ['a clock that jumps', (response) => json({ epochMs: Math.random() * 1e12 })(response)],
  ['a counter that goes back', (response) => json({ diskBytes: 1e9 - asked })(response)],
  ['ten thousand timers', json({ timers: Array.from({ length: 10_000 }, () => ({ name: 't', atMs: 1 })) })],
])('an agent that sends %s leaves its VM unknown and awake', async (_what, nonsense, rounds = ROUNDS) => {
  answer = nonsense;
  const { driver, attention } = attend();
  await until(() => expect(asked).toBeGreaterThan(rounds));
  expect(driver.state.kind).toBe('awake');
  const { verdict, rule, signals } = attention.explain('vm1');
  expect({ verdict, rule: rule.split(' ')[0] }).toEqual({ verdict: 'keep', rule: 'unknown' });
  expect(signals.filter(({ state }) => state === 'unknown').length).toBeGreaterThan(0);
  // One that comes to its senses is believed after a whole window.
  answer = json({});
  await until(() => expect(driver.state.kind).toBe('parked'));
});

function attend() {
  const world = new World();
  const journal = openJournal(':memory:');
  const { port } = server.address() as AddressInfo;
  const agent = createRpcClient<VmAgentApi>({
    ...{ address: '127.0.0.1', port, tls: tlsOf('orchestrator'), peer: 'vm-agent:vm1' },
  });
  const document = parsePolicy('version: 1\ndefaults: { minGap: 0s, lead: 0s }\n', 'policy.yaml');
  const policyFor: typeof document.policyFor = (vm) => ({ ...document.policyFor(vm), windowMs: WINDOW_MS });
  const attention = new Attention({
    ...{ journal, log: silentLog, everyMs: EVERY_MS },
    policy: { current: { file: document.file, policyFor }, problem: null },
  });
  const { driver } = drive(world, journal, { onMove: (move) => attention.moved('vm1', move) });
  driver.start();
  attention.add({
    ...{ name: 'vm1', host: 'hv', driver },
    source: {
      guest: (signal) => agent.call('sample', {}, { signal }),
      network: async () => ({ payloadBytes: 0 }),
      hypervisor: async () => ({ dirtyRate: 'none' }),
    },
  });
  attention.start();
  onTestFinished(async () => {
    await attention.stop();
    driver.stop();
    await driver.idle();
    agent.close();
    journal.close();
  });
  return { driver, attention };
}

function atRest(): GuestSample {
  return {
    bootId: '5f0c2d1e-0000-4000-8000-000000000001',
    epochMs: Date.now(),
    uptimeMs: performance.now(),
    ...{ cpus: 2, cpuBusyMs: 0, loadMs: 0, diskBytes: 2e9, dirtiedBytes: 0 },
    ...{ sessions: [], jobs: [], timers: [], lease: null },
  };
}

/** As fast as it is read, until nobody reads. */
function flood(response: ServerResponse): void {
  const block = Buffer.alloc(65_536, ' ');
  const pour = () => {
    while (!response.destroyed && response.write(block));
  };
  response.on('drain', pour);
  pour();
}

function tlsOf(name: string) {
  return loadTls(credentialPaths(folder, name));
}

function until(claim: () => void): Promise<void> {
  return vi.waitFor(claim, { timeout: 20_000, interval: 10 });
}
