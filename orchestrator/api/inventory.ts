/** GET /v1/hosts, /v1/hosts/:name, /v1/sinks, /v1/templates: what the configuration names, and whether it answers. */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import { SeamlessError } from '../../common/errors.ts';
import { named, nullable } from './schema/common.ts';
import { NameParams } from './schema/vm.ts';
import { type ManagedVm, shownState } from './vms.ts';

export const HostSchema = Type.Object(
  {
    name: Type.String(),
    transport: Type.String({ description: 'local or ssh' }),
    bridge: Type.String(),
    reachable: Type.Boolean({ description: 'Its switch answers on the kept connection.' }),
    vms: Type.Record(Type.String(), Type.Integer(), { description: 'VMs there by state.' }),
    sinks: Type.Array(Type.String(), { description: 'Sink servers there.' }),
  },
  { $id: 'Host' },
);
export const SinkSchema = Type.Object(
  {
    name: Type.String(),
    host: Type.String(),
    agent: Type.String({ description: 'Where its agent listens.' }),
    reachable: Type.Boolean(),
    templateIds: Type.Array(Type.String()),
    memoryAvailableBytes: nullable(Type.Number()),
    sinks: Type.Integer({ description: 'How many VMs it stands in for now.' }),
  },
  { $id: 'Sink' },
);
const TemplateSchema = Type.Object(
  { name: Type.String(), vms: Type.Integer({ description: 'VMs that are made from it.' }) },
  { $id: 'Template' },
);

export type SinkView = Type.Static<typeof SinkSchema>;

/** What of the hosts and sinks the VMs themselves can’t tell. */
export interface Inventory {
  hosts(): Pick<Type.Static<typeof HostSchema>, 'name' | 'transport' | 'bridge' | 'reachable' | 'sinks'>[];
  sinks(): Promise<SinkView[]>;
}

export function inventoryRoutes(
  app: FastifyInstance,
  inventory: Inventory,
  vms: ReadonlyMap<string, ManagedVm>,
): void {
  for (const schema of [HostSchema, SinkSchema, TemplateSchema]) app.addSchema(schema);
  const hosts = () => {
    const byHost = new Map<string, Record<string, number>>();
    for (const { config, driver } of vms.values()) {
      const counts = byHost.get(config.host) ?? {};
      const state = shownState(driver);
      counts[state] = (counts[state] ?? 0) + 1;
      byHost.set(config.host, counts);
    }
    return inventory.hosts().map((host) => ({ ...host, vms: byHost.get(host.name) ?? {} }));
  };
  const route = (operationId: string, summary: string, key: string, schema: Type.TSchema) => ({
    config: { scope: 'read' as const },
    schema: {
      ...{ tags: ['inventory'], operationId, summary },
      response: { 200: Type.Object({ [key]: Type.Array(named(schema)) }) },
    },
  });
  app.get('/v1/hosts', route('listHosts', 'The hosts.', 'hosts', HostSchema), () => ({ hosts: hosts() }));
  app.get<{ Params: Type.Static<typeof NameParams> }>(
    '/v1/hosts/:name',
    {
      config: { scope: 'read' },
      schema: {
        ...{ tags: ['inventory'], operationId: 'getHost', summary: 'One host.', params: NameParams },
        response: { 200: named(HostSchema) },
      },
    },
    ({ params }) => {
      const all = hosts();
      const host = all.find(({ name }) => name === params.name);
      if (host) return host;
      const known = all.map(({ name }) => name).join(', ');
      throw new SeamlessError('HOST_UNKNOWN', `Expected a known host (${known}), got “${params.name}”`);
    },
  );
  app.get('/v1/sinks', route('listSinks', 'The sink servers.', 'sinks', SinkSchema), async () => ({
    sinks: await inventory.sinks(),
  }));
  app.get(
    '/v1/templates',
    route('listTemplates', 'The templates that VMs are made from.', 'templates', TemplateSchema),
    () => {
      const counts = new Map<string, number>();
      for (const { config } of vms.values()) {
        counts.set(config.template, (counts.get(config.template) ?? 0) + 1);
      }
      return { templates: [...counts].map(([name, count]) => ({ name, vms: count })) };
    },
  );
}
