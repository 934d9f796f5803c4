/** POST /v1/vms/:name/observe: what a VM's idle gateway processes do that would wake it, and a profile proposed from that. */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import { SeamlessError } from '../../common/errors.ts';
import { proposeProfile } from '../../profiles/learn.ts';
import type { ObservationReport } from '../../vm-agent/api.ts';
import { opaque, strict } from './schema/common.ts';
import { NameParams } from './schema/vm.ts';
import { findVm, type ManagedVm } from './vms.ts';

export interface ObservationReply {
  report: ObservationReport;
  /** YAML, for a person to judge. */
  proposal: string;
}

const MOST_SECONDS = 3600;
const ObserveBody = Type.Object({ seconds: Type.Integer({ minimum: 1, maximum: MOST_SECONDS }) }, strict);
const Observed = Type.Object({
  report: opaque<ObservationReport>('What would have woken the VM.'),
  proposal: Type.String({ description: 'A profile as YAML, for a person to judge.' }),
});
interface Observe {
  Params: Type.Static<typeof NameParams>;
  Body: Type.Static<typeof ObserveBody>;
}

export function observationRoutes(api: FastifyInstance, vms: ReadonlyMap<string, ManagedVm>): void {
  api.post<Observe>(
    '/v1/vms/:name/observe',
    {
      config: { scope: 'operate' },
      schema: {
        ...{ tags: ['vms'], operationId: 'observeVm', params: NameParams, body: ObserveBody },
        summary: 'Watch what its idle gateway processes do that would wake it; they run on.',
        response: { 200: Observed },
      },
    },
    async ({ params, body }): Promise<ObservationReply> => {
      const { config, driver, observe } = findVm(vms, params.name);
      if (driver.state.kind !== 'awake') {
        throw new SeamlessError(
          'REQUEST_INVALID',
          `Expected ${config.name} to be awake, got ${driver.state.kind}: its processes are watched in the VM; unpark it first`,
        );
      }
      const report = await observe(body.seconds);
      return { report, proposal: proposeProfile(config.name, config.template, report) };
    },
  );
}
