/**
 * The orchestrator dies by SIGKILL in the middle of a park or an unpark and is started again: the VM comes to rest awake or
 * parked, whichever the point of no return says, and its users notice nothing but a delay.
 */
import { expect, test } from 'vitest';
import { awaitState, start } from './fixtures/admin.ts';
import { expectBothFinished, expectRestAfterEach, parkUntilDeath, TEST_MS } from './fixtures/crash.ts';
import { anyStage, sharedStage } from './fixtures/shared-stage.ts';

const stage = sharedStage({ ...anyStage(), memoryMiB: 512, workloadMiB: 64 });
expectRestAfterEach(stage);

test.each([
  ['the processes are dumped in the VM', 'park.checkpoint.succeeded'],
  ['the processes are being restored in the sink', 'park.restore.started'],
])(
  'a park whose orchestrator dies when %s (%s) is taken back',
  { timeout: TEST_MS },
  async (_when, point) => {
    await start('orchestrator', { SEAMLESS_CRASH_AFTER: point });
    const { asked } = await parkUntilDeath(stage().vm);
    await start('orchestrator');
    expect(await asked).toMatchObject({ exitCode: 10, json: { operation: { status: 'unwound' } } });
    await awaitState(stage().vm, 'awake', 1000);
  },
);

test.each([
  [
    ...['the flows are flipped', 'park.flip.succeeded'],
    ...['the processes are dumped in the sink', 'unpark.checkpoint.succeeded'],
  ],
  [
    ...['the VM is being switched off', 'park.switchOff.started'],
    ...['the image is on its way', 'unpark.send.started'],
  ],
  [
    ...['only the last look is missing', 'park.confirm.started'],
    ...['the processes are being restored in the VM', 'unpark.restore.started'],
  ],
] as const)(
  'a park whose orchestrator dies when %s (%s) is finished, and so is a wake when %s (%s)',
  { timeout: TEST_MS },
  (_when, parkPoint, _then, unparkPoint) => expectBothFinished(stage(), 'ram', parkPoint, unparkPoint),
);
