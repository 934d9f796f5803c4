/** The `webhooks` part of the configuration: who may call, and who is told. */
import Type from 'typebox';

const strict = { additionalProperties: false } as const;
const name = (description: string) => Type.String({ minLength: 1, maxLength: 200, description });
const vms = Type.Optional(
  Type.Array(Type.String(), { description: 'Names of the VMs that it may act on; all unless told.' }),
);

export const Webhooks = Type.Object(
  {
    signers: Type.Optional(
      Type.Array(
        Type.Object(
          {
            name: name('For the log.'),
            secretFile: name('File with its secret alone (whsec_… as in Standard Webhooks), mode 0600.'),
            vms,
          },
          strict,
        ),
        { description: 'Who signs its webhooks, as in Standard Webhooks.' },
      ),
    ),
    certificates: Type.Optional(
      Type.Array(
        Type.Object(
          { name: name('Common name in its certificate, which `listen.tls.clientCa` signed.'), vms },
          strict,
        ),
        {
          description: 'Who shows a client certificate.',
        },
      ),
    ),
    roles: Type.Optional(
      Type.Array(Type.String(), {
        minItems: 1,
        description:
          'One of these roles in the VM’s project is needed to act by a Keystone token; member, manager or admin unless told.',
      }),
    ),
    receivers: Type.Optional(
      Type.Array(
        Type.Object(
          {
            name: name('For the log, and of its place in the journal: another name begins anew.'),
            url: Type.String({ pattern: '^https?://', description: 'Events are sent there by POST.' }),
            secretFile: name('File with the secret by which they are signed (whsec_…), mode 0600.'),
            events: Type.Optional(
              Type.Array(
                Type.Union(
                  ['parked', 'unparked', 'stuck', 'refused'].map((each) => Type.Literal(each as 'parked')),
                ),
                {
                  minItems: 1,
                  description: 'All unless told.',
                },
              ),
            ),
            giveUpAfterMs: Type.Optional(
              Type.Integer({
                minimum: 0,
                description: 'How long one event is tried again; 86 400 000 (a day) unless told.',
              }),
            ),
          },
          strict,
        ),
        { description: 'Who is told what happens to VMs.' },
      ),
    ),
  },
  strict,
);

export type WebhooksConfig = Type.Static<typeof Webhooks>;
export type ReceiverConfig = NonNullable<WebhooksConfig['receivers']>[number];
