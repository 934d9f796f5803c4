/**
 * What the vm-agent offers over the management network, by mutual TLS, to the orchestrator and to the VM's sink agent.
 * Every method is safe to repeat: it ensures an end state and answers with it.
 * Besides: `GET /image/ID` sends an image, `PUT /image/ID` takes one (see wire/image-stream.ts).
 */
import type { AllowedCall, AnsweredPath } from '../criu/answers.ts';
import type { Listener, Manifest, NetworkIdentity } from '../criu/manifest.ts';

/** A process that must move, and why it belongs to the set. */
export interface GatewayProcess {
  pid: number;
  parent: number;
  program: string;
  unit: string;
  /** `listens on tcp 0.0.0.0:22`, `child of sshd[412]`, … */
  because: string;
}

/** As the kernel counts it, see proc_meminfo(5). */
export interface GuestMemory {
  totalBytes: number;
  /** What programs can get without swapping, page cache included. */
  availableBytes: number;
  /** Of that the page cache that is used again and again: programs, libraries. Older agents don't say. */
  hotCacheBytes?: number;
}

/** Why this VM can't be parked, by whom, and what would make it parkable. */
export interface Refusal {
  rule: string;
  pid: number;
  program: string;
  descriptor?: string;
  reason: string;
  remedy: string;
}

export interface VmDescription {
  vm: string;
  templateId: string;
  bootId: string;
  criuVersion: string;
  network: NetworkIdentity;
}

export interface GatewayScan {
  processes: GatewayProcess[];
  listeners: Listener[];
  /** Empty when the VM can be parked. */
  refusals: Refusal[];
  /** About what the image takes, in the VM's memory and then in the sink's. */
  imageBytes: number;
}

export interface GroupUsage {
  /** Of the processes that live, with the children they have reaped. */
  cpuMs: number;
  /** Page faults of reaped children: grows when one has ended, whatever else it did. */
  reaped: number;
}

/** What the guest's processes have used so far; without the agent's own and the kernel's. */
export interface GuestUsage {
  bootId: string;
  uptimeMs: number;
  gateway: GroupUsage;
  others: GroupUsage;
  /** The youngest of the others, and the uptime at which it was started. */
  newest: { pid: number; program: string; startedMs: number } | null;
  /** To all disks since the boot; 0 in a container, whose disks are the host's. */
  writtenBytes: number;
  /** Payload that the client was sent on its TCP connection since the processes came back; null without one. */
  clientBytes: number | null;
}

/** Something that the guest will do by itself. */
export interface GuestTimer {
  /** `logrotate.timer`, `cron:etc/crontab`, `at:17`. */
  name: string;
  /** By the guest's clock, in milliseconds since 1970. */
  atMs: number;
}

/** What the guest shows of being used. Times and bytes are counters since the boot. */
export interface GuestSample {
  bootId: string;
  /** The guest's clock, and its time since the boot. */
  epochMs: number;
  uptimeMs: number;
  cpus: number;
  /** Of all CPUs, without the agent's own work. */
  cpuBusyMs: number;
  /** Of processes other than gateway processes and the agent. */
  loadMs: number;
  /** Read and written. */
  diskBytes: number;
  dirtiedBytes: number;
  /** Terminals at which somebody may sit, and since when nobody has typed. */
  sessions: { terminal: string; idleMs: number }[];
  /** Programs that run in a terminal's foreground, and those that a scheduler has started. */
  jobs: string[];
  /** null when it is not known. */
  timers: GuestTimer[] | null;
  /** When the DHCP lease ends, null with a fixed address; absent when it is not known. */
  lease?: { expiresMs: number } | null;
}

/** One kind of call that would have woken the VM; counted, with an example. */
export interface Observation {
  program: string;
  /** Of the first one seen. */
  pid: number;
  syscall: string;
  rule: string;
  /** Readable, with its arguments. */
  detail: string;
  /** What a profile would have to allow; `read` goes with an `open` of that path. Absent when no profile can allow it. */
  effect?: 'stat' | 'open' | 'list' | 'read' | 'call';
  path?: string;
  count: number;
  /** Since the beginning. */
  firstMs: number;
  lastMs: number;
}

export interface ObservationReport {
  observations: Observation[];
  processes: number;
  threads: number;
  /** All that were judged. */
  calls: number;
  /** How long it took; less than asked for when something else ended it. */
  ms: number;
}

export type ImageState = 'dumped' | 'received' | 'restored';

export interface VmAgentApi {
  describe: { params: Record<string, never>; result: VmDescription };
  /** What CRIU finds wrong with the guest's kernel; one line each. */
  checkCriu: { params: Record<string, never>; result: { problems: string[] } };
  /** `programs`, here and below: names of those that count as gateway processes besides the ones that are found. */
  scan: { params: { programs?: string[] }; result: GatewayScan };
  /**
   * Dumps the gateway set into image `imageId` and lets systemd go on believing in the units (placeholders).
   * On failure everything runs on as before (`CHECKPOINT_FAILED`, or `VM_UNPARKABLE` with `details.refusals`).
   */
  checkpoint: {
    /** @param answers what a profile lets the processes look at in the sink: added to the manifest's files. */
    params: { imageId: string; answers?: AnsweredPath[]; programs?: string[] };
    result: { manifest: Manifest; bytes: number };
  };
  /** Watches the gateway processes here for a while: what would have woken the VM? They run on. A scan or checkpoint ends it. */
  observe: { params: { seconds: number; allow?: AllowedCall[] }; result: ObservationReport };
  /**
   * Restores image `imageId`: the VM's own after an aborted park, the sink's after an unpark. Answers once every process runs,
   * its cgroup and unit are as before. On failure the image is kept and no process of it runs (`RESTORE_FAILED`).
   */
  restore: { params: { imageId: string }; result: { processes: number } };
  /** Restores image `imageId` for nothing, in namespaces of its own, and ends it: brings the wake path's pages back to memory. */
  dummyRestore: { params: { imageId: string }; result: Record<string, never> };
  /** What the VM holds of an image, once what is under way has ended; `null` when it has none of that name. */
  image: { params: { imageId: string }; result: { state: ImageState | null } };
  /** Forgets image `imageId` and its files. Refused (`AGENT_REFUSED`) while it is the only copy: dumped and not discardable says `force: false`. */
  discard: { params: { imageId: string; force?: boolean }; result: Record<string, never> };
  setClock: { params: { epochMs: number }; result: { steppedMs: number } };
  /** `gateway`: PIDs of the processes that are counted apart; `client`: whose connection is looked at, `203.0.113.7:51312`. */
  usage: { params: { gateway: number[]; client?: string }; result: GuestUsage };
  /** Every ten seconds, for idle detection. */
  sample: { params: { programs?: string[] }; result: GuestSample };
  memory: { params: Record<string, never>; result: GuestMemory };
}

export type VmAgentEvents = never;
