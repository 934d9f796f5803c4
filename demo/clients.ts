/**
 * The people and programs that use the VM while it is parked and woken. All are real programs in the client's namespace;
 * each TCP client is known by its local port, so that the capture tells what reached it.
 */
import type { Capture } from './capture.ts';
import { Terminal } from './terminal.ts';

export interface ClientHost {
  netns: string;
  /** Arguments that every ssh needs: key, known hosts. */
  sshOptions: string[];
  capture: Capture;
}

export interface Client {
  readonly name: string;
  readonly kind: 'ssh-shell' | 'ssh-idle' | 'tcp-lines' | 'ping';
  readonly terminal: Terminal;
  /** Its local TCP port; 0 for ping. */
  readonly port: number;
  linesSent: number;
  linesReceived(): number;
}

const OPEN_TIMEOUT_MS = 60_000;

/** An interactive ssh session: pty, bash, a variable set. */
export async function openShell(
  host: ClientHost,
  address: string,
  variable: [string, string],
): Promise<ShellClient> {
  const { terminal, port } = await openTcp(host, 'interactive ssh', address, 22, [
    'ssh',
    ...host.sshOptions,
    '-o',
    'ServerAliveInterval=0',
    '-tt',
    `root@${address}`,
  ]);
  await terminal.expect(/[#$] $/, OPEN_TIMEOUT_MS);
  const client = new ShellClient(terminal, port);
  await client.run(`${variable[0]}='${variable[1]}'; export ${variable[0]}; env true`, 20_000);
  return client;
}

export class ShellClient implements Client {
  readonly name = 'interactive ssh';
  readonly kind = 'ssh-shell';
  readonly terminal: Terminal;
  readonly port: number;
  linesSent = 0;
  #answered = 0;

  constructor(terminal: Terminal, port: number) {
    this.terminal = terminal;
    this.port = port;
  }

  linesReceived(): number {
    return this.#answered;
  }

  /** Types `command` as a person does: first the line, which the shell echoes, then Enter. Gives what the command printed. */
  async run(command: string, timeoutMs: number, beforeEnter: () => void = () => {}): Promise<string> {
    const number = ++this.linesSent;
    const start = this.terminal.output.length;
    this.terminal.type(`${command}; echo "<end:"${number}">"`);
    await this.terminal.expect(/<end:/, timeoutMs, start);
    beforeEnter();
    const entered = this.terminal.output.length;
    this.terminal.type('\r');
    const end = await this.terminal.expect(new RegExp(`<end:${number}>`), timeoutMs, entered);
    await this.terminal.expect(/[#$] $/, timeoutMs, entered);
    this.#answered++;
    return this.terminal.output
      .slice(entered, entered + end.index)
      .replaceAll('\r', '')
      .trim();
  }
}

/** An idle `ssh -N` whose keep-alives, one a second, sshd itself answers. */
export async function openIdleSsh(host: ClientHost, address: string): Promise<Client> {
  const keepAlive = ['-o', 'ServerAliveInterval=1', '-o', 'ServerAliveCountMax=120'];
  const argv: [string, ...string[]] = ['ssh', ...host.sshOptions, ...keepAlive, '-N', `root@${address}`];
  const { terminal, port } = await openTcp(host, 'idle ssh -N', address, 22, argv);
  return { name: 'idle ssh -N', kind: 'ssh-idle', terminal, port, linesSent: 0, linesReceived: () => 0 };
}

/** A client of the echo service, which sends a numbered line only when told. */
export async function openEcho(host: ClientHost, address: string, port: number): Promise<EchoClient> {
  const argv: [string, ...string[]] = ['socat', 'STDIO', `TCP:${address}:${port}`];
  const opened = await openTcp(host, 'echo', address, port, argv);
  return new EchoClient(opened.terminal, opened.port);
}

export class EchoClient implements Client {
  readonly name = 'echo';
  readonly kind = 'tcp-lines';
  readonly terminal: Terminal;
  readonly port: number;
  linesSent = 0;

  constructor(terminal: Terminal, port: number) {
    this.terminal = terminal;
    this.port = port;
  }

  linesReceived(): number {
    return this.terminal.output.split('\n').length - 1;
  }

  /** Sends the next line and waits for it to come back. */
  async send(timeoutMs: number): Promise<void> {
    const line = `line ${++this.linesSent}`;
    this.terminal.type(`${line}\n`);
    await this.terminal.expect(new RegExp(`^${line}$`, 'm'), timeoutMs);
  }

  /** What is wrong with what came back: each line sent must be there once and in order. */
  faults(): string[] {
    const expected = Array.from({ length: this.linesSent }, (_, index) => `line ${index + 1}\n`).join('');
    return this.terminal.output === expected
      ? []
      : [
          `echo: expected ${this.linesSent} numbered lines once and in order, got ${JSON.stringify(this.terminal.output)}`,
        ];
  }
}

/** One echo request a second. */
export async function openPing(host: ClientHost, address: string): Promise<Client> {
  const terminal = new Terminal('ping', [...enter(host), 'ping', '-n', '-i', '1', address]);
  await terminal.expect(/bytes from/, OPEN_TIMEOUT_MS);
  const answers = () => terminal.output.split('bytes from').length - 1;
  return { name: 'ping', kind: 'ping', terminal, port: 0, linesSent: 0, linesReceived: answers };
}

async function openTcp(
  host: ClientHost,
  name: string,
  address: string,
  port: number,
  argv: [string, ...string[]],
): Promise<{ terminal: Terminal; port: number }> {
  const before = host.capture.packets.length;
  const terminal = new Terminal(name, [...enter(host), ...argv]);
  const answered = host.capture.waitFor(
    `the handshake of ${name}`,
    (packet) => packet.source === address && packet.sourcePort === port && packet.flags.startsWith('S'),
    OPEN_TIMEOUT_MS,
    before,
  );
  const handshake = await Promise.race([answered, terminal.untilEnd()]);
  return { terminal, port: handshake.destinationPort };
}

function enter(host: ClientHost): [string, ...string[]] {
  return ['nsenter', `--net=${host.netns}`, '--'];
}
