/**
 * The service's page, brought from the lab's management network to this machine: for `scripts/lab page` and `scripts/demo --page`.
 * Only on 127.0.0.1, and whoever opens it needs the token.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream';
import { exec } from '../common/exec.ts';
import { type LabPlan, MANAGEMENT, namespacePath, PAGE_PORT } from './plan.ts';

export interface BroughtPage {
  url: string;
  /** Lets its owner look, park and unpark. */
  token: string;
  close(): Promise<void>;
}

/** @param port 0 takes any that is free */
export async function bringPage(lab: LabPlan, source: string, port = PAGE_PORT): Promise<BroughtPage> {
  const token = await makeToken(lab, source);
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const there = ['socat', 'STDIO', `TCP:${MANAGEMENT.orchestrator}:${PAGE_PORT}`];
    // A process of its own, since a process is in one network only.
    const way = spawn('nsenter', [`--net=${namespacePath(lab, 'mgmt')}`, '--', ...there], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    sockets.add(client);
    const end = () => {
      sockets.delete(client);
      client.destroy();
      way.kill();
    };
    way.once('error', end).once('exit', end);
    pipeline(client, way.stdin, () => {});
    pipeline(way.stdout, client, end);
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const { port: taken } = server.address() as { port: number };
  return {
    url: `https://127.0.0.1:${taken}/`,
    token,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function makeToken(lab: LabPlan, source: string): Promise<string> {
  const seamless = [join(source, 'scripts/seamless'), '--socket', join(lab.runDirectory, 'seamless.sock')];
  const name = `page-${Date.now().toString(36)}`;
  const { stdout } = await exec([
    ...(seamless as [string, ...string[]]),
    ...['token', 'create', name, '--scope', 'operate', '--days', '1', '--json'],
  ]);
  return (JSON.parse(stdout) as { secret: string }).secret;
}
