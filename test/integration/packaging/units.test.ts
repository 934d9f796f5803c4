/** The units: the orchestrator's takes away all that it can bear, the agents' nothing that a restored process would take home. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { exec } from '../../../common/exec.ts';

const UNITS = join(import.meta.dirname, '../../../packaging/systemd');
/** Of ten, as systemd counts; what is left is the network, sockets and Node's compiler. */
const MOST_EXPOSED = 1.5;

test('systemd finds the orchestrator’s unit little exposed', async () => {
  const unit = join(UNITS, 'seamless-orchestrator.service');
  const { stdout } = await exec(['systemd-analyze', 'security', '--offline=true', '--no-pager', unit]);
  const [, level] = /Overall exposure level for .*: ([\d.]+)/.exec(stdout) ?? [];
  expect(Number(level)).toBeLessThanOrEqual(MOST_EXPOSED);
});

test.each(['sink-agent', 'vm-agent'])(
  'the %s’s unit leaves to its children what they had in their VM',
  (role) => {
    const text = readFileSync(join(UNITS, `seamless-${role}.service`), 'utf8');
    const settings = [...text.matchAll(/^(\w+)=/gm)].map(([, name]) => name);
    const inherited =
      /^(NoNewPrivileges|SystemCall|Restrict|Protect|Private|Capability|Ambient|LockPersonality|MemoryDeny)/;
    expect(settings.filter((name) => inherited.test(name ?? ''))).toEqual([]);
    // A restart of the agent is not the end of what it has restored.
    expect(text).toContain('KillMode=process');
  },
);
