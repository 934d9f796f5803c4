/**
 * What the vm-agent offers over the management network, by mutual TLS, to the orchestrator and to the VM's sink agent.
 * Every method is safe to repeat: it ensures an end state and answers with it.
 * Besides: `GET /image/ID` sends an image, `PUT /image/ID` takes one (see wire/image-stream.ts).
 */
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
  /** To all disks since the boot. */
  writtenBytes: number;
}

export type ImageState = 'dumped' | 'received' | 'restored';

export interface VmAgentApi {
  describe: { params: Record<string, never>; result: VmDescription };
  scan: { params: Record<string, never>; result: GatewayScan };
  /**
   * Dumps the gateway set into image `imageId` and lets systemd go on believing in the units (placeholders).
   * On failure everything runs on as before (`CHECKPOINT_FAILED`, or `VM_UNPARKABLE` with `details.refusals`).
   */
  checkpoint: { params: { imageId: string }; result: { manifest: Manifest; bytes: number } };
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
  /** `gateway`: PIDs of the processes that are counted apart. */
  usage: { params: { gateway: number[] }; result: GuestUsage };
  memory: { params: { dropCaches?: boolean }; result: { totalBytes: number; availableBytes: number } };
}

export type VmAgentEvents = never;
