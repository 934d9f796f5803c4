/**
 * The suite that every saga passes: happy path; failure at each step; each `do` twice; each `undo` twice; a crash
 * after each record of the journal, followed by a fresh engine over the reopened journal.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { SeamlessError } from '../../../../common/errors.ts';
import { silentLog } from '../../../../common/log.ts';
import type { SagaDefinition, SagaOutcome, Step } from '../../../../orchestrator/saga/definition.ts';
import { createSaga, runSaga } from '../../../../orchestrator/saga/engine.ts';
import { type Journal, openJournal } from '../../../../orchestrator/saga/journal.ts';

export interface Subject<State extends object> {
  definition: SagaDefinition<State>;
  input: State;
  /** Checks the world after the saga has ended so. */
  settled(outcome: SagaOutcome<State>['kind']): void;
}

const PERSIST_MS = 20;

/** @param make a new world and a saga over it; called for each test. */
export function passesTheGenericSuite<State extends object>(name: string, make: () => Subject<State>): void {
  const { definition } = make();
  const steps = stepsOf(definition);
  const pivot = steps.findIndex((step) => step.pivot);

  test(`${name} succeeds when nothing fails`, async () => {
    const subject = make();
    const outcome = await run(subject, subject.definition);
    expect(outcome.kind).toBe('succeeded');
    subject.settled(outcome.kind);
  });

  for (const [index, step] of steps.entries()) {
    const goes = index <= pivot ? 'unwinds' : 'goes forward';
    test(`${name} ${goes} when ${step.name} fails before it did anything`, async () => {
      const subject = make();
      const faulty = wrap(
        subject.definition,
        step.name,
        failingOnce('before', index <= pivot ? Infinity : 1),
      );
      const outcome = await run(subject, faulty);
      expect(outcome.kind).toBe(index <= pivot ? 'unwound' : 'succeeded');
      subject.settled(outcome.kind);
    });

    test(`${name} does ${step.name} twice as well as once`, async () => {
      const subject = make();
      const twice = wrap(subject.definition, step.name, (inner) => ({
        ...inner,
        async do(state, context) {
          const output = await inner.do(state, context);
          return { ...output, ...(await inner.do({ ...state, ...output }, context)) } as Partial<State>;
        },
      }));
      const outcome = await run(subject, twice);
      expect(outcome.kind).toBe('succeeded');
      subject.settled(outcome.kind);
    });

    if (index >= pivot) continue;
    test(`${name} unwinds when ${step.name} fails after it did everything`, async () => {
      const subject = make();
      const outcome = await run(subject, wrap(subject.definition, step.name, failingOnce('after', Infinity)));
      expect(outcome.kind).toBe('unwound');
      subject.settled(outcome.kind);
    });

    test(`${name} undoes ${step.name} twice as well as once`, async () => {
      const subject = make();
      const twice = wrap(subject.definition, step.name, (inner) => ({
        ...inner,
        async undo(state, context) {
          await inner.undo?.(state, context);
          await inner.undo?.(state, context);
        },
      }));
      const outcome = await run(
        subject,
        wrap(twice, steps[pivot]?.name ?? '', failingOnce('before', Infinity)),
      );
      expect(outcome.kind).toBe('unwound');
      subject.settled(outcome.kind);
    });
  }

  test(`${name} converges after a crash behind each record, on the way forward`, async () => {
    await crashBehindEachRecord(make, (subject) => subject.definition);
  });

  for (const step of steps.slice(0, pivot + 1)) {
    test(`${name} converges after a crash behind each record, when ${step.name} fails`, async () => {
      await crashBehindEachRecord(make, (subject) =>
        wrap(subject.definition, step.name, failingOnce('before', Infinity)),
      );
    });
  }
}

async function crashBehindEachRecord<State extends object>(
  make: () => Subject<State>,
  definitionOf: (subject: Subject<State>) => SagaDefinition<State>,
): Promise<void> {
  for (let crashAt = 1; ; crashAt += 1) {
    const subject = make();
    const path = join(temporaryFolder(), 'journal.sqlite');
    let records = 0;
    const journal = openJournal(path, {
      onRecord() {
        records += 1;
        if (records === crashAt) throw new Error('crash');
      },
    });
    const died = await attempt(() => begin(journal, subject, definitionOf(subject)));
    journal.close();
    if (died === undefined) return; // It ended before that many records.
    const reopened = openJournal(path);
    const outcome = await resume(reopened, definitionOf(subject));
    reopened.close();
    expect(outcome.kind, `crash behind record ${crashAt}`).toMatch(/succeeded|unwound/);
    subject.settled(outcome.kind);
  }
}

export function stepsOf<State>(definition: SagaDefinition<State>): Step<State>[] {
  return definition.steps.flat() as Step<State>[];
}

async function run<State extends object>(
  subject: Subject<State>,
  definition: SagaDefinition<State>,
): Promise<SagaOutcome<State>> {
  const journal = openJournal(':memory:');
  try {
    return await begin(journal, subject, definition);
  } finally {
    journal.close();
  }
}

export function begin<State extends object>(
  journal: Journal,
  { input }: Subject<State>,
  definition: SagaDefinition<State>,
): Promise<SagaOutcome<State>> {
  createSaga(journal, { id: 's1', vm: 'vm1', definition: definition.name, input });
  return go(journal, definition, 'fresh');
}

export function resume<State extends object>(journal: Journal, definition: SagaDefinition<State>) {
  return go(journal, definition, 'recovered');
}

function go<State extends object>(
  journal: Journal,
  definition: SagaDefinition<State>,
  how: 'fresh' | 'recovered',
): Promise<SagaOutcome<State>> {
  const deps = { journal, log: silentLog, wanted: new AbortController().signal };
  return runSaga({ ...definition, persistMs: PERSIST_MS, retryAfterMs: 1 }, 's1', deps, how);
}

async function attempt(action: () => Promise<unknown>): Promise<unknown> {
  try {
    await action();
    return undefined;
  } catch (thrown) {
    return thrown;
  }
}

function wrap<State>(
  definition: SagaDefinition<State>,
  name: string,
  change: (step: Step<State>) => Step<State>,
): SagaDefinition<State> {
  const changed = (step: Step<State>) => (step.name === name ? change(step) : step);
  const steps = definition.steps.map((entry) =>
    Array.isArray(entry) ? entry.map(changed) : changed(entry as Step<State>),
  );
  return { ...definition, steps };
}

function failingOnce<State>(when: 'before' | 'after', times: number) {
  return (step: Step<State>): Step<State> => {
    let left = times;
    return {
      ...step,
      async do(state, context) {
        if (when === 'after') await step.do(state, context);
        left -= 1;
        if (left >= 0) throw new SeamlessError('AGENT_REFUSED', `${step.name} fails`);
        return when === 'before' ? step.do(state, context) : undefined;
      },
    };
  };
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'seamless-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
