/**
 * `criu check`: whether CRIU can work with the kernel that runs, which neither its version nor the kernel’s configuration tells for
 * sure (a container may be denied what its kernel has). Changes nothing.
 */
import { SeamlessError } from '../common/errors.ts';
import { type Exec, exec } from '../common/exec.ts';

/** Beyond what every dump needs, which CRIU looks at by itself. */
const FEATURES: readonly { name: string; why: string }[] = [
  { name: 'tcp_half_closed', why: 'a client may have closed its half of a connection' },
  { name: 'fdinfo_lock', why: 'a daemon may hold a lock on its PID file' },
  { name: 'seccomp_filters', why: 'systemd’s services and sshd have some' },
  { name: 'loginuid', why: 'a session’s processes have one' },
  { name: 'get_rseq_conf', why: 'the C library registers an area for restartable sequences' },
];

const CHECK_MS = 15_000;

/** @param prefix what leads to where CRIU runs; @returns what is wrong, one line each */
export async function criuProblems(prefix: readonly string[] = [], run: Exec = exec): Promise<string[]> {
  const check = (args: readonly string[]) => {
    const [program = 'criu', ...rest] = [...prefix, 'criu', 'check', ...args];
    return run([program, ...rest], { timeoutMs: CHECK_MS });
  };
  const said = await check([]).then(
    () => null,
    (thrown) => reasonOf(thrown),
  );
  if (said !== null) return [`criu check: ${said}`];
  const missing: string[] = [];
  for (const { name, why } of FEATURES) {
    const lacks = await check(['--feature', name]).then(
      () => null,
      (thrown) => reasonOf(thrown) ?? 'it is not supported',
    );
    if (lacks !== null) missing.push(`criu check --feature ${name} (${why}): ${lacks}`);
  }
  return missing;
}

/**
 * What CRIU also complains of, and nobody here needs: a tun device, limits that it reads where /proc/sys is not, and the numbers of
 * System V’s semaphores, which it restores with an IPC namespace alone.
 */
const HARMLESS = /tun: |sysctl\.c|sem_next_id/;

/** Its first error, since what follows are consequences; null when none of them matters. */
function reasonOf(thrown: unknown): string | null {
  if (!(thrown instanceof SeamlessError)) throw thrown;
  const errors = String(thrown.details.output ?? '')
    .split('\n')
    .filter((line) => line.includes('Error ('));
  if (errors.length === 0) return thrown.message;
  return errors.find((line) => !HARMLESS.test(line))?.replace(/^.*?Error \([^)]*\): /, '') ?? null;
}
