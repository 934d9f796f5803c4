/** How a host is reached, as the configuration says it, and the transport made of that. */
import Type from 'typebox';
import type { SeamlessError } from '../../common/errors.ts';
import { localHost } from './local.ts';
import { parseHostKey } from './ssh/host-key.ts';
import { sshHost } from './ssh.ts';
import type { HostTransport } from './transport.ts';

const text = (description: string) => Type.String({ minLength: 1, description });
const strict = { additionalProperties: false } as const;

const Local = Type.Object(
  { type: Type.Literal('local'), netns: Type.Optional(text('Path of a network namespace.')) },
  strict,
);

const Ssh = Type.Object(
  {
    type: Type.Literal('ssh'),
    address: text('Of its sshd; a name or an address.'),
    port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65535, description: '22 unless told.' })),
    user: Type.Optional(text('The account there; root unless told.')),
    keyFile: text('Path here of the account’s private key, without a passphrase.'),
    hostKey: Type.Union([text('One key.'), Type.Array(text('One key.'), { minItems: 1 })], {
      description:
        'Its public host key as in known_hosts, or SHA256:…; a list while it is changed. Any other key is refused.',
    }),
    netns: Type.Optional(text('Path of the network namespace here to connect from.')),
  },
  strict,
);

const TYPES = ['local', 'ssh'] as const;
export const Transport = Type.Union([Local, Ssh]);
export type TransportConfig = Type.Static<typeof Transport>;

export function hostTransport(
  name: string,
  { type, ...config }: TransportConfig,
  told: { onUp?: () => void; onDown?: (reason: SeamlessError) => void },
): HostTransport {
  return type === 'ssh'
    ? sshHost({ name, ...(config as Type.Static<typeof Ssh>), ...told })
    : localHost({ name, ...(config as Type.Static<typeof Local>) });
}

/**
 * Whether an error of the schema is about the kind of transport that is meant: a union reports how each of its kinds
 * does not fit.
 * @param schemaPath of the error
 */
export function concernsKind(schemaPath: string, transport: unknown): boolean {
  const kind = TYPES.indexOf((transport as { type?: never } | undefined)?.type as never);
  const [, of] = /\/transport\/anyOf\/(\d+)/.exec(schemaPath) ?? [];
  // Of no kind at all: the union's own error is the one that remains.
  return kind < 0 ? of === undefined : Number(of) === kind;
}

/** Host keys that pin nothing. */
export function transportProblems(transport: TransportConfig, at: string): string[] {
  if (transport.type !== 'ssh') return [];
  return [transport.hostKey].flat().flatMap((key) => {
    try {
      parseHostKey(key);
      return [];
    } catch (error) {
      return [`${at}/hostKey: ${(error as Error).message}`];
    }
  });
}
