import { describe, expect, test } from 'vitest';
import type { SinkState } from '../../../sink-agent/api.ts';
import { admit, mayHoldOnlyCopy, type SinkRequest } from '../../../sink-agent/lifecycle.ts';

const STATES: SinkState[] = ['prepared', 'restored', 'running', 'frozen', 'dumped', 'lost'];
const TABLE: Record<SinkRequest, string[]> = {
  //           prepared   restored   running    frozen     dumped     lost
  restore: ['go', 'already', 'refused', 'refused', 'go', 'refused'],
  run: ['refused', 'go', 'already', 'go', 'refused', 'refused'],
  freeze: ['refused', 'go', 'go', 'already', 'refused', 'already'],
  checkpoint: ['refused', 'refused', 'refused', 'go', 'already', 'refused'],
};

describe.each(Object.entries(TABLE))('%s', (request, answers) => {
  test.each(STATES.map((state, index) => [state, answers[index]]))('of a %s sink: %s', (state, expected) => {
    const answer = admit(request as SinkRequest, state as SinkState);
    expect(typeof answer === 'object' ? 'refused' : answer).toBe(expected);
  });
});

test('what is done with one image is not done with another', () => {
  expect(admit('restore', 'restored', false)).toEqual({ refused: 'it is restored with another image' });
  expect(admit('checkpoint', 'dumped', false)).toEqual({ refused: 'it is dumped with another image' });
});

test('a refusal says in which states the request is served', () => {
  expect(admit('run', 'dumped')).toEqual({
    refused: 'it is dumped; run is for a sink that is restored, frozen, running',
  });
});

test('processes that ran in the sink exist nowhere else until their image has been sent', () => {
  expect(mayHoldOnlyCopy('prepared', false, false)).toBe(false);
  expect(mayHoldOnlyCopy('restored', false, false)).toBe(false);
  expect(mayHoldOnlyCopy('restored', true, true)).toBe(true);
  expect(mayHoldOnlyCopy('running', true, false)).toBe(true);
  expect(mayHoldOnlyCopy('frozen', true, false)).toBe(true);
  expect(mayHoldOnlyCopy('dumped', true, false)).toBe(true);
  expect(mayHoldOnlyCopy('dumped', true, true)).toBe(false);
  expect(mayHoldOnlyCopy('lost', true, false)).toBe(false); // nothing is left to keep
});
