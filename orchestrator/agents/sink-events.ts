/**
 * Follows a sink agent's events for ever. After a break it connects again, with back-off; the agent then says the
 * present state of every sink first, so that no trigger is lost in between.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../common/log.ts';
import type { SinkAgentEvent, SinkStatus } from '../../sink-agent/api.ts';

const BACKOFF_FIRST_MS = 50;
const BACKOFF_MOST_MS = 2000;

export async function followSinks(
  client: { events(onEvent: (event: SinkAgentEvent) => void, signal: AbortSignal): Promise<void> },
  onSink: (sink: SinkStatus) => void,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  let backoffMs = BACKOFF_FIRST_MS;
  while (!signal.aborted) {
    const heard = (event: SinkAgentEvent) => {
      backoffMs = BACKOFF_FIRST_MS;
      if (event.type === 'sink') onSink(event.sink);
    };
    const reason = await client.events(heard, signal).then(
      () => 'it ended',
      (error: Error) => error.message,
    );
    if (signal.aborted) return;
    log.warn('sinkEvents.lost', { reason, againInMs: backoffMs });
    await delay(backoffMs, undefined, { signal }).catch(() => {});
    backoffMs = Math.min(BACKOFF_MOST_MS, backoffMs * 2);
  }
}
