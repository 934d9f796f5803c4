/**
 * Whether a thread only waits for others, without a deadline: then it will do nothing by itself. By /proc/PID/task/TID/syscall, which names
 * the call a blocked thread is in, and its arguments in hexadecimal. x86-64.
 */

/** Calls that wait for others as long as it takes: for input, a child, a signal, a connection. */
const WAITS = new Set([0, 34, 43, 45, 47, 61, 130, 247, 288]);
/** Calls with a timeout → which argument it is. */
const TIMEOUT_ARGUMENT = new Map([
  [7, 2], // poll
  [23, 4], // select
  [128, 2], // rt_sigtimedwait
  [202, 3], // futex
  [232, 3], // epoll_wait
  [270, 4], // pselect6
  [271, 2], // ppoll
  [281, 3], // epoll_pwait
  [441, 3], // epoll_pwait2
]);
/** Milliseconds as an int in a register; the others take a pointer, null for none. */
const IN_MS = new Set([7, 232, 281]);

/** @param text of the file: `running`, or number and arguments */
export function isWaiting(text: string): boolean {
  const [name = '', ...args] = text.trim().split(' ');
  const call = /^\d+$/.test(name) ? Number(name) : -1; // `running`, and -1 for one that is blocked outside a call
  if (WAITS.has(call)) return true;
  const argument = TIMEOUT_ARGUMENT.get(call);
  if (argument === undefined) return false;
  const timeout = BigInt(/^0x[0-9a-f]+$/.exec(args[argument] ?? '')?.[0] ?? 1);
  // The upper half of a register that holds an int means nothing; a negative one is no timeout.
  return IN_MS.has(call) ? (timeout & 0xffff_ffffn) >= 0x8000_0000n : timeout === 0n;
}
