/** The vm-agent in a real VM, with systemd, logind and OpenSSH as packaged: checkpoint and restore in place, and what must fail. */
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import {
  awaitParkable,
  type Client,
  call,
  held,
  inVm,
  openIdle,
  openShell,
  openTcp,
  startWorld,
  stopWorld,
  until,
} from './fixtures/world.ts';

const REPLY_MS = 60_000;
const clients: Record<'root' | 'alice' | 'idle' | 'echo', Client> = {} as never;
let service = '';

beforeAll(async () => {
  await startWorld();
  await inVm(
    'useradd --create-home --shell /bin/bash alice && passwd -d alice && cp -a /root/.ssh /home/alice/ && chown -R alice: /home/alice',
  );
  await startSocat('echo', 'TCP-LISTEN:7007,fork,reuseaddr PIPE');
  Object.assign(clients, {
    root: openShell('root'),
    alice: openShell('alice'),
    idle: openIdle(),
    echo: openTcp(7007),
  });
  for (const user of ['root', 'alice'] as const) {
    clients[user].send(`kept=${user}-$((6*7)); echo ready-$kept`);
    await clients[user].expect(`ready-${user}-42`, REPLY_MS);
  }
  clients.echo.send('first');
  await clients.echo.expect('first', REPLY_MS);
  service = await showService();
}, 240_000);

afterAll(async () => {
  for (const client of Object.values(clients)) client.end();
  await stopWorld();
}, 60_000);

describe('the vm-agent in a VM', { timeout: 240_000 }, () => {
  it('finds sshd with its sessions and the echo service, and nothing against parking', async () => {
    await awaitParkable(REPLY_MS);
    const { result } = await call('scan', {});
    const programs = new Set(result?.processes.map(({ program }) => program));
    expect(programs).toEqual(new Set(['sshd', 'sshd-session', 'bash', 'socat']));
    expect(result?.listeners.map(({ port }) => port).sort()).toEqual([22, 22, 7007]);
  });

  it.each(['first', 'second'])('brings everything back from its own image, the %s time', async (time) => {
    await awaitParkable(REPLY_MS);
    await held(async () => {
      const { result, error } = await call('checkpoint', { imageId: time });
      expect(error).toBeUndefined();
      expect(result?.manifest.trees).toHaveLength(2);
      expect(result?.bytes).toBeGreaterThan(100_000);
      expect(await call('checkpoint', { imageId: time })).toMatchObject({ result: { bytes: result?.bytes } });
      expect((await call('checkpoint', { imageId: 'another' })).error?.code).toBe('AGENT_REFUSED');
      expect((await call('discard', { imageId: time })).error?.code).toBe('AGENT_REFUSED');
      expect((await call('dummyRestore', { imageId: time })).error).toBeUndefined();
      expect(await call('image', { imageId: time })).toEqual({ result: { state: 'dumped' } });
      expect(await call('restore', { imageId: time })).toEqual({ result: { processes: expect.any(Number) } });
      expect((await call('restore', { imageId: time })).error).toBeUndefined();
    });
    await expectAllAlive(time);
    expect(await showService()).toBe(service);
    expect((await call('discard', { imageId: time })).error).toBeUndefined();
    expect(await call('image', { imageId: time })).toEqual({ result: { state: null } });
  });

  it('refuses a VM while a client is just connecting, since that can’t be dumped', async () => {
    const goOn = () => inVm('kill -CONT $(systemctl show -P MainPID echo)');
    onTestFinished(async () => void (await goOn()));
    await inVm('kill -STOP $(systemctl show -P MainPID echo)');
    const early = openTcp(7007);
    onTestFinished(() => early.end());
    await until(
      async () => (await inVm('ss -Htln sport = :7007')).includes('LISTEN 1'),
      REPLY_MS,
      'a connection to accept',
    );
    const { error } = await call('checkpoint', { imageId: 'inflight' });
    expect(error?.code).toBe('VM_UNPARKABLE');
    expect(error?.details?.['refusals']).toContainEqual(
      expect.objectContaining({ rule: 'connection-waiting', program: 'socat' }),
    );
    expect(await call('image', { imageId: 'inflight' })).toEqual({ result: { state: null } });
    await goOn();
    expect(await inVm('pgrep -x stand-ins || echo none')).toBe('none');
    early.send('hello');
    await early.expect('hello', REPLY_MS);
    await expectAllAlive('after a refusal of a waiting connection');
    expect(await showService()).toBe(service);
  });

  it('refuses a VM with a process that can’t move, and names it', async () => {
    await startSocat('odd', 'TCP-LISTEN:7008,fork,reuseaddr PIPE', 'exec 5</dev/vda;');
    const { error } = await call('checkpoint', { imageId: 'refused' });
    await inVm('systemctl stop odd');
    expect(error?.code).toBe('VM_UNPARKABLE');
    expect(error?.details?.['refusals']).toContainEqual(
      expect.objectContaining({ rule: 'device', program: 'socat', descriptor: '5 → /dev/vda' }),
    );
    await expectAllAlive('after a refusal');
  });

  it('undoes a checkpoint in which the agent is killed half a second after its start', async () => {
    await inVm(
      `systemd-run --collect sh -c 'until grep -q dumping /run/seamless/state.json; do sleep 0.02; done; sleep 0.5; systemctl kill --kill-whom=main --signal=KILL seamless-vm-agent'`,
    );
    await awaitParkable(REPLY_MS);
    await held(async () => {
      const { error } = await call('checkpoint', { imageId: 'killed' });
      expect(error?.code).toBe('AGENT_UNREACHABLE');
      await until(
        async () => (await call('memory', {})).error === undefined,
        REPLY_MS,
        'the agent to be back',
      );
      const { result } = await call('image', { imageId: 'killed' });
      // Killed after the commit, the checkpoint stands.
      if (result?.state === 'dumped') await call('restore', { imageId: 'killed' });
    });
    await expectAllAlive('after the agent died');
    expect(await showService()).toBe(service);
    expect(await inVm('pgrep -x stand-ins || echo none')).toBe('none');
  });

  it('steps the clock and says how much memory there is', async () => {
    const { result } = await call('setClock', { epochMs: Date.now() + 60_000 });
    expect(result?.steppedMs).toBeGreaterThan(55_000);
    expect((await call('setClock', { epochMs: Date.now() })).result?.steppedMs).toBeLessThan(-50_000);
    const memory = (await call('memory', {})).result;
    expect(memory?.availableBytes).toBeGreaterThan(0);
    expect(memory?.hotCacheBytes).toBeGreaterThan(0);
    expect(memory?.totalBytes).toBeGreaterThan(memory?.availableBytes ?? Infinity);
  });
});

async function expectAllAlive(mark: string): Promise<void> {
  for (const user of ['root', 'alice'] as const) {
    clients[user].send(`echo "${mark}" still $kept`);
    await clients[user].expect(`${mark} still ${user}-42`, REPLY_MS);
  }
  clients.echo.send(mark);
  await clients.echo.expect(mark, REPLY_MS);
  expect(Object.entries(clients).filter(([, { ended }]) => ended)).toEqual([]);
}

/** What must not change: never restarted, the same main processes. */
function showService(): Promise<string> {
  return inVm('systemctl show --property=Id,ActiveState,SubState,MainPID,NRestarts ssh.service echo.service');
}

async function startSocat(unit: string, addresses: string, before = ''): Promise<void> {
  await inVm(
    `systemd-run --quiet --unit=${unit} --property=NotifyAccess=all sh -c '${before} exec socat ${addresses}'`,
  );
  const port = /TCP-LISTEN:(\d+)/.exec(addresses)?.[1];
  await until(async () => (await inVm(`ss -Htln sport = :${port}`)) !== '', REPLY_MS, `${unit} to listen`);
}
