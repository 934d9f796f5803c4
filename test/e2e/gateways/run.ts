/**
 * What every application has to stand, in one go:
 *
 *   start → connect → park → keep-alives, ping, probe: parked still → request on that connection: woken, answered there
 *         → park → a new client: woken, served → request on the old connection again → systemd's view, restart, stop, journal
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Operation } from '../../../orchestrator/vm/operation.ts';
import { type Application, COLUMNS, type Column, type Session } from './application.ts';
import type { UnitFacts } from './guest.ts';
import type { GatewayStage } from './stage.ts';

export type Verdicts = Record<Column, string | null>;

export interface Outcome {
  application: string;
  /** See Application.changed. */
  changed?: string;
  /** Per column `ok`, or why not; `null` where there is nothing to try or it was not reached. */
  columns: Verdicts;
  /** What else is not as it should be. */
  faults: string[];
  parkMs: number[];
  wakeMs: number[];
  /** What woke the VM, each time. */
  triggers: string[];
  /** True when the VM and its services are as before: the next application can use them. */
  isTidy: boolean;
}

const OPERATION_MS = 60_000;
const AWAKE_MS = 20_000;
const ACKNOWLEDGED_MS = 5000;
const SETTLE_MS = 4000;
const SETTLE_POLL_MS = 300;
const POLL_MS = 30;

export async function runApplication(stage: GatewayStage, application: Application): Promise<Outcome> {
  const columns = Object.fromEntries(COLUMNS.map((column) => [column, null])) as Verdicts;
  const outcome: Outcome = {
    application: application.name,
    ...(application.changed ? { changed: application.changed } : {}),
    columns,
    faults: [],
    parkMs: [],
    wakeMs: [],
    triggers: [],
    isTidy: false,
  };
  const note = async (column: Column, work: () => Promise<void>): Promise<void> => {
    try {
      await work();
      columns[column] ??= 'ok';
    } catch (thrown) {
      columns[column] = (thrown as Error).message;
      throw thrown;
    }
  };
  let session: Session | undefined;
  try {
    await application.prepare?.(stage.guest);
    await stage.guest.start(application.units, application.listens);
    session = await application.connect(stage.net);
    await cycles(stage, application, session, outcome, note);
  } catch (thrown) {
    const told = Object.values(columns).some((verdict) => verdict !== null && verdict !== 'ok');
    if (!told) outcome.faults.push((thrown as Error).message);
  } finally {
    await session?.close().catch(() => {});
    outcome.isTidy = await tidy(stage, application);
  }
  return outcome;
}

async function cycles(
  stage: GatewayStage,
  application: Application,
  session: Session,
  outcome: Outcome,
  note: (column: Column, work: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const { guest, net } = stage;
  const [unit = ''] = application.units;
  const before = await guest.facts(unit);
  await note('park', () => park(stage, application, outcome));
  const { connection, probe } = session;
  if (connection) await note('keep-alive', () => staysParked(stage, () => acknowledged(connection)));
  const ping = () => net.run(['ping', '-c', '2', '-i', '0.2', '-W', '2', net.address]);
  await note('probe', () => staysParked(stage, () => Promise.all([ping(), probe?.()])));
  await note('request on an old connection', async () => {
    await session.request();
    await awake(stage, outcome);
  });
  await note('second cycle', () => park(stage, application, outcome));
  await note('new connection', async () => {
    await application.visit(net);
    await awake(stage, outcome);
  });
  await note('second cycle', async () => {
    await session.request();
    sameUnit(unit, before, await guest.facts(unit));
  });
  await session.close();
  await obeys(stage, application, unit);
}

/** systemd has never seen anything: nothing failed, nothing was started again. */
function sameUnit(unit: string, before: UnitFacts, now: UnitFacts): void {
  const changed = Object.entries(before).filter(([key, value]) => now[key as keyof UnitFacts] !== value);
  if (changed.length === 0) return;
  const what = changed.map(([key, value]) => `${key} ${value} → ${now[key as keyof UnitFacts]}`).join(', ');
  throw new Error(`Expected ${unit} as it was, got ${what}`);
}

/** `systemctl restart` and `stop` work as ever, and the journal tells of it. */
async function obeys({ guest, net }: GatewayStage, application: Application, unit: string): Promise<void> {
  const lines = async () => (await guest.journal(unit, 10_000)).split('\n').length;
  const told = await lines();
  const { MainPID } = await guest.facts(unit);
  await guest.run('systemctl', 'restart', unit);
  await guest.start([unit], application.listens);
  const restarted = await guest.facts(unit);
  if (restarted.MainPID === MainPID && MainPID !== '0') throw new Error(`${unit} was not restarted`);
  await application.visit(net);
  if ((await lines()) <= told) throw new Error(`The journal of ${unit} says nothing of its restart`);
  await guest.stop(application.units);
  const { ActiveState } = await guest.facts(unit);
  if (ActiveState !== 'inactive')
    throw new Error(`Expected ${unit} to be inactive once stopped, got ${ActiveState}`);
}

/** A VM that somebody has just used may not be parkable yet (sshd still talks to logind, say): nobody would park it, so that is waited for. */
async function park(stage: GatewayStage, { isSettled }: Application, outcome: Outcome): Promise<void> {
  if (isSettled) await poll(SETTLE_MS, 'it to settle', async () => (await isSettled(stage.guest)) || null);
  const deadline = performance.now() + SETTLE_MS;
  for (;;) {
    const { status, error, ms } = await tryToPark(stage);
    if (status === 'succeeded') {
      outcome.parkMs.push(ms ?? 0);
      return;
    }
    if (error?.code !== 'VM_UNPARKABLE' || performance.now() > deadline)
      throw new Error(error?.message ?? `the park ended ${status}`);
    await delay(SETTLE_POLL_MS);
  }
}

async function tryToPark({ api, vm }: GatewayStage): Promise<Operation> {
  const { operation } = await api.post<{ operation: Operation | null }>(`/v1/vms/${vm}/park`);
  return poll(OPERATION_MS, 'the park to end', async () => {
    const now = await api.get<Operation>(`/v1/operations/${operation?.id}`);
    return now.status === 'running' ? null : now;
  });
}

/** The VM is awake, or is soon; notes why. */
async function awake({ api, vm }: GatewayStage, outcome: Outcome): Promise<void> {
  await poll(AWAKE_MS, 'the VM to be awake', async () => (await stateOf(api, vm)) === 'awake' || null);
  const { lastUnpark } = await api.get<{ lastUnpark: Operation | null }>(`/v1/vms/${vm}`);
  outcome.wakeMs.push(lastUnpark?.ms ?? 0);
  const trigger = lastUnpark?.trigger;
  const isCall = trigger && 'program' in trigger && trigger.program;
  outcome.triggers.push(isCall ? `${trigger.program}: ${trigger.detail}` : (lastUnpark?.cause ?? '?'));
}

async function staysParked({ api, vm }: GatewayStage, work: () => Promise<unknown>): Promise<void> {
  await work();
  const state = await stateOf(api, vm);
  if (state === 'parked') return;
  const { lastUnpark } = await api.get<{ lastUnpark: Operation | null }>(`/v1/vms/${vm}`);
  throw new Error(`woke the VM: ${JSON.stringify(lastUnpark?.trigger ?? lastUnpark?.cause)}`);
}

/** The client's kernel asks once a second whether the connection lives; the answer must be younger than this call. */
async function acknowledged(connection: NonNullable<Session['connection']>): Promise<void> {
  const started = performance.now();
  await poll(ACKNOWLEDGED_MS, 'a keep-alive to be acknowledged', async () => {
    const since = await connection.sinceLastAck();
    if (since === null) throw new Error('the connection is no longer established');
    return since < performance.now() - started || null;
  });
}

async function stateOf(api: GatewayStage['api'], vm: string): Promise<string> {
  const { vms } = await api.get<{ vms: { name: string; state: string }[] }>('/v1/vms');
  return vms.find(({ name }) => name === vm)?.state ?? '';
}

/** Brings the VM back and stops the application; false when the lab had better be made anew. */
async function tidy(stage: GatewayStage, application: Application): Promise<boolean> {
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

async function poll<T>(timeoutMs: number, what: string, look: () => Promise<T | null>): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (performance.now() > deadline) throw new Error(`Expected ${what} within ${timeoutMs} ms`);
    await delay(POLL_MS);
  }
}
