import { expect, test } from 'vitest';
import { SeamlessError } from '../../../common/errors.ts';
import type { Exec } from '../../../common/exec.ts';
import { criuProblems } from '../../../criu/check.ts';

const SAYS_NO = `Error (criu/tun.c:85): tun: Unable to create tun: No such file or directory
Error (criu/kerndat.c:732): Unable to connect a socket: Network is unreachable
Error (criu/crtools.c:280): Could not initialize kernel features detection.`;

test('a kernel with all that CRIU needs has no problem, and CRIU is run where the prefix leads to', async () => {
  const ran: string[] = [];
  const run = async (argv: readonly string[]) => {
    ran.push(argv.join(' '));
    return { stdout: '', stderr: '' };
  };
  expect(await criuProblems(['nsenter', '-t1'], run)).toEqual([]);
  expect(ran[0]).toBe('nsenter -t1 criu check');
  expect(ran).toContain('nsenter -t1 criu check --feature get_rseq_conf');
});

test('of what CRIU says the first error is the reason', async () => {
  expect(
    await criuProblems(
      [],
      failing(() => true),
    ),
  ).toEqual(['criu check: Unable to connect a socket: Network is unreachable']);
});

test('a feature that is missing is named with what it is needed for', async () => {
  expect(
    await criuProblems(
      [],
      failing((argv) => argv.includes('loginuid')),
    ),
  ).toEqual([
    'criu check --feature loginuid (a session’s processes have one): Unable to connect a socket: Network is unreachable',
  ]);
});

test('what nobody needs is no problem', async () => {
  const output = `Error (criu/cr-check.c:533): /proc/sys/kernel/sem_next_id is inaccessible: Read-only file system
Warn  (criu/cr-check.c:1685): Does not look good.`;
  expect(
    await criuProblems(
      [],
      failing((argv) => argv.length === 2, output),
    ),
  ).toEqual([]);
});

test('that there is no CRIU is the problem', async () => {
  expect(
    await criuProblems(
      [],
      failing(() => true, 'spawn criu ENOENT'),
    ),
  ).toEqual(['criu check: criu: no']);
});

function failing(which: (argv: readonly string[]) => boolean, output: string = SAYS_NO): Exec {
  return async (argv) => {
    if (which(argv)) throw new SeamlessError('COMMAND_FAILED', 'criu: no', { details: { output } });
    return { stdout: '', stderr: '' };
  };
}
