/**
 * The certificate authority of the management network. Keys are made where they are used and never leave: an agent's host sends its
 * public key, over the ssh connection that proves whose it is, and what the certificate says is decided here.
 */
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';

export interface Authority {
  /** PEM file of its certificate, which everybody has. */
  ca: string;
  /** PEM file of its key, on the orchestrator's machine alone. */
  caKey: string;
}

const DAYS = '730';
const AUTHORITY_DAYS = '7300';
const EC_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc', '-sha256'] as const;

/** Makes a new authority in `folder`, which must not have one, and the orchestrator's own key and certificate. */
export async function makeAuthority(folder: string): Promise<Authority & { cert: string; key: string }> {
  const file = (name: string) => join(folder, name);
  const authority = { ca: file('ca.crt'), caKey: file('ca.key') };
  const own = { cert: file('orchestrator.crt'), key: file('orchestrator.key') };
  const there = Object.values({ ...authority, ...own }).filter((path) => existsSync(path));
  if (there.length > 0) {
    throw new SeamlessError(
      'REQUEST_INVALID',
      `Expected none of ${there.join(', ')} yet; they are not touched`,
    );
  }
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const use = ['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign'];
  const out = [
    '-keyout',
    authority.caKey,
    '-out',
    authority.ca,
    '-subj',
    '/CN=SEaMLESS',
    '-days',
    AUTHORITY_DAYS,
  ];
  await exec(['openssl', 'req', '-x509', ...EC_KEY, ...out, ...use]);
  await exec([
    'openssl',
    'genpkey',
    '-algorithm',
    'EC',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-out',
    own.key,
  ]);
  await chmod(own.key, 0o600);
  const { stdout } = await exec(['openssl', 'pkey', '-in', own.key, '-pubout']);
  await writeFile(own.cert, await certify(authority, `${stdout}\n`, 'orchestrator', []));
  return { ...authority, ...own };
}

/**
 * Makes a certificate of a public key (PEM) for `commonName`, the role and name by which the services know each other: `sink-agent:sink1`.
 * @returns the certificate, PEM; good as client and as server at those addresses
 */
export async function certify(
  { ca, caKey }: Authority,
  publicKey: string,
  commonName: string,
  addresses: readonly string[],
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'seamless-sign-'));
  const file = (name: string) => join(folder, name);
  const names = [`DNS:${commonName.split(':').pop()}`, ...addresses.map((address) => `IP:${address}`)];
  try {
    await writeFile(file('key'), publicKey);
    await writeFile(
      file('extensions'),
      [
        `subjectAltName=${names.join(',')}`,
        'basicConstraints=critical,CA:FALSE',
        'keyUsage=critical,digitalSignature',
        'extendedKeyUsage=serverAuth,clientAuth',
      ].join('\n'),
    );
    const from = ['-force_pubkey', file('key'), '-CA', ca, '-CAkey', caKey, '-subj', `/CN=${commonName}`];
    const how = ['-sha256', '-days', DAYS, '-extfile', file('extensions'), '-out', file('certificate')];
    await exec(['openssl', 'x509', '-new', ...from, ...how]);
    return await readFile(file('certificate'), 'utf8');
  } finally {
    await rm(folder, { recursive: true });
  }
}
