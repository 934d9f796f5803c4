/** The `openstack` part of the configuration. Secrets are read from files of their own, so that the configuration can be shown. */
import { readFileSync, statSync } from 'node:fs';
import Type from 'typebox';
import { SeamlessError } from '../../common/errors.ts';

const strict = { additionalProperties: false } as const;
const text = (description: string) => Type.String({ minLength: 1, description });

export const ApplicationCredential = Type.Object(
  {
    id: text('Of the application credential.'),
    secretFile: text('File with its secret alone, readable by the service only (mode 0600).'),
  },
  strict,
);

export const OpenStack = Type.Object(
  {
    authUrl: text('Keystone with its version: https://keystone.example:5000/v3'),
    credential: ApplicationCredential,
    serviceCredential: Type.Optional(
      Type.Object(ApplicationCredential.properties, {
        ...strict,
        description:
          'Of a user with the role `service`, by which the tokens of webhooks are checked; without it none is accepted.',
      }),
    ),
    region: Type.Optional(text('Of the catalog; any unless told.')),
    interface: Type.Optional(
      Type.Union([Type.Literal('public'), Type.Literal('internal'), Type.Literal('admin')], {
        description: 'Of the catalog; public unless told.',
      }),
    ),
    computeUrl: Type.Optional(text('Nova, instead of what the catalog says.')),
    ca: Type.Optional(text('PEM file of a CA that is trusted besides the usual ones.')),
    switchOff: Type.Optional(
      Type.Union([Type.Literal('suspend'), Type.Literal('pause')], {
        description: 'What `switchOff: nova` asks of Nova; suspend unless told. Pausing frees no memory.',
      }),
    ),
    notifications: Type.Optional(
      Type.Object(
        {
          urlFile: text('File with the AMQP URL alone, user and password in it (mode 0600).'),
          exchange: Type.Optional(text('Of Nova; nova unless told.')),
          queue: Type.Optional(text('Our own, durable; seamless unless told. Poison goes to QUEUE.dead.')),
        },
        { ...strict, description: 'Nova’s versioned notifications, by AMQP.' },
      ),
    ),
  },
  strict,
);

/** Of one VM. */
export const VmOpenStack = Type.Object(
  {
    serverId: Type.String({
      pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$',
      description: 'Nova’s id.',
    }),
    projectId: Type.Optional(text('Its project; that of `openstack.credential` unless told.')),
    host: Type.Optional(text('What Nova calls its host; as `host` unless told.')),
  },
  strict,
);

export type OpenStackConfig = Type.Static<typeof OpenStack>;
export type VmOpenStackConfig = Type.Static<typeof VmOpenStack>;

/** The file's text without its last newline. Throws `CONFIG_INVALID`, also when others may read it. */
export function readSecret(path: string): string {
  try {
    const mode = statSync(path).mode & 0o777;
    if (mode & 0o007) {
      const said = `Expected ${path} to be closed to others, got mode ${mode.toString(8)}; run chmod o= ${path}`;
      throw new SeamlessError('CONFIG_INVALID', said);
    }
    const secret = readFileSync(path, 'utf8').trim();
    if (secret) return secret;
    throw new SeamlessError('CONFIG_INVALID', `Expected a secret in ${path}, got an empty file`);
  } catch (cause) {
    if (cause instanceof SeamlessError) throw cause;
    throw new SeamlessError('CONFIG_INVALID', `Expected a secret in ${path}: ${(cause as Error).message}`, {
      cause,
    });
  }
}
