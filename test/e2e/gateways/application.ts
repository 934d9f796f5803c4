/** What the runner knows of an application: one description per file in applications/. */
import type { Connection } from './connection.ts';
import type { Guest } from './guest.ts';

/** What is shown of each application; the columns of docs/applications.md. */
export const COLUMNS = [
  'park',
  'keep-alive',
  'probe',
  'idle',
  'request on an old connection',
  'new connection',
  'second cycle',
  'systemctl',
] as const;
export type Column = (typeof COLUMNS)[number];

export interface Application {
  /** As in the table: `vsftpd, logged-in session`. */
  name: string;
  /** Debian packages that the template needs for it. */
  packages: readonly string[];
  /** systemd units that are started for it; the first is the one whose state is compared. The others' too, if they listen. */
  units: readonly string[];
  /** `tcp/80`, `udp/53`: waited for after each start, since systemd does not know of every service when it is ready. */
  listens?: readonly string[];
  /** Before the units start: users, content, or, where Debian ships none, a unit. The configuration stays as packaged; what has to be otherwise is told by `changed`. */
  prepare?(vm: Guest): Promise<void>;
  /** For the table: what is not as Debian ships it, and why. */
  changed?: string;
  /** A client connects and goes as far as one that then sits idle for hours. */
  connect(net: ClientNetwork): Promise<Session>;
  /** Whether it has done what it does by itself after a connection; parked before that, it would rightly wake the VM. */
  isSettled?(vm: Guest): Promise<boolean>;
  /** Another client comes, is served, and goes. Throws when it is not. */
  visit(net: ClientNetwork): Promise<void>;
  /** How long it must stay parked by itself, in seconds: for one whose housekeeping would wake the VM without a profile. */
  idleSeconds?: number;
  /** Columns that are known not to hold, each with the honest reason. A column that is listed and holds fails the test, too. */
  reasons?: Partial<Record<Column, string>>;
  /** Not parked at all: the rule by which the VM must be refused (docs/parking-rules.md). Then no other column is tried. */
  refusedBy?: string;
}

export interface Session {
  /** The established connection; absent where there is none (UDP). */
  connection?: Connection;
  /**
   * Asks for something that the VM is needed for, on the connection that was there before. Throws when the answer is not right.
   * Absent where all that can be asked is answered from memory, in the sink: that is a `probe`, and the VM is woken by hand.
   */
  request?(): Promise<void>;
  /** What an idle client's program sends by itself, answered in the sink: an FTP NOOP, say. Ping is tried of all. */
  probe?(): Promise<void>;
  close(): Promise<void>;
}

/** The client's place in the network. */
export interface ClientNetwork {
  /** The VM's, on the production network. */
  address: string;
  /** ssh's options of the lab: key, known hosts. */
  sshOptions: readonly string[];
  /** Runs a program there to its end, gives what it printed; throws when it fails or takes longer than `timeoutMs` (20 s). */
  run(argv: readonly string[], options?: { input?: string; timeoutMs?: number }): Promise<string>;
  /** Starts a program there and keeps it. */
  start(argv: readonly string[]): Connection;
  /** A TCP connection with keep-alives, one a second (by socat). */
  tcp(port: number): Connection;
  /** Datagrams to that port; each `send` is one. */
  udp(port: number): Connection;
}
