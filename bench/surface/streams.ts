/** Event streams, and events for them: one VM's QEMU goes and comes back, over and over. */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { apiClient } from '../../orchestrator/cli/client.ts';
import type { Qemus } from './qemus.ts';
import type { Open } from './requests.ts';

export interface Stream {
  ids: string[];
  close(): void;
}

export async function follow(open: Open): Promise<Stream> {
  const request = open({ path: '/v1/events', agent: false }).end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const ids: string[] = [];
  response.on('error', () => {});
  response.on('data', (chunk) => ids.push(...(String(chunk).match(/^id: \d+$/gm) ?? [])));
  return { ids, close: () => response.destroy() };
}

/** `end` gives how many there were. */
export function makeEvents(qemu: Qemus, socket: string): { end(): Promise<number> } {
  let isOver = false;
  const before = lastEvent(socket);
  const running = (async () => {
    while (!isOver) {
      await qemu.close();
      await delay(1500);
      await qemu.open();
      await delay(1500);
    }
  })();
  return {
    async end() {
      isOver = true;
      await running;
      await delay(1000); // Its return is an event, too.
      return (await lastEvent(socket)) - (await before);
    },
  };
}

async function lastEvent(socket: string): Promise<number> {
  let last = 0;
  for await (const { id } of apiClient(socket).events({ after: 0, follow: false })) last = Math.max(last, id);
  return last;
}
