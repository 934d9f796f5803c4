/**
 * Who may talk on the management network: mutual TLS, one CA made by the set-up, a certificate for each party
 * whose common name is its role and name: `orchestrator`, `sink-agent:sink1`, `vm-agent:vm1`.
 */
import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { SeamlessError } from '../common/errors.ts';

/** Paths of PEM files. */
export interface TlsFiles {
  ca: string;
  cert: string;
  key: string;
}

export interface TlsMaterial {
  ca: Buffer;
  cert: Buffer;
  key: Buffer;
  ciphers: string;
}

/**
 * AES-128 first: as safe as AES-256 for our purpose, and images are ciphered in a guest that has just been woken.
 * In an emulated one it carries 12 MB/s instead of 7.
 */
const CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';

export function loadTls(files: TlsFiles): TlsMaterial {
  const read = (name: keyof TlsFiles) => {
    try {
      return readFileSync(files[name]);
    } catch (cause) {
      throw new SeamlessError(
        'CONFIG_INVALID',
        `Expected a PEM file at tls.${name} = ${files[name]}, got ${(cause as Error).message}`,
        { cause },
      );
    }
  };
  return { ca: read('ca'), cert: read('cert'), key: read('key'), ciphers: CIPHERS };
}

const contexts = new WeakMap<TlsMaterial, SecureContext>();

/** One for all clients with the same material: to read certificates and a key takes a millisecond, at each connection. */
export function clientContext(tls: TlsMaterial): SecureContext {
  const made = contexts.get(tls) ?? createSecureContext({ ...tls, minVersion: 'TLSv1.3' });
  contexts.set(tls, made);
  return made;
}

/** The peer's common name, once its certificate has been verified; `null` for a stranger. */
export function peerName(socket: TLSSocket): string | null {
  if (!socket.authorized) return null;
  const name = socket.getPeerCertificate().subject?.CN;
  return typeof name === 'string' ? name : null;
}
