/** The library that is preloaded into `criu dump`, with a caller that has no CAP_SYS_RESOURCE, as in a container. */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { expect, onTestFinished, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { LIMITS_LIBRARY } from '../../../criu/run.ts';

/** As CRIU calls it: by number, through syscall(3). Prints soft and hard limit, or the error. */
const ASK = `my ($pid, $resource) = @ARGV; my $limit = "\\0" x 16;
my $result = syscall(302, $pid + 0, $resource + 0, 0, $limit);
print $result == 0 ? join(' ', unpack 'QQ', $limit) : "$!";`;
const WITHOUT = ['setpriv', '--bounding-set=-sys_resource', '--'] as const;
const [RLIMIT_CPU, RLIMIT_NOFILE] = ['0', '7'];
const INFINITY = '18446744073709551615';

async function ask(pid: number, resource: string, preload: string): Promise<string> {
  const argv = [...WITHOUT, 'perl', '-e', ASK, String(pid), resource] as const;
  return (await exec([...argv], { env: { LD_PRELOAD: preload } })).stdout;
}

test.runIf(process.arch === 'x64')(
  'the limits of another user’s process are read where the kernel refuses',
  async () => {
    const limited = [
      'prlimit',
      '--nofile=111:222',
      'setpriv',
      '--reuid=65534',
      '--clear-groups',
      'sleep',
      '60',
    ];
    const child = spawn(limited[0] ?? '', limited.slice(1), { stdio: 'ignore' });
    onTestFinished(() => void child.kill('SIGKILL'));
    const pid = child.pid ?? -1;
    await expect.poll(() => readFile(`/proc/${pid}/comm`, 'utf8')).toBe('sleep\n');

    expect(await ask(pid, RLIMIT_NOFILE, '')).toBe('Operation not permitted');
    expect(await ask(pid, RLIMIT_NOFILE, LIMITS_LIBRARY)).toBe('111 222');
    expect(await ask(pid, RLIMIT_CPU, LIMITS_LIBRARY)).toBe(`${INFINITY} ${INFINITY}`);
    expect(await ask(pid, '99', LIMITS_LIBRARY)).toBe('Operation not permitted');
    expect(await ask(999_999_999, RLIMIT_NOFILE, LIMITS_LIBRARY)).toBe('No such process');
  },
);
