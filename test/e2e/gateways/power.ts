/** Parking and waking the VM under test through the orchestrator's API, and waiting for it. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Operation } from '../../../orchestrator/vm/operation.ts';
import type { Refusal } from '../../../vm-agent/api.ts';
import type { Application } from './application.ts';
import type { Outcome } from './run.ts';
import type { GatewayStage } from './stage.ts';

const OPERATION_MS = 60_000;
const AWAKE_MS = 20_000;
const SETTLE_MS = 15_000;
const SETTLE_POLL_MS = 300;
const POLL_MS = 30;

type Vm = Pick<GatewayStage, 'vm' | 'guest' | 'api'>;

/** A VM that somebody has just used may not be parkable yet (sshd still talks to logind, say): nobody would park it, so that is waited for. */
export async function park(
  stage: Vm,
  { isSettled }: Application,
  outcome: Pick<Outcome, 'parkMs'>,
  operationMs = OPERATION_MS,
): Promise<void> {
  if (isSettled) await poll(SETTLE_MS, 'it to settle', async () => (await isSettled(stage.guest)) || null);
  const deadline = performance.now() + SETTLE_MS;
  for (;;) {
    const { status, error, ms } = await tryToPark(stage, operationMs);
    if (status === 'succeeded') {
      outcome.parkMs.push(ms ?? 0);
      return;
    }
    if (error?.code !== 'VM_UNPARKABLE' || performance.now() > deadline)
      throw new Error(error?.message ?? `the park ended ${status}`);
    await delay(SETTLE_POLL_MS);
  }
}

async function tryToPark(
  { api, vm }: Pick<GatewayStage, 'vm' | 'api'>,
  operationMs = OPERATION_MS,
): Promise<Operation> {
  const { operation } = await api.post<{ operation: Operation | null }>(`/v1/vms/${vm}/park`);
  return poll(operationMs, 'the park to end', async () => {
    const now = await api.get<Operation>(`/v1/operations/${operation?.id}`);
    return now.status === 'running' ? null : now;
  });
}

/** The VM must be refused by `rule`, with everything as before. @returns the verdict */
export async function refused(stage: GatewayStage, rule: string): Promise<string> {
  const { status, error } = await tryToPark(stage);
  const refusals = (error?.details as { refusals?: Refusal[] } | undefined)?.refusals ?? [];
  const found = refusals.find((refusal) => refusal.rule === rule);
  if (status === 'unwound' && found) return `refused: ${found.program}: ${found.reason} (${rule})`;
  return `expected to be refused by ${rule}, got ${status}: ${error?.message ?? ''}`;
}

/** The VM is awake, or is soon; notes why. */
export async function awake({ api, vm }: GatewayStage, outcome: Outcome): Promise<void> {
  await poll(AWAKE_MS, 'the VM to be awake', async () => (await stateOf(api, vm)) === 'awake' || null);
  const { lastUnpark } = await api.get<{ lastUnpark: Operation | null }>(`/v1/vms/${vm}`);
  outcome.wakeMs.push(lastUnpark?.ms ?? 0);
  const trigger = lastUnpark?.trigger;
  const isCall = trigger && 'program' in trigger && trigger.program;
  outcome.triggers.push(isCall ? `${trigger.program}: ${trigger.detail}` : (lastUnpark?.cause ?? '?'));
}

export async function staysParked({ api, vm }: GatewayStage, work: () => Promise<unknown>): Promise<void> {
  await work();
  const state = await stateOf(api, vm);
  if (state === 'parked') return;
  const { lastUnpark } = await api.get<{ lastUnpark: Operation | null }>(`/v1/vms/${vm}`);
  throw new Error(`woke the VM: ${JSON.stringify(lastUnpark?.trigger ?? lastUnpark?.cause)}`);
}

async function stateOf(api: GatewayStage['api'], vm: string): Promise<string> {
  const { vms } = await api.get<{ vms: { name: string; state: string }[] }>('/v1/vms');
  return vms.find(({ name }) => name === vm)?.state ?? '';
}

/** Brings the VM back and stops the application; false when the lab had better be made anew. */
export async function tidy(stage: GatewayStage, application: Application): Promise<boolean> {
  const { api, vm, guest } = stage;
  try {
    if ((await stateOf(api, vm)) !== 'awake') await api.post(`/v1/vms/${vm}/unpark`);
    await poll(AWAKE_MS, 'the VM to be awake', async () => (await stateOf(api, vm)) === 'awake' || null);
    await guest.stop(application.units);
    await guest.run('systemctl', 'reset-failed');
    return true;
  } catch {
    return false;
  }
}

export async function poll<T>(timeoutMs: number, what: string, look: () => Promise<T | null>): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (performance.now() > deadline) throw new Error(`Expected ${what} within ${timeoutMs} ms`);
    await delay(POLL_MS);
  }
}
