import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { SeamlessError } from '../../../../common/errors.ts';
import { silentLog } from '../../../../common/log.ts';
import { inDoubt, type SagaDefinition, type Step } from '../../../../orchestrator/saga/definition.ts';
import { createSaga, runSaga } from '../../../../orchestrator/saga/engine.ts';
import { type Journal, openJournal } from '../../../../orchestrator/saga/journal.ts';

type State = Record<string, unknown>;

test('a step gets what earlier ones gave', async () => {
  const { outcome } = await run([
    step('a', { do: async () => ({ port: 'p1' }) }),
    step('b', { pivot: true, do: async ({ port }) => ({ seen: port }) }),
  ]);
  expect(outcome).toMatchObject({ kind: 'succeeded', state: { input: 1, port: 'p1', seen: 'p1' } });
});

test('undos run in reverse order, for every step that was started', async () => {
  const undone: string[] = [];
  const undo = (name: string) => async () => void undone.push(name);
  const { outcome, journal } = await run([
    step('a', { undo: undo('a') }),
    [step('b', { undo: undo('b') }), step('c', { undo: undo('c'), do: failing() })],
    step('d', { pivot: true, undo: undo('d') }),
  ]);
  expect(undone).toEqual(['c', 'b', 'a']);
  expect(outcome).toMatchObject({ kind: 'unwound', error: { code: 'AGENT_REFUSED' } });
  expect(eventsOf(journal)).toEqual([
    'a started',
    'a succeeded',
    'b started',
    'c started',
    'b succeeded',
    'c failed',
    ...['c', 'b', 'a'].flatMap((name) => [`${name} undoStarted`, `${name} undoFinished`]),
  ]);
});

test('steps of a group run at once', async () => {
  let running = 0;
  let most = 0;
  const slow = async () => {
    running += 1;
    most = Math.max(most, running);
    await delay(5);
    running -= 1;
    return undefined;
  };
  await run([[step('a', { do: slow }), step('b', { do: slow })], step('c', { pivot: true })]);
  expect(most).toBe(2);
});

test('a failed undo leaves the saga stuck, and the undos of earlier steps alone', async () => {
  const undone: string[] = [];
  const { outcome } = await run([
    step('a', { undo: async () => void undone.push('a') }),
    step('b', { undo: failing() as never }),
    step('c', { pivot: true, do: failing() }),
  ]);
  expect(outcome).toMatchObject({ kind: 'stuck', step: 'b', direction: 'unwinding', pivotPassed: false });
  expect(undone).toEqual([]);
});

test('a step after the pivot is tried again until it works', async () => {
  let tries = 0;
  const third = async () => {
    tries += 1;
    if (tries < 3) throw new SeamlessError('AGENT_UNREACHABLE', 'not yet');
    return undefined;
  };
  const { outcome } = await run([step('a', { pivot: true }), step('b', { do: third })]);
  expect(outcome.kind).toBe('succeeded');
  expect(tries).toBe(3);
});

test('a step after the pivot that never works leaves the saga stuck, and it goes on from there when retried', async () => {
  const done: string[] = [];
  let broken = true;
  const steps = [
    step('a', { pivot: true, do: async () => void done.push('a') as undefined }),
    step('b', { do: async () => (broken ? failing()() : (void done.push('b') as undefined)) }),
  ];
  const { outcome, journal } = await run(steps);
  expect(outcome).toMatchObject({ kind: 'stuck', step: 'b', direction: 'forward', pivotPassed: true });
  broken = false;
  const again = await resume(journal, steps);
  expect(again.kind).toBe('succeeded');
  expect(done).toEqual(['a', 'b']);
});

test('a pivot in doubt is never unwound', async () => {
  const undone: string[] = [];
  let doubt = true;
  const doubtful = async () => {
    if (doubt) throw inDoubt('no answer', null);
    return undefined;
  };
  const steps = [
    step('a', { undo: async () => void undone.push('a') }),
    step('b', { pivot: true, do: doubtful }),
  ];
  const { outcome, journal } = await run(steps);
  expect(outcome).toMatchObject({ kind: 'stuck', step: 'b', direction: 'forward' });
  doubt = false;
  expect(await resume(journal, steps)).toMatchObject({ kind: 'succeeded' });
  expect(undone).toEqual([]);
});

test('being wanted before the pivot aborts the running step and unwinds', async () => {
  const wanted = new AbortController();
  const waiting = async (_state: State, { signal }: { signal: AbortSignal }) => {
    setTimeout(() => wanted.abort(), 1);
    await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    return undefined;
  };
  const { outcome } = await run([step('a', { do: waiting }), step('b', { pivot: true })], wanted.signal);
  expect(outcome.kind).toBe('unwound');
});

test('being wanted after the pivot changes no step but those that look', async () => {
  const wanted = new AbortController();
  const { outcome } = await run(
    [
      step('a', { pivot: true, do: async () => void wanted.abort() as undefined }),
      step('b', {
        do: async (_state, context) => ({ aborted: context.signal.aborted, wanted: context.wanted.aborted }),
      }),
    ],
    wanted.signal,
  );
  expect(outcome).toMatchObject({ kind: 'succeeded', state: { aborted: false, wanted: true } });
});

test('the journal refuses a saga of another definition', async () => {
  const journal = memoryJournal();
  createSaga(journal, { id: 's1', vm: 'vm1', definition: 'other', input: {} });
  await expect(resume(journal, [])).rejects.toMatchObject({ code: 'JOURNAL_INCOMPATIBLE' });
});

function step(name: string, more: Partial<Step<State>> = {}): Step<State> {
  return { name, do: async () => undefined, undo: null, ...more };
}

function failing() {
  return async () => {
    throw new SeamlessError('AGENT_REFUSED', 'it does not work');
  };
}

async function run(steps: SagaDefinition<State>['steps'], wanted?: AbortSignal) {
  const journal = memoryJournal();
  createSaga(journal, { id: 's1', vm: 'vm1', definition: 'toy', input: { input: 1 } });
  return { journal, outcome: await go(journal, steps, 'fresh', wanted) };
}

function resume(journal: Journal, steps: SagaDefinition<State>['steps']) {
  return go(journal, steps, 'recovered');
}

function go(
  journal: Journal,
  steps: SagaDefinition<State>['steps'],
  how: 'fresh' | 'recovered',
  wanted = new AbortController().signal,
) {
  const definition: SagaDefinition<State> = {
    name: 'toy',
    afterCrash: 'unwind',
    persistMs: 30,
    retryAfterMs: 1,
    steps,
  };
  return runSaga(definition, 's1', { journal, log: silentLog, wanted }, how);
}

function memoryJournal(): Journal {
  const journal = openJournal(':memory:');
  onTestFinished(() => journal.close());
  return journal;
}

function eventsOf(journal: Journal): string[] {
  return journal
    .ofSaga('s1')
    .filter(({ step: name }) => name !== null)
    .map(({ step: name, event }) => `${name} ${event}`);
}
