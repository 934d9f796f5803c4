/**
 * What every application has to stand, in one go:
 *
 *   start → connect → park → keep-alives, ping, probe: parked still → request on that connection: woken, answered there
 *         → park → a new client: woken, served → request on the old connection again → systemd's view, restart, stop, journal
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type Application, COLUMNS, type Column, type Session } from './application.ts';
import type { UnitFacts } from './guest.ts';
import { awake, park, poll, refused, staysParked, tidy } from './power.ts';
import type { GatewayStage } from './stage.ts';

export type Verdicts = Record<Column, string | null>;

export interface Outcome {
  application: string;
  /** See Application.changed. */
  changed?: string;
  /** Per column `ok`, or why not (`refused: …` when that is as it must be); `null` where there is nothing to try or it was not reached. */
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

const ACKNOWLEDGED_MS = 5000;

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
  const note = async (column: Column, work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
      columns[column] = 'ok';
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
    if (application.refusedBy) columns.park = await refused(stage, application.refusedBy);
    else await cycles(stage, application, session, outcome, note);
  } catch (thrown) {
    const told = Object.values(columns).some((verdict) => isFailure(verdict));
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
  note: (column: Column, work: () => Promise<unknown>) => Promise<void>,
): Promise<void> {
  const { guest, net } = stage;
  const [unit = ''] = application.units;
  const before = await guest.facts(unit);
  await note('park', () => park(stage, application, outcome));
  const { connection, probe } = session;
  if (connection) await note('keep-alive', () => staysParked(stage, () => acknowledged(connection)));
  const ping = () => net.run(['ping', '-c', '2', '-i', '0.2', '-W', '2', net.address]);
  await note('probe', () => staysParked(stage, () => Promise.all([ping(), probe?.()])));
  const idleMs = (application.idleSeconds ?? Number(process.env['SEAMLESS_APPS_IDLE'] ?? 0)) * 1000;
  if (idleMs > 0) await note('idle', () => staysParked(stage, () => delay(idleMs)));
  if (session.request) {
    await note('request on an old connection', async () => {
      await session.request?.();
      await awake(stage, outcome);
    });
  } else {
    await stage.api.post(`/v1/vms/${stage.vm}/unpark`);
    await awake(stage, outcome);
  }
  await note('second cycle', async () => {
    await park(stage, application, outcome);
    await note('new connection', async () => {
      await application.visit(net);
      await awake(stage, outcome);
    });
    await (session.request ?? session.probe)?.();
  });
  await note('systemctl', async () => {
    sameUnit(unit, before, await guest.facts(unit));
    await session.close();
    await obeys(stage, application, unit);
  });
}

export function isFailure(verdict: string | null): boolean {
  return verdict !== null && verdict !== 'ok' && !verdict.startsWith('refused: ');
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

/** The client's kernel asks once a second whether the connection lives; the answer must be younger than this call. */
async function acknowledged(connection: NonNullable<Session['connection']>): Promise<void> {
  const started = performance.now();
  await poll(ACKNOWLEDGED_MS, 'a keep-alive to be acknowledged', async () => {
    const since = await connection.sinceLastAck();
    return since < performance.now() - started || null;
  }).catch(async (thrown: Error) => {
    throw new Error(`${thrown.message}; ss says ${await connection.socket()}`);
  });
}
