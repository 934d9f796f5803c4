/** GET /v1/hosts/:name/memory: the memory ledger of a host. A plugin of the API. */
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import { SeamlessError } from '../../common/errors.ts';
import { named, nullable } from '../api/schema/common.ts';
import { NameParams } from '../api/schema/vm.ts';
import type { HostMemoryBook } from './host-memory.ts';

const bytes = (description: string) => Type.Number({ description });
const VmMemorySchema = Type.Object({
  vm: Type.String(),
  committedBytes: bytes('What the guest believes to have; 0 while that is not known.'),
  residentBytes: bytes('Of its QEMU.'),
  swappedBytes: bytes('Of its QEMU.'),
  freedBytes: bytes('What its switch-off gave back to the host; 0 while it is awake.'),
});
const SwapSchema = Type.Object({
  devices: Type.Array(
    Type.Object({
      path: Type.String(),
      kind: Type.Unsafe<'file' | 'partition' | 'zram'>({
        type: 'string',
        enum: ['file', 'partition', 'zram'],
      }),
      sizeBytes: Type.Number(),
      usedBytes: Type.Number(),
      priority: Type.Number(),
      compression: Type.Optional(Type.String({ description: 'Of zram.' })),
    }),
  ),
  zswap: nullable(Type.String({ description: 'Its compressor, where zswap is in front of the swap.' })),
  sizeBytes: Type.Number(),
  freeBytes: Type.Number(),
});
const HostMemorySchema = Type.Object(
  {
    host: Type.String(),
    totalBytes: Type.Number(),
    availableBytes: Type.Number(),
    swap: SwapSchema,
    stalledPercent: nullable(
      bytes('Of the last ten seconds, in which every task waited for memory; null without PSI.'),
    ),
    committedBytes: bytes('Of all its VMs, as the next three.'),
    residentBytes: Type.Number(),
    swappedBytes: Type.Number(),
    freedBytes: Type.Number(),
    vms: Type.Array(VmMemorySchema),
    waiting: Type.Array(Type.String(), { description: 'VMs whose wake waits for memory, in their order.' }),
  },
  { $id: 'HostMemory', description: 'What of a host’s memory its VMs have (docs/switch-off.md).' },
);

export function memoryRoutes(
  app: FastifyInstance,
  bookOf: (host: string) => Pick<HostMemoryBook, 'report'> | undefined,
): void {
  app.addSchema(HostMemorySchema);
  app.get<{ Params: Type.Static<typeof NameParams> }>(
    '/v1/hosts/:name/memory',
    {
      config: { scope: 'read' },
      schema: {
        ...{ tags: ['inventory'], operationId: 'getHostMemory', summary: 'What of its memory VMs have.' },
        ...{ params: NameParams, response: { 200: named(HostMemorySchema) } },
      },
    },
    ({ params }) => {
      const book = bookOf(params.name);
      if (book) return book.report();
      throw new SeamlessError('HOST_UNKNOWN', `Expected a known host, got “${params.name}”`);
    },
  );
}
