import { expect, test } from 'vitest';
import {
  describePin,
  fingerprint,
  hostKeyAlgorithms,
  isPinned,
  parseHostKey,
} from '../../../../orchestrator/host/ssh/host-key.ts';

// Of `ssh-keygen -t ed25519`, and what `ssh-keygen -lf` says of it.
const KEY = 'AAAAC3NzaC1lZDI1NTE5AAAAIJ3wsxZj2TtYrUKuPgWrxDzo7b1uZDd6hFKw3AlPGZ9R';
const BYTES = Buffer.from(KEY, 'base64');
const OTHER = Buffer.concat([BYTES.subarray(0, -1), Buffer.from([0])]);

test.each([
  `ssh-ed25519 ${KEY}`,
  `ssh-ed25519 ${KEY} root@hv1\n`,
  `hv1,10.0.0.1 ssh-ed25519 ${KEY}`,
  `[hv1]:2222 ssh-ed25519 ${KEY} comment`,
  fingerprint(BYTES),
])('%s pins that key and no other', (text) => {
  const pin = parseHostKey(text);
  expect(isPinned(BYTES, [pin])).toBe(true);
  expect(isPinned(OTHER, [pin])).toBe(false);
  expect(describePin(pin)).toBe(fingerprint(BYTES));
});

test.each(['', 'ssh-ed25519', KEY, 'MD5:00:11', 'SHA256:short', 'any'])('“%s” pins nothing', (text) => {
  expect(() => parseHostKey(text)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
});

test('no pin at all lets no key pass', () => {
  expect(isPinned(BYTES, [])).toBe(false);
});

test('the host is asked for a key of a pinned kind, unless a fingerprint leaves it open', () => {
  const ed25519 = parseHostKey(`ssh-ed25519 ${KEY}`);
  const rsa = parseHostKey('ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ');
  expect(hostKeyAlgorithms([ed25519])).toEqual(['ssh-ed25519']);
  expect(hostKeyAlgorithms([rsa, ed25519])).toEqual(['rsa-sha2-512', 'rsa-sha2-256', 'ssh-ed25519']);
  expect(hostKeyAlgorithms([ed25519, parseHostKey(fingerprint(BYTES))])).toBeUndefined();
});
