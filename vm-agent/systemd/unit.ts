/** What systemd believes about the units of gateway processes. Asked once per unit and main process: each question costs a process. */
import { exec } from '../../common/exec.ts';
import { readStat } from '../gateway/snapshot.ts';

export interface UnitFacts {
  unit: string;
  /** 0 when the unit has none: scopes. */
  mainPid: number;
  notifyAccess: 'none' | 'main' | 'exec' | 'all';
}

export interface UnitReader {
  /** Facts of these units, scopes included. */
  read(units: readonly string[]): Promise<Map<string, UnitFacts>>;
}

/** A reader that remembers a unit's facts for as long as its main process is the same. */
export function createUnitReader(): UnitReader {
  const known = new Map<string, { facts: UnitFacts; startTime: number }>();
  return {
    async read(units) {
      const services = units.filter((unit) => unit.endsWith('.service'));
      const unknown = services.filter((unit) => {
        const entry = known.get(unit);
        if (!entry || entry.facts.mainPid === 0) return true;
        // `none` is a refusal, which a drop-in and a daemon-reload are to cure without a restart of the service.
        return entry.facts.notifyAccess === 'none' || startTime(entry.facts.mainPid) !== entry.startTime;
      });
      for (const facts of await show(unknown)) {
        known.set(facts.unit, { facts, startTime: startTime(facts.mainPid) });
      }
      return new Map(
        units.map((unit) => [unit, known.get(unit)?.facts ?? { unit, mainPid: 0, notifyAccess: 'none' }]),
      );
    },
  };
}

async function show(units: readonly string[]): Promise<UnitFacts[]> {
  if (units.length === 0) return [];
  const { stdout } = await exec(['systemctl', 'show', '--property=Id,MainPID,NotifyAccess', '--', ...units]);
  return stdout.split(/\n\n+/).map((block) => {
    const values = Object.fromEntries(block.split('\n').map((line) => splitOnce(line, '=')));
    return {
      unit: values['Id'] ?? '',
      mainPid: Number(values['MainPID'] ?? 0),
      notifyAccess: (values['NotifyAccess'] ?? 'none') as UnitFacts['notifyAccess'],
    };
  });
}

function splitOnce(line: string, separator: string): [string, string] {
  const at = line.indexOf(separator);
  return [line.slice(0, at), line.slice(at + separator.length)];
}

/** Start time of a process in clock ticks, -1 when there is none. */
export function startTime(pid: number): number {
  try {
    return Number(readStat(pid).fields[19]);
  } catch {
    return -1;
  }
}
