/** Until when the guest may use its address: DHCP clients give the kernel the lease's time with the address, whichever client it is. */
import { exec } from '../../common/exec.ts';

/** When the first lease ends, null with fixed addresses; undefined when that can't be told. */
export async function readLease(now: number): Promise<{ expiresMs: number } | null | undefined> {
  try {
    const { stdout } = await exec(['ip', '-j', '-4', 'address', 'show'], { timeoutMs: 30_000 });
    return parseLease(stdout, now);
  } catch {
    return undefined;
  }
}

/** Of `ip -j address`. */
export function parseLease(json: string, now: number): { expiresMs: number } | null {
  const interfaces = JSON.parse(json) as { addr_info?: { dynamic?: boolean; valid_life_time?: number }[] }[];
  const lifetimes = interfaces
    .flatMap(({ addr_info = [] }) => addr_info)
    .filter(({ dynamic }) => dynamic === true)
    .map(({ valid_life_time }) => valid_life_time ?? 0);
  return lifetimes.length === 0 ? null : { expiresMs: now + Math.min(...lifetimes) * 1000 };
}
