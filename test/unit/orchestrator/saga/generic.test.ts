import { describe, expect } from 'vitest';
import type { SagaDefinition, Step } from '../../../../orchestrator/saga/definition.ts';
import { parkSaga } from '../../../../orchestrator/sagas/park.ts';
import { unparkSaga } from '../../../../orchestrator/sagas/unpark.ts';
import { LISTENERS, parkedWorld, takeViolations, World } from '../sagas/world.ts';
import { passesTheGenericSuite } from './suite.ts';

describe('a saga of three steps', () => {
  passesTheGenericSuite('it', () => toy('unwind', ['a', 'b', 'c'], 'b'));
});

describe('a saga with steps at once, that goes forward after a crash', () => {
  passesTheGenericSuite('it', () => toy('forward', [['a', 'b'], 'c', ['d', 'e'], 'f'], 'c'));
});

describe('park', () => {
  passesTheGenericSuite('it', () => {
    const world = new World();
    return {
      definition: parkSaga(world.ports()),
      input: { imageId: 'p1' },
      settled(outcome) {
        world.assertAtRest(outcome === 'succeeded' ? 'parked' : 'awake');
        expect(takeViolations()).toEqual([]);
      },
    };
  });
});

describe('unpark', () => {
  passesTheGenericSuite('it', () => {
    const world = parkedWorld();
    return {
      definition: unparkSaga(world.ports()),
      input: {
        imageId: 'u1',
        parkImageId: 'p1',
        sinkPort: 'p',
        listeners: LISTENERS,
        wake: { cause: 'manual', at: '2026-11-21T03:00:00.000Z', trigger: null } as const,
      },
      settled(outcome) {
        world.assertAtRest(outcome === 'succeeded' ? 'awake' : 'parked');
        expect(takeViolations()).toEqual([]);
      },
    };
  });
});

type Toy = Record<string, boolean>;

function toy(afterCrash: 'unwind' | 'forward', names: (string | string[])[], pivot: string) {
  const done = new Set<string>();
  const step = (name: string): Step<Toy> => ({
    name,
    ...(name === pivot ? { pivot: true as const } : {}),
    async do() {
      done.add(name);
      return { [name]: true };
    },
    async undo() {
      done.delete(name);
    },
  });
  const steps = names.map((entry) => (Array.isArray(entry) ? entry.map(step) : step(entry)));
  const definition: SagaDefinition<Toy> = { name: 'toy', afterCrash, persistMs: 20, steps };
  return {
    definition,
    input: {},
    settled: (outcome: string) =>
      expect([...done].sort()).toEqual(outcome === 'succeeded' ? names.flat().sort() : []),
  };
}
