/**
 * Sinks' ports that could not be unplugged, because their host could not be reached: it is done when the host is back, or a while later where an
 * interruption was too short to be taken for its loss. Until then their rules stay, and those name a port by its number, which the switch
 * gives to another one once the sink has ended.
 */
import type { HostLink } from './host-link.ts';

export interface PortsLeft {
  /** Throws when it could not be done now. */
  unplug(port: string): Promise<void>;
  /** Resolves when nobody is about to unplug `port`, and nobody will. */
  settled(port: string): Promise<void>;
}

const AGAIN_MS = 10_000;

/** @param unplug may be repeated. @param againMs after which one that failed is tried again */
export function portsLeft(
  host: Pick<HostLink, 'onUp'>,
  unplug: (port: string) => Promise<void>,
  againMs = AGAIN_MS,
): PortsLeft {
  const left = new Set<string>();
  const underWay = new Map<string, Promise<void>>();

  const attempt = (port: string): Promise<void> => {
    left.add(port);
    const doing = unplug(port).then(() => void left.delete(port));
    const done = doing
      .catch(() => {})
      .then(() => {
        if (underWay.get(port) !== done) return;
        underWay.delete(port);
        if (left.has(port)) setTimeout(again, againMs, port).unref();
      });
    underWay.set(port, done);
    return doing;
  };
  /** One that is under way may still fail of the loss. */
  const again = async (port: string): Promise<void> => {
    await underWay.get(port);
    if (left.has(port) && !underWay.has(port)) await attempt(port).catch(() => {});
  };
  host.onUp(() => {
    for (const port of left) void again(port);
  });

  return {
    unplug: attempt,
    async settled(port) {
      left.delete(port);
      await underWay.get(port);
      left.delete(port);
    },
  };
}
