/**
 * POST and DELETE /v1/hosts and /v1/sinks, GET /v1/hosts/:name/check, GET /v1/doctor: hosts and sink servers are added, looked at,
 * removed. A plugin of the API.
 */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import { SeamlessError } from '../../common/errors.ts';
import { named, strict } from '../api/schema/common.ts';
import { NameParams } from '../api/schema/vm.ts';
import { type Finding, FindingSchema } from '../doctor/finding.ts';
import { scanHostKey } from '../host/ssh/scan-host-key.ts';
import { accountKey } from './account-key.ts';
import type { Fleet } from './fleet.ts';
import { hostEntry, sshTarget } from './host-entry.ts';

const text = (description: string) => Type.String({ minLength: 1, maxLength: 1000, description });
const path = (description: string) => Type.Optional(text(description));
const NewHost = Type.Object(
  {
    name: text('Of the host.'),
    url: text('`ssh://[USER@]HOST[:PORT]`'),
    hostKey: Type.Optional(
      text(
        'Its public host key as in known_hosts, or SHA256:…; without it the answer says which key answers.',
      ),
    ),
    keyFile: path('Path on the orchestrator’s machine; a key of its own in the state folder unless told.'),
    bridge: path('Integration bridge; br-int unless told.'),
    openflowSocket: path('On the host; /run/openvswitch/BRIDGE.mgmt unless told.'),
    ovsdbSocket: path('On the host; /run/openvswitch/db.sock unless told.'),
    switchControl: path('On the host; /run/openvswitch/ovs-vswitchd.PID.ctl unless told.'),
    runDir: path('On the host; /run/seamless unless told.'),
  },
  strict,
);
const NewSink = Type.Object(
  {
    name: text('Of the sink server.'),
    host: text('Its host.'),
    address: text('Of its agent on the management network.'),
    port: Type.Integer({ minimum: 1, maximum: 65535, default: 7443 }),
    serverName: path('In its agent’s certificate; its name unless told.'),
    tunnelPort: text('Port of its bridge that leads to the other hosts.'),
  },
  strict,
);
const Added = Type.Object({ name: Type.String() });
const Findings = Type.Object({ findings: Type.Array(named(FindingSchema)) });
type Named = { Params: Type.Static<typeof NameParams> };

const SCAN_MS = 15_000;

export interface RegistryRoutesDeps {
  fleet: Fleet;
  stateDir: string;
  examine(host?: string): Promise<Finding[]>;
}

export function registryRoutes(app: FastifyInstance, { fleet, stateDir, examine }: RegistryRoutesDeps): void {
  app.addSchema(FindingSchema);
  const about = (operationId: string, summary: string) => ({ tags: ['inventory'], operationId, summary });

  app.post<{ Body: Type.Static<typeof NewHost> }>(
    '/v1/hosts',
    {
      config: { scope: 'admin' },
      schema: { ...about('addHost', 'Adds a host by ssh.'), body: NewHost, response: { 201: Added } },
    },
    async ({ body }, reply) => {
      const { hostKey, ...host } = body;
      const own = host.keyFile ? null : await accountKey(stateDir);
      const keyFile = host.keyFile ?? (own?.keyFile as string);
      if (hostKey === undefined) throw await unconfirmed(host.url);
      try {
        await fleet.addHost(hostEntry({ ...host, hostKey, keyFile }));
      } catch (thrown) {
        throw withPublicKey(thrown, own?.publicKey);
      }
      return reply.code(201).send({ name: host.name });
    },
  );

  app.delete<Named>(
    '/v1/hosts/:name',
    {
      config: { scope: 'admin' },
      schema: {
        ...about('removeHost', 'Removes a host that was added.'),
        params: NameParams,
        response: { 200: Added },
      },
    },
    async ({ params }) => {
      await fleet.removeHost(params.name);
      return { name: params.name };
    },
  );

  app.post<{ Body: Type.Static<typeof NewSink> }>(
    '/v1/sinks',
    {
      config: { scope: 'admin' },
      schema: { ...about('addSink', 'Adds a sink server.'), body: NewSink, response: { 201: Added } },
    },
    async ({ body }, reply) => {
      const { name, host, address, port, serverName = name, tunnelPort } = body;
      await fleet.addSink({ name, host, agent: { address, port, serverName }, tunnelPort });
      return reply.code(201).send({ name });
    },
  );

  app.delete<Named>(
    '/v1/sinks/:name',
    {
      config: { scope: 'admin' },
      schema: {
        ...about('removeSink', 'Removes a sink server that was added.'),
        params: NameParams,
        response: { 200: Added },
      },
    },
    ({ params }) => {
      fleet.removeSink(params.name);
      return { name: params.name };
    },
  );

  app.get<Named>(
    '/v1/hosts/:name/check',
    {
      config: { scope: 'read' },
      schema: {
        ...about('checkHost', 'Looks at a host and what is on it.'),
        params: NameParams,
        response: { 200: Findings },
      },
    },
    async ({ params: { name } }) => {
      if (fleet.links.has(name)) return { findings: await examine(name) };
      const known = [...fleet.links.keys()].join(', ') || 'none';
      throw new SeamlessError('HOST_UNKNOWN', `Expected a known host (${known}), got “${name}”`);
    },
  );

  app.get(
    '/v1/doctor',
    {
      config: { scope: 'read' },
      schema: {
        ...about('doctor', 'Looks at every prerequisite on every host.'),
        response: { 200: Findings },
      },
    },
    async () => ({ findings: await examine() }),
  );
}

async function unconfirmed(url: string): Promise<SeamlessError> {
  const { address, port = 22 } = sshTarget(url);
  const shown = await scanHostKey({ address, port }, AbortSignal.timeout(SCAN_MS));
  return new SeamlessError(
    'HOST_KEY_UNCONFIRMED',
    `${address} port ${port} shows the host key ${shown.fingerprint}; nobody has confirmed that it is the host’s`,
    { details: { ...shown } },
  );
}

/** Who is not let in is told what to add on the host. */
function withPublicKey(thrown: unknown, publicKey: string | undefined): unknown {
  if (!(thrown instanceof SeamlessError) || thrown.details.refused !== 'authentication' || !publicKey)
    return thrown;
  return new SeamlessError(thrown.code, `${thrown.message}. Add this line there:\n${publicKey}`, {
    cause: thrown,
    details: { ...thrown.details, publicKey },
  });
}
