/**
 * The orchestrator dies by SIGKILL in the middle of a park or an unpark and is started again: the VM comes to rest awake or
 * parked, whichever the point of no return says, and its users notice nothing but a delay.
 */
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import {
  type Answer,
  awaitDeath,
  awaitState,
  configure,
  kill,
  seamless,
  show,
  start,
} from './fixtures/admin.ts';
import { sharedStage } from './fixtures/shared-stage.ts';
import { expectServed, expectUnnoticed } from './fixtures/witness.ts';

const TEST_MS = 150_000;
const SETTLE_MS = 90_000;

const stage = sharedStage({ memoryMiB: 512, workloadMiB: 64 });
let sshBefore: Record<string, string>;

beforeAll(async () => {
  sshBefore = await stage().sshUnit();
});

beforeEach(async () => {
  expect((await show(stage().vm)).state).toBe('awake');
});

/** Whatever it came to, the users are served (which wakes it), and it is awake without anybody having noticed. */
afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') await start('orchestrator'); // it may be dead, or made to die
  await expectServed(stage());
  await awaitState(stage().vm, 'awake', SETTLE_MS);
  expectUnnoticed(stage());
  expect(await stage().sshUnit()).toEqual(sshBefore);
}, TEST_MS);

test.each([
  ['the processes are dumped in the VM', 'park.checkpoint.succeeded'],
  ['the processes are being restored in the sink', 'park.restore.started'],
])(
  'a park whose orchestrator dies when %s (%s) is taken back',
  { timeout: TEST_MS },
  async (_when, point) => {
    await start('orchestrator', { SEAMLESS_CRASH_AFTER: point });
    const { asked } = await parkUntilDeath();
    await start('orchestrator');
    expect(await asked).toMatchObject({ exitCode: 10, json: { operation: { status: 'unwound' } } });
    await awaitState(stage().vm, 'awake', 1000);
  },
);

test.each([
  [
    'ram',
    ...['the flows are flipped', 'park.flip.succeeded'],
    ...['the processes are dumped in the sink', 'unpark.checkpoint.succeeded'],
  ],
  [
    'swap',
    ...['the VM is being switched off', 'park.switchOff.started'],
    ...['the image is on its way', 'unpark.send.started'],
  ],
  [
    'ram',
    ...['only the last look is missing', 'park.confirm.started'],
    ...['the processes are being restored in the VM', 'unpark.restore.started'],
  ],
])(
  'a park (to %s) whose orchestrator dies when %s (%s) is finished, and so is a wake when %s (%s)',
  { timeout: TEST_MS },
  async (switchOff, _when, parkPoint, _then, unparkPoint) => {
    const { vm } = stage();
    await configure({ switchOff });
    await start('orchestrator', { SEAMLESS_CRASH_AFTER: parkPoint });
    const { asked } = await parkUntilDeath();
    await start('orchestrator', { SEAMLESS_CRASH_AFTER: unparkPoint });
    expect(await asked).toMatchObject({ exitCode: 0, json: { operation: { status: 'succeeded' } } });
    expect(await show(vm)).toMatchObject({ state: 'parked', qemuStatus: 'paused' });

    const served = expectServed(stage());
    await awaitDeath('orchestrator', SETTLE_MS);
    await start('orchestrator');
    await served;
    await awaitState(vm, 'awake', SETTLE_MS);
    expect((await show(vm)).lastUnpark).toMatchObject({ status: 'succeeded', cause: 'syscall' });
  },
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

/** Asks for a park that the orchestrator does not survive. @returns what whoever asked is told once it is back */
async function parkUntilDeath(): Promise<{ asked: Promise<Answer> }> {
  const asked = seamless('park', stage().vm);
  await awaitDeath('orchestrator', 60_000);
  return { asked };
}
