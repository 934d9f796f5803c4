/**
 * The orchestrator dies by SIGKILL in the middle of a park or an unpark and is started again: the VM comes to rest awake or
 * parked, whichever the point of no return says, and its users notice nothing but a delay.
 */
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { awaitDeath, awaitState, kill, seamless, show, start } from './fixtures/admin.ts';
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
afterEach(async () => {
  await start('orchestrator');
  await expectServed(stage());
  await awaitState(stage().vm, 'awake', SETTLE_MS);
  expectUnnoticed(stage());
  expect(await stage().sshUnit()).toEqual(sshBefore);
}, TEST_MS);

test.each([
  ['the processes are dumped in the VM', 'park.checkpoint.succeeded'],
  ['the processes are being restored in the sink', 'park.restore.started'],
])('a park whose orchestrator dies when %s is taken back', { timeout: TEST_MS }, async (_when, point) => {
  await start('orchestrator', { SEAMLESS_CRASH_AFTER: point });
  await parkAndDie();
  await start('orchestrator');
  await awaitState(stage().vm, 'awake', SETTLE_MS);
  expect((await show(stage().vm)).lastPark?.status).toBe('unwound');
});

test.each([
  [
    'the flows are flipped',
    'park.flip.succeeded',
    'the processes are dumped in the sink',
    'unpark.checkpoint.succeeded',
  ],
  [
    'the VM is being switched off',
    'park.switchOff.started',
    'the image is on its way',
    'unpark.send.started',
  ],
  [
    'all is confirmed but the end',
    'park.confirm.started',
    'the processes are being restored',
    'unpark.restore.started',
  ],
])(
  'a park whose orchestrator dies when %s (%s) is finished, and so is a wake when %s (%s)',
  { timeout: TEST_MS },
  async (_when, parkPoint, _then, unparkPoint) => {
    const { vm } = stage();
    await start('orchestrator', { SEAMLESS_CRASH_AFTER: parkPoint });
    await parkAndDie();
    await start('orchestrator', { SEAMLESS_CRASH_AFTER: unparkPoint });
    await awaitState(vm, 'parked', SETTLE_MS);
    expect(await show(vm)).toMatchObject({ qemuStatus: 'paused', lastPark: { status: 'succeeded' } });

    const served = expectServed(stage());
    await awaitDeath('orchestrator', SETTLE_MS);
    await start('orchestrator');
    await served;
    await awaitState(vm, 'awake', SETTLE_MS);
    expect((await show(vm)).lastUnpark).toMatchObject({ status: 'succeeded', cause: 'syscall' });
  },
);

test('an orchestrator killed in the middle of a park by hand leaves the VM awake or parked', {
  timeout: TEST_MS,
}, async () => {
  const { vm } = stage();
  const asked = seamless('park', vm);
  const stepOf = async () =>
    (await show(vm)).lastPark?.steps.find(({ status }) => status === 'running')?.name;
  await expect.poll(stepOf, { timeout: 30_000, interval: 20 }).toBe('checkpoint');
  await kill('orchestrator');
  expect((await asked).exitCode).not.toBe(0);
  await start('orchestrator');
  const settled = async () => ['awake', 'parked'].includes((await show(vm)).state);
  await expect.poll(settled, { timeout: SETTLE_MS, interval: 200 }).toBe(true);
});

/** Asks for a park which the orchestrator does not survive; whoever asked is told so. */
async function parkAndDie(): Promise<void> {
  // An ssh connection of our own to the VM may still be ending, which refuses a park.
  const scan = async () => (await show(stage().vm, '--gateways')).gateways?.refusals;
  await expect.poll(scan, { timeout: 10_000, interval: 200 }).toEqual([]);
  const { exitCode } = await seamless('park', stage().vm);
  expect(exitCode).not.toBe(0);
  await awaitDeath('orchestrator', 1000);
}
