/**
 * `native-qmp.ts CGROUP SOCKET…`: as much QMP as switching a native VM off and on takes, over its cgroup (v2) and the kernel's
 * freezer: `stop` freezes every process of the guest and answers when all stand still, `cont` thaws them.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

const GREETING = {
  QMP: { version: { qemu: { major: 0, minor: 0, micro: 0 }, package: 'native' }, capabilities: [] },
};
const FROZEN_MS = 4000;

type Command = (cgroup: string) => Promise<{ answer: object; event?: 'STOP' | 'RESUME' }>;

const COMMANDS: Readonly<Record<string, Command>> = {
  qmp_capabilities: async () => ({ answer: {} }),
  'query-status': async (cgroup) => {
    const running = !(await isFrozen(cgroup));
    return { answer: { status: running ? 'running' : 'paused', running, singlestep: false } };
  },
  stop: async (cgroup) => {
    await setFrozen(cgroup, true);
    return { answer: {}, event: 'STOP' };
  },
  cont: async (cgroup) => {
    await setFrozen(cgroup, false);
    return { answer: {}, event: 'RESUME' };
  },
};

function main([cgroup, ...sockets]: readonly string[]): void {
  if (cgroup === undefined || sockets.length === 0) throw new Error('expected CGROUP SOCKET…');
  const clients = new Set<Socket>();
  for (const path of sockets)
    createServer((client) => {
      clients.add(client);
      client.on('close', () => clients.delete(client)).on('error', () => client.destroy());
      say(client, GREETING);
      let last: Promise<void> = Promise.resolve();
      createInterface({ input: client })
        .on('error', () => {}) // told above
        .on('line', (line) => {
          last = last.then(() => serve(cgroup, line, client, clients));
        });
    }).listen(path);
}

async function serve(
  cgroup: string,
  line: string,
  client: Socket,
  clients: ReadonlySet<Socket>,
): Promise<void> {
  let id: unknown;
  try {
    const request = JSON.parse(line) as { execute?: string; id?: unknown };
    id = request.id;
    const command = COMMANDS[request.execute ?? ''];
    if (!command) {
      const desc = `The command ${request.execute} has not been found`;
      return say(client, { error: { class: 'CommandNotFound', desc }, id });
    }
    const { answer, event } = await command(cgroup);
    say(client, { return: answer, id });
    if (event) for (const each of clients) say(each, { event, data: {}, timestamp: now() });
  } catch (thrown) {
    say(client, { error: { class: 'GenericError', desc: (thrown as Error).message }, id });
  }
}

async function isFrozen(cgroup: string): Promise<boolean> {
  return (await readFile(join(cgroup, 'cgroup.events'), 'utf8')).includes('frozen 1');
}

async function setFrozen(cgroup: string, frozen: boolean): Promise<void> {
  await writeFile(join(cgroup, 'cgroup.freeze'), frozen ? '1' : '0');
  const deadline = performance.now() + FROZEN_MS;
  while ((await isFrozen(cgroup)) !== frozen) {
    if (performance.now() > deadline)
      throw new Error(`not ${frozen ? 'frozen' : 'thawed'} after ${FROZEN_MS} ms`);
    await delay(1);
  }
}

function now(): object {
  const ms = Date.now();
  return { seconds: Math.floor(ms / 1000), microseconds: (ms % 1000) * 1000 };
}

function say(client: Socket, message: object): void {
  if (client.writable) client.write(`${JSON.stringify(message)}\r\n`);
}

main(process.argv.slice(2));
