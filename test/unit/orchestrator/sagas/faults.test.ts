/**
 * Faults at the ports: each call of a park and of an unpark is made to fail, once and for good, before and after it
 * had its effect; and the orchestrator dies in the midst of it. The invariants are the world's (see world.ts).
 */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, test } from 'vitest';
import { SeamlessError } from '../../../../common/errors.ts';
import { openJournal } from '../../../../orchestrator/saga/journal.ts';
import { type ParkState, parkSaga } from '../../../../orchestrator/sagas/park.ts';
import { type UnparkState, unparkSaga } from '../../../../orchestrator/sagas/unpark.ts';
import { begin, resume, type Subject, temporaryFolder } from '../saga/suite.ts';
import { Crash, LISTENERS, parkedWorld, takeViolations, World, worldOfLostSink } from './world.ts';

const MODES = ['before', 'after'] as const;

const SUBJECTS = {
  park: {
    world: () => new World(),
    definition: (world: World) => parkSaga(world.ports()),
    input: { imageId: 'p1' } satisfies ParkState,
    ends: { succeeded: 'parked', unwound: 'awake' },
  },
  unpark: {
    world: parkedWorld,
    definition: (world: World) => unparkSaga(world.ports()),
    input: {
      imageId: 'u1',
      parkImageId: 'p1',
      sinkPort: 'p',
      listeners: LISTENERS,
      wake: { cause: 'manual', at: '2026-11-21T03:00:00.000Z', trigger: null },
    } satisfies UnparkState,
    ends: { succeeded: 'awake', unwound: 'parked' },
  },
} as const;

for (const [name, subject] of Object.entries(SUBJECTS)) {
  describe(name, () => {
    for (const when of MODES) {
      test(`converges when any one call to a port fails once, ${when} its effect`, async () => {
        for (const call of await callNumbers(subject)) {
          const world = subject.world();
          world.fault = (number, _name, now) => {
            if (number === call && now === when) throw new SeamlessError('AGENT_REFUSED', 'a fault');
          };
          const outcome = await runOnce(subject, world);
          expect(takeViolations(), `call ${world.calls[call]}`).toEqual([]);
          expect(outcome.kind, `call ${world.calls[call]}`).toMatch(/succeeded|unwound/);
          world.assertAtRest(subject.ends[outcome.kind as 'succeeded']);
        }
      });

      test(`loses nothing when from any one call on that port is dead, ${when} its effect`, async () => {
        for (const call of await callNumbers(subject)) {
          const world = subject.world();
          let dead: string | undefined;
          world.fault = (number, port, now) => {
            const [owner] = port.split('.');
            if (number === call && now === when) dead = owner;
            if (dead === owner && now === when)
              throw new SeamlessError('AGENT_UNREACHABLE', `${owner} is dead`);
          };
          const outcome = await runOnce(subject, world);
          expect(takeViolations(), `call ${world.calls[call]}`).toEqual([]);
          world.assertNothingLost();
          if (outcome.kind !== 'stuck') world.assertAtRest(subject.ends[outcome.kind]);
        }
      });

      for (const what of ['the orchestrator', 'its machine'] as const)
        test(`converges when ${what} dies ${when} the effect of any one call`, async () => {
          for (const call of await callNumbers(subject)) {
            const world = subject.world();
            const outcome = await dieAndResume(subject, world, what, { call, when }, () => {});
            expect(takeViolations(), `call ${world.calls[call]}`).toEqual([]);
            expect(outcome.kind, `call ${world.calls[call]}`).toMatch(/succeeded|unwound/);
            world.assertAtRest(subject.ends[outcome.kind as 'succeeded']);
          }
        });
    }
  });
}

describe('unpark, going on after a power failure', () => {
  for (const failing of ['toVm', 'sinkAgent.checkpoint', 'sinkAgent.send', 'vmAgent.restore'])
    test(`takes back what it has forgotten, when ${failing} fails from then on`, async () => {
      const subject = SUBJECTS.unpark;
      for (const call of await callNumbers(subject))
        for (const when of MODES) {
          const world = subject.world();
          const outcome = await dieAndResume(subject, world, 'its machine', { call, when }, (port, now) => {
            if (port === failing && now === 'before') throw new SeamlessError('AGENT_REFUSED', 'a fault');
          });
          expect(takeViolations(), `call ${world.calls[call]}`).toEqual([]);
          expect(outcome.kind, `call ${world.calls[call]}`).toMatch(/succeeded|unwound/);
          world.assertAtRest(subject.ends[outcome.kind as 'succeeded']);
        }
    });
});

describe('unpark of a sink that was lost', () => {
  test('brings the VM back from the image of the park, and dumps nothing', async () => {
    const world = worldOfLostSink();
    const outcome = await runOnce(SUBJECTS.unpark, world);
    expect(outcome).toMatchObject({ kind: 'succeeded', state: { imageId: 'p1', lost: true } });
    expect(world.calls).not.toContain('sinkAgent.checkpoint');
    expect(world.calls).not.toContain('sinkAgent.send');
    world.assertAtRest('awake');
    expect(takeViolations()).toEqual([]);
  });

  test('whatever fails on the way, and how often, keeps that image and leaves the packets waiting', async () => {
    const calls = worldOfLostSink();
    await runOnce(SUBJECTS.unpark, calls);
    for (const name of new Set(calls.calls.slice(0, calls.calls.indexOf('vmAgent.restore') + 1))) {
      const world = worldOfLostSink();
      world.fault = (_number, port, when) => {
        if (port === name && when === 'before') throw new SeamlessError('AGENT_REFUSED', 'a fault');
      };
      const outcome = await runOnce(SUBJECTS.unpark, world);
      expect(outcome.kind, name).toMatch(/succeeded|unwound/);
      expect(takeViolations(), name).toEqual([]);
      if (outcome.kind === 'succeeded') continue;
      expect(world.images.get('p1'), name).toMatchObject({ state: 'dumped' });
      expect(world, name).toMatchObject({ flows: 'vm', armed: true });
      world.fault = () => {};
      expect(await runOnce(SUBJECTS.unpark, world)).toMatchObject({ kind: 'succeeded' });
      world.assertAtRest('awake');
    }
  });
});

/** Runs until that call, in which the orchestrator dies, and then what a new one makes of it. @param fault of the world from then on */
async function dieAndResume(
  subject: AnySubject,
  world: World,
  what: 'the orchestrator' | 'its machine',
  death: { call: number; when: (typeof MODES)[number] },
  fault: (port: string, now: (typeof MODES)[number]) => void,
) {
  const path = join(temporaryFolder(), 'journal.sqlite');
  let flushed = 0;
  const journal = openJournal(path, {
    onRecord({ seq }, flush) {
      if (flush === 'now') flushed = seq;
    },
  });
  let dead = false;
  world.fault = (number, _name, now) => {
    if (!dead && number === death.call && now === death.when) {
      dead = true;
      journal.close();
    }
    if (dead) throw new Crash();
  };
  await expect(begin(journal, asSubject(subject), subject.definition(world) as never)).rejects.toThrow();
  world.fault = (_number, port, now) => fault(port, now);
  if (what === 'its machine') forgetAfter(path, flushed);
  const reopened = openJournal(path);
  try {
    return await resume(reopened, subject.definition(world) as never);
  } finally {
    reopened.close();
  }
}

/** What a power failure leaves: the journal up to its last flush. */
function forgetAfter(path: string, flushed: number): void {
  const db = new DatabaseSync(path);
  db.prepare('DELETE FROM records WHERE seq > ?').run(flushed);
  db.close();
}

type AnySubject = (typeof SUBJECTS)[keyof typeof SUBJECTS];

async function callNumbers(subject: AnySubject): Promise<number[]> {
  const world = subject.world();
  await runOnce(subject, world);
  return [...world.calls.keys()];
}

async function runOnce(subject: AnySubject, world: World) {
  const journal = openJournal(':memory:');
  try {
    return await begin(journal, asSubject(subject), subject.definition(world) as never);
  } finally {
    journal.close();
  }
}

function asSubject(subject: AnySubject): Subject<object> {
  return { input: subject.input } as unknown as Subject<object>;
}
