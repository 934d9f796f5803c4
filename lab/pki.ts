/**
 * The lab's certificate authority, and certificates of EC P-256 for its services: mutual TLS from the start.
 * The CA lives as long as the lab and trusts nothing else; keys never leave the lab's folder, but for a VM's own.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '../common/exec.ts';

export interface Credentials {
  ca: string;
  cert: string;
  key: string;
}

const DAYS = '365';

/** Paths of the credentials of `name` in the folder of the authority. */
export function credentialPaths(directory: string, name: string): Credentials {
  return {
    ca: join(directory, 'ca.crt'),
    cert: join(directory, `${name}.crt`),
    key: join(directory, `${name}.key`),
  };
}

/** Makes a new authority in `directory`. */
export async function makeAuthority(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await exec([
    ...newKeyAndCertificate(join(directory, 'ca.key'), join(directory, 'ca.crt')),
    '-subj',
    '/CN=SEaMLESS lab',
    '-addext',
    'basicConstraints=critical,CA:TRUE',
    '-addext',
    'keyUsage=critical,keyCertSign',
  ]);
}

/**
 * Issues a certificate for `name`, valid for that DNS name and `addresses`, as client and as server.
 * @param commonName role and name, by which the services know each other (wire/tls.ts): `vm-agent:vm1`
 */
export async function issueCertificate(
  directory: string,
  name: string,
  commonName: string,
  addresses: readonly string[],
): Promise<Credentials> {
  const paths = credentialPaths(directory, name);
  const names = [`DNS:${name}`, ...addresses.map((address) => `IP:${address}`)].join(',');
  await exec([
    ...newKeyAndCertificate(paths.key, paths.cert),
    '-CA',
    paths.ca,
    '-CAkey',
    join(directory, 'ca.key'),
    '-subj',
    `/CN=${commonName}`,
    '-addext',
    `subjectAltName=${names}`,
    '-addext',
    'basicConstraints=critical,CA:FALSE',
    '-addext',
    'keyUsage=critical,digitalSignature',
    '-addext',
    'extendedKeyUsage=serverAuth,clientAuth',
  ]);
  return paths;
}

/** A fresh key per certificate; openssl writes it with mode 0600. */
function newKeyAndCertificate(key: string, certificate: string): [string, ...string[]] {
  return [
    'openssl',
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-noenc',
    '-sha256',
    '-days',
    DAYS,
    '-keyout',
    key,
    '-out',
    certificate,
  ];
}
