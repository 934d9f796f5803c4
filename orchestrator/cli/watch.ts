/**
 * `seamless watch`: on a terminal the table of VMs with the last events below it, drawn anew when something happens;
 * elsewhere the table once and then a line for each event. Goes on when the orchestrator comes back.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { asSeamlessError } from '../../common/errors.ts';
import { allVms } from './all-vms.ts';
import type { ApiClient } from './client.ts';
import { painter } from './colour.ts';
import { eventLine, vmTable } from './render.ts';

export interface WatchOptions {
  json: boolean;
  out: NodeJS.WriteStream;
  env: NodeJS.ProcessEnv;
  signal?: AbortSignal;
}

const LAST_EVENTS = 10;
const AGAIN_MS = 1000;
/** A burst of events is one drawing. */
const DRAW_EVERY_MS = 200;

export async function watch(client: ApiClient, { json, out, env, signal }: WatchOptions): Promise<void> {
  const live = out.isTTY && !json;
  const screen = live ? terminal(client, out, env) : null;
  const first = await allVms(client);
  if (screen) screen.draw();
  else out.write(`${json ? JSON.stringify({ vms: first }) : vmTable(first)}\n`);
  let last: number | null = null;
  while (!signal?.aborted) {
    try {
      for await (const event of client.events({
        after: last,
        follow: true,
        steps: json,
        ...(signal ? { signal } : {}),
      })) {
        last = event.id;
        const line = json ? JSON.stringify(event) : eventLine(event);
        if (screen) screen.heard(line);
        else if (line !== null) out.write(`${line}\n`);
      }
    } catch (thrown) {
      screen?.heard(asSeamlessError(thrown).message);
    }
    await delay(AGAIN_MS, undefined, { ...(signal ? { signal } : {}) }).catch(() => {});
  }
}

function terminal(client: ApiClient, out: NodeJS.WriteStream, env: NodeJS.ProcessEnv) {
  const lines: string[] = [];
  let timer: NodeJS.Timeout | null = null;
  const draw = async () => {
    timer = null;
    const table = await allVms(client).then(
      (vms) => vmTable(vms, painter(out, env)),
      (error: Error) => error.message,
    );
    const room = Math.max(1, (out.rows ?? 24) - LAST_EVENTS - 2);
    const rows = table.split('\n');
    const shown =
      rows.length > room ? [...rows.slice(0, room - 1), `… ${rows.length - room + 1} more`] : rows;
    out.write(
      `\x1b[H\x1b[J${[...shown, '', ...lines.map((line) => line.slice(0, out.columns ?? 80))].join('\n')}\n`,
    );
  };
  return {
    draw: () => void draw(),
    heard(line: string | null) {
      if (line !== null && lines.at(-1) !== line) lines.push(line);
      lines.splice(0, lines.length - LAST_EVENTS);
      timer ??= setTimeout(draw, DRAW_EVERY_MS);
    },
  };
}
