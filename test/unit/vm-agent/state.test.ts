import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openState } from '../../../vm-agent/state.ts';

function stateFile(): string {
  const folder = mkdtempSync(join(tmpdir(), 'vm-agent-state-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return join(folder, 'nested', 'state.json');
}

const AWAY = { phase: 'dumped' as const, imageId: 'a1', placeholders: [] };

describe('the state of the agent', () => {
  it('is empty at first', () => {
    expect(openState(stateFile()).read()).toEqual({ version: 1, images: {}, away: null });
  });

  it('survives a restart, and leaves no half-written file', () => {
    const path = stateFile();
    openState(path).write({ away: AWAY, images: { a1: 'dumped' } });
    expect(openState(path).read()).toEqual({ version: 1, images: { a1: 'dumped' }, away: AWAY });
    expect(readdirSync(join(path, '..'))).toEqual(['state.json']);
  });

  it('changes only what is told: an image is forgotten by null, the rest stays', () => {
    const state = openState(stateFile());
    state.write({ away: AWAY, images: { a1: 'dumped', a2: 'received' } });
    state.write({ images: { a1: null } });
    expect(state.read()).toMatchObject({ images: { a2: 'received' }, away: AWAY });
    state.write({ away: null });
    expect(state.read()).toEqual({ version: 1, images: { a2: 'received' }, away: null });
  });

  it('can’t be changed but by writing', () => {
    const state = openState(stateFile());
    state.read().images['a1'] = 'restored';
    expect(state.read().images).toEqual({});
  });

  it('starts afresh from a file that is damaged or of another version', () => {
    const path = stateFile();
    openState(path).write({ images: { a1: 'dumped' } });
    for (const text of ['{"version":1,', '{"version":2,"images":{"a1":"dumped"},"away":null}']) {
      writeFileSync(path, text);
      expect(openState(path).read().images).toEqual({});
    }
  });
});
