/** What woke a VM: the first system call in its sink that only the VM may carry out. It never took effect in the sink. */
export interface Trigger {
  /** Process and thread as the container (and the VM) numbers them. */
  pid: number;
  tid: number;
  program: string;
  syscall: string;
  nr: number;
  /** Readable: `clone(SIGCHLD): a new process`. */
  detail: string;
  /** Name of the filter's rule, see docs/activity.md. */
  rule: string;
  fd?: { number: number; kind: string; target: string };
  /** Whom it served: the peer of the network socket on which the thread last received, `203.0.113.7:51312`. */
  client?: string;
}
