/** The orchestrator dies while a real VM is being dumped, which takes seconds there, or squeezed out to swap. */
import { expect, test } from 'vitest';
import { awaitState, kill, seamless, show, start } from './fixtures/admin.ts';
import { expectBothFinished, expectRestAfterEach, TEST_MS } from './fixtures/crash.ts';
import { sharedStage } from './fixtures/shared-stage.ts';

const stage = sharedStage({ memoryMiB: 512, workloadMiB: 64 });
expectRestAfterEach(stage);

test(
  'a park to swap whose orchestrator dies when the VM is being switched off is finished, and so is a wake when the image is on its way',
  {
    timeout: TEST_MS,
  },
  () => expectBothFinished(stage(), 'swap', 'park.switchOff.started', 'unpark.send.started'),
);

test('an orchestrator killed during a checkpoint comes back, and the park is taken back', {
  timeout: TEST_MS,
}, async () => {
  const { vm } = stage();
  const asked = seamless('park', vm);
  const runs = async () => (await show(vm)).lastPark?.steps.some(isRunningCheckpoint) ?? false;
  await expect.poll(runs, { timeout: 30_000, interval: 20 }).toBe(true);
  await kill('orchestrator');
  await start('orchestrator');
  expect(await asked).toMatchObject({ exitCode: 10, json: { operation: { status: 'unwound' } } });
  await awaitState(vm, 'awake', 1000);
});

function isRunningCheckpoint({ name, status }: { name: string; status: string }): boolean {
  return name === 'checkpoint' && status === 'running';
}
