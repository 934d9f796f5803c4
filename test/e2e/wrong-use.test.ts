/** Each wrong use is answered with a reason, and the VM and its users are as before. */
import { afterEach, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import {
  awaitDeath,
  awaitState,
  configure,
  kill,
  onHost,
  seamless,
  show,
  start,
  traces,
} from './fixtures/admin.ts';
import { anyStage, sharedStage } from './fixtures/shared-stage.ts';
import { expectServed, expectUnnoticed } from './fixtures/witness.ts';

const AGENT = 'seamless-vm-agent';
const TEMPLATE = '/usr/lib/seamless/template.json';
const MANAGEMENT_ADDRESS = '10.78.0.11';
const TEST_MS = 90_000;

const stage = sharedStage({ ...anyStage(), memoryMiB: 512, workloadMiB: 64 });
let sshBefore: Record<string, string>;
let before: Awaited<ReturnType<typeof traces>>;

beforeAll(async () => {
  sshBefore = await stage().sshUnit();
});

beforeEach(async () => {
  before = await traces();
});

afterEach(async () => {
  expectUnnoticed(stage());
});

test('an unknown VM is refused', { timeout: TEST_MS }, async () => {
  const { exitCode, json, stderr } = await seamless('park', 'nosuch');
  expect(exitCode).toBe(4);
  expect(json.error?.code).toBe('VM_UNKNOWN');
  expect(stderr).toContain('seamless list');
});

test('a dead vm-agent is refused, and the VM is untouched', { timeout: TEST_MS }, async () => {
  await inVm('systemctl', 'stop', AGENT);
  onTestFinished(() => agentWith('start'));
  expect(await park()).toMatchObject({ exitCode: 8, code: 'AGENT_UNREACHABLE' });
  await expectUntouched();
});

test('a dead sink-agent is refused, and the VM is untouched', { timeout: TEST_MS }, async () => {
  await kill('sink-agent');
  onTestFinished(() => start('sink-agent'));
  expect(await park()).toMatchObject({ exitCode: 8, code: 'AGENT_UNREACHABLE' });
  await expectUntouched();
});

test('a VM from another template is refused, naming both', { timeout: TEST_MS }, async () => {
  const { id } = JSON.parse(await inVm('cat', TEMPLATE)) as { id: string };
  const other = `${id.slice(0, -4)}beef`;
  await inVm('cp', TEMPLATE, `${TEMPLATE}.kept`);
  onTestFinished(async () => {
    await inVm('mv', `${TEMPLATE}.kept`, TEMPLATE);
    await agentWith('restart');
  });
  await inVm('sed', '--in-place', `s/${id}/${other}/`, TEMPLATE);
  await agentWith('restart');
  const refused = await park();
  expect(refused).toMatchObject({ exitCode: 7, code: 'TEMPLATE_MISMATCH' });
  expect(refused.message).toContain(id);
  expect(refused.message).toContain(other);
  await expectUntouched();
});

test('a sink that clients could not reach is refused before anything is held', {
  timeout: TEST_MS,
}, async () => {
  const tunnel = (to: 'down' | 'up') => onHost('sink', 'ip', 'link', 'set', 'ul0', to);
  await tunnel('down');
  onTestFinished(async () => void (await tunnel('up')));
  const refused = await parkable();
  await tunnel('up');
  expect(refused).toMatchObject({ exitCode: 8, code: 'SINK_UNREACHABLE' });
  expect(refused.message).toContain('nothing arrived at port');
  await expectNothingLeft();
  await expectServed(stage());
});

test('a process that can’t be moved is refused with its name and the reason', {
  timeout: TEST_MS,
}, async () => {
  // Serves the network, and holds a stream to a program that stays behind.
  await inVm(...systemdRun('other'), 'socat', 'UNIX-LISTEN:/run/other.socket,fork', 'SYSTEM:echo;cat');
  await inVm(
    ...systemdRun('bad'),
    'perl',
    '-MIO::Socket::INET',
    '-MIO::Socket::UNIX',
    '-e',
    LISTENS_AND_HOLDS,
  );
  onTestFinished(async () => void (await inVm('systemctl', 'stop', 'bad', 'other')));
  const refused = await park();
  expect(refused).toMatchObject({ exitCode: 7, code: 'VM_UNPARKABLE' });
  expect(refused.message).toMatch(/perl\[\d+\]: .*socket/i);
  const { gateways } = await show(stage().vm, '--gateways');
  expect(gateways?.refusals).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ program: 'perl', reason: expect.any(String), remedy: expect.any(String) }),
    ]),
  );
  await expectUntouched();
});

test('a process that opens something while it is being stopped is let go, since nobody has judged that', {
  timeout: TEST_MS,
}, async () => {
  await inVm(...systemdRun('busy'), 'perl', '-MIO::Socket::INET', '-MIO::Socket::UNIX', '-e', OPENS_ALWAYS);
  onTestFinished(async () => void (await inVm('systemctl', 'stop', 'busy')));
  const refused = await parkable();
  expect(refused).toMatchObject({ exitCode: 9, code: 'CHECKPOINT_FAILED' });
  expect(refused.message).toMatch(/perl\[\d+\] has opened \/run\/busy\.\d+/);
  await expectNothingLeft();
  await expectServed(stage());
});

test('parking and unparking twice are the same as once', { timeout: TEST_MS }, async () => {
  const { vm } = stage();
  await configure({ switchOff: 'ram' }); // suspend-to-swap is the main job's matter, and slow
  await start('orchestrator');
  expect(await parkable()).toMatchObject({ exitCode: 0 });
  await awaitState(vm, 'parked', 1000);
  expect(await seamless('park', vm)).toMatchObject({ exitCode: 0, json: { already: true, operation: null } });
  expect(await seamless('unpark', vm)).toMatchObject({ exitCode: 0, json: { already: false } });
  await awaitState(vm, 'awake', 1000);
  expect(await seamless('unpark', vm)).toMatchObject({
    exitCode: 0,
    json: { already: true, operation: null },
  });
  await expectNothingLeft();
  await expectServed(stage());
});

/**
 * The orchestrator dies when the VM's processes are an image, and the VM's agent can't be reached when it is back:
 * the park can't be undone, and nothing must be guessed.
 */
test('a stuck VM refuses both ways, says what to do, and that does it', { timeout: TEST_MS }, async () => {
  const { vm } = stage();
  await configure({ persistMs: 3000 });
  await start('orchestrator', { SEAMLESS_CRASH_AFTER: 'park.checkpoint.succeeded' });
  const asked = parkable();
  await awaitDeath('orchestrator', 60_000);
  const route = ['unreachable', MANAGEMENT_ADDRESS];
  await onHost('mgmt', 'ip', 'route', 'add', ...route);
  const reachable = () => onHost('mgmt', 'ip', 'route', 'del', ...route);
  onTestFinished(async () => void (await reachable().catch(() => undefined)));
  await start('orchestrator');
  expect(await asked).toMatchObject({ exitCode: 6, code: 'VM_STUCK' });

  const { stuck } = await show(vm);
  expect(stuck).toMatchObject({ step: 'checkpoint', code: 'AGENT_UNREACHABLE' });
  expect(stuck?.next).toContain(`seamless unpark ${vm} --force`);
  for (const wanted of ['park', 'unpark']) {
    const { exitCode, json } = await seamless(wanted, vm);
    expect({ exitCode, code: json.error?.code }).toEqual({ exitCode: 6, code: 'VM_STUCK' });
    expect(json.error?.message).toContain('--force');
  }

  await reachable();
  expect(await seamless('unpark', vm, '--force')).toMatchObject({ exitCode: 0 });
  await awaitState(vm, 'awake', 1000);
  await expectUntouched();
});

const LISTENS_AND_HOLDS = `
  my $server = IO::Socket::INET->new(Listen => 5, LocalPort => 9999) or die;
  my $stream;
  until ($stream = IO::Socket::UNIX->new(Peer => "/run/other.socket")) { select(undef, undef, undef, 0.05) }
  <$stream>;
  my $ready = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ENV{NOTIFY_SOCKET}) or die;
  $ready->send("READY=1");
  close $ready;
  sleep 3600 while 1;
`;

const OPENS_ALWAYS = `
  my $server = IO::Socket::INET->new(Listen => 5, LocalPort => 9998) or die;
  my $ready = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ENV{NOTIFY_SOCKET}) or die;
  $ready->send("READY=1");
  close $ready;
  for (my $n = 0; ; $n++) {
    open(my $file, ">", "/run/busy.$n") or die;
    unlink "/run/busy." . ($n - 1); # never one that is open: that is judged, and refused for itself
    select(undef, undef, undef, 0.001);
  }
`;

function systemdRun(unit: string): string[] {
  const waits = unit === 'other' ? [] : ['--property=Type=notify', '--property=NotifyAccess=all'];
  return ['systemd-run', '--quiet', '--collect', `--unit=${unit}`, ...waits];
}

function inVm(...argv: string[]): Promise<string> {
  return stage().inVm(argv);
}

/** (Re)starts the vm-agent; resolves when it answers, which under emulation takes seconds. */
async function agentWith(verb: 'start' | 'restart'): Promise<void> {
  await inVm('systemctl', verb, AGENT);
  const scanned = async () => (await seamless('show', stage().vm, '--gateways')).exitCode;
  await expect.poll(scanned, { timeout: 60_000, interval: 200 }).toBe(0);
}

async function park() {
  const { exitCode, json } = await seamless('park', stage().vm);
  return { exitCode, code: json.error?.code, message: json.error?.message ?? '' };
}

/** Parks a VM in which our own ssh connection may still be ending. */
async function parkable() {
  const scan = async () => (await show(stage().vm, '--gateways')).gateways?.refusals;
  await expect.poll(scan, { timeout: 10_000, interval: 200 }).toEqual([]);
  return park();
}

/** After a park that had begun: the flows go on leading to the VM, which is where they led before; all else is as it was. */
async function expectNothingLeft(): Promise<void> {
  const { flows: _flows, ...after } = await traces();
  expect(before).toMatchObject(after);
}

/** Awake, served, with nothing of the refused park left, and no service restarted. */
async function expectUntouched(): Promise<void> {
  const { state, qemuStatus } = await show(stage().vm);
  expect({ state, qemuStatus }).toEqual({ state: 'awake', qemuStatus: 'running' });
  expect(await traces()).toEqual(before);
  await expectServed(stage());
  expect(await stage().sshUnit()).toEqual(sshBefore);
}
