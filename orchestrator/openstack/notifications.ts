/**
 * Nova's versioned notifications by AMQP. A durable queue of our own keeps them while we are away; each is acknowledged only when what
 * follows from it is in the journal. What can't be read goes to QUEUE.dead, with the reason, and holds up nobody.
 *
 *   connecting ── queue bound ──▶ consuming ── connection or channel lost, effect failed ──▶ waiting (back-off) ──▶ connecting
 *
 * An effect that fails (Nova can't be asked whether a server is gone, say) ends the channel: the broker delivers it again, in order.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type ChannelModel, type ConfirmChannel, type ConsumeMessage, connect } from 'amqplib';
import { asSeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { type NovaNotification, readNotification } from './notification.ts';

export interface NotificationsOptions {
  /** With user and password. */
  url: string;
  exchange?: string | undefined;
  queue?: string | undefined;
  log: Log;
  /** Durable when it resolves. */
  onNotification(notification: NovaNotification): Promise<unknown>;
  backoffMs?: { first: number; most: number };
}

const ROUTING_KEYS = ['versioned_notifications.info', 'versioned_notifications.error'];
const BACKOFF_MS = { first: 500, most: 30_000 };
const CONNECT_MS = 10_000;
const HEARTBEAT_S = 20;

/** Consumes until it is ended. `ready` resolves when the queue is bound for the first time. */
export function followNotifications(options: NotificationsOptions): {
  ready: Promise<void>;
  close(): Promise<void>;
} {
  const { log, backoffMs = BACKOFF_MS } = options;
  const ended = new AbortController();
  const ready = Promise.withResolvers<void>();
  const run = async () => {
    for (let waitMs = backoffMs.first; !ended.signal.aborted; waitMs = Math.min(backoffMs.most, waitMs * 2)) {
      try {
        await consume(options, ended.signal, () => {
          waitMs = backoffMs.first;
          ready.resolve();
        });
      } catch (thrown) {
        if (!ended.signal.aborted)
          log.warn('notifications.lost', { error: asSeamlessError(thrown), againInMs: waitMs });
      }
      await delay(waitMs, undefined, { signal: ended.signal, ref: false }).catch(() => {});
    }
  };
  const running = run();
  return {
    ready: ready.promise,
    async close() {
      ended.abort();
      await running;
    },
  };
}

/** Returns when it is ended; throws what ended the connection. */
async function consume(
  options: NotificationsOptions,
  signal: AbortSignal,
  onReady: () => void,
): Promise<void> {
  const { url, exchange = 'nova', queue = 'seamless', log } = options;
  const place = new URL(url);
  place.searchParams.set('heartbeat', String(HEARTBEAT_S));
  const connection = await connect(place.href, { timeout: CONNECT_MS });
  const lost = Promise.withResolvers<void>();
  const fail = (error?: Error) => lost.reject(error ?? new Error('the connection was closed'));
  lost.promise.catch(() => {});
  const end = () => lost.resolve();
  connection.on('error', fail).on('close', () => fail());
  signal.addEventListener('abort', end);
  try {
    const channel = await Promise.race([prepare(connection, exchange, queue), lost.promise.then(() => null)]);
    if (!channel) return;
    channel.on('error', fail).on('close', () => fail(new Error('the channel was closed')));
    let last: Promise<void> = Promise.resolve();
    const take = (message: ConsumeMessage | null) => {
      if (!message) return fail(new Error(`the queue ${queue} was deleted`));
      last = last.then(() => handle(options, channel, `${queue}.dead`, message));
      last.catch(fail);
    };
    await Promise.race([channel.consume(queue, take), lost.promise]);
    log.info('notifications.following', { exchange, queue });
    onReady();
    await lost.promise;
    await last; // What is under way is acknowledged when it is durable.
  } finally {
    signal.removeEventListener('abort', end);
    await connection.close().catch(() => {}); // It may be closed already.
  }
}

async function prepare(connection: ChannelModel, exchange: string, queue: string): Promise<ConfirmChannel> {
  const channel = await connection.createConfirmChannel();
  channel.on('error', () => {}); // Also told by the call that failed.
  // Declared by Nova, with arguments of its own. Not there yet: said, and tried again.
  await channel.checkExchange(exchange);
  await channel.assertQueue(queue, { durable: true });
  await channel.assertQueue(`${queue}.dead`, { durable: true });
  for (const key of ROUTING_KEYS) await channel.bindQueue(queue, exchange, key);
  await channel.prefetch(1);
  return channel;
}

async function handle(
  { log, onNotification }: NotificationsOptions,
  channel: ConfirmChannel,
  deadQueue: string,
  message: ConsumeMessage,
): Promise<void> {
  const notification = readNotification(message.content);
  if (typeof notification === 'string') {
    log.error('notification.dead', { reason: notification, queue: deadQueue, bytes: message.content.length });
    channel.sendToQueue(deadQueue, message.content, {
      persistent: true,
      headers: { 'x-seamless-reason': notification },
    });
    await channel.waitForConfirms();
  } else {
    await onNotification(notification);
  }
  channel.ack(message);
}
