/** GET /v1/policy: the policy file that holds. GET /v1/vms/:name/policy: what it says of one VM, each setting with its line. */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import type { ErrorBody } from '../../common/errors.ts';
import type { PolicyFile } from '../idle/policy/file.ts';
import { type Policy, type PolicyKey, placeOf } from '../idle/policy/policy.ts';
import { nullable, opaque } from './schema/common.ts';
import { NameParams } from './schema/vm.ts';
import { findVm, type ManagedVm } from './vms.ts';

export interface PolicyDeps {
  /** null: no policy is configured, nothing is parked by itself. */
  policy: Pick<PolicyFile, 'current' | 'problem'> | null;
  attention: { policyOf(name: string): Policy | null };
}

const FileReply = Type.Object({
  file: nullable(Type.String({ description: 'null without a policy: then nothing is parked by itself.' })),
  problem: nullable(opaque<ErrorBody>('Why a changed file was refused, so that the one before holds.')),
});
const VmPolicyReply = Type.Object({
  vm: Type.String(),
  policy: nullable(
    opaque<Omit<Policy, 'lines' | 'file'>>('Each setting; docs/policy.md says what it means.'),
  ),
  places: Type.Record(Type.String(), Type.String(), {
    description: 'By setting: `policy.yaml:12`, or `built in`.',
  }),
});

export function policyRoutes(
  app: FastifyInstance,
  { policy, attention }: PolicyDeps,
  vms: ReadonlyMap<string, ManagedVm>,
): void {
  app.get(
    '/v1/policy',
    {
      config: { scope: 'read' },
      schema: {
        ...{ tags: ['inventory'], operationId: 'getPolicy', summary: 'The policy file that holds.' },
        response: { 200: FileReply },
      },
    },
    () => ({ file: policy?.current.file ?? null, problem: policy?.problem?.toBody() ?? null }),
  );
  app.get<{ Params: Type.Static<typeof NameParams> }>(
    '/v1/vms/:name/policy',
    {
      config: { scope: 'read' },
      schema: {
        ...{ tags: ['vms'], operationId: 'getVmPolicy', summary: 'What the policy says of one VM.' },
        ...{ params: NameParams, response: { 200: VmPolicyReply } },
      },
    },
    ({ params }) => {
      findVm(vms, params.name);
      const found = attention.policyOf(params.name);
      if (!found) return { vm: params.name, policy: null, places: {} };
      const { file: _file, lines: _lines, ...settings } = found;
      const keys = Object.keys(settings) as PolicyKey[];
      const places = Object.fromEntries(keys.map((key) => [key, placeOf(found, key)]));
      return { vm: params.name, policy: settings, places };
    },
  );
}
