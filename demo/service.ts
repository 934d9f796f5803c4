/**
 * The demo drives SEaMLESS as an admin does: through the `seamless` command, with `--json`.
 */
import { exec } from '../common/exec.ts';
import type { VmDetail } from '../orchestrator/api/vms.ts';
import type { Operation } from '../orchestrator/vm/operation.ts';

/** What the demo reads of an operation; see orchestrator/vm/operation.ts. */
export type OperationView = Pick<
  Operation,
  'id' | 'kind' | 'status' | 'cause' | 'rule' | 'trigger' | 'startedAt' | 'endedAt'
> & {
  ms: number;
  steps: { name: string; ms: number }[];
};

export type TriggerView = NonNullable<Operation['trigger']>;
export type VmView = Pick<VmDetail, 'name' | 'state' | 'qemuStatus' | 'residentBytes' | 'lastUnpark'>;

/** What the demo reads of an explanation; see docs/policy.md. */
export interface Explained {
  state: string;
  verdict: string;
  rule: string;
  signals: { name: string; state: string; value: number | null; threshold: number }[];
  nextTimer: string | null;
  lastPark: Operation | null;
  lastUnpark: Operation | null;
}

export class Service {
  readonly #command: string;
  readonly #socket: string;

  constructor(command: string, socket: string) {
    this.#command = command;
    this.#socket = socket;
  }

  async park(vm: string): Promise<OperationView> {
    return operationOf(await this.#seamless(['park', vm]));
  }

  async unpark(vm: string): Promise<OperationView> {
    return operationOf(await this.#seamless(['unpark', vm]));
  }

  async show(vm: string): Promise<VmView> {
    return (await this.#seamless(['show', vm])) as VmView;
  }

  async explain(vm: string): Promise<Explained> {
    return (await this.#seamless(['explain', vm])) as Explained;
  }

  async #seamless(args: string[]): Promise<unknown> {
    const argv: [string, ...string[]] = [this.#command, '--socket', this.#socket, ...args, '--json'];
    return JSON.parse((await exec(argv, { timeoutMs: 180_000 })).stdout) as unknown;
  }
}

function operationOf(reply: unknown): OperationView {
  return view((reply as { operation: Operation }).operation);
}

export function view(operation: Operation): OperationView {
  const { id, kind, status, cause, rule, trigger, startedAt, endedAt, ms, steps } = operation;
  return {
    id,
    kind,
    status,
    cause,
    rule,
    trigger,
    startedAt,
    endedAt,
    ms: ms ?? 0,
    steps: steps.map((step) => ({ name: step.name, ms: step.ms ?? 0 })),
  };
}
