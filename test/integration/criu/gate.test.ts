import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { openGate } from '../../../criu/gate.ts';

const ROOT = join(import.meta.dirname, '../../..');

beforeAll(async () => {
  await exec([join(ROOT, 'scripts/build-helpers'), '--sanitize'], { timeoutMs: 110_000 });
}, 120_000);

function gateFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'criu-gate-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return join(folder, 'tree-1');
}

/** Runs the gate as CRIU does at `stage`. */
function atStage(program: string, stage: string, env: Record<string, string>) {
  const child = spawn(join(ROOT, program), {
    env: { ...env, CRTOOLS_SCRIPT_ACTION: stage },
    stdio: 'ignore',
  });
  return once(child, 'exit').then(([code]) => code as number);
}

describe.each(['build/criu-gate', 'build/sanitized/criu-gate'])('the gate %s', (program) => {
  it('lets every stage pass but the last one before the effect', async () => {
    const gate = await openGate(gateFolder());
    onTestFinished(() => gate.close());
    expect(await atStage(program, 'pre-dump', gate.env)).toBe(0);
    expect(await atStage(program, 'pre-resume', gate.env)).toBe(0);
  });

  it('says that a restore makes its processes, and holds nothing up', async () => {
    const gate = await openGate(gateFolder());
    onTestFinished(() => gate.close());
    expect(await atStage(program, 'post-setup-namespaces', gate.env)).toBe(0);
    await gate.begun;
  });

  it.each(['post-dump', 'post-restore'])('stops at %s until told to go on', async (stage) => {
    const gate = await openGate(gateFolder());
    onTestFinished(() => gate.close());
    const exit = atStage(program, stage, gate.env);
    await gate.reached;
    gate.decide(true);
    expect(await exit).toBe(0);
  });

  it('fails the stage when told to undo', async () => {
    const gate = await openGate(gateFolder());
    onTestFinished(() => gate.close());
    const exit = atStage(program, 'post-dump', gate.env);
    await gate.reached;
    gate.decide(false);
    expect(await exit).toBe(1);
  });

  it('takes the end of the agent for undo, while it waits and before', async () => {
    const gate = await openGate(gateFolder());
    const exit = atStage(program, 'post-restore', gate.env);
    await gate.reached;
    gate.close();
    expect(await exit).toBe(1);
    expect(await atStage(program, 'post-restore', gate.env)).toBe(1);
  });

  it('keeps a verdict that was given early, and none for the next time', async () => {
    const folder = gateFolder();
    const first = await openGate(folder);
    first.decide(true);
    expect(await atStage(program, 'post-dump', first.env)).toBe(0);
    first.decide(true);
    first.close();
    expect(existsSync(join(folder, 'verdict'))).toBe(true);
    const second = await openGate(folder);
    onTestFinished(() => second.close());
    const exit = atStage(program, 'post-dump', second.env);
    await second.reached;
    second.decide(false);
    expect(await exit).toBe(1);
  });

  it('fails without a folder', async () => {
    expect(await atStage(program, 'post-dump', {})).toBe(1);
  });
});
