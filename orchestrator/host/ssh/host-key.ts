/**
 * Pinned host keys. A pin is a public key as in known_hosts or a `.pub` file (`ssh-ed25519 AAAA…`, names before it and
 * a comment after it are passed over) or a fingerprint (`SHA256:…`, as `ssh-keygen -lf` prints it).
 */
import { createHash } from 'node:crypto';
import type { ServerHostKeyAlgorithm } from 'ssh2';
import { SeamlessError } from '../../../common/errors.ts';

export type HostKeyPin = { type: string; key: string } | { fingerprint: string };

const KEY = /(?:^|\s)((?:ssh|ecdsa|sk)-[\w@.-]+)\s+([A-Za-z0-9+/]+=*)(?:\s|$)/;
const FINGERPRINT = /^SHA256:[A-Za-z0-9+/]{43}=?$/;

/** Throws `CONFIG_INVALID` for what is neither a key nor a fingerprint. */
export function parseHostKey(text: string): HostKeyPin {
  const trimmed = text.trim();
  if (FINGERPRINT.test(trimmed)) return { fingerprint: trimmed.replace(/=$/, '') };
  const [, type, key] = KEY.exec(trimmed) ?? [];
  if (type && key) return { type, key };
  throw new SeamlessError(
    'CONFIG_INVALID',
    `Expected a host key as in known_hosts or SHA256:…, got “${text}”; ssh-keyscan HOST prints keys`,
  );
}

/** @param key the public key that the host proved to have, in ssh's wire format */
export function isPinned(key: Buffer, pins: readonly HostKeyPin[]): boolean {
  return pins.some((pin) =>
    'key' in pin ? pin.key === key.toString('base64') : pin.fingerprint === fingerprint(key),
  );
}

export function fingerprint(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
}

export function describePin(pin: HostKeyPin): string {
  return 'key' in pin ? fingerprint(Buffer.from(pin.key, 'base64')) : pin.fingerprint;
}

/** Of the kinds of key that a host has it must show a pinned one; undefined when fingerprints leave the kind open. */
export function hostKeyAlgorithms(pins: readonly HostKeyPin[]): ServerHostKeyAlgorithm[] | undefined {
  const types = pins.map((pin) => ('type' in pin ? pin.type : undefined));
  if (types.includes(undefined)) return undefined;
  const names = types.flatMap((type) => (type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type]));
  return [...new Set(names)] as ServerHostKeyAlgorithm[];
}
