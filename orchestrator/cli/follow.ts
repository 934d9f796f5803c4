/** Waits for an operation and shows its steps as they happen. Survives a restart of the orchestrator. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ApiEvent } from '../api/events.ts';
import type { Operation } from '../vm/operation.ts';
import type { ApiClient } from './client.ts';

/** Milliseconds for which a lost orchestrator may take to come back. */
const RETURN_MS = 30_000;

/** Gives the ended operation. `show` gets each event of it. */
export async function followOperation(
  client: ApiClient,
  { id, vm }: Operation,
  after: number,
  show: (event: ApiEvent) => void,
): Promise<Operation> {
  let lastId = after;
  let lostAt = Infinity;
  for (;;) {
    try {
      for await (const event of client.events({ vm, after: lastId, follow: true })) {
        lastId = event.id;
        lostAt = Infinity;
        if (event.operation !== id) continue;
        show(event);
        if (event.type === 'operation' && ['succeeded', 'unwound', 'stuck'].includes(event.event)) {
          return await client.get<Operation>(`/v1/operations/${id}`);
        }
      }
      lostAt = Math.min(lostAt, performance.now());
    } catch (thrown) {
      lostAt = Math.min(lostAt, performance.now());
      if (performance.now() - lostAt > RETURN_MS) throw thrown;
    }
    await delay(200);
  }
}

/** Progress on standard error: one line that is rewritten on a terminal, a line for each step elsewhere. */
export function progress(stream: NodeJS.WriteStream): (event: ApiEvent) => void {
  return ({ type, event, step, ms, error }) => {
    if (type !== 'step') return;
    const took = ms === null ? '' : ` ${ms} ms`;
    if (event === 'started' || event === 'undoStarted') {
      if (stream.isTTY) stream.write(`\r\x1b[K… ${step}${event === 'undoStarted' ? ' (taking back)' : ''}`);
      return;
    }
    const mark =
      { succeeded: '✓', failed: '✗', undoFinished: '↩', undoFailed: '✗ taking back' }[event] ?? event;
    stream.write(
      `${stream.isTTY ? '\r\x1b[K' : ''}${mark} ${step}${took}${error ? `: ${error.message}` : ''}\n`,
    );
  };
}
