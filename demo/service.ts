/**
 * The demo drives SEaMLESS as an admin does: through the `seamless` command, with `--json`.
 */
import { exec } from '../common/exec.ts';

export interface OperationView {
  id: string;
  kind: 'park' | 'unpark';
  status: 'running' | 'succeeded' | 'failed';
  cause: 'syscall' | 'syn' | 'manual' | null;
  trigger: TriggerView | null;
  ms: number;
  steps: { name: string; ms: number }[];
}

export interface TriggerView {
  program: string | null;
  pid: number | null;
  syscall: string;
  detail: string;
}

export interface VmView {
  name: string;
  state: string;
  hypervisor: { status: string; residentBytes: number } | null;
  lastOperation: OperationView | null;
}

export class Service {
  readonly #command: string;
  readonly #socket: string;

  constructor(command: string, socket: string) {
    this.#command = command;
    this.#socket = socket;
  }

  async park(vm: string): Promise<OperationView> {
    return (await this.#seamless(['park', vm])) as OperationView;
  }

  async unpark(vm: string): Promise<OperationView> {
    return (await this.#seamless(['unpark', vm])) as OperationView;
  }

  async show(vm: string): Promise<VmView> {
    return (await this.#seamless(['show', vm])) as VmView;
  }

  /** One readable line: why it is parked or woke. */
  async explain(vm: string): Promise<string> {
    return (await exec([this.#command, '--socket', this.#socket, 'explain', vm])).stdout;
  }

  async #seamless(args: string[]): Promise<unknown> {
    const argv: [string, ...string[]] = [this.#command, '--socket', this.#socket, ...args, '--json'];
    return JSON.parse((await exec(argv, { timeoutMs: 180_000 })).stdout) as unknown;
  }
}
