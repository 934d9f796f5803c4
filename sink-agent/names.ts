/**
 * Names on the sink server that follow from a VM's name, and the check that a name from outside may become part of a path.
 */
import { createHash } from 'node:crypto';
import { SeamlessError } from '../common/errors.ts';

/** Longest name of a network interface, by the kernel's IFNAMSIZ. */
const INTERFACE_NAME_CHARS = 15;
const SAFE_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

/** The host's end of the sink's network: `sk-vm1`; a name too long keeps its start and gets a hash. */
export function portName(vm: string): string {
  const plain = `sk-${vm}`;
  if (plain.length <= INTERFACE_NAME_CHARS) return plain;
  const hash = createHash('sha256').update(vm).digest('hex').slice(0, 6);
  return `${plain.slice(0, INTERFACE_NAME_CHARS - 7)}-${hash}`;
}

export function cgroupName(vm: string): string {
  return `sink-${vm}`;
}

/** `value` as it is, when it can be one component of a path; else `REQUEST_INVALID`. */
export function safeName(what: string, value: unknown): string {
  if (typeof value === 'string' && SAFE_NAME.test(value)) return value;
  throw new SeamlessError(
    'REQUEST_INVALID',
    `Expected ${what} of letters, digits, - and _ (64 at most), got ${JSON.stringify(value)}`,
  );
}
