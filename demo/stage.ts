/** Everything that the demo and the end-to-end tests need around a VM: the lab, captures, clients, a look into the guest. */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { type Capture, startCapture } from './capture.ts';
import {
  type Client,
  type ClientHost,
  type EchoClient,
  openEcho,
  openIdleSsh,
  openPing,
  openShell,
  type ShellClient,
} from './clients.ts';
import { Service } from './service.ts';

const scripts = fileURLToPath(new URL('../scripts/', import.meta.url));
const ECHO_PORT = 7007;
const MEMORY_MIB = 1024;
/** What the stand-in workload keeps dirty. */
const WORKLOAD_MIB = 640;
const LAB_TIMEOUT_MS = 600_000;

export interface StageOptions {
  vm?: string;
  memoryMiB?: number;
  /** Dirty memory in the guest that is no gateway process's. */
  workloadMiB?: number;
}

export interface Stage {
  vm: string;
  address: string;
  accel: string;
  memoryMiB: number;
  /** Value of `$SEAMLESS_DEMO` in the interactive shell. */
  secret: string;
  service: Service;
  /** At the client's interface. */
  wire: Capture;
  /** At the VM's tap on its host. */
  tap: Capture;
  clients: Client[];
  shell: ShellClient;
  idleSsh: Client;
  echo: EchoClient;
  /** Memory of the VM's QEMU process that is in RAM. */
  residentMiB(): Promise<number>;
  /** systemd's view of ssh.service: what must not change. */
  sshUnit(): Promise<Record<string, string>>;
  /** Makes the client ask by ARP again. */
  forgetNeighbour(): Promise<void>;
  /** Logs in anew, runs `command`, gives its output. */
  newLogin(command: string, timeoutMs: number): Promise<string>;
  inVm(argv: string[]): Promise<string>;
  close(options: { keepLab: boolean }): Promise<void>;
}
