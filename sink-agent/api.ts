/**
 * What a sink server's agent offers over the management network, by mutual TLS, to the orchestrator.
 * Every method is safe to repeat: it ensures an end state and answers with it.
 *
 *   prepare → receive → restore → run ⇢ (trigger) ⇢ freeze → checkpoint → send → destroy
 *
 * Images go directly between sink agent and vm-agent; the sink agent is the client of that connection.
 */
import type { AllowedCall } from '../criu/answers.ts';
import type { Manifest, NetworkIdentity } from '../criu/manifest.ts';
import type { Trigger } from './trigger.ts';

/**
 *   prepared   the container exists; no process of the VM in it
 *   restored   processes restored, stopped, under the filter; none has run an instruction
 *   running    let go, under the filter
 *   frozen     a trigger or `freeze` stopped them; nothing runs, nothing traces
 *   dumped     the image for the way back exists; no process is left
 *   lost       its container ended from outside, and all processes with it: what is left is the image that it was restored from
 */
export type SinkState = 'prepared' | 'restored' | 'running' | 'frozen' | 'dumped' | 'lost';

export interface SinkStatus {
  vm: string;
  state: SinkState;
  /** The port of the sink on its host, to be plugged into the integration bridge. */
  port: string;
  imageId: string | null;
  trigger: Trigger | null;
  /** Why it is lost, or frozen without a trigger: its filter ended, or a part of it could not be brought back. */
  reason?: string;
}

export interface SinkServerDescription {
  name: string;
  templateIds: string[];
  criuVersion: string;
  /** What rules in sinks are made with, and what limits a sink there; not told by an older agent. */
  packetFilter?: 'nft' | 'iptables';
  limits?: string[];
  memoryAvailableBytes: number;
  sinks: SinkStatus[];
}

/** Where the vm-agent listens and who it must prove to be. */
export interface AgentAddress {
  address: string;
  port: number;
  /** Name in its certificate. */
  serverName: string;
}

/** How new connections are met while the VM is parked. TCP ports that are not listed are held outside the sink. */
export interface ConnectionPolicy {
  /** TCP ports whose connections the processes accept in the sink. */
  acceptPorts: number[];
  /** Addresses and prefixes whose TCP connects are answered in the sink, on every listening port, without its processes. */
  healthChecks: string[];
}

export interface SinkAgentApi {
  describe: { params: Record<string, never>; result: SinkServerDescription };
  /** What CRIU, in each template, finds wrong with the kernel that runs; one line each. */
  checkCriu: { params: Record<string, never>; result: { problems: string[] } };
  /** Makes the container of `vm`: namespaces, root tree from the template, PID 1, a port not yet reachable. */
  prepare: {
    params: {
      vm: string;
      templateId: string;
      network: NetworkIdentity;
      vmAgent: AgentAddress;
      connections?: ConnectionPolicy;
      /** What the template's profile lets its programs look at, beyond the filter's rules. */
      allow?: AllowedCall[];
    };
    result: SinkStatus;
  };
  /** Fetches image `imageId` from the vm-agent and verifies it (`IMAGE_CORRUPT`). */
  receive: {
    params: { vm: string; imageId: string };
    result: { manifest: Manifest; bytes: number; ms: number };
  };
  /** Restores the image: stopped, seized by the filter before its first instruction (`RESTORE_FAILED`: nothing is left running). */
  restore: { params: { vm: string; imageId: string }; result: SinkStatus };
  run: { params: { vm: string }; result: SinkStatus };
  /** Stops everything, as a trigger does. */
  freeze: { params: { vm: string }; result: SinkStatus };
  /**
   * Dumps the frozen processes into image `imageId`. On failure they stay frozen (`CHECKPOINT_FAILED`). With `andSend` it begins to send the
   * image as soon as there is one, beside the answer; whoever asks for that still calls `send`, which then waits for what is under way.
   */
  checkpoint: {
    params: { vm: string; imageId: string; andSend?: boolean };
    result: { manifest: Manifest; bytes: number };
  };
  /** Sends image `imageId` to the vm-agent, which verifies it. */
  send: { params: { vm: string; imageId: string }; result: { bytes: number; ms: number } };
  /**
   * Sends the image that the sink was restored from once for nothing, and has the vm-agent forget it: brings the pages that
   * receiving an image needs back to the VM's memory. Changes nothing here.
   */
  rehearse: { params: { vm: string }; result: Record<string, never> };
  status: { params: { vm: string }; result: SinkStatus | null };
  /** Ends the container and deletes its images. Refused (`AGENT_REFUSED`) while it may hold the only copy, unless `force`. */
  destroy: { params: { vm: string; force?: boolean }; result: Record<string, never> };
}

/** Sent on `GET /events`. On connecting, the present state of each sink comes first, so that nothing is missed. */
export type SinkAgentEvent = { type: 'sink'; sink: SinkStatus };
