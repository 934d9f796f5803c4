/** Requests to the service at a fixed rate, by its Unix socket or by TLS, and how long the answers took. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import {
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
  type RequestOptions,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../../common/errors.ts';

/** How a request goes out. */
export type Open = (options: RequestOptions) => ReturnType<typeof httpRequest>;

export interface Latency {
  p50Ms: number;
  p99Ms: number;
  mostMs: number;
  failed: number;
  /** The first refusal, in its own words. */
  why: string | null;
}

export function bySocket(socket: string): Open {
  const agent = new HttpAgent({ keepAlive: true, maxSockets: 64 });
  return (more) => httpRequest({ agent, socketPath: socket, ...more });
}

export function byTls(folder: string, port: number, token: string): Open {
  const ca = readFileSync(join(folder, 'ca.crt'));
  const agent = new HttpsAgent({ keepAlive: true, maxSockets: 64 });
  const authorization = `Bearer ${token}`;
  return ({ headers, ...more }) =>
    httpsRequest({ agent, host: '127.0.0.1', port, ca, ...more, headers: { authorization, ...headers } });
}

/** One that takes longer has failed. */
const ANSWER_MS = 30_000;

/** At a fixed rate, whatever the answers take: a slow answer delays no further request. */
export async function atRate(
  perSecond: number,
  seconds: number,
  ask: () => Promise<unknown>,
): Promise<Latency> {
  const took: number[] = [];
  let failed = 0;
  let why: string | null = null;
  const all: Promise<void>[] = [];
  const began = performance.now();
  for (let sent = 0; sent < perSecond * seconds; ) {
    const due = Math.floor(((performance.now() - began) / 1000) * perSecond);
    for (; sent < due; sent += 1) {
      const start = performance.now();
      const asked = ask().then(
        () => void took.push(performance.now() - start),
        (error: Error) => {
          failed += 1;
          why ??= error.message;
        },
      );
      all.push(asked);
    }
    await delay(1);
  }
  await Promise.all(all);
  took.sort((a, b) => a - b);
  const at = (share: number) => Math.round((took[Math.floor((took.length - 1) * share)] ?? NaN) * 10) / 10;
  return { p50Ms: at(0.5), p99Ms: at(0.99), mostMs: at(1), failed, why };
}

/** @throws when the answer has another status than wanted */
export async function textOf(
  open: Open,
  path: string,
  { wanted = 200, body, ...more }: RequestOptions & { wanted?: number; body?: string } = {},
): Promise<string> {
  const signal = AbortSignal.timeout(ANSWER_MS);
  const request = open({ path, signal, ...more }).end(body);
  const [response] = (await once(request, 'response', { signal })) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const said = Buffer.concat(chunks).toString('utf8');
  if (response.statusCode === wanted) return said;
  throw new SeamlessError(
    'INTERNAL',
    `Expected ${wanted}, got ${response.statusCode}: ${said.slice(0, 200)}`,
  );
}
