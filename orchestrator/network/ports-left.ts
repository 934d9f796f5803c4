/**
 * Sinks' ports that could not be unplugged, because their host could not be reached: it is done when the host is back. Until then their rules
 * stay, and those name a port by its number, which the switch gives to another one once the sink has ended.
 */
import type { HostLink } from './host-link.ts';

export interface PortsLeft {
  /** Throws when it could not be done now. */
  unplug(port: string): Promise<void>;
  /** Resolves when nobody is about to unplug `port`, and nobody will. */
  settled(port: string): Promise<void>;
}

/** @param unplug may be repeated */
export function portsLeft(host: Pick<HostLink, 'onUp'>, unplug: (port: string) => Promise<void>): PortsLeft {
  const left = new Set<string>();
  const underWay = new Map<string, Promise<void>>();
  const attempt = (port: string): Promise<void> => {
    left.add(port);
    const doing = unplug(port).then(() => void left.delete(port));
    const done = doing
      .catch(() => {})
      .finally(() => {
        if (underWay.get(port) === done) underWay.delete(port);
      });
    underWay.set(port, done);
    return doing;
  };
  /** One that is under way may still fail of the loss; one that fails after it is tried when the host is back the next time. */
  const again = async (port: string): Promise<void> => {
    await underWay.get(port);
    if (left.has(port)) await attempt(port).catch(() => {});
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
